"""MDFF: the formula, and that it does what it is for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from igm_jax.errors import InputError
from igm_jax.models import AdapterConfig, mdff
from igm_jax.models.adapter import adapt


def naive_mdff(z, eta, temperature):
    z = np.asarray(z, np.float64)
    out = np.zeros_like(z)
    for i in range(len(z)):
        weight = np.array(
            [
                np.exp(z[i] @ z[j] / np.linalg.norm(z[i]) / np.linalg.norm(z[j]) / temperature)
                for j in range(len(z))
            ]
        )
        low = sum(w * row for w, row in zip(weight / weight.sum(), z))
        out[i] = (1 + eta) * z[i] - eta * low
    return out


@pytest.mark.parametrize(("eta", "temperature"), [(0.1, 1.0), (1.0, 0.5), (0.0, 1.0)])
def test_formula(eta, temperature):
    z = jax.random.normal(jax.random.key(0), (2, 3, 7, 5))
    out = jax.jit(mdff)(z, eta, temperature)
    for i in range(2):
        for j in range(3):
            expected = naive_mdff(z[i, j], eta, temperature)
            np.testing.assert_allclose(out[i, j], expected, rtol=2e-5, atol=1e-5)


def test_a_step_makes_tokens_less_alike():
    def similarity(z):
        unit = z / np.linalg.norm(z, axis=-1, keepdims=True)
        return (unit @ unit.T)[~np.eye(len(z), dtype=bool)].mean()

    z = np.asarray(jax.random.normal(jax.random.key(1), (20, 8))) + 3.0  # much in common
    before = similarity(z)
    for eta in (0.1, 0.5, 1.0):
        after = similarity(np.asarray(mdff(jnp.asarray(z), eta)))
        assert after < before - 1e-3, eta
        before = after


def test_high_pass_keeps_differences_and_damps_nothing():
    """Against a temperature so high that all tokens weigh alike: z + η (z − mean)."""
    z = jax.random.normal(jax.random.key(2), (6, 4)) + 1.0
    expected = z + 0.3 * (z - z.mean(axis=0, keepdims=True))
    np.testing.assert_allclose(mdff(z, 0.3, 1e6), expected, atol=1e-5)


def test_finite_gradient_at_zero_tokens():
    grad = jax.grad(lambda z: (mdff(z, 0.5) ** 2).sum())(jnp.zeros((3, 4)))
    assert np.isfinite(grad).all()


def test_over_tokens_and_over_batch():
    tokens = jax.random.normal(jax.random.key(3), (4, 6, 5)) + 1.0
    adapted, pooled = adapt(tokens, AdapterConfig(eta=0.5))
    np.testing.assert_allclose(adapted[2], naive_mdff(tokens[2], 0.5, 1.0), atol=1e-5)
    np.testing.assert_allclose(pooled, adapted.mean(axis=1), atol=1e-6)

    adapted, pooled = adapt(tokens, AdapterConfig(eta=0.5, over="batch"))
    np.testing.assert_allclose(pooled, naive_mdff(tokens.mean(axis=1), 0.5, 1.0), atol=1e-5)
    np.testing.assert_allclose(adapted.mean(axis=1), pooled, atol=1e-5)
    inner = adapted - adapted.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(inner, tokens - tokens.mean(axis=1, keepdims=True), atol=1e-5)

    with pytest.raises(InputError, match=r"over='clips' is unknown"):
        AdapterConfig(over="clips")
