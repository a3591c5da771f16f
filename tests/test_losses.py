"""Losses against float64 NumPy written as plain loops, and the identities of the paper."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from igm_jax import losses
from igm_jax.errors import InputError


def _features(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _unit(z):
    z = np.asarray(z, np.float64)
    return np.array([row / np.sqrt((row**2).sum()) if row.any() else row for row in z])


# Compiled once a shape; ε is traced, so these are tested with an array for it as well.
coding_length = jax.jit(losses.coding_length)
coding_length_series = jax.jit(losses.coding_length_series, static_argnames="order")
coding_length_residual = jax.jit(losses.coding_length_residual)
distribution_idempotency_loss = jax.jit(losses.distribution_idempotency_loss)


# Oracles: one scalar at a time.


def _noise_prediction(predicted, noise):
    return [((p - n) ** 2).mean() for p, n in zip(np.float64(predicted), np.float64(noise))]


def _feature_idempotency(z, z_hat):
    return [-sum(a * b) for a, b in zip(_unit(z), _unit(z_hat))]


def _similarity(z, references, temperature):
    rows = []
    for a in _unit(z):
        weights = [np.exp(sum(a * b) / temperature) for b in _unit(references)]
        rows.append(np.array(weights) / sum(weights))
    return np.array(rows)


def _distribution_idempotency(z, z_hat, references):
    p, q = _similarity(z, references, 0.05), _similarity(z_hat, references, 0.1)
    return [sum(a * np.log(a / b) for a, b in zip(*rows)) for rows in zip(p, q)]


def _spectral_contrastive(z, z_hat):
    z, z_hat, b = np.float64(z), np.float64(z_hat), len(z)
    positive = np.mean([z[i] @ z_hat[i] for i in range(b)])
    negative = np.mean([(z[i] @ z_hat[j]) ** 2 for i in range(b) for j in range(b) if i != j])
    return -2 * positive + negative


def _coding_length(z, distortion):
    z = np.float64(z)
    b, d = z.shape
    return (b + d) / 2 * np.linalg.slogdet(np.eye(d) + d / (b * distortion**2) * z.T @ z)[1]


def _coding_rate_reduction(z, distortion):
    """As MCR² writes it: one log det of all vectors, and one of each group with its share."""
    z = np.float64(z)
    d, count = z.shape[-1], z.shape[0] * z.shape[1]

    def log_det(vectors):
        gram = sum(np.outer(v, v) for v in vectors)
        return np.linalg.slogdet(np.eye(d) + d / (len(vectors) * distortion**2) * gram)[1]

    groups = sum(len(group) / (2 * count) * log_det(group) for group in z)
    return log_det(z.reshape(-1, d)) / 2 - groups


def _coding_length_terms(z, distortion, order):
    z = np.float64(z)
    b, d = z.shape
    gram = d / (b * distortion**2) * z.T @ z
    power, terms = np.eye(d), []
    for n in range(1, order + 1):
        power = power @ gram
        terms.append((b + d) / 2 * (-1) ** (n - 1) / n * np.trace(power))
    return np.array(terms)


def _coding_length_residual(z, distortion):
    return _coding_length_terms(z, distortion, 2).sum() - _coding_length(z, distortion)


Z, Z_HAT, REFERENCES = _features(0, 5, 7), _features(1, 5, 7), _features(2, 9, 7)

CASES = {
    "normalize": (losses.normalize, _unit, (Z,)),
    "noise": (
        losses.noise_prediction_loss,
        _noise_prediction,
        (_features(3, 4, 3, 2), _features(4, 4, 3, 2)),
    ),
    "feature": (losses.feature_idempotency_loss, _feature_idempotency, (Z, Z_HAT)),
    "similarity": (
        lambda z, r: losses.similarity_distribution(z, r, 0.1),
        lambda z, r: _similarity(z, r, 0.1),
        (Z, REFERENCES),
    ),
    "distribution": (
        losses.distribution_idempotency_loss,
        _distribution_idempotency,
        (Z, Z_HAT, REFERENCES),
    ),
    "spectral": (losses.spectral_contrastive_loss, _spectral_contrastive, (Z, Z_HAT)),
    "coding": (
        lambda z: losses.coding_length(z, 0.5),
        lambda z: _coding_length(z, 0.5),
        (Z,),
    ),
    "coding, more rows than columns": (
        lambda z: losses.coding_length(z, 0.5),
        lambda z: _coding_length(z, 0.5),
        (REFERENCES,),
    ),
    "rate reduction": (
        lambda z: losses.coding_rate_reduction(z, 0.5),
        lambda z: _coding_rate_reduction(z, 0.5),
        (_features(5, 6, 2, 7),),
    ),
    "series": (
        lambda z: losses.coding_length_series(z, 0.9, 4),
        lambda z: _coding_length_terms(z, 0.9, 4),
        (Z,),
    ),
    "residual": (
        lambda z: losses.coding_length_residual(z, 0.9),
        lambda z: _coding_length_residual(z, 0.9),
        (Z,),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_equals_oracle(name, transform):
    fn, oracle, arrays = CASES[name]
    np.testing.assert_allclose(
        transform(fn)(*map(jnp.asarray, arrays)), oracle(*arrays), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("name", [name for name in CASES if name != "distribution"])
def test_gradients_are_derivatives(name):
    fn, _, arrays = CASES[name]
    _assert_gradient(fn, *map(jnp.asarray, arrays))


def test_distribution_gradient_is_the_derivative_with_respect_to_z_hat():
    z, z_hat, references = map(jnp.asarray, (Z, Z_HAT, REFERENCES))
    _assert_gradient(lambda x: losses.distribution_idempotency_loss(z, x, references), z_hat)


def _assert_gradient(fn, *arrays):
    check_grads(jax.jit(fn), arrays, order=1, modes="rev", eps=1e-2, atol=2e-2, rtol=2e-2)


def test_distribution_target_and_references_are_constants():
    def loss(z, z_hat, references):
        return distribution_idempotency_loss(z, z_hat, references).sum()

    gradients = jax.jit(jax.grad(loss, (0, 1, 2)))
    dz, dz_hat, dreferences = gradients(*map(jnp.asarray, (Z, Z_HAT, REFERENCES)))
    assert not dz.any() and not dreferences.any()
    assert (jnp.abs(dz_hat).max(axis=-1) > 1e-3).all()


def test_distribution_is_a_divergence():
    """Zero where both distributions agree, positive elsewhere, finite where one underflows."""
    z, z_hat, references = map(jnp.asarray, (Z, Z_HAT, REFERENCES))
    same = distribution_idempotency_loss(z, 2 * z, references, target_temperature=0.1)
    np.testing.assert_allclose(same, 0, atol=1e-6)
    assert (distribution_idempotency_loss(z, z_hat, references) > 0.01).all()
    axes = jnp.concatenate([jnp.eye(2), -jnp.eye(2)])
    opposite = distribution_idempotency_loss(axes[:2], -axes[:2], axes, temperature=0.005)
    np.testing.assert_allclose(opposite, 400, rtol=1e-5)  # e⁻⁴⁰⁰ is zero in float32


@pytest.mark.parametrize("name", ["noise", "feature", "similarity", "distribution"])
def test_loss_i_depends_on_row_i_only(name):
    """The gradient of output i with respect to row j is zero unless i = j, where it is not."""
    fn, _, arrays = CASES[name]
    moving = 1 if name in ("feature", "distribution") else 0  # z_hat, or the only one there is
    jacobian = jax.jit(jax.jacrev(fn, argnums=moving))(*map(jnp.asarray, arrays))
    b, rest = len(arrays[moving]), arrays[moving][0].size
    # [B (outputs), references if any, B (rows), entries of a row]
    influence = jnp.abs(jacobian).reshape(b, -1, b, rest).sum(axis=(1, 3))
    np.testing.assert_array_equal(influence > 0, np.eye(b, dtype=bool))


ZERO_ROW = jnp.asarray(Z).at[2].set(0)


def test_zero_vectors_have_finite_values_and_gradients():
    other, references = jnp.asarray(Z_HAT), jnp.asarray(REFERENCES)

    @jax.jit
    @jax.jacrev
    def gradients(z):
        return {
            "z": losses.feature_idempotency_loss(z, other),
            "z_hat": losses.feature_idempotency_loss(other, z),
            "references": losses.similarity_distribution(other, z, 0.1),
            "distribution": losses.distribution_idempotency_loss(other, z, references),
            "coding": losses.coding_length(z, 0.5),
            "series": losses.coding_length_series(z, 0.5, 3),
            "residual": losses.coding_length_residual(z, 0.5),
        }

    for z in (ZERO_ROW, jnp.zeros_like(ZERO_ROW)):
        chex.assert_tree_all_finite(gradients(z))
    # … and they are not finite because they are all zero.
    assert all(jnp.any(g != 0) for g in gradients(ZERO_ROW).values())


def test_zero_vector_gives_cosine_zero():
    np.testing.assert_array_equal(losses.normalize(ZERO_ROW)[2], 0)
    assert losses.feature_idempotency_loss(ZERO_ROW, jnp.asarray(Z_HAT))[2] == 0


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
def test_normalize_survives_any_scale(scale):
    """Squares of these over- or underflow; the direction must not."""
    np.testing.assert_allclose(losses.normalize(jnp.asarray(Z) * scale), _unit(Z), rtol=1e-5)
    gradient = jax.grad(lambda z: losses.normalize(z)[:, 0].sum())(jnp.asarray(Z) * scale)
    assert jnp.isfinite(gradient).all() and (gradient != 0).any()


def test_normalize_does_not_hide_nan():
    assert jnp.isnan(losses.normalize(jnp.array([[jnp.nan, 0.0]]))).all()


def test_half_precision_is_computed_in_float32():
    z, z_hat = jnp.asarray(Z, jnp.bfloat16), jnp.asarray(Z_HAT, jnp.bfloat16)
    value = losses.feature_idempotency_loss(z, z_hat)
    assert value.dtype == jnp.float32
    wanted = _feature_idempotency(z.astype(jnp.float32), z_hat.astype(jnp.float32))
    np.testing.assert_allclose(value, wanted, atol=1e-6)
    assert losses.noise_prediction_loss(z, z_hat).dtype == jnp.float32
    assert losses.coding_length(z, 0.5).dtype == jnp.float32


def test_matrix_products_have_full_precision():
    """On a GPU the default is TF32, with an error of 1e-3 in a cosine: not in these functions."""
    z = jnp.asarray(Z)
    with jax.default_matmul_precision("bfloat16"):
        program = jax.make_jaxpr(
            lambda z: (
                losses.distribution_idempotency_loss(z, z, z),
                losses.spectral_contrastive_loss(z, z),
                losses.coding_length(z, 0.5),
            )
        )(z)
    assert str(program).count("HIGHEST") and not str(program).count("DEFAULT")


# The coding length: series, residual, degenerate spectra.

DEGENERATE = {
    "repeated rows": np.repeat(_features(5, 2, 4), 3, axis=0),
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
    z = _unit(Z)
    distortion = 3.0
    lam = z.shape[1] / (z.shape[0] * distortion**2)
    assert lam * np.linalg.norm(z, 2) ** 2 < 0.5
    terms = coding_length_series(jnp.asarray(z, jnp.float32), distortion, 40)
    np.testing.assert_allclose(terms.sum(), _coding_length(z, distortion), rtol=1e-6)
    # … and its tail from the third term on is −R.
    residual = coding_length_residual(jnp.asarray(z, jnp.float32), distortion)
    np.testing.assert_allclose(-terms[2:].sum(), residual, rtol=1e-5)


def test_first_term_is_constant_and_second_the_repulsion_for_unit_features():
    b, d, distortion = 6, 4, 0.7
    lam, mu = d / (b * distortion**2), (b + d) / 2
    for seed in range(3):
        z = jnp.asarray(_unit(_features(seed, b, d)), jnp.float32)
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
        unit = _unit(_features(seed, b, d))
        f = np.sqrt(lam * np.sqrt(mu / 2)) * unit
        factorisation = ((a - f @ f.T) ** 2).sum() - mu * lam * b - (a**2).sum()

        left = -weight * (unit * unit[::-1]).sum(axis=1).mean() - _coding_length(unit, distortion)
        residual = _coding_length_residual(unit, distortion)
        np.testing.assert_allclose(left, factorisation + residual, rtol=1e-12)

        z = jnp.asarray(unit, jnp.float32)
        left = weight * losses.feature_idempotency_loss(z, z[::-1]).mean()
        left -= coding_length(z, distortion)
        residual = coding_length_residual(z, distortion)
        np.testing.assert_allclose(left - residual, factorisation, rtol=1e-5)


def test_limits_of_the_rate_reduction():
    """Nothing to tell apart in one group or in equal vectors, and most between orthogonal pairs."""
    one_group = jnp.asarray(_features(0, 1, 2, 7))
    np.testing.assert_allclose(losses.coding_rate_reduction(one_group, 0.5), 0, atol=1e-6)
    same = jnp.ones((4, 2, 7))
    np.testing.assert_allclose(losses.coding_rate_reduction(same, 0.5), 0, atol=1e-5)
    apart = jnp.stack([jnp.eye(4)] * 2, axis=1)
    # All eigenvalues: 1 + 4/(8ε²) · 2 four times, and 1 + 4/(2ε²) · 2 once in each group.
    expected = 2 * np.log(1 + 1 / 0.25) - np.log(1 + 4 / 0.25) / 2
    np.testing.assert_allclose(losses.coding_rate_reduction(apart, 0.5), expected, rtol=1e-5)
    mixed = jnp.stack([jnp.eye(4), jnp.eye(4)[::-1]], axis=1)
    assert losses.coding_rate_reduction(mixed, 0.5) < expected - 0.5


def test_mined_similarity_against_one_reference_at_a_time():
    expected = []
    for a, b in zip(_unit(Z), _unit(Z_HAT)):
        cosines = [a @ r for r in _unit(REFERENCES)]
        third = sorted(cosines)[-3]
        weights = [np.exp((max(cosines) if c >= third else c) / 0.05) for c in cosines]
        p = np.array(weights) / sum(weights)
        other = np.exp([b @ r / 0.1 for r in _unit(REFERENCES)])
        expected.append(sum(p * np.log(p / (other / other.sum()))))
    arrays = [jnp.asarray(x) for x in (Z, Z_HAT, REFERENCES)]
    np.testing.assert_allclose(
        losses.mined_similarity_loss(*arrays, positives=3), expected, rtol=2e-5
    )


def test_limits_of_the_mined_similarity():
    """One positive changes nothing, equal temperatures without a limit leave nothing to learn."""
    arrays = [jnp.asarray(x) for x in (Z, Z_HAT, REFERENCES)]
    np.testing.assert_allclose(
        losses.mined_similarity_loss(*arrays, positives=1),
        losses.distribution_idempotency_loss(*arrays),
        rtol=1e-5,
    )
    flat = {"target_temperature": 1e6, "temperature": 1e6}
    np.testing.assert_allclose(
        losses.mined_similarity_loss(*arrays, positives=3, **flat), 0, atol=1e-5
    )
    alone = losses.mined_similarity_loss(*arrays[:2], arrays[2][:1], positives=1)
    np.testing.assert_allclose(alone, 0, atol=1e-6)  # the only clip of the queue
    every = losses.mined_similarity_loss(*arrays, positives=9, temperature=1e6)
    np.testing.assert_allclose(every, 0, atol=1e-5)  # all are positives alike
    one_clip = losses.mined_similarity_loss(arrays[0][:1], arrays[1][:1], arrays[2], positives=3)
    np.testing.assert_allclose(
        one_clip, losses.mined_similarity_loss(*arrays, positives=3)[:1], rtol=1e-5
    )


def _streams(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(3, *shape)), jnp.float32)


def test_mutual_distillation_against_one_pair_of_streams_at_a_time():
    z, z_hat, references = _streams(0, 4, 7), _streams(1, 4, 7), _streams(2, 9, 7)
    a, b, queue = ([_unit(x) for x in y] for y in (z, z_hat, references))
    expected = np.zeros(4)
    for s in range(3):
        for other in {0, 1, 2} - {s}:
            for i in range(4):
                nearest = np.argsort([-(a[s][i] @ r) for r in queue[s]])[:5]
                p = np.exp([a[s][i] @ queue[s][j] / 0.05 for j in nearest])
                q = np.exp([b[other][i] @ queue[other][j] / 0.1 for j in nearest])
                expected[i] += sum(p / p.sum() * (np.log(p / p.sum()) - np.log(q / q.sum())))
    loss = losses.mutual_distillation_loss(z, z_hat, references, nearest=5)
    np.testing.assert_allclose(loss, expected, rtol=2e-5)


def test_limits_of_mutual_distillation():
    """Without another stream, without a queue, with one entry of it, or with a high temperature."""
    z, references = _streams(0, 4, 7), _streams(2, 9, 7)
    distillation = losses.mutual_distillation_loss
    zeros = [
        distillation(z[:1], z[:1] + 1, references[:1], nearest=5),
        distillation(z, z + 1, references[:, :0], nearest=0),
        distillation(z, z + 1, references, nearest=1),
        distillation(z, z + 1, references, nearest=9, target_temperature=1e6, temperature=1e6),
    ]
    for loss in zeros:
        np.testing.assert_allclose(loss, 0, atol=1e-5)
    one = distillation(z[:, :1], z[:, :1] + 1, references, nearest=5)
    np.testing.assert_allclose(one, distillation(z, z + 1, references, nearest=5)[:1], rtol=1e-5)
    total = lambda *x: distillation(*x, nearest=5).sum()  # noqa: E731
    pulled = [np.any(g) for g in jax.grad(total, (0, 1, 2))(z, z + 1, references)]
    assert pulled == [False, True, False]


# Messages.


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda z: losses.noise_prediction_loss(z, z[:1]), r"noise \(1, 7\)"),
        (lambda z: losses.feature_idempotency_loss(z, z[:1]), r"z_hat \(1, 7\)"),
        (lambda z: losses.distribution_idempotency_loss(z, z[:1], z), r"z_hat \(1, 7\)"),
        (lambda z: losses.spectral_contrastive_loss(z, z[:1]), r"z_hat \(1, 7\)"),
        (lambda z: losses.spectral_contrastive_loss(z[:1], z[:1]), "batch of 1"),
        (lambda z: losses.similarity_distribution(z, z, 0.0), "temperature=0.0"),
        (
            lambda z: losses.distribution_idempotency_loss(z, z, z, target_temperature=-1.0),
            "target_temperature=-1.0",
        ),
        (lambda z: losses.mined_similarity_loss(z, z, z, positives=99), "positives=99: must be"),
        (lambda z: losses.mined_similarity_loss(z, z, z, positives=0), "positives=0: must be"),
        (
            lambda z: losses.mutual_distillation_loss(z[None], z[None], z[None], nearest=99),
            "nearest=99: must be",
        ),
        (lambda z: losses.coding_length(z, 0.0), "distortion=0.0"),
        (lambda z: losses.coding_length_series(z, 1.0, 0), "order=0"),
    ],
)
def test_bad_input_is_refused_in_one_line(unchecked_shapes, call, message):
    with pytest.raises(InputError, match=message) as error:
        call(jnp.asarray(Z))
    assert "\n" not in str(error.value)


# InfoNCE


def test_info_nce_against_one_pair_at_a_time():
    rng = np.random.default_rng(0)
    z, positive, negatives = (
        rng.normal(size=(5, 7)),
        rng.normal(size=(5, 7)),
        rng.normal(size=(9, 7)),
    )
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
    expected = []
    for a, b in zip(unit(z), unit(positive)):
        scores = np.exp(np.array([a @ b, *(unit(negatives) @ a)]) / 0.3)
        expected.append(-np.log(scores[0] / scores.sum()))
    got = losses.info_nce_loss(*map(jnp.asarray, (z, positive, negatives)), temperature=0.3)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    with pytest.raises(InputError, match="temperature=0"):
        losses.info_nce_loss(jnp.asarray(z), jnp.asarray(positive), jnp.asarray(z), temperature=0)
    np.testing.assert_allclose(
        losses.info_nce_loss(*map(jnp.asarray, (z, positive)), jnp.zeros((0, 7))), 0, atol=1e-7
    )  # no negative


def test_log_probabilities_put_the_positive_first():
    arrays = [jnp.asarray(x) for x in (Z, Z_HAT, REFERENCES)]
    log_p = losses.positive_log_probabilities(*arrays, temperature=0.3)
    assert log_p.shape == (5, 10)
    np.testing.assert_allclose(jnp.exp(log_p).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(-log_p[:, 0], losses.info_nce_loss(*arrays, temperature=0.3))
    cosines = _unit(Z) @ _unit(REFERENCES).T
    np.testing.assert_allclose(
        log_p[:, 1:] - log_p[:, :1],
        (cosines - (_unit(Z) * _unit(Z_HAT)).sum(axis=1, keepdims=True)) / 0.3,
        atol=1e-4,
    )
