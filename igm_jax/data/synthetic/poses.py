"""Poses and motions: the vocabulary of the table of actions."""

import dataclasses

Pose = dict[str, float]
Keys = tuple[tuple[float, Pose], ...]


@dataclasses.dataclass(frozen=True)
class Motion:
    """One way to perform an action.

    Attributes:
      lead: keys before the repeated part.
      cycle: keys that are repeated.
      repeats: least and greatest number of repetitions.
      tail: keys after the repeated part; the last one is held to the end of the clip.
      start: pose held before it.
      arms_only: whether it leaves the legs free, so that people also do it seated or walking.
      partner: poses of the second person at the keys of `lead`, `cycle` and `tail`; None if the
        action needs no second person.
      distance: between the two, in arm lengths.
    """

    lead: Keys
    cycle: Keys = ()
    repeats: tuple[int, int] = (1, 1)
    tail: Keys = ((0.6, {}),)
    start: Pose = dataclasses.field(default_factory=dict)
    arms_only: bool = False
    partner: tuple[Pose, ...] | None = None
    distance: float = 0.0


def right(out: float, up: float, fwd: float, elbow: float = 0.0) -> Pose:
    """Right wrist, in arm lengths from its shoulder."""
    return {"r_out": out, "r_up": up, "r_fwd": fwd, "r_elbow": elbow}


def left(out: float, up: float, fwd: float, elbow: float = 0.0) -> Pose:
    """Left wrist, in arm lengths from its shoulder."""
    return {"l_out": out, "l_up": up, "l_fwd": fwd, "l_elbow": elbow}


def both(out: float, up: float, fwd: float, elbow: float = 0.0) -> Pose:
    """Both wrists alike."""
    return right(out, up, fwd, elbow) | left(out, up, fwd, elbow)


def reverse(motion: Motion) -> Motion:
    """The same poses in the opposite order, so that only time separates the two actions."""
    poses = [motion.start, *(pose for _, pose in motion.lead)]
    seconds = [s for s, _ in motion.lead]
    return dataclasses.replace(
        motion, start=poses[-1], lead=tuple(zip(seconds[::-1], poses[-2::-1], strict=True))
    )
