"""Measures of features, of classifiers and of generated clips, as functions of arrays.

| module | judges | runs on |
|---|---|---|
| `spread` | rank, cosines, alignment and uniformity of features | device |
| `knn` | nearest neighbours by cosine | device |
| `ridge` | a linear probe in closed form | device |
| `retrieval` | average precision and recall of retrieval by cosine | device |
| `few_shot` | episodes of N classes with K labelled clips each | device, drawn on the host |
| `clustering` | k-means, and its agreement with classes | device, agreement on the host |
| `whitening` | gives all directions of features equal variance, before cosines | device |
| `spectrum` | eigenvalues of the covariance, coding length and its terms | device |
| `graph` | the augmentation graph of the theory, and the bound's terms | device |
| `generation` | Fréchet distance, precision and recall, diversity, bones and jerk | device |
| `classification` | accuracies, confusion matrix, calibration | host, in float64 |
| `intervals` | 95 % intervals over test clips and episodes | host, in float64 |

Functions of the device can be compiled by `jax.jit`. Functions of the host take NumPy's or JAX's
arrays and return NumPy's. Clips without a label (−1) are refused: leave them out.
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
from igm_jax.metrics.clustering import (
    adjusted_rand_index,
    kmeans,
    normalized_mutual_information,
)
from igm_jax.metrics.few_shot import draw_episodes, few_shot_accuracy
from igm_jax.metrics.generation import (
    bone_length_error,
    bone_length_variation,
    bone_lengths,
    diversity,
    frechet_distance,
    manifold_precision_recall,
    mean_jerk,
)
from igm_jax.metrics.graph import (
    cluster_impurity,
    factorization_error,
    normalized_adjacency,
    overlap_distribution,
    pair_distribution,
    positive_pairs,
    singular_values,
    tail_sum,
)
from igm_jax.metrics.intervals import bootstrap_interval, mean_and_interval
from igm_jax.metrics.knn import knn_accuracy, knn_predict, knn_ranks
from igm_jax.metrics.retrieval import Retrieval, retrieval, retrieval_within
from igm_jax.metrics.ridge import RidgeProbe, fit_ridge, ridge_accuracy, ridge_scores
from igm_jax.metrics.spectrum import (
    CodingLength,
    coding_length_parts,
    covariance_spectrum,
    spectrum_rank,
)
from igm_jax.metrics.spread import alignment, effective_rank, mean_pairwise_cosine, uniformity
from igm_jax.metrics.whitening import Whitening, fit_whitening, whiten

__all__ = [
    "CodingLength",
    "Retrieval",
    "RidgeProbe",
    "Whitening",
    "adjusted_rand_index",
    "alignment",
    "balanced_accuracy",
    "bone_length_error",
    "bone_length_variation",
    "bone_lengths",
    "bootstrap_interval",
    "calibrated_probabilities",
    "class_accuracy",
    "cluster_impurity",
    "coding_length_parts",
    "confusion_matrix",
    "covariance_spectrum",
    "diversity",
    "draw_episodes",
    "effective_rank",
    "expected_calibration_error",
    "factorization_error",
    "few_shot_accuracy",
    "fit_ridge",
    "fit_temperature",
    "fit_whitening",
    "frechet_distance",
    "kmeans",
    "knn_accuracy",
    "knn_predict",
    "knn_ranks",
    "manifold_precision_recall",
    "mean_and_interval",
    "mean_jerk",
    "mean_pairwise_cosine",
    "negative_log_likelihood",
    "normalized_adjacency",
    "normalized_mutual_information",
    "overlap_distribution",
    "pair_distribution",
    "positive_pairs",
    "retrieval",
    "retrieval_within",
    "ridge_accuracy",
    "ridge_scores",
    "singular_values",
    "spectrum_rank",
    "tail_sum",
    "top_k_accuracy",
    "uniformity",
    "whiten",
]
