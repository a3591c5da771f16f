import numpy as np
import pytest

from igm_jax.data.formats import gaps, ntu_cleaning
from igm_jax.data.formats.ntu_text import record


@pytest.mark.parametrize("seed", range(20))
def test_is_what_the_named_steps_do(seed):
    """Independent reference: the cleaning of NTU RGB+D, which looks at rows and not at arrays."""
    rng = np.random.default_rng(seed)
    seen = rng.random((2, 30)) < rng.uniform(0.1, 0.9)
    seen[0, 7] = True
    frames = (rng.normal(size=(2, 30, 25, 3)) * seen[..., None, None]).astype(np.float32)
    expected = ntu_cleaning.clean(record(frames, seen), gaps.CLEANING)
    found = gaps.without_gaps(frames)
    assert found.dtype == np.float32
    assert len(found) == len(expected)
    # A recording has its bodies in the order in which they come, an array in its own.
    first = [row.argmax() for row in seen if row.any()]
    order = np.argsort(first, kind="stable")
    assert np.array_equal(found[order], expected)


def test_nobody_and_nothing():
    assert gaps.without_gaps(np.zeros((2, 5, 17, 2))).size == 0
    assert gaps.without_gaps(np.zeros((0, 5, 17, 2))).size == 0
    assert gaps.without_gaps(np.zeros((2, 0, 17, 2))).size == 0


def test_who_is_always_there_is_left_as_he_is():
    frames = np.random.default_rng(0).normal(size=(3, 6, 17, 2)).astype(np.float16)
    found = gaps.without_gaps(frames)
    assert np.array_equal(found, frames.astype(np.float32))
