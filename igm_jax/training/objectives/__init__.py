"""What f is trained by: IGM, and the baselines that it is compared with.

Every objective is one pure function with the arguments of `igm_objective`; encoder, data, optimiser
and train step are the same for all of them.
"""

from collections.abc import Callable

import flax.linen as nn

from igm_jax.models import IGM, Contrastive, MaskedAutoencoder
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.objectives.common import ClipBatch, ObjectiveOutput, feature_diagnostics
from igm_jax.training.objectives.contrastive import momentum_contrast, spectral_contrastive
from igm_jax.training.objectives.igm import igm_objective
from igm_jax.training.objectives.masked import masked_autoencoding, motion_prediction

__all__ = ["OBJECTIVES", "ClipBatch", "ObjectiveOutput", "build_model", "feature_diagnostics"]

# `objective.name` → its function, and what it trains beside the encoder.
_TABLE: dict[str, tuple[Callable, type[nn.Module]]] = {
    "igm": (igm_objective, IGM),
    "masked_autoencoding": (masked_autoencoding, MaskedAutoencoder),
    "motion_prediction": (motion_prediction, MaskedAutoencoder),
    "spectral_contrastive": (spectral_contrastive, Contrastive),
    "momentum_contrast": (momentum_contrast, Contrastive),
}
OBJECTIVES = {name: function for name, (function, _) in _TABLE.items()}


def build_model(config: ExperimentConfig) -> nn.Module:
    """The encoder with what the objective needs besides: generator, decoder or projector."""
    model = _TABLE[config.objective.name][1]
    return model(config.model, micro_batches=config.parallel.accumulate)
