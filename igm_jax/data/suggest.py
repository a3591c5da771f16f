"""Suggests config keys for own data, from facts of the store.

The keys are those that depend on how the clips were recorded. A wrong choice can take the features
below joint coordinates (docs/experiments.md, 17), and a user has no way to see it in a loss.
"""

import dataclasses
import re
from typing import Any

import numpy as np
from jaxtyping import Float64, Int

from igm_jax.data import summary
from igm_jax.data.store import SkeletonStore

# Data sets whose config cannot know how the clips were recorded.
OWN_DATA = ("custom",)
BATCH_SIZE = 64  # of configs/custom.py

# Degrees. UTD-MHAD, with one camera that all people face, has 5. Northwestern-UCLA and the
# synthetic data set, with three cameras each, have 42 and 41.
_MANY_VIEWS = 30.0
# The same for `width_spread`. The x and y of UTD-MHAD have 0.11, those of Northwestern-UCLA 0.58.
_MANY_WIDTHS = 0.16
_FEW_PAIRS = 0.05  # share of the clips with several bodies, below which one body is read
_MOST_CLIPS = 4096  # looked at for the facing, so that a large store takes no longer
_DIRECTIONS = frozenset(
    ("left", "leftward", "leftwards", "right", "rightward", "rightwards", "clockwise", "cw", "ccw",
     "counterclockwise", "anticlockwise")
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """A config key, the value that fits the store, and the facts that speak for it.

    Attributes:
      key: config key, such as data.camera.
      value: its value.
      reason: the facts, in words.
    """

    key: str
    value: Any
    reason: str

    @property
    def flag(self) -> str:
        """The command-line flag that sets the key.

        >>> Suggestion("data.camera", "fixed", "one camera").flag
        '--config.data.camera=fixed'
        """
        return f"--config.{self.key}={self.value}"


def suggest(store: SkeletonStore) -> tuple[Suggestion, ...]:
    """Suggests camera, coordinates, mirroring, bodies and batch size for the clips of a store.

    "moving" needs evidence of many views: people face many ways, or, where the facing is unknown,
    there are several cameras. Without evidence the camera is "fixed", the careful choice. Classes
    of left and right are never mirrored.

    Args:
      store: an open store; its first frames and its table of clips are read.

    Returns:
      One suggestion a key. `data.camera` and `data.coordinates` are always there.
    """
    many_views, views = _views(store)
    sided = direction_classes(store.class_names)
    camera = Suggestion("data.camera", "moving" if many_views else "fixed", views)
    found = [camera, _coordinates(store)]
    if many_views and sided:
        reason = f"classes have a direction, such as {sided[0]!r}"
        found.append(Suggestion("data.mirror", 0.0, reason))
    elif many_views and not store.layout.pairs:
        found.append(Suggestion("data.mirror", 0.0, "the layout has no pairs of joints"))
    elif sided:
        reason = f"{views}; classes have a direction, such as {sided[0]!r}"
        found[0] = dataclasses.replace(camera, reason=reason)
    several = float((store.clips["bodies"] > 1).mean())
    if 0 < several < _FEW_PAIRS:
        reason = f"only {several:.1%} of the clips show more than one body"
        found.append(Suggestion("data.bodies", 1, reason))
    clips = min((row["train"] for row in summary.usable_parts(store)), default=BATCH_SIZE)
    if 1 < clips < BATCH_SIZE:
        power = 1 << (clips.bit_length() - 1)
        reason = f"{clips} clips to pre-train on, fewer than {BATCH_SIZE}"
        found.append(Suggestion("train.batch_size", power, reason))
    return tuple(found)


def direction_classes(class_names: tuple[str, ...]) -> list[str]:
    """Names of classes with a word for left, right or a sense of rotation.

    >>> direction_classes(("swipeLeft", "draw_circle_CW", "upright", "wave"))
    ['swipeLeft', 'draw_circle_CW']
    """
    spaced = [re.sub(r"([a-z])([A-Z])", r"\1 \2", name) for name in class_names]
    words = [set(re.findall(r"[a-z]+", name.lower())) for name in spaced]
    return [name for name, found in zip(class_names, words) if found & _DIRECTIONS]


def facing_spread(store: SkeletonStore) -> float | None:
    """How differently people face the camera in the first frames, in degrees.

    It is the circular standard deviation of the angle about the mean spine, of the first body of at
    most 4,096 clips. The mean spine makes it independent of which axis of the data points up.

    Returns:
      The spread, large if people face all ways; None for 2-D joints, a layout without axes, or
      bodies whose axes cannot be formed.
    """
    if store.layout.axes is None or store.frames.shape[2] != 3:
        return None
    _, points = first_frames(store)
    hip, shoulder, left, right = (points[:, j] for j in store.layout.axes)
    up, side = (shoulder - hip).mean(axis=0), right - left
    side -= (side @ up)[:, None] * up / max(up @ up, 1e-12)
    length = np.linalg.norm(side, axis=1, keepdims=True)
    seen = length[:, 0] > 1e-6
    if not seen.any():
        return None
    resultant = min(float(np.linalg.norm((side[seen] / length[seen]).mean(axis=0))), 1.0)
    return float(np.degrees(np.sqrt(-2 * np.log(resultant)))) if resultant > 0 else float("inf")


def width_spread(store: SkeletonStore) -> float | None:
    """How differently wide people are in the first frames of 2-D clips.

    A person who turns gets narrower in the image. The width is the horizontal distance of a left
    joint to its right partner, the median over the pairs, over the size of the body (the root mean
    square distance of its joints from their mean).

    Returns:
      Standard deviation of the widths over their mean size; None for 3-D joints, a layout without
      pairs, or bodies without a width.
    """
    if not store.layout.pairs or store.frames.shape[2] != 2:
        return None
    _, points = first_frames(store)
    left, right = np.array(store.layout.pairs).T
    width = np.median(points[:, left, 0] - points[:, right, 0], axis=1)
    size = np.sqrt(((points - points.mean(axis=1, keepdims=True)) ** 2).sum(axis=2).mean(axis=1))
    width = width[size > 0] / size[size > 0]
    return float(width.std() / np.abs(width).mean()) if width.any() else None


def first_frames(
    store: SkeletonStore,
) -> tuple[Int[np.ndarray, " B"], Float64[np.ndarray, "B V C"]]:
    """Positions of at most 4,096 clips, and the first frame of the first body of each."""
    clips = np.arange(len(store))
    if len(clips) > _MOST_CLIPS:  # a random choice, because a store may have a period of cameras
        clips = np.sort(np.random.default_rng(0).choice(clips, _MOST_CLIPS, replace=False))
    return clips, store.frames[store.clips["offset"][clips]].astype(np.float64)


def _views(store: SkeletonStore) -> tuple[bool, str]:
    """Whether the clips show many views, and the facts that say so."""
    cameras = len(np.unique(store.clips["camera"][store.clips["camera"] > 0]))
    named = (
        ("the camera is not known", "one camera")[cameras] if cameras < 2 else f"{cameras} cameras"
    )
    spread, widths = facing_spread(store), width_spread(store)
    if widths is not None:
        many = widths >= _MANY_WIDTHS
        how = "many ways" if many else "one way"
        return (
            many or cameras > 1,
            f"people face {how} (their widths vary by {widths:.0%}); {named}",
        )
    if spread is None:
        return cameras > 1, f"{named}; without 3-D axes it is not known how people face it"
    sides = "many sides" if spread >= _MANY_VIEWS else "one side"
    facing = f"people are seen from {sides} (they face ± {spread:.0f}° in the first frames)"
    return spread >= _MANY_VIEWS, f"{facing}; {named}"


def _coordinates(store: SkeletonStore) -> Suggestion:
    if store.frames.shape[2] != 3:
        reason = "path and size of 2-D joints depend on the camera"
        return Suggestion("data.coordinates", "posture", reason)
    if store.layout.axes is None:
        return Suggestion("data.coordinates", "centred", "the layout has no axes")
    return Suggestion("data.coordinates", "posture", "the joints are 3-D and the layout has axes")
