"""Linen modules, each built from one frozen dataclass."""

from igm_jax.models.adapter import AdapterConfig, mdff
from igm_jax.models.backbone import IGMConfig
from igm_jax.models.baselines import (
    Contrastive,
    MaskedAutoencoder,
    PromptedAutoencoder,
    StreamContrastive,
)
from igm_jax.models.encoder import AuxTokens, Encoder, EncoderConfig, pool, stretch_means
from igm_jax.models.generator import Condition, Generator, GeneratorConfig
from igm_jax.models.hardware import Hardware
from igm_jax.models.heads import Colorizer, DisplacementModel, SequenceAutoencoder
from igm_jax.models.igm import IGM
from igm_jax.models.layers import apply

__all__ = [
    "IGM",
    "AdapterConfig",
    "AuxTokens",
    "Colorizer",
    "Condition",
    "Contrastive",
    "DisplacementModel",
    "Encoder",
    "EncoderConfig",
    "Generator",
    "GeneratorConfig",
    "Hardware",
    "IGMConfig",
    "MaskedAutoencoder",
    "PromptedAutoencoder",
    "SequenceAutoencoder",
    "StreamContrastive",
    "apply",
    "mdff",
    "pool",
    "stretch_means",
]
