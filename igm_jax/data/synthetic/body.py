"""A body of 25 joints: turns pose channels into joint positions in metres.

The person's own frame is the NTU camera's for someone who faces it: x to the person's right, y up,
z backwards, the floor at y = 0. Arms and legs are driven by where the wrist and the ankle are and
solved as two-bone chains, so limbs keep their lengths and planted feet stay where they are.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

# Channels of a pose. Angles are in degrees; `bend`, `tilt` and `nod` are forwards, `twist`,
# `look` and `turn` are leftwards, `side` is to the right. Wrists are relative to their shoulder, in
# arm lengths, along the chest's axes (`out` is away from the midline); feet and pelvis are relative
# to where they are when standing, in leg lengths. `travel` and `turn` lead the whole person along
# the floor, and while they change `steps` must: it counts double steps, the feet follow.
CHANNELS = (
    "tilt", "bend", "side", "twist", "nod", "look",
    "drop", "back", "sway", "hop", "travel", "turn", "steps",
    "l_out", "l_up", "l_fwd", "l_elbow", "r_out", "r_up", "r_fwd", "r_elbow",
    "l_foot_out", "l_foot_up", "l_foot_fwd", "r_foot_out", "r_foot_up", "r_foot_fwd",
)  # fmt: skip
INDEX = {name: i for i, name in enumerate(CHANNELS)}


@dataclasses.dataclass(frozen=True)
class Body:
    """Proportions, in metres; left and right are alike."""

    height: float = 1.72
    legs: float = 1.0  # length relative to the average person of this height, as are the next two
    arms: float = 1.0
    breadth: float = 1.0

    @property
    def thigh(self) -> float:
        """Hip to knee."""
        return 0.243 * self.legs * self.height

    @property
    def shank(self) -> float:
        """Knee to ankle."""
        return 0.232 * self.legs * self.height

    @property
    def leg(self) -> float:
        """Hip to ankle, stretched."""
        return self.thigh + self.shank

    @property
    def ankle(self) -> float:
        """Height of the ankle over the floor."""
        return 0.047 * self.height

    @property
    def upper_arm(self) -> float:
        """Shoulder to elbow."""
        return 0.158 * self.arms * self.height

    @property
    def forearm(self) -> float:
        """Elbow to wrist."""
        return 0.142 * self.arms * self.height

    @property
    def arm(self) -> float:
        """Shoulder to wrist, stretched."""
        return self.upper_arm + self.forearm

    @property
    def shoulder(self) -> float:
        """Half the distance between the shoulders."""
        return 0.1 * self.breadth * self.height

    @property
    def hip(self) -> float:
        """Half the distance between the hips."""
        return 0.046 * self.breadth * self.height


def pose_joints(channels: Float[np.ndarray, "T K"], body: Body) -> Float[np.ndarray, "T 25 3"]:
    """Forward kinematics of a movement.

    Args:
      channels: the values of `CHANNELS` in every frame.
      body: whose limbs.

    Returns:
      Joints in NTU25 order, metres, in the person's frame at the first frame: the origin is on the
      floor between the feet.
    """
    c = dict(zip(CHANNELS, channels.T))
    heading, path = _walkway(c, body)
    feet = {side: _footing(c, body, path, side) for side in "lr"}
    joints = np.empty((len(channels), 25, 3))

    # Pelvis and spine: a bend of the back is shared between its two bones.
    pelvis = heading @ _rotation(c["tilt"], 0, 0.3 * c["side"])
    half = _rotation(0.5 * c["bend"], 0.5 * c["twist"], 0.35 * c["side"])
    waist = pelvis @ half
    chest = waist @ half
    head = chest @ _rotation(c["nod"], c["look"], 0)
    h = body.height
    base = path + _turned(heading, c["sway"] * body.leg, _standing(c, body), c["back"] * body.leg)
    base[:, 1] = np.minimum(base[:, 1], _reach_of_feet(base, pelvis, feet, body))
    joints[:, 0] = base
    joints[:, 1] = joints[:, 0] + _turned(waist, 0, 0.165 * h, 0)
    joints[:, 20] = joints[:, 1] + _turned(chest, 0, 0.135 * h, 0)
    joints[:, 2] = joints[:, 20] + _turned(chest, 0, 0.042 * h, -0.005 * h)
    joints[:, 3] = joints[:, 2] + _turned(head, 0, 0.085 * h, -0.015 * h)

    for side, sign, first in (("l", -1, 4), ("r", 1, 8)):
        arm = _arm(joints[:, 20], chest, c, side, sign, body)
        hand, along, thumb = _hand(arm, chest, sign)
        joints[:, first : first + 3] = arm
        tips = (21, 22) if side == "l" else (23, 24)
        joints[:, first + 3] = hand
        joints[:, tips[0]] = hand + 0.045 * h * along
        joints[:, tips[1]] = hand + 0.028 * h * thumb
    for side, sign, first in (("l", -1, 12), ("r", 1, 16)):
        hip = base + _turned(pelvis, sign * body.hip, -0.02 * h, 0)
        joints[:, first] = hip
        joints[:, first + 1 : first + 4] = _leg(hip, *feet[side], sign, body)
    return joints


def _rotation(pitch, yaw, roll) -> Float[np.ndarray, "T 3 3"]:
    """Yaw after pitch after roll, in degrees: positive is leftwards, forwards, to the right."""
    pitch, yaw, roll = np.broadcast_arrays(*(np.deg2rad(a) for a in (pitch, yaw, roll)))
    cp, sp, cy, sy, cr, sr = (f(-a) for a in (pitch, -yaw, roll) for f in (np.cos, np.sin))
    rows = (
        (cy * cr + sy * sp * sr, -cy * sr + sy * sp * cr, sy * cp),
        (cp * sr, cp * cr, -sp),
        (-sy * cr + cy * sp * sr, sy * sr + cy * sp * cr, cy * cp),
    )
    return np.stack([np.stack(row, -1) for row in rows], -2)


def _turned(rotation, x, y, z) -> Float[np.ndarray, "T 3"]:
    """The vector (x, y, z), numbers or one a frame, turned."""
    return np.asarray(
        sum(rotation[..., i] * np.asarray(v)[..., None] for i, v in enumerate((x, y, z)))
    )


def _unit(v: Float[np.ndarray, "T 3"]) -> Float[np.ndarray, "T 3"]:
    return v / np.maximum(np.sqrt((v * v).sum(-1, keepdims=True)), 1e-9)


def _across(v, direction) -> Float[np.ndarray, "T 3"]:
    """Part of `v` that is perpendicular to the unit vector `direction`, with unit length."""
    return _unit(v - (v * direction).sum(-1, keepdims=True) * direction)


def _walkway(c, body) -> tuple[Float[np.ndarray, "T 3 3"], Float[np.ndarray, "T 3"]]:
    """Heading and place on the floor; a person always walks in the direction of view."""
    heading = _rotation(0, c["turn"], 0)
    step = np.diff(c["travel"], prepend=c["travel"][:1]) * body.leg
    return heading, np.cumsum(_turned(heading, 0, 0, -step), axis=0)


def _standing(c, body) -> Float[np.ndarray, " T"]:
    """Height of the base of the spine above the floor."""
    return body.ankle + 0.02 * body.height + body.leg * (0.985 - c["drop"] + c["hop"])


def _footing(c, body, path, side):
    """Ankle and foot heading of one leg: planted for half a double step, swinging for the other.

    A foot lands where the person will be in the middle of the time that it then carries, so it
    neither slides nor lags; the first and the last step end beside the other foot.
    """
    offset = 0.0 if side == "l" else 0.5
    steps, last = c["steps"], c["steps"][-1]
    count, part = np.divmod(steps - offset, 1.0)
    swing = np.minimum(2 * part, 1.0)

    def place(landing):
        landing = np.where(landing > last - 0.2, last, np.where(landing < 0.3, 0.0, landing))
        x, z, turn = (np.interp(landing, steps, v) for v in (path[:, 0], path[:, 2], c["turn"]))
        return np.stack([x, np.zeros_like(x), z], -1), turn

    (here, turn_here), (there, turn_there) = (place(count + offset + s) for s in (-0.25, 0.75))
    share = swing * swing * (3 - 2 * swing)
    turn = turn_here + share * (turn_there - turn_here)
    stride = np.sqrt(((there - here) ** 2).sum(-1)) + 0.003 * np.abs(turn_there - turn_here)
    lift = np.minimum(0.04 + 0.12 * stride, 0.16) * np.sin(np.pi * swing) ** 2
    lift = lift * (stride > 1e-3)
    out = 1.0 if side == "r" else -1.0
    offset_x = out * (body.hip + c[f"{side}_foot_out"] * body.leg)
    up = body.ankle + lift + (c["hop"] + c[f"{side}_foot_up"]) * body.leg
    facing = _rotation(0, turn - 12 * out, 0)  # toes point a little outwards
    ankle = here + share[:, None] * (there - here)
    ankle = ankle + _turned(_rotation(0, turn, 0), offset_x, up, -c[f"{side}_foot_fwd"] * body.leg)
    return ankle, facing


def _reach_of_feet(base, pelvis, feet, body) -> Float[np.ndarray, " T"]:
    """Greatest height of the pelvis for the given feet; a raised foot counts less."""
    limits = []
    for sign, (ankle, _) in zip((-1, 1), feet.values()):
        hip = base + _turned(pelvis, sign * body.hip, -0.02 * body.height, 0)
        flat = ((ankle - hip)[:, [0, 2]] ** 2).sum(-1)
        rise = np.sqrt(np.maximum((0.995 * body.leg) ** 2 - flat, 0.0))
        # `3 ×`: by the time a foot is a hand's breadth up, the other leg alone carries the body.
        raised = np.maximum(ankle[:, 1] - body.ankle, 0.0)
        limits.append(ankle[:, 1] + rise + (base - hip)[:, 1] + 3 * raised)
    return np.minimum(*limits)


def _chain(start, target, first, second, pole):
    """Two bones from `start` towards `target`, the joint between them pushed towards `pole`."""
    span = target - start
    length = np.sqrt((span * span).sum(-1, keepdims=True))
    along = span / np.maximum(length, 1e-9)
    reach = np.clip(length, abs(first - second) + 0.25 * second, 0.998 * (first + second))
    cosine = (first**2 + reach**2 - second**2) / (2 * first * reach)
    sine = np.sqrt(1 - cosine**2)
    middle = start + first * (cosine * along + sine * _across(pole, along))
    return middle, start + reach * along


def _arm(neck, chest, c, side, sign, body) -> Float[np.ndarray, "T 3 3"]:
    """Shoulder, elbow and wrist."""
    shoulder = neck + _turned(chest, sign * body.shoulder, -0.018 * body.height, 0)
    out, up, fwd, raised = (c[f"{side}_{name}"] for name in ("out", "up", "fwd", "elbow"))
    # On its way past the shoulder a hand goes round it, in front.
    fwd = fwd + np.maximum(0.45**2 - out**2 - up**2 - fwd**2, 0.0) / 0.45
    # A hand does not pass through the other one: it stops just short of the midline.
    outward = np.maximum(out * body.arm, 0.03 - body.shoulder)
    # A hanging arm hangs, wherever the chest leans to.
    hanging = 1.4 * np.clip(-up - 0.5, 0.0, 0.5)
    frame = chest @ _rotation(-hanging * (c["tilt"] + c["bend"]), 0, 0)
    wrist = shoulder + _turned(frame, sign * outward, up * body.arm, -fwd * body.arm)
    wrist[:, 1] = np.maximum(wrist[:, 1], 0.14)  # fingers end at the floor
    # Elbows hang down, out and a little back; an action may lift them.
    pole = _turned(chest, sign * (0.5 + raised), raised - 0.8, 0.25 - 0.5 * raised)
    elbow, wrist = _chain(shoulder, wrist, body.upper_arm, body.forearm, pole)
    return np.stack([shoulder, elbow, wrist], axis=1)


def _hand(arm, chest, sign):
    """Hand joint, direction of the fingers and of the thumb, for an arm [T, 3, 3]."""
    fore = arm[:, 2] - arm[:, 1]
    along = _unit(fore)
    hand = arm[:, 2] + 0.27 * fore
    thumb = _across(_turned(chest, -0.5 * sign, 0.8, -0.6), along)
    return hand, along, _unit(0.6 * along + thumb)


def _leg(hip, ankle, facing, sign, body) -> Float[np.ndarray, "T 3 3"]:
    """Knee, ankle and foot."""
    pole = _turned(facing, 0.05 * sign, 0.15, -1.0)
    knee, ankle = _chain(hip, ankle, body.thigh, body.shank, pole)
    # On the floor a foot is level; off it, it goes with the shank, toes hanging a little.
    shank = _unit(knee - ankle)
    aloft = np.clip((ankle[:, 1:2] - body.ankle) / 0.16, 0.0, 1.0)
    level = _turned(facing, 0, -0.25, -1.0)
    hanging = _across(pole, shank) - 0.6 * shank
    toes = _unit((1 - aloft) * _unit(level) + aloft * _unit(hanging))
    return np.stack([knee, ankle, ankle + 0.075 * body.height * toes], axis=1)
