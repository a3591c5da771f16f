"""The generator g: a DiT-style transformer that predicts the noise in a clip from f's features."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from igm_jax import diffusion
from igm_jax.arguments import check_choice
from igm_jax.models import blocks, layers
from igm_jax.models.hardware import Hardware

# Limits of the logarithm of what a predicted clip leaves out: from nothing to 20 times the clip.
_LOG_VARIANCES = -12.0, 3.0


@dataclasses.dataclass(frozen=True)
class GeneratorConfig:
    """Size of g; clip and patch size are the encoder's.

    Attributes:
      width: D of the generator.
      depth: number of blocks (MacDiff: 3 is best for linear probing, 5 the paper's).
      heads: attention heads; must divide `width`.
      mlp_width: hidden width of the MLPs.
      dtype: compute precision; parameters are float32 always.
      remat: recompute whole blocks in the backward pass, to save memory. Without it, GPUs and TPUs
        still recompute what is cheap (`blocks.scan_blocks`).
      predicts: "noise" makes the noise of the last block, as the paper does. "clip" makes a clip x̂
        of it, and the noise follows [ours]; see `noise_of_clip`. A token passes at most D numbers
        through the blocks. Noise has P independent numbers, so where D < P, "noise" leaves L_gen
        above about 1 − D/P. See docs/using.md.
    """

    width: int = 256
    depth: int = 5
    heads: int = 8
    mlp_width: int = 1024
    dtype: str = "float32"
    remat: bool = False
    predicts: str = "noise"

    def __post_init__(self):
        layers.check_transformer("model.generator", self)
        check_choice("model.generator.predicts", self.predicts, ("noise", "clip"))


@struct.dataclass
class Condition:
    """The condition of g, from the clean clip.

    Each visible token is conditioned on its own adapted feature, all others on the pooled
    one. Inside g the tokens are in `order`, the n visible ones first. Then the condition is a
    concatenation and its projections are computed for n + 1 vectors instead of N.

    Attributes:
      pooled: [B, D].
      visible: [B, n, D], or None to condition on the pooled feature alone.
      order: [B, N], a permutation of the tokens whose first n entries are the visible ones; None
        where `visible` is None.
    """

    pooled: Any
    visible: Any = None
    order: Any = None

    def drop(self, dropped: Bool[Array, " B"], null: Float[Array, " D"]) -> "Condition":
        """Puts `null` in place of the condition of the clips that are `dropped`."""

        def replace(x):
            rows = dropped.reshape(-1, *[1] * (x.ndim - 1))
            return jnp.where(rows, jnp.broadcast_to(null, x.shape), x)

        visible = None if self.visible is None else replace(self.visible)
        return dataclasses.replace(self, pooled=replace(self.pooled), visible=visible)


def noise_of_clip(
    x_t: Float[Array, "B N P"],
    clip: Float[Array, "B N P"],
    left_out: Float[Array, "B 1 P"],
    signal: Float[Array, "B 1 1"],
) -> Float[Array, "B N P"]:
    """Estimates the noise in x_t from a clip that is right up to a residual of known variance.

    With x = x̂ + r, r of variance ρ, the best linear estimate (Wiener) of the noise is
    ε̂ = σ (x_t − √ᾱ x̂) / (ρ ᾱ + σ²), σ² = 1 − ᾱ.

    Args:
      x_t: [B, N, P] noised tokens.
      clip: [B, N, P] x̂.
      left_out: [B, 1, P] ρ ≥ 0 of each number of a token.
      signal: [B, 1, 1] share of signal ᾱ_t.
    """
    variance = 1 - signal
    rest = x_t - jnp.sqrt(signal) * clip
    return jnp.sqrt(variance) * rest / (left_out * signal + variance)


class AdaLN(nn.Module):
    """AdaLN(h, z, t) = z_s · (t_s · LN(h) + t_b) + z_b, scales starting at 1 and shifts at 0."""

    dtype: str

    @nn.compact
    def __call__(
        self, h: Float[Array, "B N D"], condition: Condition, time: Float[Array, "B E"]
    ) -> Float[Array, "B N D"]:
        """Modulates the tokens h (in the order of the condition) by features and time."""
        n, width = h.shape[1:]

        def scale_shift(name):
            # A zero kernel with a bias of (1 … 1, 0 … 0): the layer starts as a plain LayerNorm.
            return layers.dense(
                2 * width,
                self.dtype,
                name,
                kernel_init=nn.initializers.zeros,
                bias_init=lambda key, shape, dtype: jnp.repeat(jnp.array([1, 0], dtype), width),
            )

        t_scale, t_shift = jnp.split(scale_shift("time")(time)[:, None], 2, axis=-1)
        project = scale_shift("condition")
        z = project(condition.pooled)[:, None]
        if condition.visible is not None:
            seen = layers.flat(project, condition.visible)
            rest = jnp.broadcast_to(z, (*z.shape[:1], n - seen.shape[1], z.shape[-1]))
            z = jnp.concatenate([seen, rest], axis=1)
        z_scale, z_shift = jnp.split(z, 2, axis=-1)
        h = nn.LayerNorm(dtype=self.dtype, use_scale=False, use_bias=False)(h)
        return z_scale * (t_scale * h + t_shift) + z_shift


class Block(nn.Module):
    """A transformer block whose LayerNorms are AdaLNs."""

    config: GeneratorConfig
    hardware: Hardware

    @nn.compact
    def __call__(
        self, x: Float[Array, "B N D"], condition: Condition, time: Float[Array, "B E"]
    ) -> tuple[Float[Array, "B N D"], None]:
        """[B, N, D] → ([B, N, D], None), as `nn.scan` needs it."""
        c = self.config
        h = AdaLN(c.dtype, name="norm1")(x, condition, time)
        x = x + layers.SelfAttention(c.heads, c.dtype, self.hardware, name="attention")(h)
        h = AdaLN(c.dtype, name="norm2")(x, condition, time)
        return x + layers.Mlp(c.mlp_width, c.dtype, name="mlp")(h), None


class Generator(nn.Module):
    """The generator: g(x_t, h(z), t) predicts the noise ε̂."""

    config: GeneratorConfig
    patch: layers.Patch = layers.Patch()
    hardware: Hardware = dataclasses.field(default_factory=Hardware.here)

    @nn.compact
    def __call__(
        self,
        noisy_clip: Float[Array, "B T V C"],
        condition: Condition,
        t: Int[Array, " B"],
        signal: Float[Array, " B"],
        dropped: Bool[Array, " B"] | None = None,
    ) -> Float[Array, "B T V C"]:
        """Predicts the noise.

        Args:
          noisy_clip: x_t [B, T, V, C].
          condition: features of the clean clip.
          t: [B] diffusion steps.
          signal: [B] share of signal ᾱ_t at these steps.
          dropped: [B], True where the condition is replaced by the learned null condition, which
            trains the unconditional generator along; None drops nothing.

        Returns:
          ε̂ [B, T, V, C] float32.
        """
        c = self.config
        _, frames, joints, _ = noisy_clip.shape
        patches = layers.patchify(noisy_clip, self.patch)
        grid = self.patch.grid(frames, joints)
        position = layers.PositionEmbedding(grid, c.width, name="position")()
        # Always read (and so created), so that the parameters do not depend on `dropped`.
        null = self.param("null", layers.position_init, condition.pooled.shape[-1:])
        if dropped is not None:
            condition = condition.drop(dropped, null)

        embed = layers.dense(c.width, c.dtype, "embed")
        x = layers.flat(embed, patches) + position[None].astype(c.dtype)
        if condition.order is not None:
            x = jnp.take_along_axis(x, condition.order[..., None], axis=1)
        time = diffusion.time_embedding(t, c.width)
        time = layers.dense(c.width, c.dtype, "time")(time)
        time = nn.silu(time)

        stack = blocks.scan_blocks(Block, c.depth, self.hardware, broadcast=2, remat=c.remat)
        x, _ = stack(c, self.hardware, name="blocks")(x, condition, time)
        x = AdaLN(c.dtype, name="norm")(x, condition, time)
        out = layers.dense(patches.shape[-1], "float32", "out", kernel_init=nn.initializers.zeros)
        out = layers.flat(out, x)
        if condition.order is not None:
            back = jnp.argsort(condition.order, axis=1)
            out = jnp.take_along_axis(out, back[..., None], axis=1)
        if c.predicts == "clip":
            # At first 5 % of the variance of a standardised clip, whatever t is.
            log_variance = layers.dense(
                patches.shape[-1],
                "float32",
                "left_out",
                kernel_init=nn.initializers.zeros,
                bias_init=nn.initializers.constant(-3.0),
            )(time)
            left_out = jnp.exp(jnp.clip(log_variance, *_LOG_VARIANCES))[:, None]
            out = noise_of_clip(patches, out, left_out, signal[:, None, None])
        return layers.unpatchify(out, self.patch, joints)
