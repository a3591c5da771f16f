"""Judges classifiers: accuracies, the confusion matrix and the calibration of probabilities.

All but `top_k_accuracy` work on the host in float64, on predictions that are already made.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from igm_jax.arguments import Array, check_at_least, check_positive
from igm_jax.errors import InputError
from igm_jax.metrics.arrays import check_count, check_in_range, check_labels, float64

TEMPERATURES = (1e-3, 1e3)  # limits of `fit_temperature`


def top_k_accuracy(
    logits: Float[Array, "B _"], labels: Int[Array, " B"], k: int
) -> Float[jax.Array, ""]:
    """Share of the rows whose label is among the k largest logits.

    Among equal logits the lower class counts as larger; a row with a NaN counts as wrong.

    Args:
      logits: [B, classes].
      labels: [B] in 0 … classes−1.
      k: in 1 … classes.

    Returns:
      Scalar in [0, 1].

    Raises:
      InputError: k out of range, or a concrete label that is no class.

    >>> float(top_k_accuracy(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.array([1, 1]), k=1))
    0.5
    """
    check_in_range("k", k, logits.shape[-1], "classes")
    check_count("labels", labels, logits.shape[0], "rows of logits")
    check_labels("labels", labels, logits.shape[-1])
    _, top = jax.lax.top_k(logits, k)
    hit = (top == labels[:, None]).any(axis=-1)
    return (hit & ~jnp.isnan(logits).any(axis=-1)).astype(jnp.float32).mean()


def confusion_matrix(
    predicted: Int[Array, " B"], labels: Int[Array, " B"], num_classes: int
) -> Int[np.ndarray, "classes classes"]:
    """Counts clips by their label (row) and the class that was predicted (column).

    Args:
      predicted: [B] classes.
      labels: [B] classes, in 0 … num_classes−1 as are those predicted.
      num_classes: number of classes; a class without clips has a row of zeros.

    Returns:
      [num_classes, num_classes] counts.

    Raises:
      InputError: a class out of range.

    >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 0, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    check_count("labels", labels, predicted.shape[0], "predictions")
    check_labels("predicted", predicted, num_classes)
    check_labels("labels", labels, num_classes)
    confusion = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(confusion, (np.asarray(labels), np.asarray(predicted)), 1)
    return confusion


def class_accuracy(
    confusion: Int[np.ndarray, "classes classes"],
) -> Float[np.ndarray, " classes"]:
    """Accuracy of each class (its recall); NaN for a class without clips.

    Args:
      confusion: counts of `confusion_matrix`.

    Returns:
      [classes].

    >>> class_accuracy(np.array([[3, 1], [0, 0]])).tolist()
    [0.75, nan]
    """
    clips = confusion.sum(axis=1)
    return np.where(clips > 0, np.diagonal(confusion) / np.maximum(clips, 1), np.nan)


def balanced_accuracy(confusion: Int[np.ndarray, "classes classes"]) -> float:
    """Mean accuracy of the classes that have clips; the others do not count.

    Args:
      confusion: counts of `confusion_matrix`.

    Returns:
      In [0, 1]; at chance it is one over the number of classes that can be predicted.

    Raises:
      InputError: no clips at all.

    References:
      Brodersen et al., The Balanced Accuracy and Its Posterior Distribution (ICPR 2010).

    >>> balanced_accuracy(np.array([[3, 1], [0, 2]]))
    0.875
    """
    accuracy = class_accuracy(confusion)
    present = ~np.isnan(accuracy)
    if not present.any():
        raise InputError("the confusion matrix is empty: it needs clips with labels")
    return float(accuracy[present].mean())


def calibrated_probabilities(
    logits: Float[Array, "B classes"], temperature: float = 1.0
) -> Float[np.ndarray, "B classes"]:
    """Softmax of logits / temperature; a temperature above 1 makes it less sure.

    Args:
      logits: [B, classes].
      temperature: > 0, see `fit_temperature`.

    Returns:
      [B, classes] float64; rows sum to 1.

    >>> calibrated_probabilities(np.log([[1.0, 4.0]]), 2.0).round(4).tolist()
    [[0.3333, 0.6667]]
    """
    return np.exp(_log_probabilities(logits, temperature))


def negative_log_likelihood(
    logits: Float[Array, "B classes"], labels: Int[Array, " B"], temperature: float = 1.0
) -> float:
    """Mean of −log p(label) for the softmax of logits / temperature, in nats.

    Args:
      logits: [B, classes].
      labels: [B] in 0 … classes−1.
      temperature: > 0.

    Returns:
      ≥ 0; log(classes) for equal logits.

    >>> round(negative_log_likelihood(np.zeros((3, 2)), np.array([0, 1, 1])), 4)
    0.6931
    """
    _check_logits(logits, labels)
    log_p = _log_probabilities(logits, temperature)
    return float(-log_p[np.arange(len(log_p)), np.asarray(labels)].mean())


def fit_temperature(
    logits: Float[Array, "B classes"],
    labels: Int[Array, " B"],
    *,
    limits: tuple[float, float] = TEMPERATURES,
) -> float:
    """Temperature that makes the labels of validation clips most likely.

    It does not change which class is first. Use validation clips, never test clips.

    Args:
      logits: [B, classes] of validation clips.
      labels: [B] in 0 … classes−1.
      limits: lowest and highest temperature, 0 < lowest < highest.

    Returns:
      The temperature. It is the lowest if all clips are classified rightly, and the highest if the
      logits say nothing about the labels: validation clips can then not choose it.

    Raises:
      InputError: no clips, a label that is no class, logits that are not finite, or bad limits.

    References:
      Guo et al., On Calibration of Modern Neural Networks (ICML 2017), temperature scaling.

    >>> logits = np.log([[3.0, 1.0]] * 4)  # says 75 %, as is true
    >>> round(fit_temperature(logits, np.array([0, 0, 0, 1])), 4)
    1.0
    """
    _check_logits(logits, labels)
    if not 0 < limits[0] < limits[1]:
        raise InputError(f"limits={limits}: give 0 < lowest < highest temperature")
    logits = float64(logits)
    # Relative to the label's: all ≤ 0, and so is the slope, if the clip is classified rightly.
    relative = logits - logits[np.arange(len(logits)), np.asarray(labels), None]

    def slope(sharpness: float) -> float:
        # Derivative of the negative log-likelihood, which is convex in 1 / temperature.
        return float((calibrated_probabilities(relative, 1 / sharpness) * relative).sum())

    low, high = (float(np.log(1 / t)) for t in reversed(limits))
    for _ in range(60):  # bisection on a logarithmic scale: 60 halvings reach float64's digits
        middle = (low + high) / 2
        low, high = (middle, high) if slope(np.exp(middle)) <= 0 else (low, middle)
    return float(np.clip(np.exp(-(low + high) / 2), *limits))


def expected_calibration_error(
    probabilities: Float[Array, "B classes"], labels: Int[Array, " B"], *, bins: int = 15
) -> float:
    """Mean gap between the probability of the first class and the share that is right.

    Clips are put into bins of equal width by their highest probability. The gaps of the bins are
    weighted by their clips. Among equal probabilities the lower class is first.

    Args:
      probabilities: [B, classes]; rows sum to 1.
      labels: [B] in 0 … classes−1.
      bins: number of bins; the published choice is 15.

    Returns:
      In [0, 1]; 0 is best.

    Raises:
      InputError: no clips, a label that is no class, or rows that are no probabilities.

    References:
      Naeini et al., Obtaining Well Calibrated Probabilities Using Bayesian Binning (AAAI 2015);
      Guo et al., On Calibration of Modern Neural Networks (ICML 2017), equation 3.

    >>> p = np.array([[0.8, 0.2], [0.8, 0.2]])
    >>> round(expected_calibration_error(p, np.array([0, 1])), 4)  # 80 % said, 50 % right
    0.3
    """
    _check_logits(probabilities, labels)
    check_at_least("bins", bins, 1)
    p = float64(probabilities)
    if p.min() < 0 or np.abs(p.sum(axis=1) - 1).max() > 1e-3:
        raise InputError("probabilities must be ≥ 0 with rows that sum to 1: apply softmax first")
    confidence, right = p.max(axis=1), p.argmax(axis=1) == np.asarray(labels)
    # Bin i holds (i / bins, (i + 1) / bins].
    number = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gap = np.bincount(number, weights=confidence - right, minlength=bins)  # Σ over a bin's clips
    return float(np.abs(gap).sum() / len(p))


def _log_probabilities(logits: Array, temperature: float) -> np.ndarray:
    check_positive("temperature", temperature)
    scaled = float64(logits) / temperature
    scaled -= scaled.max(axis=1, keepdims=True)
    return scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))


def _check_logits(logits: Array, labels: Array) -> None:
    if not logits.shape[0]:
        raise InputError("no clips to judge: give at least one with a label")
    check_count("labels", labels, logits.shape[0], "rows of logits")
    check_labels("labels", labels, logits.shape[1])
    if not np.isfinite(float64(logits)).all():
        raise InputError("logits are not finite: the model has diverged")
