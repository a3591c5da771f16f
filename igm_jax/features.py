"""Computes features of clips, jitted and in batches.

KNN during training, probes and `igm_jax.load_encoder` all go through `extract_features`.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float, Float32

from igm_jax import augment, parallel
from igm_jax.data import SkeletonStore, pipeline, resize
from igm_jax.models import Encoder, EncoderConfig, Hardware, apply, pool, stretch_means
from igm_jax.reading import Reading

BATCH_SIZE = 128  # clips in one call of the encoder


def pooled_features(
    params: Any,
    clip: Float[Array, "B M T V C"],
    present: Bool[Array, "B M"],
    *,
    config: EncoderConfig,
    reading: Reading,
    hardware: Hardware | None = None,
) -> Float[Array, "B D"]:
    """Encodes standardised streams with nothing hidden; mean over tokens and present bodies.

    With `config.stretches` S above 1 the means over S stretches of the clip stand side by side.

    Args:
      params: parameters of the encoder.
      clip: [B, M, T, V, C] in the units and coordinates of the training data.
      present: [B, M].
      config: the encoder's.
      reading: how it reads a clip.
      hardware: the devices that it is compiled for; by default those of this process.
    """
    tokens = clip_tokens(params, clip, config=config, reading=reading, hardware=hardware)
    return pooled_tokens(tokens, present, config)


def clip_tokens(
    params: Any,
    clip: Float[Array, "B M T V C"],
    *,
    config: EncoderConfig,
    reading: Reading,
    hardware: Hardware | None = None,
) -> Float[Array, "BM N D"]:
    """Token features of every body, nothing hidden; see `pooled_features`."""
    rows = reading(clip.reshape(-1, *clip.shape[2:]))
    return apply(Encoder(config, hardware or Hardware.here()), params, rows)


def pooled_tokens(
    tokens: Float[Array, "BM N D"], present: Bool[Array, "B M"], config: EncoderConfig
) -> Float[Array, "B SD"]:
    """Mean over the tokens of each stretch, then over the present bodies."""
    return pool(stretch_means(tokens, config.grid[0], config.stretches)[:, None], present)


@functools.cache
def _jitted(config: EncoderConfig, reading: Reading, mesh: Mesh | None) -> Callable[..., Array]:
    hardware = Hardware.here() if mesh is None else Hardware.of(mesh)
    return jax.jit(
        functools.partial(pooled_features, config=config, reading=reading, hardware=hardware),
        out_shardings=None if mesh is None else parallel.replicated(mesh),
        compiler_options=hardware.compiler_options,
    )


def extract_features(
    config: EncoderConfig,
    params: Any,
    reading: Reading,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    mesh: Mesh | None = None,
) -> np.ndarray:
    """Features of many clips.

    Args:
      config: the encoder's.
      params: its parameters.
      reading: how it reads a clip.
      batches: (clip [b, M, T, V, C], present [b, M]) pairs. Only present bodies are encoded, as
        many at once as the largest batch has clips. A smaller rest is padded to a power of two or
        to the size before, so that few sizes are compiled.
      mesh: splits every batch over these devices, those of `params`; all their processes call
        this alike. By default the one device of `params` reads the clips.

    Returns:
      [number of clips, D] float32.
    """
    encode = functools.partial(_jitted(config, reading, mesh), params)
    present: list[np.ndarray] = []
    bodies = _present_bodies(batches, present)
    rows = rows_of(encode, bodies, config.feature_width, mesh)
    return _mean_of_bodies(rows, present)


def _present_bodies(
    batches: Iterable[tuple[np.ndarray, np.ndarray]], present: list[np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of the bodies that are there, each as a clip of its own; absent ones cost nothing.

    Args:
      batches: (clip [b, M, T, V, C], present [b, M]) pairs.
      present: gets the second of each pair.
    """
    waiting: list[np.ndarray] = []
    size = count = 0
    for clip, there in batches:
        present.append(there)
        size = max(size, len(clip))
        waiting.append(clip[there][:, None])
        count += len(waiting[-1])
        if count >= size:
            rows = np.concatenate(waiting)
            full = count - count % size
            for start in range(0, full, size):
                yield rows[start : start + size], np.ones((size, 1), bool)
            waiting, count = [rows[full:]], count - full
    if count:
        yield np.concatenate(waiting), np.ones((count, 1), bool)


def _mean_of_bodies(rows: np.ndarray, present: list[np.ndarray]) -> np.ndarray:
    """Means over the bodies of each clip [b, D], of rows as `_present_bodies` orders them.

    A clip without a body gets zeros, as `pool` gives them.
    """
    counts = np.concatenate([there.sum(axis=1) for there in present] or [np.zeros(0, np.int64)])
    owner = np.repeat(np.arange(len(counts)), counts)
    total = np.zeros((len(counts), rows.shape[1]), np.float32)
    np.add.at(total, owner, rows)
    return total / np.maximum(counts, 1)[:, None].astype(np.float32)


def rows_of(
    function: Callable[[Any, Any], Any],
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    width: int,
    mesh: Mesh | None = None,
) -> np.ndarray:
    """Applies a jitted function to batches of clips, and joins the rows of its results.

    Args:
      function: clip [b, M, T, V, C], present [b, M] → [b, width].
      batches: (clip, present) pairs, padded as in `extract_features`.
      width: numbers in a row, for the result of no clips.
      mesh: splits every batch over these devices; None for one device.

    Returns:
      [number of clips, width] float32.
    """
    size, parts = 0, 1 if mesh is None else mesh.size
    rows, pending = [np.zeros((0, width), np.float32)], None
    for clip, present in batches:
        count = len(clip)
        size = max(size, -(-_power_of_two(count) // parts) * parts)
        clip, present = (_pad(x, size) for x in (clip, present))
        if mesh is not None:
            clip, present = (parallel.from_whole(mesh, x) for x in (clip, present))
        computed = function(clip, present)
        if pending is not None:  # one batch late, so that the host reads while the device computes
            rows.append(np.asarray(pending[0])[: pending[1]])
        pending = computed, count
    if pending is not None:
        rows.append(np.asarray(pending[0])[: pending[1]])
    return np.concatenate(rows)


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()


def _pad(x: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([x, np.repeat(x[-1:], size - len(x), axis=0)]) if len(x) < size else x


def clip_batches(
    store: SkeletonStore,
    indices: np.ndarray,
    reading: Reading,
    *,
    batch_size: int = BATCH_SIZE,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Whole clips in the order of `indices`, as `extract_features` reads them."""
    for start in range(0, len(indices), batch_size):
        chosen = indices[start : start + batch_size]
        yield pipeline.full_clips(store, chosen, reading)


def raw_batches(
    clips: Float32[np.ndarray, "B M t V C"],
    present: Bool[np.ndarray, "B M"],
    reading: Reading,
    *,
    batch_size: int = BATCH_SIZE,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Clips outside a store, as `extract_features` reads them; see `resize.resize_clips`."""
    for start in range(0, len(clips), batch_size):
        part = slice(start, start + batch_size)
        yield resize.resize_clips(clips[part], present[part], reading)


def augmented_batches(
    store: SkeletonStore,
    indices: np.ndarray,
    reading: Reading,
    *,
    crop: tuple[float, float],
    min_crop_frames: int,
    rotation: tuple[float, float, float],
    seed: tuple[int, ...],
    batch_size: int = BATCH_SIZE,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`clip_batches` with a random crop and a random rotation of each clip.

    Args:
      store: an open store.
      indices: positions of the clips.
      reading: layout, coordinates, T and M.
      crop: share of the frames that a crop keeps, drawn uniformly.
      min_crop_frames: least length of a crop, where the clip is as long.
      rotation: limits in radians about x, y and z.
      seed: other numbers give other crops and rotations.
      batch_size: clips in a batch.
    """
    rng = np.random.default_rng(seed)
    length = store.clips["length"][indices].astype(np.int64)
    start, stop = pipeline.crop_places(rng.random((2, len(indices))), length, crop, min_crop_frames)
    key = jax.random.key(int(rng.integers(1 << 31)))
    for first in range(0, len(indices), batch_size):
        part = slice(first, first + batch_size)
        clip, present = pipeline.gather(store, indices[part], start[part], stop[part], reading)
        turned = _rotated(jax.random.fold_in(key, first), clip, rotation)
        yield np.asarray(turned), present


_rotated = jax.jit(augment.random_rotation, static_argnames="max_angles")
