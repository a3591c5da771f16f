"""Exports the encoder of a run, so that other programs can use it without this library.

StableHLO holds all of it, from raw clips to features. safetensors holds the weights under the names
of MAMP, and the standardisation.
"""

import functools
import json
import math
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from igm_jax import features, run_folder, skeleton
from igm_jax.errors import InputError
from igm_jax.evaluation.run import Run
from igm_jax.models import Encoder, Hardware, apply
from igm_jax.reading import Reading

TOLERANCE = 1e-4  # largest difference between exported and original features
PLATFORMS = ("cpu", "cuda", "tpu")
_LENGTHS = (1, 7, 60, 301)  # frames of the clips that are checked


def features_of_raw(
    params: Any, clips: Float[Array, "B M t V C"], *, run: Run
) -> Float[Array, "B D"]:
    """Features of raw clips as `encode` of `load_encoder` gives them, but as one traced function.

    Args:
      params: of the encoder.
      clips: float32 in the units of the training data, with M = `data.bodies`; a body is absent if
        all its coordinates are zero.
      run: the run.
    """
    present = (clips != 0).any(axis=(2, 3, 4))
    order = jnp.argsort(~present, axis=1, stable=True)  # those that are there come first
    clips = jnp.take_along_axis(clips, order[:, :, None, None, None], axis=1)
    present = jnp.take_along_axis(present, order, axis=1)
    read = _read(clips, present, run.reading)
    return features.pooled_features(
        params,
        read,
        present,
        config=run.config.model.encoder,
        reading=run.reading,
        # On every platform by plain products, none of which depends on a device of this process.
        hardware=Hardware("cpu", whole=False),
    )


def _read(
    clips: Float[Array, "B M t V C"], present: Bool[Array, "B M"], reading: Reading
) -> Float[Array, "B M T V C"]:
    """Does what `resize.resize_clips` does, for lengths that are not known yet."""
    layout, coordinates, frames = reading.layout, reading.coordinates, reading.frames
    length = jnp.asarray(clips.shape[2], jnp.float32)
    position = (jnp.arange(frames, dtype=jnp.float32) + 0.5) * (length / frames) - 0.5
    position = jnp.clip(position, 0, length - 1)
    low = jnp.floor(position)
    high = jnp.minimum(low + 1, length - 1)
    weight = (position - low).reshape(1, 1, -1, 1, 1)
    before, after = (jnp.take(clips, x.astype(jnp.int32), axis=2) for x in (low, high))
    tracks = before + (after - before) * weight
    origin, rotation = skeleton.reference_frame(clips[:, 0, 0], layout, coordinates)
    path = skeleton.moving_origin(origin, tracks[:, 0], layout, coordinates)
    moved = skeleton.in_reference_frame(tracks, path[:, None], rotation[:, None])
    return jnp.where(present[..., None, None, None], moved, 0)


def stablehlo(run: Run) -> jax.export.Exported:
    """The encoder as StableHLO for any number of clips of any length.

    Returns:
      What `serialize()` turns into bytes, and `jax.export.deserialize` reads without this library.
      Its `call` maps clips [B, M, t, V, C] float32 to features [B, D].
    """
    c, reading = run.config.model.encoder, run.reading
    batch, length = jax.export.symbolic_shape("b, t")
    channels = c.channels // len(reading.streams)
    shape = (batch, reading.bodies, length, c.joints, channels)
    function = jax.jit(functools.partial(features_of_raw, run.params, run=run))
    export = jax.export.export(function, platforms=PLATFORMS)
    return export(jax.ShapeDtypeStruct(shape, jnp.float32))


def export_stablehlo(run: Run, path: pathlib.Path) -> float:
    """Writes `stablehlo(run)` once the bytes give the features of the run.

    Returns:
      The largest difference.

    Raises:
      InputError: flatbuffers is not installed, or the difference is above `TOLERANCE`.
    """
    try:
        content = bytes(stablehlo(run).serialize())
    except ImportError as error:
        raise _not_installed("flatbuffers") from error
    call = jax.export.deserialize(bytearray(content)).call
    difference = _difference(run, lambda clips: np.asarray(call(clips)))
    run_folder.write_bytes(path, content)
    return difference


def _not_installed(module: str) -> InputError:
    return InputError(
        f'{module} is not installed, and the extra export has it: pip install "igm_jax[export]"'
    )


def _difference(run: Run, encode: Callable[[np.ndarray], np.ndarray]) -> float:
    """Largest difference to the features of the run, over random clips of several lengths."""
    c, reading, rng = run.config.model.encoder, run.reading, np.random.default_rng(0)
    worst = 0.0
    for count, length in enumerate(_LENGTHS, 1):
        shape = (count, reading.bodies, length, c.joints, c.channels // len(reading.streams))
        clips = rng.normal(size=shape).astype(np.float32)
        clips[-1, 1:] = 0  # one person alone
        present = (clips != 0).any(axis=(2, 3, 4))
        batches = features.raw_batches(clips, present, reading)
        expected = features.extract_features(c, run.params, reading, batches)
        worst = max(worst, float(np.abs(encode(clips) - expected).max()))
    _check(run, worst)
    return worst


def _check(run: Run, worst: float) -> None:
    if not worst <= TOLERANCE:  # NaN is no agreement
        raise InputError(
            f"{run.folder}: exported features differ by {worst:.2g} from those of the run, more "
            f"than {TOLERANCE:g}: nothing is written; with model.encoder.dtype=bfloat16 that is "
            "rounding, so train in float32"
        )


# safetensors


def mamp_tensors(run: Run) -> dict[str, np.ndarray]:
    """Weights of the encoder under the names and in the shapes of MAMP's PyTorch module.

    `input_mean` and `input_std` [C · S] standardise the streams first; MAMP has no such tensors.

    References:
      Mao et al., Masked Motion Predictors are Strong 3D Action Representation Learners (ICCV 2023).
    """
    c, p = run.config.model.encoder, jax.tree.map(np.asarray, run.params)
    joints = c.patch_joints or c.joints
    patches = p["embed"]["kernel"].reshape(c.patch_frames, joints, c.channels, c.width)
    tensors = {
        "input_mean": np.asarray(run.reading.mean, np.float32),
        "input_std": np.asarray(run.reading.std, np.float32),
        "joints_embed.proj.weight": patches.transpose(3, 2, 0, 1),
        "joints_embed.proj.bias": p["embed"]["bias"],
        "temp_embed": p["position"]["temporal"][None, :, None],
        "pos_embed": p["position"]["spatial"][None, None],
        "norm.weight": p["norm"]["scale"],
        "norm.bias": p["norm"]["bias"],
    }
    for i in range(c.depth):
        block = jax.tree.map(lambda x, i=i: x[i], p["blocks"])
        for norm in ("norm1", "norm2"):
            tensors[f"blocks.{i}.{norm}.weight"] = block[norm]["scale"]
            tensors[f"blocks.{i}.{norm}.bias"] = block[norm]["bias"]
        for name, part in (
            ("attn.qkv", block["attention"]["qkv"]),
            ("attn.proj", block["attention"]["out"]),
            ("mlp.fc1", block["mlp"]["in"]),
            ("mlp.fc2", block["mlp"]["out"]),
        ):
            tensors[f"blocks.{i}.{name}.weight"] = part["kernel"].T
            tensors[f"blocks.{i}.{name}.bias"] = part["bias"]
    return {name: np.ascontiguousarray(x, np.float32) for name, x in tensors.items()}


def mamp_tokens(
    tensors: dict[str, np.ndarray], streams: Float[np.ndarray, "B T V CS"], heads: int
) -> Float[np.ndarray, "B N D"]:
    """Tokens of the exported weights in NumPy, by the conventions of PyTorch.

    It is the reference that an export is checked against, in float64 and one operation at a time.

    Args:
      tensors: of `mamp_tensors`.
      streams: streams of resized clips, not standardised.
      heads: of attention.
    """
    w = {name: x.astype(np.float64) for name, x in tensors.items()}
    x = (streams - w["input_mean"]) / w["input_std"]
    kernel = w["joints_embed.proj.weight"]  # of a convolution: [D, C, frames, joints]
    width, channels, frames, joints = kernel.shape
    b, t, v, _ = x.shape
    x = x.reshape(b, t // frames, frames, v // joints, joints, channels)
    x = np.einsum("btfvjc,dcfj->btvd", x, kernel) + w["joints_embed.proj.bias"]
    x = (x + w["temp_embed"] + w["pos_embed"]).reshape(b, -1, width)

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-6)
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    depth = len({name.split(".")[1] for name in w if name.startswith("blocks.")})
    for i in range(depth):
        block = f"blocks.{i}"
        qkv = linear(f"{block}.attn.qkv", norm(f"{block}.norm1", x))
        query, key, value = np.moveaxis(qkv.reshape(b, -1, 3, heads, width // heads), 2, 0)
        logits = np.einsum("bnhk,bmhk->bhnm", query, key) / math.sqrt(width // heads)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = np.einsum("bhnm,bmhk->bnhk", weights, value).reshape(b, -1, width)
        x = x + linear(f"{block}.attn.proj", mixed)
        h = linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", x))
        h = 0.5 * h * (1 + np.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
        x = x + linear(f"{block}.mlp.fc2", h)
    return norm("norm", x)


def export_safetensors(run: Run, path: pathlib.Path) -> float:
    """Writes `mamp_tensors(run)` once they give the tokens of the run; returns the difference.

    The file's metadata holds what else is needed: sizes, layout, coordinates, streams.

    Raises:
      InputError: safetensors is not installed, or the difference is above `TOLERANCE`.
    """
    try:
        import safetensors.numpy
    except ImportError as error:
        raise _not_installed("safetensors") from error
    c, reading = run.config.model.encoder, run.reading
    content = safetensors.numpy.save(
        mamp_tensors(run), metadata={"igm_jax": json.dumps(facts(run))}
    )
    tensors = safetensors.numpy.load(content)
    clip = np.random.default_rng(0).normal(size=(2, c.frames, c.joints, c.channels))
    clip = clip.astype(np.float32)
    mean, std = (np.asarray(x, np.float32) for x in (reading.mean, reading.std))
    expected = np.asarray(apply(Encoder(c), run.params, jnp.asarray((clip - mean) / std)))
    worst = float(np.abs(mamp_tokens(tensors, clip, c.heads) - expected).max())
    _check(run, worst)
    run_folder.write_bytes(path, content)
    return worst


def facts(run: Run) -> dict[str, Any]:
    """Everything that a reader of the weights has to know, as plain JSON types."""
    c = run.config.model.encoder
    names = (
        "frames",
        "joints",
        "channels",
        "patch_frames",
        "width",
        "depth",
        "heads",
        "mlp_width",
        "stretches",
    )
    sizes = {name: getattr(c, name) for name in names}
    sizes["patch_joints"] = c.patch_joints or c.joints
    return {
        "encoder": sizes,
        "reading": run.reading.to_dict(),
        "step": run.step,
        "gelu": "tanh",
        "layer_norm_epsilon": 1e-6,
    }
