"""The map of the test features, and the neighbours on it."""

import numpy as np

from igm_jax.report import maps


def test_neighbours_are_those_of_a_slow_search():
    values = np.random.default_rng(0).normal(size=(12, 5))
    rows, cosines = maps.neighbours(values, 3)
    for i, x in enumerate(values):
        similar = [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for y in values]
        others = sorted(set(range(12)) - {i}, key=lambda j: -similar[j])
        assert rows[i].tolist() == others[:3]
        np.testing.assert_allclose(cosines[i], [similar[j] for j in others[:3]])


def test_features_without_length_have_neighbours_too():
    rows, cosines = maps.neighbours(np.zeros((4, 3)), 2)
    assert (cosines == 0).all() and all(i not in row for i, row in enumerate(rows))


def test_the_map_separates_what_is_apart():
    """Two bundles of directions; the same features give the same map."""
    rng = np.random.default_rng(0)
    centres = np.repeat([[9.0, 0, 0], [0, 9.0, 0]], 12, axis=0)
    values = (centres + rng.normal(size=(24, 3))).astype(np.float32)
    found = maps.places(values, seed=1)["t-SNE"]
    assert found.shape == (24, 2) and found.min() == 0.0 and found.max() == 1.0
    one, other = found[:12], found[12:]
    apart = np.linalg.norm(one.mean(axis=0) - other.mean(axis=0))
    assert apart > 2 * max(one.std(axis=0).max(), other.std(axis=0).max())
    np.testing.assert_array_equal(maps.places(values, seed=1)["t-SNE"], found)
