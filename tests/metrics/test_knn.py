"""Nearest neighbours against loops, scikit-learn and cases with known answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from igm_jax import metrics
from igm_jax.errors import InputError


def _features(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def _unit(z):
    z = np.float64(z)
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def _knn(queries, references, labels, k, num_classes, temperature=None):
    """One query at a time: votes, then summed cosine, then the lower class."""
    out = []
    for query in _unit(queries):
        cosine = _unit(references) @ query
        nearest = sorted(range(len(cosine)), key=lambda i: -cosine[i])[:k]
        votes, closeness = [0.0] * num_classes, [0.0] * num_classes
        for i in nearest:
            votes[labels[i]] += 1 if temperature is None else np.exp(cosine[i] / temperature)
            closeness[labels[i]] += cosine[i]
        out.append(max(range(num_classes), key=lambda c: (votes[c], closeness[c], -c)))
    return np.array(out)


QUERIES, BANK = _features(0, 60, 5), _features(1, 80, 5)
LABELS = np.random.default_rng(2).integers(0, 4, 80)


@pytest.mark.parametrize("k", [1, 2, 6, 80])
@pytest.mark.parametrize("temperature", [None, 0.07])
def test_knn_equals_loops(k, temperature):
    """At even k most queries have ties in their votes, which the summed cosine decides."""
    options = {"k": k, "num_classes": 4, "temperature": temperature}
    wanted = _knn(QUERIES, BANK, LABELS, **options)
    np.testing.assert_array_equal(metrics.knn_predict(QUERIES, BANK, LABELS, **options), wanted)
    if k == 6:
        jitted = jax.jit(metrics.knn_predict, static_argnames=("k", "num_classes", "temperature"))
        np.testing.assert_array_equal(jitted(QUERIES, BANK, LABELS, **options), wanted)


@pytest.mark.parametrize("temperature", [None, 0.07])
def test_ranks_equal_loops_and_need_a_vote(temperature):
    options = {"k": 3, "num_classes": 4, "temperature": temperature}
    ranks = np.asarray(metrics.knn_ranks(QUERIES, BANK, LABELS, **options))
    for query, row in zip(_unit(QUERIES), ranks):
        cosine = _unit(BANK) @ query
        score = {}
        for i in sorted(range(len(cosine)), key=lambda i: -cosine[i])[:3]:
            weight = 1 if temperature is None else np.exp(cosine[i] / temperature)
            votes, closeness = score.get(LABELS[i], (0, 0))
            score[LABELS[i]] = (votes + weight, closeness + cosine[i])
        wanted = sorted(score, key=score.get, reverse=True)
        assert [row[c] for c in wanted] == list(range(len(wanted)))
        assert {row[c] for c in range(4) if c not in score} <= {4}


@pytest.mark.parametrize("k", [1, 21])
@pytest.mark.parametrize("temperature", [None, 0.1])
def test_knn_equals_sklearn(k, temperature):
    """Two classes and odd k: no ties, which scikit-learn would give to the lower class."""
    labels = LABELS % 2
    weights = (lambda distance: np.exp((1 - distance) / temperature)) if temperature else "uniform"
    model = KNeighborsClassifier(k, metric="cosine", algorithm="brute", weights=weights)
    wanted = model.fit(BANK, labels).predict(QUERIES)
    options = {"k": k, "num_classes": 2, "temperature": temperature}
    np.testing.assert_array_equal(metrics.knn_predict(QUERIES, BANK, labels, **options), wanted)
    truth = np.arange(60) % 2
    np.testing.assert_allclose(
        metrics.knn_accuracy(QUERIES, truth, BANK, labels, **options), (wanted == truth).mean()
    )


def test_knn_ties_go_to_the_closer_class():
    query = jnp.array([[1.0, 0.0]])
    bank = jnp.array([[0.6, 0.8], [1.0, 0.1], [0.7, 0.8], [0.9, 0.5]])
    labels = jnp.array([0, 1, 0, 1])
    assert metrics.knn_predict(query, bank, labels, k=4, num_classes=2)[0] == 1
    assert metrics.knn_predict(query, bank, 1 - labels, k=4, num_classes=2)[0] == 0
    # A class without a vote never wins, however unlike the query the voters are.
    assert metrics.knn_predict(-query, bank, labels + 1, k=4, num_classes=4)[0] == 1


def test_knn_majority_beats_the_nearest():
    query = jnp.array([[1.0, 0.0]])
    bank = jnp.array([[1.0, 0.01], [0.5, 0.8], [0.5, 0.9]])
    labels = jnp.array([0, 1, 1])
    assert metrics.knn_predict(query, bank, labels, k=3, num_classes=2)[0] == 1
    assert metrics.knn_predict(query, bank, labels, k=3, num_classes=2, temperature=0.05)[0] == 0


def test_knn_in_chunks():
    """More queries than one chunk, and no multiple of it."""
    queries, options = _features(3, 2500, 5), {"k": 3, "num_classes": 4}
    predicted = metrics.knn_predict(queries, BANK, LABELS, **options)
    np.testing.assert_array_equal(predicted, _knn(queries, BANK, LABELS, **options))


def test_knn_with_a_low_temperature_is_the_nearest_neighbour():
    """And does not overflow: e^(1/0.001) is beyond float64."""
    cold = metrics.knn_predict(QUERIES, BANK, LABELS, k=9, num_classes=4, temperature=1e-5)
    np.testing.assert_array_equal(cold, _knn(QUERIES, BANK, LABELS, 1, 4))


def test_similarities_have_full_precision():
    """On a GPU the default is TF32, which mixes up neighbours."""
    for fn in (metrics.uniformity, lambda z: _predict(queries=z, temperature=0.1)):
        with jax.default_matmul_precision("bfloat16"):
            program = str(jax.make_jaxpr(fn)(QUERIES))
        assert program.count("HIGHEST") and not program.count("DEFAULT")


def test_knn_memory_grows_with_a_chunk_not_with_the_queries():
    """20k × 2k similarities are 160 MB; compiled, the search must stay far below."""
    queries = jax.ShapeDtypeStruct((20000, 4), jnp.float32)
    bank, labels = _features(0, 2000, 4), np.zeros(2000, np.int32)
    search = jax.jit(lambda q: metrics.knn_predict(q, bank, labels, k=5, num_classes=3))
    memory = search.lower(queries).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 60e6


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: _predict(k=0), r"k=0 is outside 1\.\.80"),
        (lambda: _predict(k=81), r"k=81 is outside 1\.\.80"),
        (lambda: _predict(temperature=0.0), "temperature=0.0"),
        (lambda: _predict(num_classes=3), r"labels 0\.\.3 are outside 0\.\.2"),
        (lambda: _predict(labels=LABELS - 1), r"labels -1\.\.2 are outside"),
        (lambda: _predict(labels=LABELS[:9]), "80 references but 9 labels"),
        (
            lambda: metrics.knn_accuracy(QUERIES, LABELS, BANK, LABELS, k=1, num_classes=4),
            "60 queries but 80 query_labels",
        ),
        (
            lambda: metrics.knn_accuracy(BANK, LABELS - 1, BANK, LABELS, k=1, num_classes=4),
            r"query_labels -1\.\.2 are outside",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(unchecked_shapes, call, message):
    with pytest.raises(InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def _predict(queries=QUERIES, labels=LABELS, k=1, num_classes=4, temperature=None):
    return metrics.knn_predict(
        queries, BANK, labels, k=k, num_classes=num_classes, temperature=temperature
    )
