"""Missing joints: which they are, and how a clip without gaps is made. One home for every reader.

A joint is missing where a coordinate of it is NaN, where all of its coordinates are zero or the
value that a data set writes for "missing", or where its score is 0 or below the one asked for. Two
zeros are places: of a joint that is zero in all frames that show its body, which is the origin of
clips that were centred frame by frame, and of the layout's origin if it alone is zero in the first
such frame, as the published pipelines centre a clip. Of several joints that are zero in all frames,
only the layout's origin is one.

NTU RGB+D is not read by these rules: its sensor guesses lost joints and never writes zeros for
them, and its recordings stay bit for bit as the published scripts leave them (`ntu_cleaning`).
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Bool, Float32, Int, Real

from igm_jax.data.store import BadClip, Clip
from igm_jax.errors import InputError
from igm_jax.skeleton import Layout

FILL = "fill_gaps"  # the name of the step
MAX_MISSING = 0.5  # share of the joints, in the frames that show their body


@dataclasses.dataclass(frozen=True)
class Rules:
    """Rules for values that count as missing besides NaN and zero.

    Attributes:
      min_score: joints of a lower score are missing; those of score 0 are in any case.
      value: what the data set writes for a missing coordinate; None if nothing.
    """

    min_score: float = 0.0
    value: float | None = None

    def __post_init__(self):
        if not (math.isfinite(self.min_score) and self.min_score >= 0):
            raise InputError(f"min_score {self.min_score}: give a number from 0, such as 0.3")

    @property
    def cleaning(self) -> tuple[str, ...]:
        """The steps of `filled` for meta.json; the last two are those of `ntu_cleaning`."""
        fill = FILL
        fill += f", missing={self.value:g}" if self.value is not None else ""
        fill += f", min_score={self.min_score:g}" if self.min_score else ""
        return (fill, "drop_empty_frames", "hold_lost_bodies")


DEFAULT = Rules()


@dataclasses.dataclass(frozen=True)
class Tracks:
    """Bodies without missing joints, but perhaps absent in some frames.

    Attributes:
      frames: joint positions; what they are where a body is absent means nothing.
      seen: whether a body is there.
      filled: how many places of each joint were filled in.
    """

    frames: Float32[np.ndarray, "M T V C"]
    seen: Bool[np.ndarray, "M T"]
    filled: Int[np.ndarray, " V"]


def filled(
    clip: Clip,
    layout: Layout,
    scores: Real[np.ndarray, "M T V"] | None = None,
    rules: Rules = DEFAULT,
) -> Clip | BadClip:
    """The clip without missing joints, or why there is none.

    Gaps are filled as `fill` does. Frames that show nobody and bodies that no frame shows go. A
    body that is lost for a while stays as last seen; before it comes, it is as seen first.
    """
    try:
        tracks = fill(clip.frames, layout, scores, rules)
    except InputError as error:
        return BadClip(clip.name, str(error))
    counts = tuple(tracks.filled.tolist())
    return dataclasses.replace(clip, frames=_held(tracks), filled=counts)


def fill(
    frames: Real[np.ndarray, "M T V C"],
    layout: Layout,
    scores: Real[np.ndarray, "M T V"] | None = None,
    rules: Rules = DEFAULT,
) -> Tracks:
    """Fills the gaps of each joint linearly in time; before the first and after the last it stays.

    A body without any joint is absent in that frame. A joint that a clip never shows is put in the
    middle of the body's others.

    Raises:
      InputError: nobody is there, an infinite coordinate, or more than half of the joints are
        missing.
    """
    for length, what in zip(frames.shape, ("body", "frame", "joint", "coordinate")):
        if not length:
            raise InputError(f"it has no {what}")
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is infinite
        frames = frames.astype(np.float32, order="C")
    missing, seen = _missing(frames, layout.origin, scores, rules)
    _check_finite(frames, missing, layout)
    gaps = missing & seen[..., None]
    if not seen.any():
        raise InputError(f"shows nobody: all joints are missing in all {frames.shape[1]} frames")
    share = gaps.sum() / (seen.sum() * frames.shape[2])
    if share > MAX_MISSING:
        raise InputError(f"{share:.0%} of its joints are missing, more than {MAX_MISSING:.0%}")
    for body in np.flatnonzero(gaps.any(axis=(1, 2))):
        _fill_body(frames[body], gaps[body], seen[body])
    return Tracks(frames, seen, gaps.sum(axis=(0, 1)))


def _missing(
    frames: Float32[np.ndarray, "M T V C"],
    origin: int,
    scores: Real[np.ndarray, "M T V"] | None,
    rules: Rules,
) -> tuple[Bool[np.ndarray, "M T V"], Bool[np.ndarray, "M T"]]:
    """Which joints are missing, and in which frames a body is there."""
    unknown = np.isnan(frames).any(axis=-1)
    if rules.value is not None:
        unknown |= (frames == np.float32(rules.value)).all(axis=-1)
    if scores is not None:
        unknown |= ~((scores > 0) & (scores >= rules.min_score))  # NaN is no score either
    zero = (frames == 0).all(axis=-1) & ~unknown
    missing = zero | unknown
    seen = ~missing.all(axis=-1)
    if not zero.any():
        return missing, seen
    for body in np.flatnonzero(seen.any(axis=1)):
        there = seen[body]
        always = np.flatnonzero(missing[body, there].all(axis=0) & zero[body, there].any(axis=0))
        centre = always if len(always) == 1 else always[always == origin]
        missing[body, :, centre] &= ~(there & zero[body, :, centre])
        first = there.argmax()
        lost = np.flatnonzero(missing[body, first])
        if lost.tolist() == [origin] and zero[body, first, origin]:
            missing[body, first, origin] = False
    return missing, seen


def _check_finite(
    frames: Float32[np.ndarray, "M T V C"], missing: Bool[np.ndarray, "M T V"], layout: Layout
) -> None:
    infinite = np.isinf(frames).any(axis=-1) & ~missing
    if infinite.any():
        body, frame, joint = np.argwhere(infinite)[0].tolist()
        value = frames[body, frame, joint][np.isinf(frames[body, frame, joint])][0]
        named = repr(layout.joints[joint]) if joint < layout.num_joints else joint
        raise InputError(
            f"has {value} for joint {named} in frame {frame}, counted from 0"
            + f", of body {body}" * (len(frames) > 1)
            + ": correct it, or write NaN where a joint is missing"
        )


def _fill_body(
    frames: Float32[np.ndarray, "T V C"],
    gaps: Bool[np.ndarray, "T V"],
    seen: Bool[np.ndarray, " T"],
) -> None:
    """Writes into `frames` what belongs where the gaps are."""
    never = gaps[seen].all(axis=0)
    for joint in np.flatnonzero(gaps.any(axis=0) & ~never):
        lost = np.flatnonzero(gaps[:, joint])
        known = np.flatnonzero(seen & ~gaps[:, joint])
        for axis in range(frames.shape[2]):
            frames[lost, joint, axis] = np.interp(lost, known, frames[known, joint, axis])
    if never.any():
        middle = frames[seen][:, ~never].mean(axis=1, keepdims=True, dtype=np.float64)
        frames[np.ix_(seen, never)] = middle


def _held(tracks: Tracks) -> Float32[np.ndarray, "m t V C"]:
    """The bodies that are there at all, in the frames that show anybody."""
    bodies, moments = tracks.seen.any(axis=1), tracks.seen.any(axis=0)
    frames, seen = tracks.frames[bodies][:, moments], tracks.seen[bodies][:, moments]
    latest = np.maximum.accumulate(np.where(seen, np.arange(seen.shape[1]), -1), axis=1)
    shown = np.where(latest < 0, seen.argmax(axis=1)[:, None], latest)
    return np.take_along_axis(frames, shown[:, :, None, None], axis=1)
