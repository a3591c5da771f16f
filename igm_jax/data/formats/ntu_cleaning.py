"""Cleans recordings of NTU RGB+D by the rules of SGN and CTR-GCN, one function for each.

The sensor takes furniture for people, gives a person a new ID after losing it for a moment, and
starts before anybody is visible. Rules and thresholds are the published ones, but there
pipelines pad the clip of one person with zeros or a copy of it, here it is alone. One step is our
own, `hold_lost_bodies`. A step needs a recording with at least one body.

References:
  Zhang et al., Semantics-Guided Neural Networks, CVPR 2020 (SGN), and
  Chen et al., Channel-wise Topology Refinement Graph Convolution, ICCV 2021 (CTR-GCN).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int

from igm_jax.data.formats.ntu_text import Recording
from igm_jax.errors import InputError

MAX_BODIES = 2
MIN_FRAMES = 12  # a body in 11 frames or fewer is dropped
FLAT_SPREAD = 0.8  # x-range over y-range of a frame that does not look like a person
FLAT_SHARE = 0.69754  # share of flat frames from which a body is furniture
_ORIGIN = 1  # mid spine


def drop_short_bodies(recording: Recording) -> Recording:
    """Drops bodies seen in 11 frames or fewer, which are glitches of the sensor.

    A body that is alone in the recording stays, however short.
    """
    ids, body, counts = np.unique(recording.body, return_inverse=True, return_counts=True)
    return recording.take(counts[body] >= MIN_FRAMES) if len(ids) > 1 else recording


def drop_furniture(recording: Recording) -> Recording:
    """Drops bodies mostly wider than people are, such as furniture; never the last one.

    A body goes if the share of its flat frames is 0.69754 or more. Bodies are judged in their
    order, so if all are flat, the last one stays. A body that is alone is not judged: somebody who
    lies down is flat.
    """
    flat = _flat(recording)
    kept = recording.bodies
    for rows in recording.bodies:
        if len(kept) > 1 and flat[rows].mean() >= FLAT_SHARE:
            kept = [other for other in kept if other[0] != rows[0]]
    return _take_bodies(recording, kept)


def sort_by_motion(recording: Recording) -> Recording:
    """Puts the body that moves most, by `motions`, first: it is the actor."""
    bodies = recording.bodies
    order = np.argsort(-np.array(motions(recording)), kind="stable")
    return _take_bodies(recording, [bodies[i] for i in order])


def motions(recording: Recording) -> list[float]:
    """How much each body moves: the sum of the variances of x, y and z over its joints and frames.

    If some of its frames are flat, it is the smaller one of this and the same without them.
    """
    flat = _flat(recording)

    def motion(rows: Int[np.ndarray, " _"]) -> float:
        return float(recording.joints[rows].astype(np.float64).var(axis=(0, 1)).sum())

    def smaller(rows: Int[np.ndarray, " _"]) -> float:
        upright = rows[~flat[rows]]
        return min(motion(rows), motion(upright)) if len(upright) else motion(rows)

    return [smaller(rows) for rows in recording.bodies]


def merge_tracks(recording: Recording) -> Recording:
    """Joins bodies to two actors at most, because a lost person returns with another ID.

    As published, the frames of a body follow one another from its first one on: a gap within it
    does not count. The first body is actor 1. Each other one, in their order, is taken for actor 1
    if their spans, from first to last frame, do not overlap, else for actor 2 if those do not, and
    else dropped. One frame in common, which then shows the body that came last, is no overlap. The
    span of actor 2 begins as frame 0 alone, so it reaches from there to its last frame.
    """
    bodies = recording.bodies
    frame = recording.frame.copy()
    for rows in bodies:
        frame[rows] = frame[rows[0]] + np.arange(len(rows))
    actors: list[np.ndarray] = []
    spans = [(int(frame[bodies[0][0]]), int(frame[bodies[0][-1]])), (0, 0)]
    for number, rows in enumerate(bodies):
        first, last = int(frame[rows[0]]), int(frame[rows[-1]])
        for i, (start, end) in enumerate(spans):
            if number and min(end, last) > max(start, first):
                continue
            taken = actors[i] if i < len(actors) else rows[:0]
            joined = np.concatenate([taken[~np.isin(frame[taken], frame[rows])], rows])
            actors[i : i + 1] = [joined[np.argsort(frame[joined])]]
            spans[i] = (min(start, first), max(end, last))
            break
    merged = _take_bodies(dataclasses.replace(recording, frame=frame), actors)
    names = np.repeat([recording.body[rows[0]] for rows in actors], [len(rows) for rows in actors])
    return dataclasses.replace(merged, body=names)


def drop_empty_frames(recording: Recording) -> Recording:
    """Drops frames that show no body, and renumbers the others.

    It comes first, for the published rules count only frames that show somebody, and once more
    after the rules that drop bodies, since these leave empty frames too.
    """
    kept, frame = np.unique(recording.frame, return_inverse=True)
    return dataclasses.replace(recording, num_frames=len(kept), frame=frame)


def centre(recording: Recording) -> Recording:
    """Moves the mid spine of actor 1 in its first frame to zero, and all with it."""
    origin = recording.joints[recording.bodies[0][0], _ORIGIN]
    return dataclasses.replace(recording, joints=recording.joints - origin)


def hold_lost_bodies(recording: Recording) -> Recording:
    """Fills gaps of an actor with its last position, or its first one before it appears.

    A clip has its bodies in all frames, so the other choices would be to lose the whole body (do
    without this step) or zeros in the midst of motion, as published.
    """
    every = np.arange(recording.num_frames)
    held = []
    for rows in recording.bodies:
        latest = np.searchsorted(recording.frame[rows], every, side="right") - 1
        held.append(rows[np.maximum(latest, 0)])
    return dataclasses.replace(_take_bodies(recording, held), frame=np.tile(every, len(held)))


STEPS = {
    step.__name__: step
    for step in (
        drop_empty_frames,
        drop_short_bodies,
        drop_furniture,
        sort_by_motion,
        merge_tracks,
        centre,
        hold_lost_bodies,
    )
}
DEFAULT_STEPS = (
    "drop_empty_frames",
    "drop_short_bodies",
    "drop_furniture",
    "sort_by_motion",
    "merge_tracks",
    "drop_empty_frames",
    "centre",
    "hold_lost_bodies",
)


def clean(
    recording: Recording, steps: Sequence[str] = DEFAULT_STEPS
) -> Float32[np.ndarray, "M T 25 3"]:
    """Applies the steps in order and converts the result to a clip.

    Args:
      recording: as parsed.
      steps: keys of `STEPS`, in the order in which to apply them.

    Returns:
      The first two of the bodies that are there in all frames, or the one if there is one.

    Raises:
      InputError: an unknown step, or no body is left; says after which step.
    """
    check_steps(steps)
    if not len(recording):
        raise InputError(f"no usable body: none in any of {recording.num_frames} frames")
    for name in steps:
        recording = STEPS[name](recording)
        if not len(recording):
            raise InputError(f"no usable body: none is left after {name}")
    whole = [rows for rows in recording.bodies if len(rows) == recording.num_frames]
    if not whole:
        raise InputError("no usable body: none is there in all frames")
    return np.stack([recording.joints[rows] for rows in whole[:MAX_BODIES]])


def check_steps(steps: Sequence[str]) -> None:
    """Raises InputError if a step is not in `STEPS`."""
    if unknown := set(steps) - set(STEPS):
        raise InputError(
            f"cleaning step {min(unknown)!r} is unknown: choose from {', '.join(STEPS)}"
        )


def _flat(recording: Recording) -> Bool[np.ndarray, " rows"]:
    """Which rows do not look like a person: their x-range is more than 0.8 of their y-range."""
    x_range, y_range, _ = np.ptp(recording.joints, axis=1).T
    return x_range > FLAT_SPREAD * y_range


def _take_bodies(recording: Recording, bodies: Sequence[np.ndarray]) -> Recording:
    return recording.take(np.concatenate(bodies))
