"""Joins encoder f, adapter h and generator g in one module."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from igm_jax.models import blocks
from igm_jax.models.adapter import adapt
from igm_jax.models.backbone import Backbone
from igm_jax.models.encoder import AuxTokens
from igm_jax.models.generator import Condition, Generator


class IGM(Backbone):
    """The whole model: f, h and g with one parameter tree `{"encoder": …, "generator": …}`."""

    def setup(self):
        """Creates the parts; linen calls it."""
        super().setup()
        self.generator = Generator(self.config.generator, self.config.encoder.patch, self.hardware)

    def condition(
        self, tokens: Float[Array, "B n D"], order: Int[Array, "B N"] | None
    ) -> Condition:
        """Applies h: makes the generator's condition from visible tokens.

        Args:
          tokens: [B, n, D], what f made of the first n tokens of `order`.
          order: [B, N] permutation, or None when f saw every token.
        """
        visible, pooled = adapt(tokens, self.config.adapter)
        if order is None or self.config.condition == "pooled":
            return Condition(pooled)
        return Condition(pooled, visible, order)

    def generate(
        self,
        noisy_clip: Float[Array, "B T V C"],
        condition: Condition,
        t: Int[Array, " B"],
        signal: Float[Array, " B"],
        dropped: Bool[Array, " B"] | None = None,
        packed: Int[Array, " packed"] | None = None,
    ) -> Float[Array, "B T V C"]:
        """Applies g to all rows or the `packed` ones; see `Generator` and `blocks.by_rows`."""
        rows = noisy_clip, condition, t, signal, dropped
        return blocks.by_rows(self.generator, self.mesh, self.micro_batches, *rows, packed=packed)

    def __call__(self, clip: Float[Array, "B T V C"]) -> Float[Array, "B T V C"]:
        """Touches every parameter; used to initialise them."""
        b = clip.shape[0]
        t = jnp.zeros((b,), jnp.int32)
        feature = jnp.zeros((b, self.config.encoder.width), jnp.float32)
        tokens = self.encode(clip, aux=AuxTokens(feature, t, t))
        self.project(tokens.mean(axis=1))
        return self.generate(clip, self.condition(tokens, None), t, jnp.ones((b,), jnp.float32))
