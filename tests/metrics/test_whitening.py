"""Whitening against the eigenvalues of the covariance in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from igm_jax import metrics
from igm_jax.errors import InputError

fit = jax.jit(metrics.fit_whitening, static_argnames="shrinkage")


def _features(count, width, seed=0):
    rng = np.random.default_rng(seed)
    scales = np.geomspace(10, 0.1, width)
    return (rng.normal(size=(count, width)) * scales + 3).astype(np.float32)


def _whitened(x, fitted, shrinkage):
    """Along each eigenvector of the covariance, one after the other."""
    fitted, x = np.float64(fitted), np.float64(x)
    mean = fitted.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(fitted.T, bias=True))
    floor = shrinkage * values.mean()
    parts = [
        np.outer((x - mean) @ v, v) / np.sqrt(max(value, 0) + floor)
        for value, v in zip(values, vectors.T)
    ]
    return sum(parts)


@pytest.mark.parametrize("count", [200, 5])  # more features than numbers in one, and fewer
@pytest.mark.parametrize("shrinkage", [0.01, 1.0])
def test_equals_oracle(count, shrinkage):
    fitted, others = _features(count, 8), _features(7, 8, seed=1)
    found = metrics.whiten(fit(fitted, shrinkage=shrinkage), others)
    np.testing.assert_allclose(found, _whitened(others, fitted, shrinkage), rtol=1e-3, atol=1e-3)


def test_covariance_is_the_identity_without_shrinkage():
    x = _features(300, 6)
    z = np.float64(metrics.whiten(fit(x, shrinkage=1e-6), x))
    np.testing.assert_allclose(np.cov(z.T, bias=True), np.eye(6), atol=2e-2)


def test_scale_does_not_matter():
    x = _features(50, 6)
    z = metrics.whiten(fit(x), x)
    np.testing.assert_allclose(metrics.whiten(fit(1e3 * x), 1e3 * x), z, rtol=1e-3, atol=1e-3)


def test_constant_features_become_zero():
    x = np.full((4, 3), 2.0, np.float32)
    np.testing.assert_array_equal(metrics.whiten(fit(x), x), jnp.zeros((4, 3)))


@pytest.mark.parametrize(
    ("count", "shrinkage", "told"),
    [(1, 0.01, "1 feature has no covariance"), (4, 0.0, "shrinkage")],
)
def test_bad_input_is_refused(count, shrinkage, told):
    with pytest.raises(InputError, match=told):
        metrics.fit_whitening(_features(count, 3), shrinkage=shrinkage)
