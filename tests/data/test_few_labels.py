import numpy as np
import pytest

from igm_jax.data.few_labels import SUBSETS, few_labels
from igm_jax.data.store import Clip
from igm_jax.errors import InputError


@pytest.fixture
def store(write):
    """1,000 clips: half of class w, a third of x, nearly all others of y, two of z, ten unknown."""
    labels = [0] * 500 + [1] * 330 + [2] * 158 + [3] * 2 + [-1] * 10
    frames = np.ones((1, 1, 20, 3), np.float32)
    return write(Clip(f"c{i:04d}", frames, label) for i, label in enumerate(labels))


def counts(store, chosen):
    return np.bincount(store.clips["label"][chosen], minlength=4).tolist()


def test_shares_of_every_class(store):
    everything = np.arange(1000)
    assert counts(store, few_labels(store, everything, "1%")) == [5, 3, 2, 1]
    assert counts(store, few_labels(store, everything, "5%")) == [25, 16, 8, 1]
    assert counts(store, few_labels(store, everything, "10%")) == [50, 33, 16, 1]


def test_shares_of_all_clips(store):
    sizes = {
        name: len(few_labels(store, np.arange(1000), f"{name}-plain"))
        for name in ("1%", "5%", "10%")
    }
    assert sizes == {"1%": 10, "5%": 50, "10%": 99}
    drawn = [counts(store, few_labels(store, np.arange(1000), "10%-plain", s)) for s in range(400)]
    assert len(set(map(tuple, drawn))) > 20
    assert np.allclose(np.mean(drawn, axis=0), [50, 33, 15.8, 0.2], atol=2)


@pytest.mark.parametrize("name", SUBSETS)
def test_a_subset_is_seeded_sorted_and_among_the_given(name, store):
    part = np.arange(3, 1000, 2)
    chosen = few_labels(store, part, name, seed=1)
    assert np.array_equal(chosen, few_labels(store, part, name, seed=1))
    assert not np.array_equal(chosen, few_labels(store, part, name, seed=2))
    assert np.isin(chosen, part).all() and (np.diff(chosen) > 0).all()
    assert (store.clips["label"][chosen] >= 0).all()


@pytest.mark.parametrize("suffix", ["", "-plain"])
def test_smaller_lies_within_larger(suffix, store):
    one, five, ten = (
        few_labels(store, np.arange(1000), name + suffix, seed=7) for name in ("1%", "5%", "10%")
    )
    assert set(one) <= set(five) <= set(ten)


def test_unknown_names_and_no_labels(store):
    with pytest.raises(InputError, match="'2%' are unknown: choose one of 1%, 5%"):
        few_labels(store, np.arange(1000), "2%")
    with pytest.raises(InputError, match="no clip of this part has a label"):
        few_labels(store, np.arange(990, 1000), "1%")
