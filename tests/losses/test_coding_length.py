"""Coding length: series, residual, degenerate spectra, and the identities of the paper."""

import chex
import jax
import jax.numpy as jnp
import loss_oracles as oracles
import numpy as np
import pytest
from loss_oracles import Z, features, unit

from igm_jax import losses

# Compiled once a shape; ε is traced, so these are tested with an array for it as well.
coding_length = jax.jit(losses.coding_length)
coding_length_series = jax.jit(losses.coding_length_series, static_argnames="order")
coding_length_residual = jax.jit(losses.coding_length_residual)

DEGENERATE = {
    "repeated rows": np.repeat(features(5, 2, 4), 3, axis=0),
    "collapsed": np.ones((6, 4), np.float32),
    "orthonormal": np.eye(6, 4, dtype=np.float32),
    "zero": np.zeros((6, 4), np.float32),
}


@pytest.mark.parametrize("name", DEGENERATE)
@pytest.mark.parametrize("distortion", [0.5, 3.0])
@pytest.mark.parametrize("transpose", [False, True])
def test_coding_length_gradients_with_repeated_eigenvalues(name, distortion, transpose):
    """Closed forms in float64: ∇L = 2μλ Z (I + G)⁻¹ and ∇R = −2μλ Z G² (I + G)⁻¹, G = λ ZᵀZ."""
    z = DEGENERATE[name].T if transpose else DEGENERATE[name]
    b, d = z.shape
    lam, mu = d / (b * distortion**2), (b + d) / 2
    gram = lam * np.float64(z).T @ z
    inverse = np.linalg.inv(np.eye(d) + gram)
    wanted = 2 * mu * lam * z @ inverse, -2 * mu * lam * z @ gram @ gram @ inverse
    # I + G has a condition of up to 145, which float32 rounding (1.2e-7) is multiplied by.
    for gradient, expected in zip(_coding_gradients(jnp.asarray(z), distortion), wanted):
        np.testing.assert_allclose(gradient, expected, atol=2e-5 * np.abs(expected).max())


@jax.jit
def _coding_gradients(z, distortion):
    return (
        jax.grad(losses.coding_length)(z, distortion),
        jax.grad(losses.coding_length_residual)(z, distortion),
    )


def test_series_converges_to_the_coding_length():
    z = unit(Z)
    distortion = 3.0
    lam = z.shape[1] / (z.shape[0] * distortion**2)
    assert lam * np.linalg.norm(z, 2) ** 2 < 0.5
    terms = coding_length_series(jnp.asarray(z, jnp.float32), distortion, 40)
    np.testing.assert_allclose(terms.sum(), oracles.coding_length(z, distortion), rtol=1e-6)
    # … and its tail from the third term on is −R.
    residual = coding_length_residual(jnp.asarray(z, jnp.float32), distortion)
    np.testing.assert_allclose(-terms[2:].sum(), residual, rtol=1e-5)


def test_first_term_is_constant_and_second_the_repulsion_for_unit_features():
    b, d, distortion = 6, 4, 0.7
    lam, mu = d / (b * distortion**2), (b + d) / 2
    for seed in range(3):
        z = jnp.asarray(unit(features(seed, b, d)), jnp.float32)
        first, second = coding_length_series(z, distortion, 2)
        np.testing.assert_allclose(first, mu * lam * b, rtol=1e-5)
        pairs = sum((z[i] @ z[j]) ** 2 for i in range(b) for j in range(b))
        np.testing.assert_allclose(second, -mu * lam**2 / 2 * pairs, rtol=1e-5)


def test_residual_keeps_its_digits():
    """For one vector of width 1, −R = log(1 + x) − x + x²/2 with x = z²: ∫ t²/(1+t) dt from 0 to x.

    Gauss–Legendre quadrature of that has no cancellation; L − term 1 − term 2 has no digits left
    below x = 1e-2.
    """
    z = np.sqrt(np.r_[np.geomspace(1e-8, 1e4, 60), 0.5, 0.9, 0.999, 1.0, 1.001]).astype(np.float32)
    x = np.float64(z) ** 2
    wanted = np.zeros_like(x)
    nodes, weights = np.polynomial.legendre.leggauss(200)
    for i, end in enumerate(x):
        t = end / 2 * (nodes + 1)
        wanted[i] = -end / 2 * (weights * t**2 / (1 + t)).sum()
    residual = jax.vmap(coding_length_residual, (0, None))(jnp.asarray(z)[:, None, None], 1.0)
    np.testing.assert_allclose(residual, wanted, rtol=2e-6)


def test_terms_and_residual_sum_to_the_coding_length():
    for distortion in (0.1, 1.0, 5.0):
        first, second = coding_length_series(jnp.asarray(Z), distortion, 2)
        rest = coding_length_residual(jnp.asarray(Z), distortion)
        total = coding_length(jnp.asarray(Z), distortion)
        scale = max(abs(first), abs(second))  # what cancels when λ‖ZᵀZ‖ is large
        np.testing.assert_allclose(first + second - rest, total, atol=1e-6 * scale)


def test_collapsed_features_with_a_tiny_distortion_stay_finite():
    """λ‖ZᵀZ‖ = D/ε² = 6e8: the pivots of a float32 Cholesky factor would be negative."""
    z = jnp.full((32, 64), 1 / 8)
    value, gradient = jax.jit(jax.value_and_grad(losses.coding_length))(z, 3e-4)
    chex.assert_tree_all_finite((value, gradient))
    # The rank is one up to rounding, and each rounded zero, below 6e8 · 1e-7, adds log(1 + it).
    assert 48 * np.log1p(64 / 9e-8) <= value * (1 + 1e-5) < 48 * (np.log1p(64 / 9e-8) + 32 * 5)


# The identities that tie idempotency to the spectral contrastive loss.


def _involution_graph(b):
    """Node i is the positive of b−1−i: weights w_ij = 1/b, every node as likely as any other."""
    return np.eye(b)[::-1] / b


def test_population_spectral_loss_is_a_matrix_factorisation():
    """HaoChen et al. 2021: for any symmetric pair weights w with Σ w_ij = 1 and w_i = Σ_j w_ij,

    −2 Σ w_ij f_iᵀf_j + Σ w_i w_j (f_iᵀf_j)² = ‖A − FFᵀ‖²_F − ‖A‖²_F, where
    A = D^(−1/2) W D^(−1/2) and the rows of F are √w_i f_i; first on a random graph in float64.

    Then with our function, on a graph where every node i has one positive p(i) and the same
    weight: the batch (f_i, f_p(i)) holds all pairs, and E_{i≠j} misses exactly the B pairs with
    j = i out of the B² of the population, so (B−1)/B times the negatives plus 1/B times the mean
    square of the positives restores them.
    """
    rng = np.random.default_rng(0)
    weights = rng.random((6, 6))
    weights = (weights + weights.T) / (2 * weights.sum())
    f = rng.normal(size=(6, 3))
    marginal = weights.sum(axis=1)
    left = sum(
        -2 * weights[i, j] * f[i] @ f[j] + marginal[i] * marginal[j] * (f[i] @ f[j]) ** 2
        for i in range(6)
        for j in range(6)
    )
    a = weights / np.sqrt(np.outer(marginal, marginal))
    root = np.sqrt(marginal)[:, None] * f
    right = ((a - root @ root.T) ** 2).sum() - (a**2).sum()
    np.testing.assert_allclose(left, right, rtol=1e-12)

    b = len(f)
    z = jnp.asarray(f, jnp.float32)
    loss = losses.spectral_contrastive_loss(z, z[::-1])
    positive = (f * f[::-1]).sum(axis=1)
    negatives = loss + 2 * positive.mean()
    population = -2 * positive.mean() + (b - 1) / b * negatives + (positive**2).mean() / b
    a, root = b * _involution_graph(b), f / np.sqrt(b)
    np.testing.assert_allclose(
        population, ((a - root @ root.T) ** 2).sum() - (a**2).sum(), rtol=1e-5
    )


@pytest.mark.parametrize("distortion", [0.8, None], ids=["any ε", "ε of weight 1"])
def test_idempotency_and_entropy_factorise_the_pair_graph(distortion):
    """The paper's L_ide − L = ‖A − FFᵀ‖²_F + R + const, with the weights that make it exact.

    Take B unit features z_i in D dimensions, the nodes of a pair graph in which all nodes are
    equally likely, and A = D^(−1/2) W D^(−1/2). With μ = (B+D)/2 and λ = D/(Bε²),

    - minus the coding length is −L = −μλB + (μλ²/2) Σ_ij (z_iᵀz_j)² + R,
    - ‖A − (c/B) ZZᵀ‖² = ‖A‖² − 2c E_pairs[z_iᵀz_j] + (c/B)² Σ_ij (z_iᵀz_j)².

    The squares agree for (c/B)² = μλ²/2, that is c = Bλ√(μ/2), and then the linear terms do if
    L_ide has the weight 2c = (D/ε²)√(B+D). So with F = √(c/B) Z,

        (D/ε²)√(B+D) · L_ide − L = ‖A − FFᵀ‖²_F + R + const, const = −μλB − ‖A‖²_F,

    and the weight is 1, as the paper writes it, exactly for ε² = D√(B+D).
    """
    b, d = 6, 4
    if distortion is None:
        distortion = float(np.sqrt(d * np.sqrt(b + d)))
    weight = d / distortion**2 * np.sqrt(b + d)
    mu, lam = (b + d) / 2, d / (b * distortion**2)
    a = b * _involution_graph(b)
    for seed in range(4):
        nodes = unit(features(seed, b, d))
        f = np.sqrt(lam * np.sqrt(mu / 2)) * nodes
        factorisation = ((a - f @ f.T) ** 2).sum() - mu * lam * b - (a**2).sum()

        left = -weight * (nodes * nodes[::-1]).sum(axis=1).mean()
        left -= oracles.coding_length(nodes, distortion)
        residual = oracles.coding_length_residual(nodes, distortion)
        np.testing.assert_allclose(left, factorisation + residual, rtol=1e-12)

        z = jnp.asarray(nodes, jnp.float32)
        left = weight * losses.feature_idempotency_loss(z, z[::-1]).mean()
        left -= coding_length(z, distortion)
        residual = coding_length_residual(z, distortion)
        np.testing.assert_allclose(left - residual, factorisation, rtol=1e-5)


def test_limits_of_the_rate_reduction():
    """Nothing to tell apart in one group or in equal vectors, and most between orthogonal pairs."""
    one_group = jnp.asarray(features(0, 1, 2, 7))
    np.testing.assert_allclose(losses.coding_rate_reduction(one_group, 0.5), 0, atol=1e-6)
    same = jnp.ones((4, 2, 7))
    np.testing.assert_allclose(losses.coding_rate_reduction(same, 0.5), 0, atol=1e-5)
    apart = jnp.stack([jnp.eye(4)] * 2, axis=1)
    # All eigenvalues: 1 + 4/(8ε²) · 2 four times, and 1 + 4/(2ε²) · 2 once in each group.
    expected = 2 * np.log(1 + 1 / 0.25) - np.log(1 + 4 / 0.25) / 2
    np.testing.assert_allclose(losses.coding_rate_reduction(apart, 0.5), expected, rtol=1e-5)
    mixed = jnp.stack([jnp.eye(4), jnp.eye(4)[::-1]], axis=1)
    assert losses.coding_rate_reduction(mixed, 0.5) < expected - 0.5
