"""The encoder under the names of MAMP's PyTorch module: as tensors, as a file, and in NumPy."""

import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Bool, Float

from igm_jax import run_folder
from igm_jax.evaluation.export import check_difference, facts, not_installed
from igm_jax.evaluation.head import Head
from igm_jax.evaluation.run import Run
from igm_jax.models import Encoder, EncoderConfig, apply


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
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

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
        `head.fc2`, which read the tokens of one time side by side.
      tokens: of the bodies of each clip.
      present: [B, M].
      config: of the encoder.
    """
    w = {name: x.astype(np.float64) for name, x in tensors.items() if name.startswith("head.")}
    linear = "head.fc.weight" in w
    x = tokens.reshape(len(tokens), config.grid[0], -1, tokens.shape[-1])
    if linear:
        parts = np.array_split(x, config.stretches, axis=1)
        x = np.concatenate([part.mean(axis=(1, 2)) for part in parts], axis=-1)
    else:
        x = x.mean(axis=1).reshape(len(x), -1)
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
