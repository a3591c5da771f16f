"""Clustering against scikit-learn, loops over pairs and cases with known answers."""

import itertools

import jax
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics
from sklearn.cluster import KMeans

from igm_jax import metrics
from igm_jax.errors import InputError

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
TRUTH = RNG.integers(0, 4, 80)
POINTS = (RNG.normal(size=(80, 3)) + 3 * np.eye(4)[TRUTH][:, :3]).astype(np.float32)
kmeans = jax.jit(metrics.kmeans, static_argnames=("clusters", "restarts", "iterations"))


def spread(x, assignment):
    """Sum of squared distances to the means of the clusters."""
    x = np.float64(x)
    groups = [x[assignment == c] for c in np.unique(assignment)]
    return sum(((g - g.mean(axis=0)) ** 2).sum() for g in groups)


@pytest.mark.parametrize("clusters", [1, 3, 4, 9])
def test_kmeans_is_as_tight_as_that_of_sklearn(clusters):
    assignment = np.asarray(kmeans(KEY, POINTS, clusters=clusters, restarts=40))
    wanted = KMeans(clusters, n_init=10, random_state=0).fit(POINTS).inertia_
    assert spread(POINTS, assignment) <= 1.02 * wanted
    # No point is nearer to the mean of another cluster: Lloyd's algorithm has come to its end.
    means = np.stack([POINTS[assignment == c].mean(axis=0) for c in range(clusters)])
    distance = np.linalg.norm(POINTS[:, None] - means[None], axis=-1)
    np.testing.assert_array_equal(distance.argmin(axis=1), assignment)


def test_kmeans_finds_clusters_far_from_the_origin():
    """In float32 the squares of an offset of 1000 leave no digit of distances below 0.1."""
    centres = 0.5 * np.eye(4)[TRUTH][:, :3] + 1000
    x = (centres + 0.01 * RNG.normal(size=(80, 3))).astype(np.float32)
    assert metrics.adjusted_rand_index(TRUTH, kmeans(KEY, x, clusters=4)) == 1


def test_kmeans_is_seeded_and_more_starts_are_no_worse():
    once = [
        spread(POINTS, np.asarray(kmeans(key, POINTS, clusters=9, restarts=1)))
        for key in jax.random.split(KEY, 8)
    ]
    best = spread(POINTS, np.asarray(kmeans(KEY, POINTS, clusters=9, restarts=20)))
    assert len(set(once)) > 1 and best < np.mean(once)
    again = kmeans(KEY, POINTS, clusters=9), metrics.kmeans(KEY, POINTS, 9)
    np.testing.assert_array_equal(*again)


def test_kmeans_of_copies_and_of_one_point():
    copies = np.repeat(np.float32([[0, 0], [1, 1]]), 3, axis=0)
    assignment = np.asarray(kmeans(KEY, copies, clusters=4))  # more clusters than points
    assert metrics.adjusted_rand_index(np.repeat([0, 1], 3), assignment) == 1
    assert kmeans(KEY, np.ones((1, 2), np.float32), clusters=1).tolist() == [0]
    assert set(kmeans(KEY, np.ones((5, 2), np.float32), clusters=2).tolist()) <= {0, 1}


PARTITIONS = [
    ([0, 0, 1, 1, 2], [5, 5, 1, 2, 2]),
    ([0, 0, 0, 0], [0, 0, 0, 0]),
    ([0, 1, 2, 3], [3, 2, 1, 0]),
    ([0, 0, 0, 0], [0, 1, 2, 3]),
    ([0, 0, 1, 1], [0, 1, 0, 1]),
    ([4], [2]),
    (TRUTH, RNG.integers(0, 6, 80)),
    (TRUTH, (TRUTH + 1) % 4),
]


@pytest.mark.parametrize("a, b", PARTITIONS)
def test_agreement_equals_sklearn(a, b):
    a, b = np.array(a), np.array(b)
    got = metrics.adjusted_rand_index(a, b), metrics.normalized_mutual_information(a, b)
    wanted = (
        sklearn_metrics.adjusted_rand_score(a, b),
        sklearn_metrics.normalized_mutual_info_score(a, b),
    )
    np.testing.assert_allclose(got, wanted, atol=1e-12)


def test_rand_index_equals_loops_over_pairs():
    a, b = TRUTH, RNG.integers(0, 3, 80)
    pairs = list(itertools.combinations(range(80), 2))
    same_a, same_b = ([x[i] == x[j] for i, j in pairs] for x in (a, b))
    both = np.logical_and(same_a, same_b).sum()
    chance = sum(same_a) * sum(same_b) / len(pairs)
    wanted = (both - chance) / ((sum(same_a) + sum(same_b)) / 2 - chance)
    assert metrics.adjusted_rand_index(a, b) == pytest.approx(wanted)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.kmeans(KEY, POINTS, 81), r"clusters=81 is outside 1\.\.80"),
        (lambda: metrics.kmeans(KEY, POINTS, 0), r"clusters=0 is outside"),
        (lambda: metrics.kmeans(KEY, POINTS, 2, restarts=0), "restarts=0"),
        (lambda: metrics.kmeans(KEY, POINTS, 2, iterations=0), "iterations=0"),
        (lambda: metrics.adjusted_rand_index(TRUTH, TRUTH[:3]), "80 labels but 3 clusters"),
        (lambda: metrics.adjusted_rand_index(TRUTH - 1, TRUTH), "labels has -1"),
        (lambda: metrics.normalized_mutual_information(TRUTH[:0], TRUTH[:0]), "no clips"),
    ],
)
def test_bad_input_is_refused_in_one_line(unchecked_shapes, call, message):
    with pytest.raises(InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
