"""Intervals against loops, the binomial distribution and their coverage."""

import numpy as np
import pytest
import scipy.stats

from igm_jax import metrics
from igm_jax.errors import InputError


def test_bootstrap_equals_loops():
    values = np.random.default_rng(0).normal(size=12)
    rng, means = np.random.default_rng(3), []
    for _ in range(200):
        means.append(np.mean([values[i] for i in rng.integers(12, size=12)]))
    means.sort()
    low, high = metrics.bootstrap_interval(values, draws=200, seed=3)
    # Position 0.025 · 199 = 4.975 between two draws, and its mirror image.
    assert low == pytest.approx(means[4] + 0.975 * (means[5] - means[4]))
    assert high == pytest.approx(means[195] - 0.975 * (means[195] - means[194]))


def test_bootstrap_of_an_accuracy_is_a_binomial_interval():
    correct = np.arange(400) < 300
    wanted = scipy.stats.binom(400, 0.75).ppf([0.025, 0.975]) / 400
    np.testing.assert_allclose(metrics.bootstrap_interval(correct), wanted, atol=0.004)


def test_bootstrap_is_seeded():
    correct = np.arange(50) < 30
    first = metrics.bootstrap_interval(correct, draws=50, seed=1)
    assert metrics.bootstrap_interval(correct, draws=50, seed=1) == first
    assert metrics.bootstrap_interval(correct, draws=50, seed=2) != first


def test_bootstrap_draws_arrays_together():
    a = np.arange(30)
    low, high = metrics.bootstrap_interval(
        a, 2 * a, statistic=lambda x, y: float(np.abs(y - 2 * x).max()), draws=20
    )
    assert low == high == 0


def test_bootstrap_of_balanced_accuracy_lets_a_class_be_missing():
    labels = np.array([0] * 20 + [1])  # a third of the draws lack class 1
    confusion = lambda p, y: metrics.confusion_matrix(p, y, 2)  # noqa: E731
    low, high = metrics.bootstrap_interval(
        np.zeros(21, int),
        labels,
        statistic=lambda *x: metrics.balanced_accuracy(confusion(*x)),
        draws=100,
    )
    assert (low, high) == (0.5, 1.0)


def test_level_widens_the_interval():
    correct = np.arange(100) < 60
    narrow, wide = (metrics.bootstrap_interval(correct, level=level) for level in (0.5, 0.99))
    assert wide[0] < narrow[0] < 0.6 < narrow[1] < wide[1]


def test_clips_of_one_value_have_no_spread():
    assert metrics.bootstrap_interval(np.ones(5)) == (1, 1)


def test_mean_and_interval_equals_scipy():
    values = np.random.default_rng(0).normal(size=600)
    mean, half = metrics.mean_and_interval(values)
    low, high = scipy.stats.norm(values.mean(), scipy.stats.sem(values)).interval(0.95)
    np.testing.assert_allclose([mean - half, mean + half], [low, high], rtol=1e-3)


def test_the_interval_of_a_mean_covers_it():
    draws = np.random.default_rng(1).normal(size=(400, 100))
    hits = [abs(mean) < half for mean, half in map(metrics.mean_and_interval, draws)]
    assert 0.92 < np.mean(hits) < 0.98


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.bootstrap_interval(np.ones(1)), "at least 2 test clips"),
        (lambda: metrics.bootstrap_interval(), "at least 2 test clips"),
        (lambda: metrics.bootstrap_interval(np.ones(3), np.ones(4)), "3 clips but 4 entries"),
        (lambda: metrics.bootstrap_interval(np.ones(3), level=1.0), "level=1.0"),
        (lambda: metrics.bootstrap_interval(np.ones(3), draws=0), "draws=0"),
        (lambda: metrics.mean_and_interval(np.ones(1)), "1 episode has no spread"),
    ],
)
def test_bad_input_is_refused_in_one_line(unchecked_shapes, call, message):
    with pytest.raises(InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
