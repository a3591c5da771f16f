"""Clips for the page's player: real, noised and generated ones, as few bytes as they need."""

import base64
import dataclasses
import zlib
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from igm_jax.data import SkeletonStore, pipeline
from igm_jax.drawing.canvas import bone_sides, finite
from igm_jax.drawing.projection import is_flat, project
from igm_jax.evaluation.generate import LoadedGenerator
from igm_jax.evaluation.given import Given, given_of_store
from igm_jax.evaluation.run import Run
from igm_jax.skeleton import Layout

# Steps of noise that the slider has, as shares of K.
NOISE = (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8)
FIRST_NOISE = 0.05  # what the slider begins with
DDIM_STEPS = 50
_FRAMES = 40  # at most; the page interpolates between them
_LEVELS = 1500  # of a coordinate in the height of the body: about a millimetre
_MISSING = -32768

Shown = Float[np.ndarray, "M T V 3"]


class Generated(NamedTuple):
    """One real clip and what a generator makes of it, in the picture's coordinates.

    Attributes:
      noised: one clip for each step of noise, x_t.
      one_step: what the generator predicts from each, x̂0.
      sampled: the clip by DDIM, from noise.
    """

    noised: list[Shown]
    one_step: list[Shown]
    sampled: Shown


class Clips(NamedTuple):
    """The clips of a page.

    Attributes:
      real: one for each point of the map, NaN where a joint is missing.
      generated: position in `real` → what was generated from its features.
      ts: the steps of noise, ascending.
      first: position of the first one to show in `ts`.
      steps: of DDIM; 0 if nothing is generated.
    """

    real: list[Shown]
    generated: dict[int, Generated]
    ts: tuple[int, ...]
    first: int
    steps: int


def show_clips(
    run: Run,
    store: SkeletonStore,
    indices: Int[np.ndarray, " n"],
    generator: LoadedGenerator | None,
    *,
    count: int = 12,
    seed: int = 0,
) -> Clips:
    """Reads clips, and generates from the features of some, of as many classes as possible.

    Args:
      run: the run.
      store: its data.
      indices: positions of the clips.
      generator: of the run; None where it has none, and then nothing is generated.
      count: how many clips are generated from.
      seed: of the noise.
    """
    # As they were recorded: a missing joint is still exactly zero there.
    camera = dataclasses.replace(run.reading, coordinates="camera")
    recorded, present = pipeline.full_clips(store, indices, camera)
    frames = [clip[there] for clip, there in zip(recorded, present)]
    show = _Picture(store.layout, store.meta["units"], frames)
    real = [show(i, clip) for i, clip in enumerate(frames)]
    if generator is None:
        return Clips(real, {}, (), 0, 0)
    rows = spread(store.clips["label"][indices], count)
    given = given_of_store(store, indices[rows], run.reading)
    steps = min(DDIM_STEPS, generator.most_ddim_steps)
    ts = tuple(sorted({int(share * generator.steps) for share in NOISE}))
    made = _generate(generator, given, ts, steps, seed)
    shown = [
        [show(i, clip[there]) for i, clip, there in zip(rows, clips, given.present)]
        for clips in made
    ]
    columns = zip(*shown)  # those of one clip: x_t for each t, x̂0 for each t, the sample
    generated = {
        int(i): Generated(list(c[: len(ts)]), list(c[len(ts) : -1]), c[-1])
        for i, c in zip(rows, columns)
    }
    first = ts.index(int(FIRST_NOISE * generator.steps))
    return Clips(real, generated, ts, first, steps)


def _generate(
    generator: LoadedGenerator, given: Given, ts: tuple[int, ...], steps: int, seed: int
) -> list[np.ndarray]:
    """Clips [n, M, T, V, C] in the camera's coordinates: x_t for each t, x̂0 for each t, DDIM."""
    ratio = generator.run.config.objective.mask_ratio
    made = [generator.noised(given, t, seed=seed) for t in ts]
    made += [generator.one_step(given, t, mask_ratio=ratio, seed=seed) for t in ts]
    made.append(generator.sample(given, steps, mask_ratio=ratio, seed=seed))
    return [given.placed_back(clips) for clips in made]


def spread(labels: Int[np.ndarray, " n"], count: int) -> Int[np.ndarray, " count"]:
    """Positions of at most `count` clips, of each class one before any has two.

    >>> spread(np.array([0, 0, 0, 1, 2, 1]), 4).tolist()
    [0, 1, 3, 4]
    """
    turn = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        turn[rows] = np.arange(len(rows))
    return np.sort(np.argsort(turn, kind="stable")[:count])


class _Picture:
    """Turns clips to the viewer, a generated one as its real clip, and puts them on the floor."""

    def __init__(self, layout: Layout, units: str, real: list[np.ndarray]):
        self._layout, self._units, self._real = layout, units, real

    def __call__(self, i: int, frames: np.ndarray) -> Shown:
        real, origin = self._real[i], self._layout.origin
        view = project(frames, self._layout, self._units, facing=real)
        own = view if frames is real else project(real, self._layout, self._units)
        start = own[0, 0, origin]
        floor = finite(own[..., 1]).min()
        where = np.where(np.isfinite(start), start, 0.0)
        return view - np.array([where[0], floor, where[2]])


def height(clips: Clips) -> float:
    """Median height of the real clips, in units of the data; 1 if all are flat."""
    return float(np.median([np.ptp(finite(clip[..., 1])) for clip in clips.real])) or 1.0


def packed(clips: Clips, layout: Layout, units: str) -> tuple[dict[str, Any], str]:
    """The clips as text for the page, and the facts that it needs to read them.

    Coordinates are whole numbers of 1/1500 of a body's height. All clips have the same frames, so
    they stand side by side as [frames, columns], and only the first frame is whole: the others are
    differences, which deflate makes small. Low and high bytes stand apart. A missing joint is
    -32768.

    Returns:
      `(facts, text)`: bones with their sides, heads, steps of noise, and for each clip the number
      of its bodies and its first column; the text is base64.
    """
    stride = -(-clips.real[0].shape[1] // _FRAMES)
    scale, columns, offset = height(clips) / _LEVELS, [], 0

    def add(clip: Shown) -> int:
        nonlocal offset
        values = np.round(clip[:, ::stride] / scale)
        whole = np.where(np.isfinite(values), np.clip(values, -32000, 32000), _MISSING)
        columns.append(np.moveaxis(whole, 1, 0).reshape(whole.shape[1], -1).astype(np.int16))
        offset += columns[-1].shape[1]
        return offset - columns[-1].shape[1]

    entries: list[dict[str, Any]] = [{"bodies": len(c), "real": add(c)} for c in clips.real]
    for i, made in clips.generated.items():
        entries[i] |= {
            "noised": [add(clip) for clip in made.noised],
            "oneStep": [add(clip) for clip in made.one_step],
            "sampled": add(made.sampled),
        }
    whole = np.concatenate(columns, axis=1)
    change = whole.copy()
    change[1:] -= whole[:-1]  # wraps around, as the sum in the page does
    bytes_ = np.stack([change.view(np.uint8)[:, ::2], change.view(np.uint8)[:, 1::2]])
    names = [name.lower() for name in layout.joints]
    facts = {
        "frames": len(whole),
        "columns": whole.shape[1],
        "stride": stride,
        "height": _LEVELS,
        "flat": is_flat(3, units) or all(not finite(c[..., 2]).any() for c in clips.real[:8]),
        "joints": layout.num_joints,
        "origin": layout.origin,
        "bones": [[j, p, side] for (j, p), side in zip(layout.bones, bone_sides(layout))],
        "heads": [j for j, name in enumerate(names) if name == "head"],
        "ts": list(clips.ts),
        "first": clips.first,
        "steps": clips.steps,
        "clips": entries,
    }
    return facts, deflated(bytes_.tobytes())


def deflated(content: bytes) -> str:
    """Bytes as base64 of their zlib form, which a browser unpacks by itself."""
    return base64.b64encode(zlib.compress(content, 9)).decode("ascii")
