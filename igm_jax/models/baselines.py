"""The models of the baselines: masked prediction and contrast."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from igm_jax.models import blocks, layers
from igm_jax.models.backbone import Backbone, Projector
from igm_jax.models.encoder import Encoder
from igm_jax.models.generator import GeneratorConfig
from igm_jax.models.hardware import Hardware


class Decoder(nn.Module):
    """Predicts values of every token from the visible tokens (SkeletonMAE, MAMP).

    Attributes:
      config: sizes, taken from the generator so that all objectives have an equal partner.
      grid: tokens in time, and tokens at each time.
      out: numbers to predict for each token.
    """

    config: GeneratorConfig
    grid: tuple[int, int]
    out: int
    hardware: Hardware = dataclasses.field(default_factory=Hardware.here)

    @nn.compact
    def __call__(
        self, tokens: Float[Array, "B n D"], order: Int[Array, "B N"]
    ) -> Float[Array, "B N P"]:
        """Maps tokens of f to predictions.

        Args:
          tokens: [B, n, D], f of the first n tokens of `order`.
          order: [B, N], a permutation of all tokens.

        Returns:
          [B, N, out] float32, in the order of `order`.
        """
        c = self.config
        embed = layers.dense(c.width, c.dtype, "embed")
        mask = self.param("mask", layers.position_init, (c.width,))
        position = layers.PositionEmbedding(self.grid, c.width, name="position")()
        seen = layers.flat(embed, tokens)
        hidden = order.shape[1] - tokens.shape[1]
        rest = jnp.broadcast_to(mask.astype(seen.dtype), (len(seen), hidden, c.width))
        x = jnp.concatenate([seen, rest], axis=1) + position[order].astype(seen.dtype)
        stack = blocks.scan_blocks(blocks.Block, c.depth, self.hardware, remat=c.remat)
        x, _ = stack(c.heads, c.mlp_width, c.dtype, self.hardware, name="blocks")(x)
        x = nn.LayerNorm(dtype=jnp.float32, name="norm")(x)
        out = layers.dense(self.out, "float32", "out")
        return layers.flat(out, x)


class MaskedAutoencoder(Backbone):
    """Encoder and decoder: `{"encoder": …, "decoder": …}`."""

    def setup(self):
        """Creates the parts; linen calls it."""
        super().setup()
        e = self.config.encoder
        self.decoder = Decoder(self.config.generator, e.grid, e.patch_numbers, self.hardware)

    def decode(
        self,
        tokens: Float[Array, "B n D"],
        order: Int[Array, "B N"],
        packed: Int[Array, " packed"] | None = None,
    ) -> Float[Array, "B N P"]:
        """Predicts every token of all rows or the `packed` ones; see `Decoder`."""
        rows = tokens, order
        return blocks.by_rows(self.decoder, self.mesh, self.micro_batches, *rows, packed=packed)

    def __call__(self, clip: Float[Array, "B T V C"]) -> Float[Array, "B N P"]:
        """Touches every parameter; used to initialise them."""
        tokens = self.encode(clip)
        order = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape[:2])
        return self.decode(tokens[:, :1], order)


class Prompts(nn.Module):
    """Learned tokens, one for each kind of view.

    Attributes:
      count: number of kinds.
      width: D.
    """

    count: int
    width: int

    @nn.compact
    def __call__(self) -> Float[Array, "K D"]:
        """Returns all tokens."""
        return self.param("token", layers.position_init, (self.count, self.width))


class PromptedAutoencoder(MaskedAutoencoder):
    """Encoder, decoder and projector, and a learned token for each kind of view but the plain one.

    Their parameters are `{"encoder": …, "decoder": …, "projector": …, "prompts": …}`. The plain
    view and the encoder that is evaluated have no such token.
    """

    VIEWS = ("masked", "predicted", "mixed")

    def setup(self):
        """Creates the parts; linen calls it."""
        super().setup()
        self.prompts = Prompts(len(self.VIEWS), self.config.encoder.width)

    def encode_as(
        self,
        view: str,
        clip: Float[Array, "B T V C"],
        keep: Int[Array, "B n"] | None = None,
        packed: Int[Array, " packed"] | None = None,
    ) -> Float[Array, "B n D"]:
        """Applies f to a view of one of the kinds `VIEWS`, with the token of that kind."""
        token = self.prompts()[self.VIEWS.index(view)]
        prompt = jnp.broadcast_to(token, (len(clip), 1, len(token)))
        return self.encode(clip, keep, None, packed, prompt)

    def __call__(self, clip: Float[Array, "B T V C"]) -> Float[Array, "B N P"]:
        """Touches every parameter; used to initialise them."""
        self.project(self.encode_as("masked", clip).mean(axis=1))
        return super().__call__(clip)


class Contrastive(Backbone):
    """Encoder and, unless its width is 0, projector: `{"encoder": …, "projector": …}`."""

    def __call__(self, clip: Float[Array, "B T V C"]) -> Float[Array, "B E"]:
        """Touches every parameter; used to initialise them."""
        return self.project(self.encode(clip).mean(axis=1))


class StreamContrastive(Contrastive):
    """Towers of the encoder, each with its own projector: `{"encoder": …, "projector": …}`."""

    def setup(self):
        """Creates the parts; linen calls it."""
        width = self.config.projector_width
        self.encoder = Encoder(self.config.encoder, self.hardware)
        projectors = nn.vmap(
            Projector,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=1,
            out_axes=1,
        )
        self.projector = projectors(width) if width else None

    def project(self, z: Float[Array, "B SD"]) -> Float[Array, "B SE"]:
        """Projects the pooled features of each tower separately, and concatenates the results."""
        if self.projector is None:
            return z
        by_tower = z.reshape(len(z), self.config.encoder.towers, -1)
        return self.projector(by_tower).reshape(len(z), -1)
