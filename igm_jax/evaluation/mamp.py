"""The encoder under the names of MAMP's PyTorch module: as tensors, as a file, and in NumPy."""

import json
import math
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Bool, Float

from igm_jax import run_folder
from igm_jax.errors import InputError
from igm_jax.evaluation.export import check_difference, facts, not_installed
from igm_jax.evaluation.head import Head
from igm_jax.evaluation.run import Run
from igm_jax.models import Encoder, EncoderConfig, apply

# Name in a block of MAMP → path in a block of ours.
_DENSE = {
    "attn.qkv": ("attention", "qkv"),
    "attn.proj": ("attention", "out"),
    "mlp.fc1": ("mlp", "in"),
    "mlp.fc2": ("mlp", "out"),
}


def mamp_tensors(run: Run) -> dict[str, np.ndarray]:
    """Weights of the encoder under the names and in the shapes of MAMP's PyTorch module.

    `input_mean` and `input_std` [C · S] standardise the streams first; MAMP has no such tensors.

    References:
      Mao et al., Masked Motion Predictors are Strong 3D Action Representation Learners (ICCV 2023).
    """
    c = run.config.model.encoder
    if c.towers > 1:
        raise InputError(
            f"{run.folder} has model.encoder.towers={c.towers}, and MAMP's module is one encoder: "
            "export it in another format"
        )
    p = jax.tree.map(np.asarray, run.params)
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
        for name, (group, key) in _DENSE.items():
            tensors[f"blocks.{i}.{name}.weight"] = block[group][key]["kernel"].T
            tensors[f"blocks.{i}.{name}.bias"] = block[group][key]["bias"]
    return {name: np.ascontiguousarray(x, np.float32) for name, x in tensors.items()}


def encoder_config(tensors: dict[str, np.ndarray], heads: int) -> EncoderConfig:
    """Sizes of an encoder of MAMP, from the shapes of its tensors.

    GELU is exact and ε of the norms is 1e-5, as in MAMP, where both are PyTorch's defaults.

    Args:
      tensors: under the names of `mamp_tensors`.
      heads: of attention, which no shape says.

    Raises:
      InputError: a tensor is missing or has an impossible shape, or heads do not divide the width.
    """
    width, channels, patch_frames, patch_joints = shape_of(tensors, "joints_embed.proj.weight", 4)
    return EncoderConfig(
        frames=shape_of(tensors, "temp_embed", 4)[1] * patch_frames,
        joints=shape_of(tensors, "pos_embed", 4)[2] * patch_joints,
        channels=channels,
        patch_frames=patch_frames,
        patch_joints=patch_joints,
        width=width,
        depth=len({name.split(".")[1] for name in tensors if name.startswith("blocks.")}),
        heads=heads,
        mlp_width=shape_of(tensors, "blocks.0.mlp.fc1.weight", 2)[0],
        gelu="exact",
        layer_norm_epsilon=1e-5,
    )


def shape_of(tensors: dict[str, np.ndarray], name: str, ndim: int) -> tuple[int, ...]:
    """Shape of a tensor that has to be there.

    Raises:
      InputError: it is missing, or has another number of dimensions.
    """
    if name not in tensors:
        raise InputError(f"the weights are not of MAMP's encoder: they have no {name!r}")
    if tensors[name].ndim != ndim:
        found = list(tensors[name].shape)
        raise InputError(
            f"the weights are not of MAMP's encoder: {name!r} should have {ndim} dimensions, but "
            f"there is {found}"
        )
    return tensors[name].shape


def encoder_params(tensors: dict[str, np.ndarray], config: EncoderConfig) -> Any:
    """Parameters of our encoder; the inverse of `mamp_tensors`.

    Args:
      tensors: under the names of `mamp_tensors`. Biases of attention that are missing are zero.
      config: of the encoder.

    Raises:
      InputError: a tensor is missing, is too much, or has another shape; names it.
    """
    c, given = config, dict(tensors)
    joints, (steps, groups) = c.patch_joints or c.joints, c.grid

    def take(name: str, *shape: int) -> np.ndarray:
        if shape_of(given, name, len(shape)) != shape:
            raise InputError(
                f"the weights do not fit together: {name!r} has shape {list(given[name].shape)}, "
                f"not {list(shape)}"
            )
        return np.asarray(given.pop(name), np.float32)

    def dense(name: str, inner: int, outer: int) -> dict[str, np.ndarray]:
        kernel = take(f"{name}.weight", outer, inner).T
        if name.endswith("attn.qkv") and f"{name}.bias" not in given:
            return {"kernel": kernel, "bias": np.zeros(outer, np.float32)}
        return {"kernel": kernel, "bias": take(f"{name}.bias", outer)}

    def norm(name: str) -> dict[str, np.ndarray]:
        return {"scale": take(f"{name}.weight", c.width), "bias": take(f"{name}.bias", c.width)}

    def block(i: int) -> dict[str, Any]:
        sizes = (c.width, 3 * c.width), (c.width,) * 2, (c.width, c.mlp_width)
        parts: dict[str, Any] = {n: norm(f"blocks.{i}.{n}") for n in ("norm1", "norm2")}
        for (name, (group, key)), size in zip(_DENSE.items(), (*sizes, sizes[-1][::-1])):
            parts.setdefault(group, {})[key] = dense(f"blocks.{i}.{name}", *size)
        return parts

    patches = take("joints_embed.proj.weight", c.width, c.channels, c.patch_frames, joints)
    params = {
        "embed": {
            "kernel": patches.transpose(2, 3, 1, 0).reshape(-1, c.width),
            "bias": take("joints_embed.proj.bias", c.width),
        },
        "position": {
            "temporal": take("temp_embed", 1, steps, 1, c.width)[0, :, 0],
            "spatial": take("pos_embed", 1, 1, groups, c.width)[0, 0],
        },
        "blocks": jax.tree.map(lambda *x: np.stack(x), *(block(i) for i in range(c.depth))),
        "norm": norm("norm"),
    }
    for name in ("input_mean", "input_std"):
        given.pop(name, None)
    if given:
        raise InputError(f"the weights have {min(given)!r}, which MAMP's encoder lacks")
    return jax.tree.map(jnp.asarray, params)


def mamp_tokens(
    tensors: dict[str, np.ndarray], streams: Float[np.ndarray, "B T V CS"], config: EncoderConfig
) -> Float[np.ndarray, "B N D"]:
    """Tokens of the exported weights in NumPy, by the conventions of PyTorch.

    It is the reference that an export is checked against, in float64 and one operation at a time.

    Args:
      tensors: of `mamp_tensors`.
      streams: streams of resized clips, not standardised.
      config: of the encoder; says what no shape says.
    """
    heads = config.heads
    w = {name: x.astype(np.float64) for name, x in tensors.items()}
    x = (streams - w["input_mean"]) / w["input_std"]
    kernel = w["joints_embed.proj.weight"]  # of a convolution: [D, C, frames, joints]
    width, channels, frames, joints = kernel.shape
    b, t, v, _ = x.shape
    x = x.reshape(b, t // frames, frames, v // joints, joints, channels)
    x = np.einsum("btfvjc,dcfj->btvd", x, kernel) + w["joints_embed.proj.bias"]
    x = (x + w["temp_embed"] + w["pos_embed"]).reshape(b, -1, width)

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0.0)

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt(np.square(x).mean(-1, keepdims=True) + config.layer_norm_epsilon)
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
        if config.gelu == "exact":
            share = scipy.special.ndtr(h)
        else:
            share = (1 + np.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3))) / 2
        x = x + linear(f"{block}.mlp.fc2", h * share)
    return norm("norm", x)


def mamp_logits(
    tensors: dict[str, np.ndarray],
    tokens: Float[np.ndarray, "BM N D"],
    present: Bool[np.ndarray, "B M"],
    config: EncoderConfig,
) -> Float[np.ndarray, "B classes"]:
    """Logits of the exported head in NumPy; see `mamp_tokens`.

    Args:
      tensors: with `head.fc`, which reads the pooled features, or with `head.fc1`, `head.bn` and
        `head.fc2`, which read the tokens of one time side by side. The means of the stretches of
        a clip stand side by side, as many as fit the width of the first.
      tokens: of the bodies of each clip.
      present: [B, M].
      config: of the encoder.
    """
    w = {name: x.astype(np.float64) for name, x in tensors.items() if name.startswith("head.")}
    linear = "head.fc.weight" in w
    x = tokens.reshape(len(tokens), config.grid[0], -1, tokens.shape[-1])
    x = x.mean(axis=2) if linear else x.reshape(*x.shape[:2], -1)
    stretches = w["head.fc.weight" if linear else "head.fc1.weight"].shape[1] // x.shape[-1]
    x = np.concatenate(
        [part.mean(axis=1) for part in np.array_split(x, stretches, axis=1)], axis=-1
    )
    x = x.reshape(*present.shape, -1) * present[..., None]
    x = x.sum(axis=1) / present.sum(axis=1, keepdims=True)
    if linear:
        return x @ w["head.fc.weight"].T + w["head.fc.bias"]
    x = x @ w["head.fc1.weight"].T + w["head.fc1.bias"]
    x = (x - w["head.bn.running_mean"]) / np.sqrt(w["head.bn.running_var"] + 1e-5)
    x = np.maximum(x * w["head.bn.weight"] + w["head.bn.bias"], 0)
    return x @ w["head.fc2.weight"].T + w["head.fc2.bias"]


def export_safetensors(run: Run, path: pathlib.Path, head: Head | None = None) -> float:
    """Writes the tensors of encoder and head once they give the numbers of the run.

    The metadata of the file holds `facts`.

    Returns:
      The largest difference.

    Raises:
      InputError: safetensors is not installed, or the difference is above `TOLERANCE`.
    """
    try:
        import safetensors.numpy
    except ImportError as error:
        raise not_installed("safetensors") from error
    c, reading = run.config.model.encoder, run.reading
    tensors = mamp_tensors(run) | ({} if head is None else head.tensors)
    content = safetensors.numpy.save(tensors, metadata={"igm_jax": json.dumps(facts(run, head))})
    tensors = safetensors.numpy.load(content)
    clip = np.random.default_rng(0).normal(size=(2, c.frames, c.joints, c.channels))
    clip = clip.astype(np.float32)
    mean, std = (np.asarray(x, np.float32) for x in (reading.mean, reading.std))
    expected = apply(Encoder(c), run.params, jnp.asarray((clip - mean) / std))
    tokens = mamp_tokens(tensors, clip, c)
    worst = float(np.abs(tokens - np.asarray(expected)).max())
    if head is not None:
        present = np.ones((2, 1), bool)
        logits = head.logits(head.params, expected, jnp.asarray(present))
        difference = mamp_logits(tensors, tokens, present, c) - np.asarray(logits)
        worst = max(worst, float(np.abs(difference).max()))
    check_difference(run, worst)
    run_folder.write_bytes(path, content)
    return worst
