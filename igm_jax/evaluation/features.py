"""Clips to features, jitted and in batches: the one way in which f is used after training."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Float

from igm_jax import parallel
from igm_jax.data import SkeletonStore, pipeline
from igm_jax.inputs import Inputs
from igm_jax.models import Encoder, EncoderConfig, pool, stretch_means


def pooled_features(
    params: Any,
    clip: Float[Array, "B M T V C"],
    present: Bool[Array, "B M"],
    *,
    config: EncoderConfig,
    inputs: Inputs,
) -> Float[Array, "B D"]:
    """Standardised streams, encoded with nothing hidden, mean over tokens and present bodies.

    With `config.stretches` S above 1 the means over S stretches of the clip stand side by side.

    Args:
      params: parameters of the encoder.
      clip: [B, M, T, V, C] in the units and view of the training data, T = config.frames.
      present: [B, M].
      config: the encoder's.
      inputs: what the encoder sees of a clip.
    """
    rows = inputs(clip.reshape(-1, *clip.shape[2:]))
    tokens = Encoder(config).apply({"params": params}, rows)
    return pool(stretch_means(tokens, config.grid[0], config.stretches)[:, None], present)


@functools.cache
def _jitted(config: EncoderConfig, inputs: Inputs, mesh: Mesh | None) -> Callable[..., Array]:
    return jax.jit(
        functools.partial(pooled_features, config=config, inputs=inputs),
        out_shardings=None if mesh is None else parallel.replicated(mesh),
    )


def extract_features(
    config: EncoderConfig,
    params: Any,
    inputs: Inputs,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    mesh: Mesh | None = None,
) -> np.ndarray:
    """Features of many clips.

    Args:
      config: the encoder's.
      params: its parameters.
      inputs: what the encoder sees of a clip.
      batches: (clip [b, M, T, V, C], present [b, M]) pairs, equal b but for a smaller last one,
        which is padded so that everything is compiled once.
      mesh: splits every batch over these devices, those of `params`; all their processes call
        this alike. By default the one device of `params` reads the clips.

    Returns:
      [number of clips, D] float32.
    """
    encode, size, features = _jitted(config, inputs, mesh), None, []
    parts = 1 if mesh is None else mesh.size
    for clip, present in batches:
        count = len(clip)
        size = size or -(-count // parts) * parts
        clip, present = (_pad(x, size) for x in (clip, present))
        if mesh is not None:
            clip, present = (parallel.from_whole(mesh, x) for x in (clip, present))
        features.append(np.asarray(encode(params, clip, present))[:count])
    return np.concatenate(features)


def _pad(x: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([x, np.repeat(x[-1:], size - len(x), axis=0)]) if len(x) < size else x


def clip_batches(
    store: SkeletonStore,
    indices: np.ndarray,
    *,
    frames: int,
    bodies: int,
    view: str,
    batch_size: int = 128,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Whole clips in the order of `indices`, as `extract_features` reads them."""
    for start in range(0, len(indices), batch_size):
        chosen = indices[start : start + batch_size]
        yield pipeline.full_clips(store, chosen, frames=frames, bodies=bodies, view=view)
