"""The losses of IGM and the theory behind them, as pure functions of arrays.

Everything is computed in at least float32.
"""

from igm_jax.losses.contrastive import (
    info_nce_loss,
    mined_similarity_loss,
    mutual_distillation_loss,
    positive_log_probabilities,
    spectral_contrastive_loss,
)
from igm_jax.losses.igm import (
    distribution_idempotency_loss,
    feature_idempotency_loss,
    noise_prediction_loss,
    normalize,
    similarity_distribution,
)
from igm_jax.losses.theory import (
    coding_length,
    coding_length_residual,
    coding_length_series,
    coding_rate_reduction,
)

__all__ = [
    "coding_length",
    "coding_length_residual",
    "coding_length_series",
    "coding_rate_reduction",
    "distribution_idempotency_loss",
    "feature_idempotency_loss",
    "info_nce_loss",
    "mined_similarity_loss",
    "mutual_distillation_loss",
    "noise_prediction_loss",
    "normalize",
    "positive_log_probabilities",
    "similarity_distribution",
    "spectral_contrastive_loss",
]
