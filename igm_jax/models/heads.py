"""Models with a small head on the tokens of f: it predicts classes, colours or frames in order."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from igm_jax.models import blocks, layers
from igm_jax.models.backbone import Backbone

INTERVALS = (1, 5, 10)  # frames between two poses [GL-Transformer]
MAGNITUDES = 15  # no displacement, and fourteen sizes of it [GL-Transformer]


class DisplacementHead(nn.Module):
    """A dense layer from each token to the classes of its displacements, and its error.

    The error is computed here, so that only the rows of a micro-batch have all their logits in
    memory.

    Attributes:
      entries: displacements of a token: frames · joints · intervals.
      directions: number of direction classes.
    """

    entries: int
    directions: int

    @nn.compact
    def __call__(
        self,
        tokens: Float[Array, "B n D"],
        direction: Int[Array, "B n E"],
        magnitude: Int[Array, "B n E"],
    ) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
        """Mean cross-entropies of the classes of direction and of size in each row.

        Args:
          tokens: f of each token.
          direction: class of each displacement, below `directions`.
          magnitude: class of its size, below `MAGNITUDES`.
        """
        classes = self.directions + MAGNITUDES
        logits = layers.flat(layers.dense(self.entries * classes, "float32", "out"), tokens)
        logits = logits.reshape(*tokens.shape[:2], self.entries, classes)

        def error(logits: Array, target: Array) -> Array:
            log_p = jnp.take_along_axis(jax.nn.log_softmax(logits), target[..., None], axis=-1)
            return -log_p.mean(axis=(1, 2, 3))

        of_direction, of_magnitude = jnp.split(logits, [self.directions], axis=-1)
        return error(of_direction, direction), error(of_magnitude, magnitude)


class DisplacementModel(Backbone):
    """Encoder and head: `{"encoder": …, "decoder": …}`."""

    def setup(self):
        """Creates the parts; linen calls it."""
        super().setup()
        e = self.config.encoder
        entries = e.patch_numbers // e.channels * len(INTERVALS)
        self.decoder = DisplacementHead(entries, 3**e.channels)

    def displacement_error(
        self,
        tokens: Float[Array, "B n D"],
        direction: Int[Array, "B n E"],
        magnitude: Int[Array, "B n E"],
        packed: Int[Array, " packed"] | None = None,
    ) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
        """Errors of all rows or the `packed` ones; see `DisplacementHead`."""
        rows = tokens, direction, magnitude
        return blocks.by_rows(self.decoder, self.mesh, self.micro_batches, *rows, packed=packed)

    def __call__(self, clip: Float[Array, "B T V C"]) -> tuple[Float[Array, " B"], ...]:
        """Touches every parameter; used to initialise them."""
        tokens = self.encode(clip)
        classes = jnp.zeros((*tokens.shape[:2], self.decoder.entries), jnp.int32)
        return self.displacement_error(tokens, classes, classes)


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
        packed: Int[Array, " packed"] | None = None,
    ) -> Float[Array, "B N E"]:
        """Colours of all rows or the `packed` ones; see `Painter`."""
        rows = patches, code
        return blocks.by_rows(self.decoder, self.mesh, self.micro_batches, *rows, packed=packed)

    def __call__(self, clip: Float[Array, "B T V C"]) -> Float[Array, "B N E"]:
        """Touches every parameter; used to initialise them."""
        patches = layers.patchify(clip, self.config.encoder.patch)
        return self.decode(patches, self.encode(clip).mean(axis=1))


class SequenceDecoder(nn.Module):
    """A recurrent network that unrolls the code of a clip, once forwards and once backwards.

    Attributes:
      width: of the state.
      frames: T.
      numbers: of a frame, V · C.
    """

    width: int
    frames: int
    numbers: int

    @nn.compact
    def __call__(self, code: Float[Array, "B D"]) -> Float[Array, "B 2 T E"]:
        """Maps codes to frames, in the order of time and against it; each step gets the code."""
        direction = self.param("direction", layers.position_init, (2, self.width))
        fed = layers.dense(self.width, "float32", "code")(code)[:, None] + direction[None]
        fed = jnp.broadcast_to(
            fed.reshape(-1, 1, self.width), (2 * len(code), self.frames, self.width)
        )
        with jax.default_matmul_precision("highest"):  # GRUCell takes no precision
            states = jnp.asarray(nn.RNN(nn.GRUCell(self.width, name="gru"))(fed))
        frames = layers.flat(layers.dense(self.numbers, "float32", "out"), states)
        return frames.reshape(len(code), 2, self.frames, self.numbers)


class SequenceAutoencoder(Backbone):
    """Encoder, recurrent decoder and, unless its width is 0, projector."""

    def setup(self):
        """Creates the parts; linen calls it."""
        super().setup()
        e = self.config.encoder
        width = self.config.generator.width
        self.decoder = SequenceDecoder(width, e.frames, e.joints * e.channels)

    def decode(
        self, code: Float[Array, "B D"], packed: Int[Array, " packed"] | None = None
    ) -> Float[Array, "B 2 T E"]:
        """Frames of all rows or the `packed` ones; see `SequenceDecoder`."""
        return blocks.by_rows(self.decoder, self.mesh, self.micro_batches, code, packed=packed)

    def __call__(self, clip: Float[Array, "B T V C"]) -> Float[Array, "B 2 T E"]:
        """Touches every parameter; used to initialise them."""
        code = self.encode(clip).mean(axis=1)
        self.project(code)
        return self.decode(code)
