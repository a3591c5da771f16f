"""The encoder with its projector, which all objectives share, and the config of all networks."""

import dataclasses

import flax.linen as nn
import jax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from igm_jax.arguments import check_choice
from igm_jax.models import blocks, layers
from igm_jax.models.adapter import AdapterConfig
from igm_jax.models.encoder import AuxTokens, Encoder, EncoderConfig
from igm_jax.models.generator import GeneratorConfig
from igm_jax.models.hardware import Hardware


@dataclasses.dataclass(frozen=True)
class IGMConfig:
    """Configs of the three parts and of their connection; baselines read those that they have.

    Attributes:
      encoder: f.
      adapter: h.
      generator: g.
      condition: "tokens" conditions visible tokens on their own feature and hidden ones on the
        pooled feature (MacDiff); "pooled" conditions all on the pooled feature. With nothing
        hidden from f, "tokens" would let g copy, so `IGM.condition` uses the pooled one then.
      projector_width: hidden and output width of a projector between pooled features and the
        idempotency losses; 0 for none.
    """

    encoder: EncoderConfig = EncoderConfig()
    adapter: AdapterConfig = AdapterConfig()
    generator: GeneratorConfig = GeneratorConfig()
    condition: str = "tokens"
    projector_width: int = 0

    def __post_init__(self):
        check_choice("model.condition", self.condition, ("tokens", "pooled"))


# Networks that compute each row of the batch independently of the others. The projector is not one
# of them: it normalises over the batch.
BY_ROWS = ("encoder", "generator", "decoder")


class Projector(nn.Module):
    """Dense, batch normalisation, GELU, Dense; for training only, without running statistics."""

    width: int

    @nn.compact
    def __call__(self, z: Float[Array, "B D"]) -> Float[Array, "B E"]:
        """Maps [B, D] to [B, width]."""
        lecun = nn.initializers.lecun_normal()
        h = layers.dense(self.width, "float32", "in", kernel_init=lecun)(z)
        # The variance, not its root, gets the small number: a collapsed batch stays finite.
        h = (h - h.mean(axis=0, keepdims=True)) * jax.lax.rsqrt(h.var(axis=0, keepdims=True) + 1e-5)
        return layers.dense(self.width, "float32", "out", kernel_init=lecun)(nn.gelu(h))


class Backbone(nn.Module):
    """Encoder f and optional projector; every objective trains a subclass of it.

    Attributes:
      config: sizes.
      micro_batches: number of parts into which the networks split their rows; see
        `blocks.by_rows`.
      hardware: the devices that the networks are compiled for.
      mesh: devices that each have their own copy of the networks `BY_ROWS`, whose parameters then
        come from `parallel.spread`; None without such copies.
    """

    config: IGMConfig
    micro_batches: int = 1
    hardware: Hardware = dataclasses.field(default_factory=Hardware.here)
    mesh: Mesh | None = None

    def setup(self):
        """Creates the parts; linen calls it."""
        width = self.config.projector_width
        self.encoder = Encoder(self.config.encoder, self.hardware)
        self.projector = Projector(width) if width else None

    def encode(
        self,
        clip: Float[Array, "B T V C"],
        keep: Int[Array, "B n"] | None = None,
        aux: AuxTokens | None = None,
        packed: Int[Array, " packed"] | None = None,
        prompt: Float[Array, "B K D"] | None = None,
    ) -> Float[Array, "B n D"]:
        """Applies f to all rows or the `packed` ones; see `Encoder` and `blocks.by_rows`."""
        rows = clip, keep, aux, prompt
        return blocks.by_rows(self.encoder, self.mesh, self.micro_batches, *rows, packed=packed)

    def project(self, z: Float[Array, "B D"]) -> Float[Array, "B E"]:
        """Projects pooled features for the losses."""
        return z if self.projector is None else self.projector(z)
