"""Measures of features, of classifiers and of generated clips, as functions of arrays.

| module | judges | runs on |
|---|---|---|
| `spread` | rank, cosines, alignment and uniformity of features | device |
| `knn` | nearest neighbours by cosine | device |
| `classification` | accuracies, confusion matrix, calibration | host, in float64 |
| `intervals` | 95 % intervals over test clips and episodes | host, in float64 |

Functions of the device are differentiable and can be compiled by `jax.jit`. Functions of the host
take NumPy's or JAX's arrays and return NumPy's.
"""

from igm_jax.metrics.classification import (
    balanced_accuracy,
    calibrated_probabilities,
    class_accuracy,
    confusion_matrix,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    top_k_accuracy,
)
from igm_jax.metrics.intervals import bootstrap_interval, mean_and_interval
from igm_jax.metrics.knn import knn_accuracy, knn_predict
from igm_jax.metrics.spread import alignment, effective_rank, mean_pairwise_cosine, uniformity

__all__ = [
    "alignment",
    "balanced_accuracy",
    "bootstrap_interval",
    "calibrated_probabilities",
    "class_accuracy",
    "confusion_matrix",
    "effective_rank",
    "expected_calibration_error",
    "fit_temperature",
    "knn_accuracy",
    "knn_predict",
    "mean_and_interval",
    "mean_pairwise_cosine",
    "negative_log_likelihood",
    "top_k_accuracy",
    "uniformity",
]
