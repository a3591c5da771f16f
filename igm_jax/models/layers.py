"""What the encoder and the generator share: patches, attention, MLP, positions."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from igm_jax.errors import InputError
from igm_jax.models.attention import attention

# Transformers without a class token are trained with Xavier-uniform matrices since MAE.
kernel_init = nn.initializers.xavier_uniform()
position_init = nn.initializers.truncated_normal(0.02, jnp.float32)


def check_transformer(part: str, width: int, heads: int, dtype: str) -> None:
    """Raises `InputError` for a size or precision that the blocks of `part` cannot have."""
    if heads < 1 or width < 1 or width % heads:
        raise InputError(f"{part} width={width} is not a multiple of heads={heads}")
    if dtype not in ("float32", "bfloat16"):
        raise InputError(f"{part} dtype={dtype!r} is unknown: choose float32 or bfloat16")


def check_patch(frames: int, patch_frames: int) -> None:
    """Raises `InputError` unless a clip of `frames` frames is a whole number of patches."""
    if patch_frames < 1 or frames < 1:
        raise InputError(f"frames={frames} and patch_frames={patch_frames} must be at least 1")
    if frames % patch_frames:
        raise InputError(
            f"frames={frames} is not a multiple of patch_frames={patch_frames}: choose another "
            f"frame count, such as {frames - frames % patch_frames or patch_frames}"
        )


def patchify(clip: Float[Array, "B T V C"], patch_frames: int) -> Float[Array, "B N P"]:
    """Cuts a clip into tokens of `patch_frames` frames × 1 joint.

    Args:
      clip: [B, T, V, C].
      patch_frames: frames in a patch; must divide T.

    Returns:
      [B, N, patch_frames · C] with N = T / patch_frames · V; joints vary fastest.
    """
    b, t, v, c = clip.shape
    check_patch(t, patch_frames)
    patches = clip.reshape(b, t // patch_frames, patch_frames, v, c).swapaxes(2, 3)
    return patches.reshape(b, -1, patch_frames * c)


def unpatchify(
    patches: Float[Array, "B N P"], patch_frames: int, joints: int
) -> Float[Array, "B T V C"]:
    """The inverse of `patchify`."""
    b, n, width = patches.shape
    x = patches.reshape(b, n // joints, joints, patch_frames, width // patch_frames)
    return x.swapaxes(2, 3).reshape(b, -1, joints, width // patch_frames)


def flat(layer: Callable[[Array], Array], x: Float[Array, "B N D"]) -> Float[Array, "B N E"]:
    """Applies a token-wise layer to [B·N, D].

    XLA's CPU backend takes twice as long for the gradient of a dense layer over [B, N, D].
    """
    return layer(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


class SelfAttention(nn.Module):
    """Multi-head self-attention with biases: 4 D² + 4 D parameters."""

    heads: int
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        """[B, N, D] → [B, N, D]."""
        b, n, d = x.shape
        qkv = flat(nn.Dense(3 * d, dtype=self.dtype, kernel_init=kernel_init, name="qkv"), x)
        query, key, value = jnp.unstack(qkv.reshape(b, n, 3, self.heads, d // self.heads), axis=2)
        mixed = attention(query, key, value).reshape(b, n, d)
        return flat(nn.Dense(d, dtype=self.dtype, kernel_init=kernel_init, name="out"), mixed)


class Mlp(nn.Module):
    """Dense, GELU, Dense."""

    hidden: int
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        """[B, N, D] → [B, N, D]."""
        width = x.shape[-1]
        inner = nn.Dense(self.hidden, dtype=self.dtype, kernel_init=kernel_init, name="in")
        outer = nn.Dense(width, dtype=self.dtype, kernel_init=kernel_init, name="out")
        return flat(lambda x: outer(nn.gelu(inner(x))), x)


class PositionEmbedding(nn.Module):
    """Learned temporal and spatial (joint) embeddings, separate and added."""

    steps: int
    joints: int
    width: int

    @nn.compact
    def __call__(self) -> Float[Array, "N D"]:
        """One row a token, in the order of `patchify`."""
        temporal = self.param("temporal", position_init, (self.steps, self.width))
        spatial = self.param("spatial", position_init, (self.joints, self.width))
        return (temporal[:, None] + spatial[None]).reshape(-1, self.width)


def in_micro_batches(module: nn.Module, count: int, *rows: Any) -> Any:
    """`module(*rows)`, computed for `count` equal parts of the rows, one after the other.

    The backward pass computes each part anew, so activations of one part at a time are in memory.
    What comes out is that of all rows at once: a loss that compares clips compares all of them.

    Args:
      module: a network whose every output row depends on the same row of its inputs alone.
      count: number of parts.
      *rows: trees of arrays [R, …] with R a multiple of `count`, or None.

    Returns:
      What the module returns, [R, …].
    """
    if count == 1 or module.is_initializing():
        return module(*rows)

    # Part i is rows i, i + count, …: of a batch that is split over devices, each device computes
    # its own rows of every part, and none travels.
    def split(x: Array) -> Array:
        return x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1)

    def join(x: Array) -> Array:
        return x.swapaxes(0, 1).reshape(-1, *x.shape[2:])

    parts = nn.scan(
        nn.remat(lambda module, _, part: (None, module(*part)), prevent_cse=False),
        variable_broadcast="params",
        split_rngs={"params": False},
        length=count,
    )
    return jax.tree.map(join, parts(module, None, jax.tree.map(split, rows))[1])


def scan_blocks(block: type[nn.Module], depth: int, *, broadcast: int = 0, remat: bool = False):
    """`depth` blocks with stacked parameters [depth, …], compiled once.

    Args:
      block: a module whose call is `(x, *broadcast) -> (x, None)`.
      depth: number of blocks.
      broadcast: how many arguments after x every block gets alike.
      remat: recompute the block in the backward pass instead of keeping its activations.
    """
    if remat:
        block = nn.remat(block, prevent_cse=False)
    return nn.scan(
        block,
        variable_axes={"params": 0},
        split_rngs={"params": True},
        in_axes=(nn.broadcast,) * broadcast,
        length=depth,
        # Copies in and out of the loop cost the CPU a fifth of the step; compiling costs it little.
        unroll=depth if jax.default_backend() == "cpu" else 1,
    )


class Block(nn.Module):
    """x + attention(LN x), then x + MLP(LN x)."""

    heads: int
    mlp_width: int
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"]) -> tuple[Float[Array, "B N D"], None]:
        """[B, N, D] → ([B, N, D], None), as `nn.scan` wants it."""
        h = nn.LayerNorm(dtype=self.dtype, name="norm1")(x)
        x = x + SelfAttention(self.heads, self.dtype, name="attention")(h)
        h = nn.LayerNorm(dtype=self.dtype, name="norm2")(x)
        return x + Mlp(self.mlp_width, self.dtype, name="mlp")(h), None
