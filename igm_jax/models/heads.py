"""Models that predict classes or colours from the tokens of f with a small head."""

import flax.linen as nn
from jaxtyping import Array, Float, Int

from igm_jax.models import blocks, layers
from igm_jax.models.igm import Backbone

INTERVALS = (1, 5, 10)  # frames between two poses [GL-Transformer]
MAGNITUDES = 15  # no displacement, and fourteen sizes of it [GL-Transformer]


class DisplacementHead(nn.Module):
    """A dense layer from each token to the logits of its displacements.

    Attributes:
      entries: displacements of a token: frames · joints · intervals.
      directions: number of direction classes.
    """

    entries: int
    directions: int

    @nn.compact
    def __call__(self, tokens: Float[Array, "B n D"]) -> Float[Array, "B n E K"]:
        """Maps tokens to logits; the direction classes come first."""
        classes = self.directions + MAGNITUDES
        logits = layers.flat(layers.dense(self.entries * classes, "float32", "out"), tokens)
        return logits.reshape(*tokens.shape[:2], self.entries, classes)


class DisplacementModel(Backbone):
    """Encoder and head: `{"encoder": …, "decoder": …}`."""

    def setup(self):
        """Creates the parts; linen calls it."""
        super().setup()
        e = self.config.encoder
        entries = e.patch_numbers // e.channels * len(INTERVALS)
        self.decoder = DisplacementHead(entries, 3**e.channels)

    def decode(
        self, tokens: Float[Array, "B n D"], packed: Int[Array, " P"] | None = None
    ) -> Float[Array, "B n E K"]:
        """Logits of all rows or the `packed` ones; see `DisplacementHead`."""
        return blocks.by_rows(self.decoder, self.mesh, self.micro_batches, tokens, packed=packed)

    def __call__(self, clip: Float[Array, "B T V C"]) -> Float[Array, "B n E K"]:
        """Touches every parameter; used to initialise them."""
        return self.decode(self.encode(clip))


class Painter(nn.Module):
    """Colours the tokens of a clip, given the code of the whole clip.

    Attributes:
      width: of the two hidden layers.
      out: numbers of a colour.
    """

    width: int
    out: int

    @nn.compact
    def __call__(
        self, patches: Float[Array, "B N P"], code: Float[Array, "B D"]
    ) -> Float[Array, "B N E"]:
        """Maps each token and the one code of its clip to a colour."""

        def dense(width: int, name: str):
            return layers.dense(width, "float32", name)

        h = layers.flat(dense(self.width, "token"), patches)
        h = nn.gelu(h + dense(self.width, "code")(code)[:, None])
        h = nn.gelu(layers.flat(dense(self.width, "hidden"), h))
        return layers.flat(dense(self.out, "out"), h)


class Colorizer(Backbone):
    """Encoder and painter: `{"encoder": …, "decoder": …}`."""

    def setup(self):
        """Creates the parts; linen calls it."""
        super().setup()
        spatial = self.config.encoder.grid[1] > 1
        self.decoder = Painter(self.config.generator.width, 6 if spatial else 3)

    def decode(
        self,
        patches: Float[Array, "B N P"],
        code: Float[Array, "B D"],
        packed: Int[Array, " P"] | None = None,
    ) -> Float[Array, "B N E"]:
        """Colours of all rows or the `packed` ones; see `Painter`."""
        rows = patches, code
        return blocks.by_rows(self.decoder, self.mesh, self.micro_batches, *rows, packed=packed)

    def __call__(self, clip: Float[Array, "B T V C"]) -> Float[Array, "B N E"]:
        """Touches every parameter; used to initialise them."""
        patches = layers.patchify(clip, self.config.encoder.patch)
        return self.decode(patches, self.encode(clip).mean(axis=1))
