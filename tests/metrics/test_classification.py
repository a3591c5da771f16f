"""Judging of classifiers against scikit-learn, SciPy and loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
from sklearn import metrics as sklearn_metrics

from igm_jax import metrics
from igm_jax.errors import InputError


def _features(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


RNG = np.random.default_rng(0)
LABELS, PREDICTED = RNG.integers(0, 5, 60), RNG.integers(0, 5, 60)
LOGITS = 3 * _features(1, 60, 5) + 2 * np.eye(5, dtype=np.float32)[LABELS]
SOFT = scipy.special.softmax(LOGITS, axis=1)


# Top k.


@pytest.mark.parametrize("k", [1, 3, 5])
def test_top_k_accuracy_equals_sklearn(k):
    logits, labels = _features(0, 40, 6), np.arange(40) % 6
    wanted = sklearn_metrics.top_k_accuracy_score(labels, logits, k=k)
    assert 0 < wanted < 1
    np.testing.assert_allclose(metrics.top_k_accuracy(logits, labels, k), wanted, rtol=1e-6)
    jitted = jax.jit(metrics.top_k_accuracy, static_argnums=2)
    np.testing.assert_allclose(jitted(logits, labels, k), wanted, rtol=1e-6)


def test_top_k_accuracy_of_ties_and_nan():
    flat, labels = jnp.zeros((4, 4)), jnp.arange(4)
    assert metrics.top_k_accuracy(flat, labels, 1) == 0.25
    assert metrics.top_k_accuracy(flat, labels, 4) == 1
    assert metrics.top_k_accuracy(flat.at[0].set(jnp.nan), labels, 4) == 0.75


# Confusion.


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_confusion_equals_sklearn(array):
    confusion = metrics.confusion_matrix(array(PREDICTED), array(LABELS), 5)
    np.testing.assert_array_equal(confusion, sklearn_metrics.confusion_matrix(LABELS, PREDICTED))
    np.testing.assert_allclose(
        metrics.class_accuracy(confusion),
        sklearn_metrics.recall_score(LABELS, PREDICTED, average=None),
    )
    wanted = sklearn_metrics.balanced_accuracy_score(LABELS, PREDICTED)
    assert metrics.balanced_accuracy(confusion) == pytest.approx(wanted)


def test_a_class_without_clips_is_nan_and_does_not_count():
    confusion = metrics.confusion_matrix(np.array([0, 2, 2]), np.array([0, 0, 2]), 4)
    assert confusion.shape == (4, 4) and confusion.sum() == 3
    np.testing.assert_array_equal(metrics.class_accuracy(confusion), [0.5, np.nan, 1, np.nan])
    assert metrics.balanced_accuracy(confusion) == 0.75


def test_one_class_and_one_clip():
    assert metrics.confusion_matrix(np.array([0]), np.array([0]), 1).tolist() == [[1]]
    assert metrics.balanced_accuracy(np.array([[1]])) == 1
    assert metrics.negative_log_likelihood(np.array([[3.0]]), np.array([0])) == 0
    assert metrics.expected_calibration_error(np.array([[1.0]]), np.array([0])) == 0


# Calibration.


@pytest.mark.parametrize("temperature", [0.5, 1.0, 7.0])
def test_probabilities_equal_scipy(temperature):
    wanted = scipy.special.softmax(np.float64(LOGITS) / temperature, axis=1)
    np.testing.assert_allclose(metrics.calibrated_probabilities(LOGITS, temperature), wanted)
    loss = -np.mean([np.log(row[label]) for row, label in zip(wanted, LABELS)])
    got = metrics.negative_log_likelihood(jnp.asarray(LOGITS), jnp.asarray(LABELS), temperature)
    assert got == pytest.approx(loss)


def test_large_logits_do_not_overflow():
    logits = np.array([[1e5, 0.0], [-1e5, 0.0]])
    np.testing.assert_array_equal(metrics.calibrated_probabilities(logits), [[1, 0], [0, 1]])
    assert metrics.negative_log_likelihood(logits, np.array([1, 1])) == 5e4


@pytest.mark.parametrize("scale", [0.2, 1.0, 30.0])
def test_temperature_is_the_minimum_that_scipy_finds(scale):
    logits = scale * LOGITS

    def loss(log_t):
        log_p = scipy.special.log_softmax(np.float64(logits) / np.exp(log_t), axis=1)
        return -log_p[np.arange(60), LABELS].mean()

    wanted = np.exp(scipy.optimize.minimize_scalar(loss, bounds=(-5, 5), method="bounded").x)
    assert metrics.fit_temperature(logits, LABELS) == pytest.approx(wanted, rel=1e-3)


def test_temperature_at_its_limits():
    """All right: the likelihood grows as it falls. All wrong: as it rises."""
    right, labels = np.eye(3, dtype=np.float32), np.arange(3)
    assert metrics.fit_temperature(right, labels) == pytest.approx(1e-3)
    assert metrics.fit_temperature(-right, labels, limits=(0.1, 50.0)) == pytest.approx(50)


def test_temperature_calibrates():
    """Labels that are drawn from the softmax: logits times four need a temperature of four."""
    logits = 2 * np.random.default_rng(5).normal(size=(4000, 5))
    cumulative = scipy.special.softmax(logits, axis=1).cumsum(axis=1)
    labels = (np.random.default_rng(6).random((4000, 1)) > cumulative[:, :-1]).sum(axis=1)
    temperature = metrics.fit_temperature(4 * logits, labels)
    assert temperature == pytest.approx(4, rel=0.1)
    errors = [
        metrics.expected_calibration_error(metrics.calibrated_probabilities(4 * logits, t), labels)
        for t in (1.0, temperature)
    ]
    assert errors[1] < 0.03 < 0.1 < errors[0]


def _calibration_error(p, labels, bins):
    """One bin at a time, each with its upper edge."""
    total = 0.0
    for i in range(bins):
        inside = [r for r in range(len(p)) if i / bins < max(p[r]) <= (i + 1) / bins]
        if inside:
            right = np.mean([np.argmax(p[r]) == labels[r] for r in inside])
            total += len(inside) / len(p) * abs(right - np.mean([max(p[r]) for r in inside]))
    return total


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_calibration_error_equals_loops(bins):
    wanted = _calibration_error(np.float64(SOFT), LABELS, bins)
    assert metrics.expected_calibration_error(SOFT, LABELS, bins=bins) == pytest.approx(wanted)


def test_calibration_error_at_the_edge_of_a_bin():
    """0.5 lies in the lower of two bins: there, one of two says 50 % and is right."""
    p = np.array([[0.5, 0.5], [0.5, 0.5], [1.0, 0.0]])
    assert metrics.expected_calibration_error(p, np.array([0, 1, 0]), bins=2) == 0


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.top_k_accuracy(LOGITS, LABELS, 6), r"k=6 is outside 1\.\.5"),
        (lambda: metrics.top_k_accuracy(LOGITS, LABELS - 1, 1), r"labels -1\.\.3 are outside"),
        (lambda: metrics.top_k_accuracy(LOGITS, LABELS[:9], 1), "60 rows of logits but 9 labels"),
        (lambda: metrics.confusion_matrix(PREDICTED, LABELS - 1, 5), r"leave out clips without"),
        (lambda: metrics.confusion_matrix(PREDICTED, LABELS, 3), r"predicted 0\.\.4 are outside"),
        (lambda: metrics.confusion_matrix(PREDICTED, LABELS[:2], 5), "60 predictions but 2 labels"),
        (lambda: metrics.balanced_accuracy(np.zeros((2, 2), int)), "confusion matrix is empty"),
        (lambda: metrics.fit_temperature(LOGITS[:0], LABELS[:0]), "no clips to judge"),
        (lambda: metrics.fit_temperature(LOGITS, LABELS - 1), r"-1\.\.3 are outside 0\.\.4"),
        (lambda: metrics.fit_temperature(LOGITS, LABELS, limits=(0, 1)), r"limits=\(0, 1\)"),
        (lambda: metrics.fit_temperature(LOGITS * np.nan, LABELS), "logits are not finite"),
        (lambda: metrics.calibrated_probabilities(LOGITS, 0.0), "temperature=0.0"),
        (lambda: metrics.expected_calibration_error(LOGITS, LABELS), "apply softmax first"),
        (lambda: metrics.expected_calibration_error(SOFT, LABELS, bins=0), "bins=0"),
    ],
)
def test_bad_input_is_refused_in_one_line(unchecked_shapes, call, message):
    with pytest.raises(InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
