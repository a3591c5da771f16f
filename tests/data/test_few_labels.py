import numpy as np
import pytest

from igm_jax.data import protocols
from igm_jax.data.few_labels import SUBSETS, few_labels, few_labels_of
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


@pytest.mark.parametrize("name", SUBSETS)
def test_preferred_clips_are_kept_and_change_no_other_choice(name, store):
    """A class that was drawn without any gives up one clip; no other class changes."""
    label, everything = store.clips["label"], np.arange(1000)
    even, swapped = everything[::2], 0
    groups = [everything] if "plain" in name else [everything[label == c] for c in range(4)]
    for seed in range(30):
        plain, kept = (few_labels(store, everything, name, seed, x) for x in (None, even))
        assert len(kept) == len(plain)
        for group in groups:
            before, after = np.intersect1d(plain, group), np.intersect1d(kept, group)
            if len(np.intersect1d(before, even)):
                np.testing.assert_array_equal(before, after)
            else:
                swapped += 1
                assert len(np.setdiff1d(after, before)) == len(np.intersect1d(after, even)) == 1
    assert swapped or "plain" in name


@pytest.mark.parametrize("name", SUBSETS)
def test_choices_use_labels_of_the_subset_alone(name, write):
    """The few of fit are those of train; every class of fit has one."""
    frames = np.ones((1, 1, 20, 3), np.float32)
    store = write(
        (Clip(f"c{i:03d}", frames, i % 4, subject=1 + i // 4 % 8) for i in range(320)),
        dataset="utd_mhad",
    )
    for seed in range(5):
        train, fit = (few_labels_of(store, "xsub", part, name, seed) for part in ("train", "fit"))
        expected = np.intersect1d(train, protocols.split(store, "xsub", "fit"))
        np.testing.assert_array_equal(fit, expected)
        assert len(train) == len(few_labels(store, protocols.split(store, "xsub", "train"), name))
        assert len(fit) and ("plain" in name or set(store.clips["label"][fit]) == set(range(4)))


def test_unknown_names_and_no_labels(store):
    with pytest.raises(InputError, match="labels='2%' is unknown: choose one of 1%, 5%"):
        few_labels(store, np.arange(1000), "2%")
    with pytest.raises(InputError, match="no clip of this part has a label"):
        few_labels(store, np.arange(990, 1000), "1%")
