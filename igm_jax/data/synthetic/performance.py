"""Turns an action, a person and random variation into joints in metres.

The table defines the action. Its start, speed, size and hand, whether the person walks or
sits, and the movements of other limbs are drawn here.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from igm_jax.data.synthetic.actions import ARM_RESTS, HANGING, SEATED
from igm_jax.data.synthetic.body import CHANNELS, INDEX, Body, pose_joints
from igm_jax.data.synthetic.poses import Motion, Pose
from igm_jax.skeleton import NTU25

_FPS = 30.0
_MIN_FRAMES, _MAX_FRAMES = 40, 150
_LEFT_HANDED = (3, 6, 11, 14)  # as many among the odd as among the even performers


def _spread(**sigma: float) -> Float[np.ndarray, " K"]:
    """Standard deviations by kind of channel: `up` stands for `l_up` and `r_up`."""
    return np.array([sigma.get(name, sigma.get(name[2:], 0.0)) for name in CHANNELS])


# How much people differ in how they stand, in how they do an action, and while they do it.
_POSTURE = _spread(
    tilt=2.0, bend=4.0, side=2.0, twist=3.0, nod=6.0, look=8.0,
    foot_out=0.03, foot_fwd=0.045, out=0.03, up=0.02, fwd=0.05, elbow=0.1,
)  # fmt: skip
_EXECUTION = _spread(
    tilt=4.0, bend=5.0, side=3.0, twist=6.0, nod=5.0, look=8.0, drop=0.025, back=0.02,
    hop=0.05, foot_up=0.04, foot_fwd=0.06, foot_out=0.03, out=0.07, up=0.07, fwd=0.05, elbow=0.12,
)  # fmt: skip
_SWAY = _spread(
    tilt=0.8, bend=1.2, side=1.0, twist=2.5, nod=2.5, look=5.0, back=0.008, sway=0.01,
    out=0.02, up=0.02, fwd=0.025, elbow=0.03,
)  # fmt: skip
_LEFT_ARM = [INDEX[f"l_{name}"] for name in ("out", "up", "fwd", "elbow")]
_FEET = [INDEX[name] for name in CHANNELS if "foot" in name]


@dataclasses.dataclass(frozen=True)
class Subject:
    """Fixed properties of a person."""

    number: int
    body: Body
    left_handed: bool
    tempo: float
    amplitude: float
    posture: Float[np.ndarray, " K"]


def draw_subject(number: int, rng: np.random.Generator) -> Subject:
    """Draws the person with this number."""
    body = Body(
        height=float(np.clip(rng.normal(1.71, 0.09), 1.5, 1.95)),
        legs=rng.uniform(0.95, 1.05),
        arms=rng.uniform(0.95, 1.05),
        breadth=rng.uniform(0.9, 1.12),
    )
    return Subject(
        number=number,
        body=body,
        left_handed=number in _LEFT_HANDED,
        tempo=rng.uniform(0.8, 1.25),
        amplitude=rng.uniform(0.88, 1.1),
        posture=_POSTURE * rng.normal(size=len(CHANNELS)),
    )


def perform_one_of(
    motions: tuple[Motion, ...],
    actor: Subject,
    partner: Subject,
    style: np.random.Generator,
    rng: np.random.Generator,
) -> Float[np.ndarray, "M T 25 3"]:
    """Joints in metres while the actor, with the partner if it takes two, does one of `motions`.

    Args:
      motions: the ways to perform the action.
      actor: who performs it.
      partner: who is there, should it need a second person.
      style: chance that is the same every time this actor performs this action.
      rng: chance that is not.

    Returns:
      One or two bodies, at least 40 and at most 150 frames of 1/30 s; the floor is at y = 0.
    """
    habit = style.integers(len(motions)) if rng.random() < 0.5 else rng.integers(len(motions))
    motion = motions[habit]
    context = "standing"
    if motion.arms_only:
        context = rng.choice(("standing", "seated", "walking"), p=(0.5, 0.3, 0.2))
    poses, others, times = _score(motion, context, actor, rng)
    habits = _EXECUTION * style.normal(size=len(CHANNELS))
    bodies = [_act(poses, times, _rests(actor, context == "seated", rng), actor, habits, rng)]
    if motion.partner is not None:
        other = _act(others, times, _rests(partner, False, rng), partner, 0.0 * habits, rng)
        apart = motion.distance * (actor.body.arm + partner.body.arm) / 2
        bodies.append(other * (-1, 1, -1) - (0, 0, apart))  # face to face
    world = np.stack(bodies)
    # Now and then someone uses the other hand.
    return _mirrored(world) if (rng.random() < 0.1) != actor.left_handed else world


def _score(
    motion: Motion, context: str, actor: Subject, rng
) -> tuple[list[Pose], list[Pose], Float[np.ndarray, " N"]]:
    """Poses of the actor, of the partner, and when both are reached; pauses lie around them."""
    keys = (*motion.lead, *motion.cycle, *motion.tail)
    plan = list(zip(keys, motion.partner or ({},) * len(keys), strict=True))
    first, last = len(motion.lead), len(motion.lead) + len(motion.cycle)
    repeats = int(rng.integers(motion.repeats[0], motion.repeats[1] + 1))
    plan = plan[:first] + repeats * plan[first:last] + plan[last:]
    pace = actor.tempo * np.exp(rng.normal(0.0, 0.1))
    seconds = pace * np.array([s for (s, _), _ in plan]) * np.exp(rng.normal(0, 0.12, len(plan)))
    before, after = rng.uniform(0.0, 2.4, size=2)
    poses = [motion.start, motion.start, motion.start, *(pose for (_, pose), _ in plan)]
    others = [{}, {}, {}, *(other for _, other in plan)]
    poses, others = [*poses, poses[-1]], [*others, others[-1]]

    # Half of those who can first find their place, with a step or two.
    still = context != "standing" or motion.partner is not None or "drop" in motion.start
    approach = 0.0 if still or rng.random() < 0.5 else rng.uniform(0.8, 1.2)
    times = np.cumsum([0.0, approach, before, *seconds, after])
    times[-1] = max(times[-1], _MIN_FRAMES / _FPS)
    times *= min(1.0, _MAX_FRAMES / _FPS / times[-1])
    turn = rng.uniform(-60.0, 60.0)
    if context == "walking":
        steps = 0.5 * round(2 * times[-1] / 1.15)
        poses = _under_way(poses, times / times[-1], steps, turn, 1.1 * steps)
    elif approach:
        poses = _under_way(poses, np.sign(times), 1.0, turn, rng.uniform(-0.2, 0.7))
    return poses, others, times


def _under_way(poses, share, steps, turn, travel) -> list[Pose]:
    """Adds a walk to the poses; `share` of it is done at each of them."""
    way = {"steps": steps, "turn": turn, "travel": travel}
    return [
        pose | {k: pose.get(k, 0.0) + done * v for k, v in way.items()}
        for pose, done in zip(poses, share, strict=True)
    ]


def _act(poses, times, rests, subject, habits, rng) -> Float[np.ndarray, "T 25 3"]:
    """Joints of one person over the poses."""
    size = subject.amplitude * rng.normal(1.0, 0.06)
    first, last = rests
    keys = np.linspace(first, last, len(poses))  # the end pose differs a little from the start
    for i, pose in enumerate(poses):
        if i and pose == poses[i - 1]:
            keys[i] = keys[i - 1]  # held
            continue
        # Steps are whole; all else is done larger or smaller, and never twice alike.
        for name, value in pose.items():
            k = INDEX[name]
            slip = habits[k] + 0.5 * _EXECUTION[k] * rng.normal()
            rest = keys[i, k]
            keys[i, k] = value if name == "steps" else rest + size * (value - rest) + slip
    frames = np.arange(round(_FPS * times[-1])) / _FPS
    channels = _through(times, keys, frames)
    channels += _SWAY * wander(len(frames), len(CHANNELS), 18, rng)
    _swing_arms(channels)
    return pose_joints(channels, subject.body)


def _rests(subject: Subject, seated: bool, rng) -> Float[np.ndarray, "2 K"]:
    """Rest poses before and after: the person's own posture plus random variation."""
    rests = subject.posture + 0.6 * _POSTURE * rng.normal(size=(2, len(CHANNELS)))
    for name, value in (HANGING | SEATED if seated else HANGING).items():
        rests[:, INDEX[name]] += value
    if not seated:
        # The arm that will act is free; the other one may be anywhere.
        chances, arms = zip(*ARM_RESTS, strict=True)
        arm = np.array([arms[i] for i in rng.choice(len(arms), size=2, p=chances)])
        rests[:, _LEFT_ARM] += arm - arms[0]
    rests[1, _FEET] = rests[0, _FEET]
    return rests


def _through(times, keys, at) -> Float[np.ndarray, "T K"]:
    """Monotone cubic interpolation: flows through keys on the way, halts where it turns back.

    Fritsch & Butland (1984), with zero slope at both ends.
    """
    width = np.maximum(np.diff(times), 1e-3)[:, None]
    slope = np.diff(keys, axis=0) / width
    a, b = slope[:-1], slope[1:]
    turning = a * b <= 0
    wa, wb = 2 * width[1:] + width[:-1], width[1:] + 2 * width[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (wa + wb) / (wa / a + wb / b)
    speed = np.zeros_like(keys)
    speed[1:-1] = np.where(turning, 0.0, mean)
    i = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 2)
    h = width[i]
    u = np.clip((at - times[i])[:, None] / h, 0.0, 1.0)
    return (
        (1 + 2 * u) * (1 - u) ** 2 * keys[i]
        + u * (1 - u) ** 2 * h * speed[i]
        + u * u * (3 - 2 * u) * keys[i + 1]
        + u * u * (u - 1) * h * speed[i + 1]
    )


def wander(num_frames: int, num_series: int, spacing: int, rng) -> Float[np.ndarray, "T K"]:
    """Smooth noise of unit variance that changes over about `spacing` frames."""
    num_knots = num_frames // spacing + 3
    place = np.arange(num_frames) / spacing + rng.random()
    knots = rng.normal(size=(num_knots, num_series))
    i = place.astype(int)
    angle = 0.5 * np.pi * (place - i)[:, None]  # cos² + sin² = 1 keeps the variance
    return np.cos(angle) * knots[i] + np.sin(angle) * knots[i + 1]


def _swing_arms(channels: Float[np.ndarray, "T K"]) -> None:
    """Swings the arms against the legs, more for faster steps."""
    steps = channels[:, INDEX["steps"]]
    brisk = np.clip(np.gradient(steps) * _FPS, 0.0, 1.0)
    swing = -0.3 * brisk * np.cos(2 * np.pi * steps)
    for side, sign in (("r", 1.0), ("l", -1.0)):
        free = np.clip(-2.0 * channels[:, INDEX[f"{side}_up"]] - 1.0, 0.0, 1.0)  # hanging down
        channels[:, INDEX[f"{side}_fwd"]] += sign * free * swing
    channels[:, INDEX["twist"]] += 12.0 * swing


def _mirrored(world: Float[np.ndarray, "M T V 3"]) -> Float[np.ndarray, "M T V 3"]:
    """Mirrors a performance: x reversed, left and right joints exchanged."""
    order = np.arange(NTU25.num_joints)
    for a, b in NTU25.pairs:
        order[[a, b]] = b, a
    return world[:, :, order] * (-1, 1, 1)
