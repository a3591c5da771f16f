"""Retrieval against loops, scikit-learn and cases with known answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from igm_jax import metrics
from igm_jax.errors import InputError

RNG = np.random.default_rng(0)
QUERIES, GALLERY = (RNG.normal(size=(n, 4)).astype(np.float32) for n in (23, 40))
QUERY_LABELS, LABELS = RNG.integers(0, 4, 23), RNG.integers(0, 4, 40)
KS = (1, 3, 10)
retrieval = jax.jit(metrics.retrieval, static_argnames="ks")
retrieval_within = jax.jit(metrics.retrieval_within, static_argnames="ks")


def unit(z):
    z = np.float64(z)
    return z / np.maximum(np.linalg.norm(z, axis=-1, keepdims=True), 1e-300)


def naive(query, label, gallery, labels, ks):
    """One ranked list, without ties."""
    ranked = sorted(range(len(gallery)), key=lambda i: -(unit(gallery[i]) @ unit(query)))
    right, precisions = 0, []
    for position, i in enumerate(ranked, start=1):
        if labels[i] == label:
            right += 1
            precisions.append(right / position)
    found = [float(any(labels[i] == label for i in ranked[:k])) for k in ks]
    return (np.mean(precisions), found) if right else (np.nan, [np.nan] * len(ks))


def test_retrieval_equals_loops_and_sklearn():
    scores = retrieval(QUERIES, QUERY_LABELS, GALLERY, LABELS, ks=KS)
    for i, (query, label) in enumerate(zip(QUERIES, QUERY_LABELS)):
        average, recall = naive(query, label, GALLERY, LABELS, KS)
        np.testing.assert_allclose(scores.average_precision[i], average, rtol=1e-5)
        np.testing.assert_array_equal(scores.recall[i], recall)
        wanted = average_precision_score(LABELS == label, unit(GALLERY) @ unit(query))
        np.testing.assert_allclose(scores.average_precision[i], wanted, rtol=1e-5)
    assert 0 < scores.recall[:, 0].mean() < 1


def test_within_leaves_the_query_out():
    scores = retrieval_within(GALLERY, LABELS, ks=KS)
    for i in range(40):
        others = np.arange(40) != i
        average, recall = naive(GALLERY[i], LABELS[i], GALLERY[others], LABELS[others], KS)
        np.testing.assert_allclose(scores.average_precision[i], average, rtol=1e-5)
        np.testing.assert_array_equal(scores.recall[i], recall)
    # With itself in the gallery every clip would find its class at once.
    assert (retrieval(GALLERY, LABELS, GALLERY, LABELS, ks=(1,)).recall == 1).all()


def test_without_jit_and_default_ks():
    scores = metrics.retrieval(QUERIES, QUERY_LABELS, GALLERY, LABELS)
    assert scores.recall.shape == (23, 3)
    assert (np.diff(scores.recall, axis=1) >= 0).all()


def test_more_queries_than_one_chunk():
    many = np.tile(QUERIES, (60, 1))  # 1380
    scores = retrieval(many, np.tile(QUERY_LABELS, 60), GALLERY, LABELS, ks=KS)
    few = retrieval(QUERIES, QUERY_LABELS, GALLERY, LABELS, ks=KS)
    for a, b in zip(scores, few):
        np.testing.assert_allclose(a, np.tile(b, (60, *[1] * (b.ndim - 1))), rtol=1e-6)


def test_a_class_that_the_gallery_lacks_is_nan():
    scores = retrieval(QUERIES[:2], np.array([9, 0]), GALLERY, LABELS, ks=KS)
    assert np.isnan(scores.average_precision[0]) and np.isnan(scores.recall[0]).all()
    assert np.isfinite(scores.average_precision[1]) and np.isfinite(scores.recall[1]).all()
    alone = retrieval_within(GALLERY[:3], np.array([0, 1, 1]), ks=(1,))
    np.testing.assert_array_equal(np.isnan(alone.average_precision), [True, False, False])


def test_one_class_is_always_found():
    for scores in (
        retrieval(QUERIES, QUERY_LABELS * 0, GALLERY, LABELS * 0, ks=KS),
        retrieval_within(GALLERY, LABELS * 0, ks=KS),
    ):
        np.testing.assert_allclose(scores.average_precision, 1, rtol=1e-6)
        assert (scores.recall == 1).all()


@pytest.mark.parametrize(
    "array",
    [
        np.ones((8, 3), np.float32),
        np.zeros((8, 3), np.float32),
        np.full((8, 3), np.nan, np.float32),
    ],
)
def test_collapsed_features_find_nothing(array):
    """However the gallery is ordered: all cosines are equal, or are no number."""
    labels = np.arange(8) // 4
    scores = retrieval(array[:2], labels[[0, 7]], array, labels, ks=(1, 4, 5))
    np.testing.assert_allclose(scores.average_precision, 0.5, rtol=1e-6)
    np.testing.assert_array_equal(scores.recall, [[0, 0, 1]] * 2)
    scores = retrieval_within(array, labels, ks=(1, 4, 5))
    np.testing.assert_allclose(scores.average_precision, 3 / 7, rtol=1e-6)
    np.testing.assert_array_equal(scores.recall, [[0, 0, 1]] * 8)


def test_ties_of_average_precision_equal_sklearn():
    gallery = np.float32([[1, 0], [1, 0], [0, 1], [0, 1], [0, 1], [-1, 0]])
    labels, query = np.array([0, 1, 0, 1, 1, 0]), np.float32([[1, 0]])
    wanted = average_precision_score(labels == 0, (gallery @ query[0]))
    scores = retrieval(query, np.array([0]), gallery, labels, ks=(1, 2))
    np.testing.assert_allclose(scores.average_precision, wanted, rtol=1e-6)
    np.testing.assert_array_equal(scores.recall, [[0, 1]])


def test_memory_grows_with_a_chunk_not_with_the_queries():
    queries = jax.ShapeDtypeStruct((20000, 4), jnp.float32)
    labels = jax.ShapeDtypeStruct((20000,), jnp.int32)
    search = jax.jit(lambda q, y: metrics.retrieval(q, y, GALLERY, LABELS))
    assert search.lower(queries, labels).compile().memory_analysis().temp_size_in_bytes < 20e6


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.retrieval(QUERIES[:0], LABELS[:0], GALLERY, LABELS), "no queries"),
        (lambda: metrics.retrieval(QUERIES, LABELS, GALLERY, LABELS), "23 queries but 40"),
        (lambda: metrics.retrieval(QUERIES, QUERY_LABELS - 1, GALLERY, LABELS), "query_labels has"),
        (lambda: metrics.retrieval(QUERIES, QUERY_LABELS, GALLERY, LABELS - 1), "labels has -1"),
        (lambda: metrics.retrieval_within(GALLERY, LABELS - 1), "leave out clips without a label"),
        (lambda: metrics.retrieval_within(GALLERY[:4], LABELS[:4], ks=(4,)), r"outside 1\.\.3"),
        (lambda: metrics.retrieval_within(GALLERY[:1], LABELS[:1], ks=(1,)), r"outside 1\.\.0"),
    ],
)
def test_bad_input_is_refused_in_one_line(unchecked_shapes, call, message):
    with pytest.raises(InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
