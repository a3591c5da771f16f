"""The encoder f: a pre-LN transformer over patches of frames × joints (MAMP's backbone)."""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from igm_jax import diffusion
from igm_jax.arguments import check_choice, check_positive
from igm_jax.errors import InputError
from igm_jax.models import blocks, layers
from igm_jax.models.hardware import Hardware


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """Size of f. The defaults are the NTU model of MAMP and MacDiff: 6,336,000 parameters.

    Attributes:
      frames: T, frames of the resized clip.
      joints: V; 0 = those of the store.
      channels: of all streams together, 3 for each in space and 2 in the plane; 0 = those of the
        store.
      patch_frames: frames in a token; must divide `frames`.
      patch_joints: neighbouring joints of the layout in a token; must divide `joints`. 1 is the
        paper's, 0 puts all joints, a whole pose, into each token.
      width: D [MAMP].
      depth: number of blocks.
      heads: attention heads H; must divide `width`.
      mlp_width: hidden width of the MLPs.
      dtype: compute precision; parameters are float32 always.
      remat: recompute whole blocks in the backward pass, to save memory. Without it, GPUs and TPUs
        still recompute what is cheap (`blocks.scan_blocks`).
      gelu: "tanh", the approximation, or "exact" as in PyTorch; for imported weights.
      layer_norm_epsilon: ε of all norms; PyTorch's default is 1e-5.
      positions: whether f knows where in the clip a token stands; False for `colorization`.
      towers: encoders side by side, each of which reads an equal part of the channels: one of
        data.streams. Their features stand side by side. 1 = one encoder reads all.
      stretches: of the clip, whose mean tokens stand side by side in the features that are
        evaluated; the losses see one mean over all tokens.
    """

    frames: int = 120
    joints: int = 25
    channels: int = 3
    patch_frames: int = 4
    patch_joints: int = 1
    width: int = 256
    depth: int = 8
    heads: int = 8
    mlp_width: int = 1024
    dtype: str = "float32"
    remat: bool = False
    gelu: str = "tanh"
    layer_norm_epsilon: float = 1e-6
    positions: bool = True
    towers: int = 1
    stretches: int = 1

    def __post_init__(self):
        self.patch.check(self.frames, self.joints, "model.encoder.")
        layers.check_transformer("model.encoder", self)
        check_choice("model.encoder.gelu", self.gelu, ("tanh", "exact"))
        check_positive("model.encoder.layer_norm_epsilon", self.layer_norm_epsilon)
        if self.towers < 1 or self.channels % self.towers:
            raise InputError(
                f"model.encoder.towers={self.towers}: must be at least 1, and divide "
                f"model.encoder.channels={self.channels}"
            )
        if not 1 <= self.stretches <= self.grid[0]:
            raise InputError(
                f"model.encoder.stretches={self.stretches}: a clip of {self.grid[0]} tokens in "
                f"time has 1 to {self.grid[0]}"
            )

    @property
    def patch(self) -> layers.Patch:
        """Size of a token."""
        return layers.Patch(self.patch_frames, self.patch_joints)

    @property
    def grid(self) -> tuple[int, int]:
        """Tokens in time, and tokens at each time."""
        return self.patch.grid(self.frames, self.joints)

    @property
    def num_tokens(self) -> int:
        """Number of tokens, N."""
        return math.prod(self.grid)

    @property
    def feature_width(self) -> int:
        """Numbers in the features that are evaluated: D for each stretch and tower."""
        return self.width * self.towers * self.stretches

    @property
    def tower(self) -> "EncoderConfig":
        """The config of each tower, an encoder for itself."""
        return dataclasses.replace(self, towers=1, channels=self.channels // self.towers)

    @property
    def patch_numbers(self) -> int:
        """P, the numbers in a token."""
        return self.patch_frames * (self.patch_joints or self.joints) * self.channels


@struct.dataclass
class AuxTokens:
    """Extra input of f for a generated clip: f(x̂0, z_t', t, t').

    Attributes:
      noisy_feature: z_t' [B, D], the noised unit feature of the real clip.
      feature_t: t' [B], its diffusion step.
      clip_t: t [B], the step the clip was generated from.
    """

    # Not jaxtyping: a tree of arrays is also a tree of shapes, shardings or gradients.
    noisy_feature: Any
    feature_t: Any
    clip_t: Any


class AuxEmbedding(nn.Module):
    """Two tokens without a position: W·z_t' + emb(t'), and emb(t)."""

    width: int
    dtype: str

    @nn.compact
    def __call__(self, aux: AuxTokens) -> Float[Array, "B 2 D"]:
        """Maps [B, D] and two [B] to [B, 2, D]."""

        def dense(name):
            return layers.dense(self.width, self.dtype, name)

        feature = dense("feature")(aux.noisy_feature) + dense("feature_time")(
            diffusion.time_embedding(aux.feature_t, self.width)
        )
        time = dense("clip_time")(diffusion.time_embedding(aux.clip_t, self.width))
        return jnp.stack([feature, time], axis=1)


class Encoder(nn.Module):
    """The encoder f, from clips to token features.

    >>> import jax
    >>> encoder = Encoder(EncoderConfig(frames=8, joints=5, width=16, depth=2, heads=2))
    >>> clip = jnp.zeros((3, 8, 5, 3))
    >>> params = encoder.init(jax.random.key(0), clip)
    >>> encoder.apply(params, clip).shape
    (3, 10, 16)
    """

    config: EncoderConfig
    hardware: Hardware = dataclasses.field(default_factory=Hardware.here)

    @nn.compact
    def __call__(
        self,
        clip: Float[Array, "B T V C"],
        keep: Int[Array, "B n"] | None = None,
        aux: AuxTokens | None = None,
        prompt: Float[Array, "B K D"] | None = None,
        drop_path: float = 0.0,
    ) -> Float[Array, "B N D"]:
        """Encodes standardised clips.

        Args:
          clip: [B, T, V, C], one body a row.
          keep: token indices [B, n] that f may see; the others never enter. None shows all.
          aux: given only when `clip` is a generated one; its two tokens are not returned.
          prompt: learned tokens that f reads beside those of the clip; they are not returned.
          drop_path: rate of the last block, which grows linearly from 0 at the first; for
            fine-tuning. Above 0 it draws from the keys named "drop_path".

        Returns:
          [B, n, D] float32 token features after the final LayerNorm, in the order of `keep`.
          Those of several towers stand side by side, [B, n, towers · D].

        Raises:
          InputError: the clip does not have the shape that the config was built for; or several
            towers get `aux` or `prompt`, which they cannot read.
        """
        c = self.config
        if clip.shape[1:] != (c.frames, c.joints, c.channels):
            raise InputError(
                f"clip has [T, V, C] = {list(clip.shape[1:])}, but the encoder was built for "
                f"{[c.frames, c.joints, c.channels]}"
            )
        if c.towers > 1:
            if aux is not None or prompt is not None:
                raise InputError(f"encoder towers={c.towers}: needs 1 to read aux or prompt tokens")
            return _side_by_side(c, self.hardware, clip, keep, drop_path)
        patches = layers.patchify(clip, c.patch)
        if keep is not None:  # gather before embedding: hidden tokens cost nothing
            patches = jnp.take_along_axis(patches, keep[..., None], axis=1)
        x = layers.flat(layers.dense(c.width, c.dtype, "embed"), patches)
        if c.positions:
            position = layers.PositionEmbedding(c.grid, c.width, name="position")()
            x = x + (position[None] if keep is None else position[keep]).astype(c.dtype)
        if aux is not None:
            x = jnp.concatenate([x, AuxEmbedding(c.width, c.dtype, name="aux")(aux)], axis=1)
        if prompt is not None:
            x = jnp.concatenate([x, prompt.astype(c.dtype)], axis=1)
        rates = [jnp.linspace(0, drop_path, c.depth)] if drop_path > 0 else []
        stack = blocks.scan_blocks(
            blocks.Block, c.depth, self.hardware, each=len(rates), remat=c.remat
        )
        epsilon = c.layer_norm_epsilon
        sizes = (c.heads, c.mlp_width, c.dtype, self.hardware, c.gelu, epsilon)
        x, _ = stack(*sizes, name="blocks")(x, *rates)
        norm = nn.LayerNorm(epsilon=epsilon, dtype=jnp.float32, name="norm")
        return norm(x[:, : patches.shape[1]])


def _side_by_side(
    config: EncoderConfig,
    hardware: Hardware,
    clip: Float[Array, "B T V C"],
    keep: Int[Array, "B n"] | None,
    drop_path: float,
) -> Float[Array, "B N SD"]:
    """Applies the towers, whose parameters are stacked under the name "towers"."""

    def encode(tower: Encoder, part: Float[Array, "B T V C"]) -> Float[Array, "B N D"]:
        return tower(part, keep, drop_path=drop_path)

    tower = Encoder(config.tower, hardware, name="towers")
    parts = clip.reshape(*clip.shape[:3], config.towers, -1)
    vmapped = nn.vmap(
        encode,
        variable_axes={"params": 0},
        split_rngs={"params": True, "drop_path": True},
        in_axes=3,
        out_axes=2,
    )
    tokens = vmapped(tower, parts)
    return tokens.reshape(*tokens.shape[:2], -1)


def stretch_means(
    tokens: Float[Array, "B N D"], steps: int, stretches: int
) -> Float[Array, "B SD"]:
    """Concatenates the mean tokens of equal stretches of each clip, so features keep their order.

    Args:
      tokens: [B, N, D], every token of a clip, joints varying fastest.
      steps: tokens in time.
      stretches: S; the first are one step longer where `steps` is not a multiple.

    Returns:
      [B, S · D].

    >>> stretch_means(jnp.array([[[1.0], [3.0], [5.0], [7.0]]]), 4, 2).tolist()
    [[2.0, 6.0]]
    """
    b, n, d = tokens.shape
    parts = jnp.array_split(tokens.reshape(b, steps, n // steps, d), stretches, axis=1)
    return jnp.concatenate([x.reshape(b, -1, d).mean(axis=1) for x in parts], axis=-1)


def pool(tokens: Float[Array, "BM N D"], present: Bool[Array, "B M"]) -> Float[Array, "B D"]:
    """Pools features: mean over the tokens, then over the bodies that are present.

    Args:
      tokens: [B·M, N, D], bodies of a clip adjacent.
      present: [B, M], False for an absent body, whose row counts for nothing; a clip without any
        body gives zero.
    """
    b, m = present.shape
    weight = present.astype(tokens.dtype)[..., None]
    total = (tokens.mean(axis=1).reshape(b, m, -1) * weight).sum(axis=1)
    return total / jnp.maximum(weight.sum(axis=1), 1)
