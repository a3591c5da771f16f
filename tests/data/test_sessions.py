"""Batches of one recording session."""

import itertools

import numpy as np
import pytest

from igm_jax.data import pipeline
from igm_jax.data.sessions import SessionOrder, session_codes
from igm_jax.data.store import Clip
from igm_jax.reading import Reading


def recorded(*sessions):
    """A clip of one frame for each (subject, camera, setup)."""
    frame = np.zeros((1, 1, 20, 3), np.float32)
    for i, (subject, camera, setup) in enumerate(sessions):
        yield Clip(f"clip{i:03d}", frame, -1, subject, camera, setup)


def test_a_session_is_one_subject_camera_and_setup(write):
    store = write(recorded((1, 1, 1), (2, 1, 1), (1, 2, 1), (1, 1, 2), (2, 1, 1), (1, 1, 1)))
    codes = session_codes(store, np.arange(6))
    assert codes[0] == codes[5] and codes[1] == codes[4]
    assert sorted(set(codes)) == [0, 1, 2, 3]
    assert session_codes(store, np.array([5, 1, 0])).tolist() == [0, 1, 0]


def test_without_ids_all_clips_are_of_one_session(write):
    store = write(recorded(*[(0, 0, 0)] * 5))
    assert session_codes(store, np.arange(5)).tolist() == [0] * 5


@pytest.mark.parametrize("size", [5, 4])
def test_sessions_follow_each_other_in_batches(size, write):
    """Three sessions of 5, 3 and 2 clips, mixed up in the store."""
    subjects = [1, 2, 1, 3, 1, 2, 1, 2, 3, 1]
    store = write(recorded(*[(s, 1, 1) for s in subjects]))
    stream = pipeline.train_batches(
        store,
        np.arange(10),
        Reading(store.layout, "camera", 4, 1),
        batch_size=size,
        min_crop_frames=1,
        seed=0,
        batches="session",
    )
    order = np.concatenate([b["index"] for b in itertools.islice(stream, 200 // size)])
    first = set()
    for epoch in order.reshape(20, 10):
        assert sorted(epoch) == list(range(10))
        runs = [k for k, _ in itertools.groupby(np.array(subjects)[epoch])]
        assert sorted(runs) == [1, 2, 3]
        first.add(runs[0])
    assert first == {1, 2, 3}  # which comes first is drawn for each epoch


def test_a_batch_across_two_epochs_ends_one_and_begins_the_next():
    order = SessionOrder(np.array([0, 1, 0, 1]), seed=3)
    whole = order(np.arange(8))
    np.testing.assert_array_equal(whole, np.concatenate([order.epoch(0), order.epoch(1)]))
    np.testing.assert_array_equal(order(np.array([5, 3])), whole[[5, 3]])
