"""The theory's quantities against loops, eigenvalues in float64 and closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from igm_jax import losses, metrics
from igm_jax.errors import InputError

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 7)
PAIRS = RNG.integers(0, 7, (60, 2))
Z = RNG.normal(size=(7, 3)).astype(np.float32)


def naive_joint(pairs, n):
    joint = np.zeros((n, n))
    for a, b in pairs:
        joint[a, b] += 0.5 / len(pairs)
        joint[b, a] += 0.5 / len(pairs)
    return joint


JOINT = naive_joint(PAIRS, 7)
DEGREE = JOINT.sum(axis=1)
ADJACENCY = np.array(
    [[JOINT[i, j] / (DEGREE[i] * DEGREE[j]) ** 0.5 for j in range(7)] for i in range(7)]
)


# Spectrum.


@pytest.mark.parametrize("shape", [(2, 5), (5, 9), (40, 6)])
def test_spectrum_equals_eigenvalues_of_the_covariance(shape):
    x = RNG.normal(size=shape) * np.arange(1, shape[1] + 1) + 3
    wanted = np.sort(np.linalg.eigvalsh(np.cov(x.T)))[::-1][: min(shape)]
    got = jax.jit(metrics.covariance_spectrum)(np.float32(x))
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)
    p = wanted[wanted > 1e-9] / wanted.sum()
    rank = np.exp(-(p * np.log(p)).sum())
    np.testing.assert_allclose(jax.jit(metrics.spectrum_rank)(got), rank, rtol=1e-4)


def test_spectrum_of_collapsed_features():
    """Eigenvalues of the covariance would show 1e-7 of the largest, not 1e-12."""
    line = np.outer(RNG.normal(size=50), np.ones(8)).astype(np.float32)
    spectrum = metrics.covariance_spectrum(line)
    assert (spectrum[1:] < 1e-11 * spectrum[0]).all()
    assert metrics.spectrum_rank(spectrum) == pytest.approx(1, abs=1e-4)
    flat = metrics.covariance_spectrum(np.ones((4, 3), np.float32))
    assert (flat == 0).all() and metrics.spectrum_rank(flat) == 0


# Coding length.


@pytest.mark.parametrize("shape", [(6, 4), (4, 6)])
def test_coding_length_parts_equal_the_formulas(shape):
    z = RNG.normal(size=shape)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    (b, d), distortion = shape, 1.3
    mu, lam = (b + d) / 2, d / (b * distortion**2)
    gram = lam * z.T @ z
    total = mu * np.log(np.linalg.det(np.eye(d) + gram))
    first, second = mu * np.trace(gram), -mu / 2 * np.trace(gram @ gram)
    parts = jax.jit(metrics.coding_length_parts)(np.float32(z), distortion)
    wanted = (total, first, second, first + second - total, np.linalg.eigvalsh(gram)[-1])
    np.testing.assert_allclose(parts, wanted, rtol=1e-4)
    assert parts.first == pytest.approx(mu * d / distortion**2, rel=1e-5)  # unit features
    pairs = sum((z[i] @ z[j]) ** 2 for i in range(b) for j in range(b))
    assert parts.second == pytest.approx(-mu * lam**2 / 2 * pairs, rel=1e-4)


def test_the_series_converges_only_below_a_radius_of_one():
    z = losses.normalize(jnp.asarray(Z))
    for distortion in (4.0, 0.5):
        parts = metrics.coding_length_parts(z, distortion)
        series = losses.coding_length_series(z, distortion, order=60).sum()
        assert (parts.radius < 1) == bool(jnp.isclose(series, parts.total, rtol=1e-3))


def test_coding_length_of_one_clip_and_of_zeros():
    one = metrics.coding_length_parts(jnp.ones((1, 3)), 1.0)
    assert one.total == pytest.approx(2 * np.log(10), rel=1e-5)
    assert all(x == 0 for x in metrics.coding_length_parts(jnp.zeros((4, 3)), 1.0))


# Graph.


def test_pairs_of_the_nearest_clip():
    generated = RNG.normal(size=(150, 3)).astype(np.float32)  # more than one chunk
    origins = RNG.integers(0, 7, 150)
    pairs = metrics.positive_pairs(generated, Z, origins)
    for (a, b), x, origin in zip(pairs, generated, origins):
        assert a == origin and b == min(range(7), key=lambda j: ((Z[j] - x) ** 2).sum())
    np.testing.assert_array_equal(
        metrics.positive_pairs(Z, Z, np.arange(7)), np.repeat(np.arange(7)[:, None], 2, axis=1)
    )
    twice = metrics.positive_pairs(Z[:1], np.tile(Z, (2, 1)), np.array([9]))
    assert twice.tolist() == [[9, 0]]  # of two copies the lower


def test_joint_and_adjacency_equal_loops():
    joint = metrics.pair_distribution(PAIRS, 7)
    np.testing.assert_allclose(joint, JOINT, rtol=1e-5)
    np.testing.assert_allclose(joint, metrics.pair_distribution(PAIRS[:, ::-1], 7))
    assert joint.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(metrics.normalized_adjacency(joint), ADJACENCY, rtol=1e-5)


def test_overlap_equals_loops():
    posterior = RNG.dirichlet(np.full(7, 0.3), size=20)
    wanted = np.zeros((7, 7))
    for p in posterior:
        for i in range(7):
            for j in range(7):
                wanted[i, j] += p[i] * p[j] / 20
    got = metrics.overlap_distribution(np.float32(posterior))
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
    assert got.sum() == pytest.approx(1, abs=1e-5)
    assert np.linalg.eigvalsh(np.float64(got)).min() > -1e-7


def test_singular_values_and_their_tail():
    wanted = np.linalg.svd(ADJACENCY, compute_uv=False)
    got = metrics.singular_values(np.float32(ADJACENCY))
    np.testing.assert_allclose(got, wanted, atol=1e-5)
    assert got[0] == pytest.approx(1, abs=1e-5)
    for d in (0, 3, 7, 9):
        np.testing.assert_allclose(metrics.tail_sum(got, d), (wanted[d:] ** 2).sum(), atol=1e-5)
    assert metrics.tail_sum(got, 0) == pytest.approx((ADJACENCY**2).sum(), rel=1e-5)


def test_impurity_is_the_share_of_pairs_between_classes():
    wanted = np.mean([LABELS[a] != LABELS[b] for a, b in PAIRS])
    assert 0 < wanted < 1
    got = metrics.cluster_impurity(metrics.pair_distribution(PAIRS, 7), LABELS)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
    assert metrics.cluster_impurity(np.float32(JOINT), 0 * LABELS) == 0


def test_factorization_error_is_the_spectral_contrastive_loss_over_all_pairs():
    loss = sum(
        -2 * JOINT[i, j] * (Z[i] @ Z[j]) + DEGREE[i] * DEGREE[j] * (Z[i] @ Z[j]) ** 2
        for i in range(7)
        for j in range(7)
    )
    got = metrics.factorization_error(np.float32(JOINT), Z)
    np.testing.assert_allclose(got, loss + (ADJACENCY**2).sum(), rtol=1e-4)


def test_rescaling_finds_the_best_factor():
    got = metrics.factorization_error(np.float32(JOINT), Z, rescale=True)
    tried = [
        float(metrics.factorization_error(np.float32(JOINT), np.float32(s * Z)))
        for s in np.linspace(0, 2, 401)
    ]
    assert got == pytest.approx(min(tried), rel=1e-3) and np.argmin(tried) not in (0, 400)
    np.testing.assert_allclose(
        metrics.factorization_error(np.float32(JOINT), 9 * Z, rescale=True), got, rtol=1e-4
    )


def test_the_best_features_reach_the_tail():
    """Eigenvectors of a positive semi-definite graph (Eckart and Young), and no others."""
    joint = np.asarray(metrics.overlap_distribution(RNG.dirichlet(np.ones(7), 30)))
    degree = joint.sum(axis=1)
    value, vector = np.linalg.eigh(np.float64(metrics.normalized_adjacency(joint)))
    best = (vector * value**0.5)[:, -3:] / degree[:, None] ** 0.5
    tail = metrics.tail_sum(metrics.singular_values(metrics.normalized_adjacency(joint)), 3)
    error = metrics.factorization_error(joint, np.float32(best))
    np.testing.assert_allclose(error, tail, rtol=1e-3)
    assert metrics.factorization_error(joint, Z, rescale=True) > 1.1 * tail


def test_a_clip_without_pairs_is_isolated():
    joint = metrics.pair_distribution(np.array([[0, 1]]), 3)
    adjacency = metrics.normalized_adjacency(joint)
    np.testing.assert_allclose(adjacency, [[0, 1, 0], [1, 0, 0], [0, 0, 0]], rtol=1e-6)
    gradient = jax.grad(lambda j: metrics.factorization_error(j, jnp.ones((3, 2))))(joint)
    assert jnp.isfinite(gradient).all()


def test_one_clip():
    joint = metrics.pair_distribution(np.array([[0, 0]]), 1)
    assert metrics.singular_values(metrics.normalized_adjacency(joint)) == pytest.approx(1)
    assert metrics.cluster_impurity(joint, np.array([0])) == 0


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.covariance_spectrum(Z[:1]), "at least 2 are needed"),
        (lambda: metrics.coding_length_parts(Z, 0.0), "distortion=0.0"),
        (lambda: metrics.positive_pairs(Z, Z, np.arange(7) + 1), r"origins 1\.\.7 are outside"),
        (lambda: metrics.positive_pairs(Z, Z, np.arange(3)), "7 generated clips but 3 origins"),
        (lambda: metrics.pair_distribution(PAIRS[:0], 7), "no pairs of positives"),
        (lambda: metrics.pair_distribution(PAIRS, 6), r"pairs 0\.\.6 are outside 0\.\.5"),
        (lambda: metrics.pair_distribution(PAIRS - 1, 7), r"pairs -1\.\.5 are outside"),
        (lambda: metrics.tail_sum(np.ones(3), -1), "d=-1"),
        (lambda: metrics.cluster_impurity(JOINT, LABELS - 1), "labels has -1: leave out"),
        (lambda: metrics.cluster_impurity(JOINT, LABELS[:2]), "7 clips in the graph but 2 labels"),
        (lambda: metrics.factorization_error(JOINT, Z[:2]), "7 clips in the graph but 2 features"),
    ],
)
def test_bad_input_is_refused_in_one_line(unchecked_shapes, call, message):
    with pytest.raises(InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
