"""The actions of the synthetic data set, as a table of key poses.

A pose names the channels (`body.CHANNELS`) in which it differs from the performer's own
rest pose; a key is (seconds to get there, pose). Everything is written for a right-handed person
who stands; mirroring, tempo, amplitude and personal style come later.
"""

from igm_jax.data.synthetic.poses import Motion, both, left, reverse, right

HANGING = both(0.1, -0.96, 0.06)
# Poses of an idle arm, with their frequencies.
ARM_RESTS = (
    (0.62, (0.1, -0.96, 0.06, 0.0)),
    (0.14, (-0.25, -0.58, 0.38, 0.1)),  # in front of the belly
    (0.12, (0.12, -0.78, 0.02, 0.35)),  # hand on the hip
    (0.12, (0.06, -0.86, -0.16, 0.0)),  # in a back pocket
)
SEATED = {"drop": 0.44, "back": 0.46, "tilt": -4.0, "bend": 8.0} | both(0.0, -0.72, 0.42)

_CARRYING = right(-0.12, -0.48, 0.55)
_CARRYING_BOTH = both(-0.2, -0.45, 0.55)
_GUARD = right(-0.1, -0.12, 0.42) | left(-0.1, -0.12, 0.42)
_BOWED_TO_FLOOR = {"tilt": 58.0, "bend": 42.0, "drop": 0.22, "back": 0.2, "nod": -25.0}
_CROUCHED = {"tilt": 30.0, "bend": 38.0, "drop": 0.55, "back": 0.2, "nod": -10.0}

_PICK_UP = Motion(
    lead=(
        (0.75, _BOWED_TO_FLOOR | right(-0.1, 0.1, 0.97)),
        (0.15, _BOWED_TO_FLOOR | right(-0.1, 0.1, 0.97)),
        (0.75, _CARRYING),
    ),
    tail=(),
)
_PICK_UP_CROUCHING = Motion(
    lead=(
        (0.75, _CROUCHED | right(-0.1, -0.25, 0.95)),
        (0.15, _CROUCHED | right(-0.1, -0.25, 0.95)),
        (0.75, _CARRYING),
    ),
    tail=(),
)
_SIT_DOWN = Motion(
    lead=(
        (0.45, {"tilt": 28.0, "bend": 12.0, "drop": 0.1, "back": 0.16}),
        (0.45, SEATED | {"tilt": 26.0, "bend": 14.0, "drop": 0.38, "back": 0.42}),
        (0.4, SEATED),
    ),
    tail=(),
)
_HAT_ON = Motion(
    start=_CARRYING_BOTH,
    lead=((0.7, both(-0.12, 0.55, 0.15, 0.6)), (0.25, both(-0.12, 0.5, 0.12, 0.6)), (0.7, {})),
    tail=(),
)
_CAP_ON = Motion(
    start=_CARRYING,
    lead=((0.7, right(-0.2, 0.52, 0.2, 0.6)), (0.25, right(-0.2, 0.48, 0.15, 0.6)), (0.7, {})),
    tail=(),
)


def _walk(double_steps: float) -> Motion:
    """A walk that starts with a full step and ends with a short one, feet together."""
    n, stride = double_steps, 1.3
    keys = (
        (0.6, 0.5, 0.4 * stride),
        (1.05 * (n - 1.0), n - 0.5, (n - 0.6) * stride),
        (0.6, n, (n - 0.5) * stride),
    )
    return Motion(lead=tuple((s, {"steps": k, "travel": d}) for s, k, d in keys), tail=())


def _turn(degrees: float, double_steps: float, seconds: float) -> Motion:
    return Motion(lead=((seconds, {"steps": double_steps, "turn": degrees}),), tail=())


# Class name -> the ways to do it. The order of the classes is the order of the labels.
ACTIONS: dict[str, tuple[Motion, ...]] = {
    "drink": (
        Motion(
            lead=((0.7, right(-0.24, 0.14, 0.42)), (0.25, right(-0.24, 0.2, 0.38, 0.2))),
            cycle=((0.3, right(-0.24, 0.25, 0.36, 0.3) | {"nod": -18.0}), (0.3, {"nod": -8.0}
                   | right(-0.24, 0.18, 0.4, 0.1))),
            repeats=(1, 2),
            arms_only=True,
        ),
    ),
    "answer a phone": (
        Motion(
            lead=((0.7, right(0.05, 0.34, 0.16, 0.25) | {"side": 4.0}),
                  (0.9, right(0.05, 0.36, 0.14, 0.25) | {"side": 6.0, "nod": 4.0})),
            arms_only=True,
        ),
    ),
    "scratch the head": (
        Motion(
            lead=((0.65, right(-0.02, 0.5, 0.1, 0.7)),),
            cycle=((0.16, right(-0.08, 0.58, 0.06, 0.7)), (0.16, right(0.02, 0.46, 0.06, 0.7))),
            repeats=(2, 4),
            arms_only=True,
        ),
    ),
    "check the watch": (
        Motion(
            lead=((0.6, right(-0.3, -0.22, 0.42, 0.6) | {"nod": 22.0, "look": -8.0}),
                  (0.6, right(-0.3, -0.2, 0.42, 0.6) | {"nod": 25.0, "look": -8.0})),
            arms_only=True,
        ),
    ),
    "beckon": (
        Motion(
            lead=((0.5, right(0.02, -0.25, 0.75)),),
            cycle=((0.22, right(0.05, 0.12, 0.42)), (0.22, right(0.02, -0.25, 0.75))),
            repeats=(2, 3),
            arms_only=True,
        ),
    ),
    "pick up": (_PICK_UP, _PICK_UP_CROUCHING),
    "put down": (reverse(_PICK_UP), reverse(_PICK_UP_CROUCHING)),
    "sit down": (_SIT_DOWN,),
    "stand up": (reverse(_SIT_DOWN),),
    "put on a hat": (_HAT_ON, _CAP_ON),
    "take off a hat": (reverse(_HAT_ON), reverse(_CAP_ON)),
    "throw": (
        Motion(
            lead=(
                (0.5, right(0.35, 0.35, -0.4, 0.3) | {"twist": -32.0, "bend": -6.0}),
                (0.22, right(0.0, 0.4, 0.85) | {"twist": 22.0, "bend": 12.0}),
                (0.2, right(-0.25, -0.45, 0.7) | {"twist": 32.0, "bend": 20.0}),
            ),
        ),
        Motion(
            lead=(
                (0.5, right(0.1, -0.75, -0.6) | {"twist": -20.0, "bend": 12.0}),
                (0.28, right(0.0, -0.55, 0.75) | {"twist": 12.0, "bend": 8.0}),
                (0.18, right(-0.05, 0.05, 0.95) | {"twist": 16.0}),
            ),
        ),
    ),
    "clap": (
        Motion(
            lead=((0.5, both(-0.1, -0.2, 0.55)),),
            cycle=((0.15, both(-0.4, -0.18, 0.55)), (0.15, both(-0.08, -0.2, 0.55))),
            repeats=(3, 6),
            arms_only=True,
        ),
    ),
    "wave": (
        Motion(
            lead=((0.55, right(0.3, 0.5, 0.3)),),
            cycle=((0.22, right(0.62, 0.42, 0.25)), (0.22, right(0.08, 0.55, 0.3))),
            repeats=(2, 4),
            arms_only=True,
        ),
        Motion(
            lead=((0.5, right(0.2, 0.05, 0.5)),),
            cycle=((0.22, right(0.5, 0.0, 0.45)), (0.22, right(-0.05, 0.08, 0.5))),
            repeats=(2, 4),
            arms_only=True,
        ),
    ),
    "point": (
        Motion(
            lead=((0.55, right(-0.05, 0.05, 1.2)), (0.7, right(-0.05, 0.07, 1.2))),
            arms_only=True,
        ),
        Motion(
            lead=((0.55, right(0.95, 0.14, 0.65) | {"look": -35.0}),
                  (0.7, right(0.95, 0.17, 0.65) | {"look": -35.0})),
            arms_only=True,
        ),
        Motion(
            lead=((0.55, right(0.17, 0.85, 0.85) | {"nod": -15.0}),
                  (0.7, right(0.17, 0.87, 0.85) | {"nod": -15.0})),
            arms_only=True,
        ),
    ),
    "punch": (
        Motion(
            lead=((0.4, _GUARD | {"drop": 0.04}),),
            cycle=(
                (0.16, _GUARD | right(-0.2, 0.05, 1.15, 0.3) | {"twist": 26.0, "drop": 0.05}),
                (0.24, _GUARD | {"drop": 0.04}),
            ),
            repeats=(1, 3),
        ),
        Motion(
            lead=((0.4, _GUARD | {"drop": 0.04}),),
            cycle=(
                (0.16, _GUARD | right(-0.2, 0.05, 1.15, 0.3) | {"twist": 26.0}),
                (0.2, _GUARD | {"drop": 0.04}),
                (0.16, _GUARD | left(-0.2, 0.05, 1.15, 0.3) | {"twist": -26.0}),
                (0.2, _GUARD | {"drop": 0.04}),
            ),
            repeats=(1, 2),
        ),
    ),
    "kick": (
        Motion(
            lead=(
                (0.35, {"r_foot_fwd": -0.3, "r_foot_up": 0.18, "bend": 6.0, "sway": -0.08}),
                (0.24, {"r_foot_fwd": 0.72, "r_foot_up": 0.4, "tilt": -10.0, "sway": -0.08}
                 | left(0.3, -0.75, 0.4)),
                (0.3, {"r_foot_fwd": 0.05, "r_foot_up": 0.14, "sway": -0.06}),
            ),
            tail=((0.35, {}),),
        ),
        Motion(
            lead=(
                (0.3, {"r_foot_fwd": -0.2, "r_foot_up": 0.08, "sway": -0.06}),
                (0.2, {"r_foot_fwd": 0.5, "r_foot_up": 0.14, "tilt": -5.0, "sway": -0.06}),
                (0.3, {"r_foot_fwd": 0.0, "r_foot_up": 0.06, "sway": -0.05}),
            ),
            tail=((0.3, {}),),
        ),
    ),
    "jump": (
        Motion(
            lead=((0.1, {}),),
            cycle=(
                (0.4, {"drop": 0.24, "back": 0.06, "tilt": 18.0, "bend": 14.0}
                 | both(0.15, -0.8, -0.45)),
                (0.3, {"hop": 0.03} | both(0.15, -0.3, 0.75)),
                (0.22, {"hop": 0.3} | both(0.2, 0.1, 0.75)),
                (0.22, {"hop": 0.0, "drop": 0.02} | both(0.2, -0.4, 0.6)),
                (0.24, {"drop": 0.2, "tilt": 14.0, "bend": 10.0} | both(0.2, -0.8, 0.2)),
            ),
            repeats=(1, 2),
            tail=((0.4, {}),),
        ),
    ),
    "bow": (
        Motion(
            lead=((0.7, {"tilt": 34.0, "bend": 34.0, "back": 0.14, "nod": 12.0}),
                  (0.3, {"tilt": 36.0, "bend": 34.0, "back": 0.15, "nod": 12.0})),
            tail=((0.7, {}),),
        ),
    ),
    "squat": (
        Motion(
            lead=((0.1, {}),),
            cycle=(
                (0.6, {"drop": 0.5, "back": 0.2, "tilt": 24.0, "bend": 10.0}
                 | both(-0.1, -0.05, 0.95)),
                (0.55, {}),
            ),
            repeats=(1, 2),
            tail=((0.1, {}),),
        ),
        Motion(
            lead=((0.1, {}),),
            cycle=((0.6, {"drop": 0.42, "back": 0.16, "tilt": 22.0, "bend": 12.0}), (0.55, {})),
            repeats=(1, 2),
            tail=((0.1, {}),),
        ),
    ),
    "walk": (_walk(1.5), _walk(2.5)),
    "turn around": (_turn(180.0, 2.0, 1.7), _turn(180.0, 1.0, 1.2)),
    "push someone": (
        Motion(
            lead=((0.45, both(-0.05, -0.15, 0.4) | {"bend": 4.0}),
                  (0.22, both(-0.1, -0.05, 0.97) | {"bend": 16.0, "tilt": 8.0}),
                  (0.3, both(-0.05, -0.15, 0.5) | {"bend": 4.0})),
            partner=({}, {"tilt": -8.0, "bend": -6.0, "nod": 14.0, "travel": -0.08, "steps": 0.2},
                     {"tilt": -4.0, "travel": -0.4, "steps": 1.0} | both(0.3, -0.75, 0.35),
                     {"travel": -0.4, "steps": 1.0}),
            distance=1.3,
        ),
    ),
    "shake hands": (
        Motion(
            lead=((0.55, right(-0.28, -0.36, 0.66) | {"bend": 5.0}),),
            cycle=((0.16, right(-0.28, -0.28, 0.66) | {"bend": 5.0}),
                   (0.16, right(-0.28, -0.44, 0.66) | {"bend": 5.0})),
            repeats=(2, 4),
            partner=(right(-0.28, -0.36, 0.66) | {"bend": 5.0},
                     right(-0.28, -0.28, 0.66) | {"bend": 5.0},
                     right(-0.28, -0.44, 0.66) | {"bend": 5.0}, {}),
            distance=1.6,
        ),
    ),
}  # fmt: skip
