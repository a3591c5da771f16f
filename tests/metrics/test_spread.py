"""Measures of spread against loops and cases with known answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from igm_jax import metrics
from igm_jax.errors import InputError


def _features(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _unit(z):
    z = np.float64(z)
    return z / np.linalg.norm(z, axis=1, keepdims=True)


# Compiled once a shape.
effective_rank = jax.jit(metrics.effective_rank)
mean_pairwise_cosine = jax.jit(metrics.mean_pairwise_cosine)
uniformity = jax.jit(metrics.uniformity, static_argnames="t")


ONE = _features(0, 1, 5)


# Oracles.


def _effective_rank(z):
    s = np.linalg.svd(np.float64(z), compute_uv=False)
    p = s / s.sum()
    return np.exp(-sum(x * np.log(x) for x in p if x > 0))


def _pairs(z, fn):
    u = _unit(z)
    return np.mean([fn(u[i], u[j]) for i in range(len(u)) for j in range(len(u)) if i != j])


ORACLES = {
    metrics.effective_rank: _effective_rank,
    metrics.mean_pairwise_cosine: lambda z: _pairs(z, lambda a, b: a @ b),
    metrics.uniformity: lambda z: np.log(_pairs(z, lambda a, b: np.exp(-2 * ((a - b) ** 2).sum()))),
}


@pytest.mark.parametrize("fn", ORACLES)
@pytest.mark.parametrize("shape", [(2, 3), (12, 5)])
def test_equals_oracle(fn, shape):
    z = 3 * _features(0, *shape) + 1
    np.testing.assert_allclose(jax.jit(fn)(z), ORACLES[fn](z), rtol=1e-5)


@pytest.mark.parametrize("fn", ORACLES)
def test_without_jit_and_from_numpy(fn):
    z = _features(0, 6, 4)
    np.testing.assert_allclose(fn(z), ORACLES[fn](z), rtol=1e-5)
    np.testing.assert_allclose(fn(jnp.asarray(z)), ORACLES[fn](z), rtol=1e-5)


def test_alignment_equals_loops():
    z, z_hat = _features(0, 6, 4), _features(1, 6, 4)
    wanted = np.mean([((a - b) ** 2).sum() for a, b in zip(_unit(z), _unit(z_hat))])
    np.testing.assert_allclose(metrics.alignment(z, z_hat), wanted, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(metrics.alignment)(z, z_hat), wanted, rtol=1e-5)


# Effective rank.


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_effective_rank_of_orthonormal_rows(rank):
    q, _ = np.linalg.qr(_features(0, 8, 8))
    np.testing.assert_allclose(effective_rank(q[:rank]), rank, rtol=1e-5)
    repeated = np.repeat(7 * q[:rank], 4, axis=0)  # neither copies nor scale count
    np.testing.assert_allclose(effective_rank(repeated), rank, rtol=1e-4)


def test_effective_rank_of_collapsed_features_is_one():
    """Through the Gram matrix the 63 zeros would come out as 3e-4 each, and the rank as 1.2."""
    collapsed = np.outer(_features(0, 200), _features(1, 64)).astype(np.float32)
    np.testing.assert_allclose(effective_rank(collapsed), 1, atol=1e-3)


def test_effective_rank_is_not_centred():
    """A shared offset is a strong direction: it must lower the rank, not be taken away."""
    z = _features(0, 50, 8)
    assert effective_rank(z + 10) < 0.4 * effective_rank(z)


def test_effective_rank_of_nothing():
    assert effective_rank(jnp.zeros((4, 3))) == 0
    assert jnp.isnan(effective_rank(jnp.full((4, 3), jnp.nan)))


# Pairs.


def test_collapse_and_its_opposite():
    same, opposite, orthogonal = jnp.ones((2, 2)), jnp.array([[1.0, 0], [-1, 0]]), jnp.eye(2)
    for z, cosine, potential in ((same, 1, 0), (opposite, -1, -8), (orthogonal, 0, -4)):
        np.testing.assert_allclose(mean_pairwise_cosine(z), cosine, atol=1e-6)
        np.testing.assert_allclose(uniformity(z), potential, atol=1e-5)
    np.testing.assert_allclose(uniformity(opposite, t=0.5), -2, atol=1e-6)


def test_uniformity_of_many_rows_is_that_of_few():
    """More rows than one chunk, and no multiple of it: copies only add pairs at distance zero."""
    z = _features(0, 41, 3)
    copies = 30  # 1230 rows
    n, few = len(z), np.exp(ORACLES[metrics.uniformity](z))
    # Of the pairs i ≠ j of all rows, n·c·(c−1) are copies of one row and n(n−1)·c² are not.
    total = n * copies * (n * copies - 1)
    wanted = np.log((n * copies * (copies - 1) + n * (n - 1) * copies**2 * few) / total)
    np.testing.assert_allclose(uniformity(np.tile(z, (copies, 1))), wanted, rtol=1e-5)


def test_zero_features_are_finite():
    z = jnp.zeros((3, 4))
    assert mean_pairwise_cosine(z) == 0
    assert metrics.alignment(z, z) == 0
    assert jnp.isfinite(uniformity(z))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.mean_pairwise_cosine(ONE), "at least 2"),
        (lambda: metrics.uniformity(ONE), "at least 2"),
        (lambda: metrics.alignment(ONE, np.tile(ONE, (8, 1))), r"\(8, 5\)"),
    ],
)
def test_bad_input_is_refused_in_one_line(unchecked_shapes, call, message):
    with pytest.raises(InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
