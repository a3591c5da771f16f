"""Shared layers of encoder and generator: patches, attention, MLP, positions."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from igm_jax import precision
from igm_jax.arguments import check_at_least, check_choice
from igm_jax.errors import InputError
from igm_jax.models.attention import attention
from igm_jax.models.hardware import Hardware

# Transformers without a class token are trained with Xavier-uniform matrices since MAE.
kernel_init = nn.initializers.xavier_uniform()
position_init = nn.initializers.truncated_normal(0.02, jnp.float32)


def apply(model: nn.Module, params: Any, *args: Any, method: str | None = None) -> Any:
    """Calls a module, or a method of it, with these parameters; returns its result alone.

    `nn.Module.apply` can also return changed variables; no module here has any.

    Args:
      model: the module.
      params: its parameters.
      args: arguments of the call.
      method: name of the method; `__call__` by default.
    """
    return model.apply({"params": params}, *args, method=method)


def check_transformer(group: str, config: Any) -> None:
    """Raises `InputError` for a size or precision that blocks cannot have.

    Args:
      group: of the config keys that say them, such as `"model.encoder"`.
      config: has `width`, `heads`, `depth`, `mlp_width` and `dtype`.
    """
    for name in ("width", "heads", "depth", "mlp_width"):
        check_at_least(f"{group}.{name}", getattr(config, name), 1)
    if config.width % config.heads:
        raise InputError(
            f"{group}.width={config.width} is not a multiple of {group}.heads={config.heads}"
        )
    check_choice(f"{group}.dtype", config.dtype, ("float32", "bfloat16"))


@dataclasses.dataclass(frozen=True)
class Patch:
    """Size of a token in frames and in neighbouring joints.

    Attributes:
      frames: must divide T.
      joints: must divide V; the joints of a token follow each other in the layout. 0 = all V.
    """

    frames: int = 4
    joints: int = 1

    def grid(self, frames: int, joints: int) -> tuple[int, int]:
        """Tokens of a clip in time, and tokens at each time."""
        return frames // self.frames, joints // (self.joints or max(joints, 1))

    def check(self, frames: int, joints: int, prefix: str = "") -> None:
        """Raises `InputError` unless a clip of T frames and V joints is a whole number of patches.

        Args:
          frames: T.
          joints: V, or 0 while it is not known.
          prefix: of the config keys that say the sizes, such as `"model.encoder."`.
        """
        check_at_least(f"{prefix}frames", frames, 1)
        check_at_least(f"{prefix}patch_frames", self.frames, 1)
        if frames % self.frames:
            raise InputError(
                f"{prefix}frames={frames} is not a multiple of {prefix}patch_frames={self.frames}: "
                "choose another frame count, such as "
                f"{frames - frames % self.frames or self.frames}"
            )
        if self.joints < 0 or joints % (self.joints or 1):
            divisors = ", ".join(str(n) for n in range(1, joints + 1) if joints % n == 0)
            raise InputError(
                f"{prefix}joints={joints} is not a multiple of {prefix}patch_joints={self.joints}: "
                f"choose {divisors or 'at least 1'}, or 0 for all joints"
            )


def patchify(clip: Num[Array, "B T V C"], patch: Patch) -> Num[Array, "B N P"]:
    """Cuts a clip into tokens of `patch.frames` frames × `patch.joints` joints.

    Args:
      clip: [B, T, V, C].
      patch: size of a token.

    Returns:
      [B, N, P] with N the product of `patch.grid(T, V)` and P the numbers in a token; of the
      tokens, joints vary fastest.

    Raises:
      InputError: the patch does not divide the clip.
    """
    b, t, v, c = clip.shape
    patch.check(t, v)
    steps, groups = patch.grid(t, v)
    patches = clip.reshape(b, steps, t // steps, groups, v // groups, c).swapaxes(2, 3)
    return patches.reshape(b, steps * groups, -1)


def unpatchify(
    patches: Float[Array, "B N P"], patch: Patch, joints: int
) -> Float[Array, "B T V C"]:
    """The inverse of `patchify`, for clips of V = `joints`."""
    b, n, _ = patches.shape
    groups = patch.grid(patch.frames, joints)[1]
    x = patches.reshape(b, n // groups, groups, patch.frames, joints // groups, -1)
    return x.swapaxes(2, 3).reshape(b, n // groups * patch.frames, joints, -1)


def flat(layer: Callable[[Array], Array], x: Float[Array, "B N D"]) -> Float[Array, "B N E"]:
    """Applies a token-wise layer to [B·N, D].

    XLA's CPU backend takes twice as long for the gradient of a dense layer over [B, N, D].
    """
    return layer(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)


def dense(width: int, dtype: str, name: str, **settings: Any) -> nn.Dense:
    """A dense layer with the product's precision that `igm_jax.precision` states for `dtype`.

    Args:
      width: numbers of the output.
      dtype: compute precision; parameters are float32 always.
      name: of the parameters.
      **settings: of `nn.Dense`; the kernel is Xavier-uniform by default.
    """
    settings = {"kernel_init": kernel_init, **settings}
    return nn.Dense(width, dtype=dtype, precision=precision.of(dtype), name=name, **settings)


class SelfAttention(nn.Module):
    """Multi-head self-attention with biases: 4 D² + 4 D parameters."""

    heads: int
    dtype: str
    hardware: Hardware

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        """[B, N, D] → [B, N, D]."""
        b, n, d = x.shape
        qkv = flat(dense(3 * d, self.dtype, "qkv"), x)
        query, key, value = jnp.unstack(qkv.reshape(b, n, 3, self.heads, d // self.heads), axis=2)
        mixed = attention(query, key, value, self.hardware).reshape(b, n, d)
        return flat(dense(d, self.dtype, "out"), mixed)


class Mlp(nn.Module):
    """Dense, GELU (exact, or approximated by tanh), Dense."""

    hidden: int
    dtype: str
    gelu: str = "tanh"

    @nn.compact
    def __call__(self, x: Float[Array, "B N D"]) -> Float[Array, "B N D"]:
        """[B, N, D] → [B, N, D]."""
        width = x.shape[-1]
        inner = dense(self.hidden, self.dtype, "in")
        outer = dense(width, self.dtype, "out")
        gelu = functools.partial(nn.gelu, approximate=self.gelu == "tanh")
        return flat(lambda x: outer(gelu(inner(x))), x)


class PositionEmbedding(nn.Module):
    """Learned temporal and spatial embeddings, separate and added.

    Attributes:
      grid: tokens in time, and tokens at each time (`Patch.grid`).
      width: D.
    """

    grid: tuple[int, int]
    width: int

    @nn.compact
    def __call__(self) -> Float[Array, "N D"]:
        """Returns one row for each token, in the order of `patchify`."""
        steps, groups = self.grid
        temporal = self.param("temporal", position_init, (steps, self.width))
        spatial = self.param("spatial", position_init, (groups, self.width))
        return (temporal[:, None] + spatial[None]).reshape(-1, self.width)
