"""Few-shot episodes against loops, scikit-learn and cases with known answers."""

import jax
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from igm_jax import metrics
from igm_jax.errors import InputError

RNG = np.random.default_rng(0)
LABELS = RNG.permutation(np.repeat([0, 2, 3, 7], 9))
FEATURES = (RNG.normal(size=(36, 6)) + 2 * np.eye(8)[LABELS][:, :6]).astype(np.float32)
DRAWN = metrics.draw_episodes(LABELS, ways=3, shots=4, queries=5, episodes=20, seed=1)
accuracy = jax.jit(metrics.few_shot_accuracy, static_argnames=("shots", "method", "k"))


def test_episodes_hold_distinct_clips_of_distinct_classes():
    assert DRAWN.shape == (20, 3, 9)
    for episode in DRAWN:
        assert len(np.unique(episode)) == 27
        classes = LABELS[episode]
        assert (classes == classes[:, :1]).all() and len(np.unique(classes[:, 0])) == 3
    counts = np.bincount(LABELS[DRAWN][:, :, 0].ravel(), minlength=8)
    assert (counts[[0, 2, 3, 7]] > 5).all() and counts.sum() == 60


def test_episodes_are_seeded():
    same, other = (
        metrics.draw_episodes(LABELS, ways=3, shots=4, queries=5, episodes=20, seed=seed)
        for seed in (1, 2)
    )
    np.testing.assert_array_equal(same, DRAWN)
    assert (other != DRAWN).any()


def test_defaults_are_the_published_ones():
    drawn = metrics.draw_episodes(np.repeat(np.arange(5), 20), ways=5, shots=5)
    assert drawn.shape == (600, 5, 20)


def unit(z):
    return z / np.linalg.norm(z, axis=-1, keepdims=True)


def test_prototypes_equal_loops():
    wanted = []
    for episode in DRAWN:
        prototypes = [np.mean([unit(FEATURES[i]) for i in row[:4]], axis=0) for row in episode]
        right = [
            max(range(3), key=lambda c: unit(prototypes[c]) @ FEATURES[i]) == truth
            for truth, row in enumerate(episode)
            for i in row[4:]
        ]
        wanted.append(np.mean(right))
    np.testing.assert_allclose(accuracy(FEATURES, DRAWN, shots=4), wanted, rtol=1e-6)
    assert 0.4 < np.mean(wanted) < 1


@pytest.mark.parametrize("k", [1, 12])
def test_knn_equals_sklearn(k):
    """All 12 neighbours vote by distance: then there are no ties."""
    wanted = []
    for episode in DRAWN:
        known, asked = episode[:, :4].ravel(), episode[:, 4:].ravel()
        model = KNeighborsClassifier(k, metric="cosine")
        if k == 12:  # a tie of votes, which the summed cosine decides
            cosine = unit(FEATURES[asked]) @ unit(FEATURES[known]).T
            predicted = cosine.reshape(15, 3, 4).sum(axis=2).argmax(axis=1)
        else:
            model.fit(FEATURES[known], np.repeat(np.arange(3), 4))
            predicted = model.predict(FEATURES[asked])
        wanted.append(np.mean(predicted == np.repeat(np.arange(3), 5)))
    got = accuracy(FEATURES, DRAWN, shots=4, method="knn", k=k)
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_one_shot_prototype_is_the_nearest_neighbour():
    drawn = metrics.draw_episodes(LABELS, ways=4, shots=1, queries=8, episodes=10)
    prototype, knn = (
        metrics.few_shot_accuracy(FEATURES, drawn, shots=1, method=m) for m in ("prototype", "knn")
    )
    np.testing.assert_array_equal(prototype, knn)


@pytest.mark.parametrize("method", ["prototype", "knn"])
def test_collapsed_features_are_at_chance(method):
    for value in (0.0, 1.0):
        flat = np.full((36, 6), value, np.float32)
        np.testing.assert_allclose(accuracy(flat, DRAWN, shots=4, method=method), 1 / 3)


def test_one_way_is_always_right():
    drawn = metrics.draw_episodes(LABELS, ways=1, shots=8, queries=1, episodes=3)
    assert accuracy(FEATURES, drawn, shots=8).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.draw_episodes(LABELS, ways=5, shots=1, queries=1), r"ways=5 is outside"),
        (lambda: metrics.draw_episodes(LABELS, ways=0, shots=1), "ways=0: must be at least 1"),
        (lambda: metrics.draw_episodes(LABELS, ways=2, shots=1, episodes=0), "episodes=0"),
        (lambda: metrics.draw_episodes(LABELS, ways=2, shots=1), r"class 0 has 9 clips.* queries="),
        (lambda: metrics.draw_episodes(LABELS - 1, ways=2, shots=1), "labels has -1: leave out"),
        (lambda: metrics.draw_episodes(LABELS[:0], ways=2, shots=1), r"ways=2 is outside 1\.\.0"),
        (lambda: metrics.few_shot_accuracy(FEATURES, DRAWN, shots=9), r"shots=9 is outside 1\.\.8"),
        (
            lambda: metrics.few_shot_accuracy(FEATURES, DRAWN, shots=4, method="svm"),
            "method='svm' is unknown: choose one of prototype, knn",
        ),
        (
            lambda: metrics.few_shot_accuracy(FEATURES, DRAWN, shots=4, method="knn", k=13),
            r"k=13 is outside 1\.\.12",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(unchecked_shapes, call, message):
    with pytest.raises(InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
