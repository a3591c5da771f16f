"""Missing joints, against the cleaning of NTU RGB+D and a slow reference of their own."""

import dataclasses

import numpy as np
import pytest

from igm_jax.data.formats import gaps, ntu_cleaning
from igm_jax.data.formats.ntu_text import record
from igm_jax.data.store import BadClip, Clip
from igm_jax.errors import InputError
from igm_jax.skeleton import COCO17, NTU25

LAYOUT = dataclasses.replace(COCO17, origin=2)


def filled(frames, scores=None, layout=LAYOUT, **rules):
    return gaps.filled(Clip("a", frames), layout, scores, gaps.Rules(**rules))


def some(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("seed", range(20))
def test_bodies_are_held_as_the_named_steps_do(seed):
    """Independent reference: the cleaning of NTU RGB+D, which looks at rows and not at arrays."""
    rng = np.random.default_rng(seed)
    seen = rng.random((2, 30)) < rng.uniform(0.1, 0.9)
    seen[0, 7] = True
    frames = (rng.normal(size=(2, 30, 25, 3)) * seen[..., None, None]).astype(np.float32)
    expected = ntu_cleaning.clean(record(frames, seen), gaps.DEFAULT.cleaning[1:])
    found = filled(frames, layout=NTU25).frames
    assert found.dtype == np.float32
    assert len(found) == len(expected)
    # A recording has its bodies in the order in which they come, an array in its own.
    first = [row.argmax() for row in seen if row.any()]
    order = np.argsort(first, kind="stable")
    assert np.array_equal(found[order], expected)


def slow(frames, missing):
    """Joint by joint and frame by frame, between the nearest known places before and after."""
    out, count = frames.astype(np.float64), 0
    times, joints = missing.shape
    for joint in range(joints):
        known = [t for t in range(times) if not missing[t, joint]]
        for t in range(times):
            if not missing[t, joint] or missing[t].all():
                continue
            before = [k for k in known if k < t][-1:] or known[:1]
            after = [k for k in known if k > t][:1] or known[-1:]
            (a,), (b,) = before, after
            share = (t - a) / (b - a) if a < b else 0
            out[t, joint] = (1 - share) * frames[a, joint] + share * frames[b, joint]
            count += 1
    return out[~missing.all(axis=1)], count


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("mark", ["nan", "one nan", "zero", "value", "score", "low score"])
def test_gaps_are_filled_linearly_in_time(mark, seed):
    rng = np.random.default_rng(seed)
    frames = some(1, 12, 17, 3, seed=seed)
    missing = rng.random((12, 17)) < 0.3
    missing[rng.integers(12)] = True  # nobody is there
    missing[np.argmin(missing.all(axis=1)), 0] = False
    missing[rng.permutation(np.flatnonzero(~missing.all(axis=1)))[:2]] = False
    expected, count = slow(frames[0], missing)
    scores, rules, marked = None, {}, frames.copy()
    if "score" in mark:
        scores = np.where(missing, 0.2 * (mark == "low score"), 0.5)[None]
        rules = {"min_score": 0.3 * (mark == "low score")}
    elif mark == "one nan":
        marked[0, missing, 1] = np.nan
    else:
        marked[0, missing] = {"nan": np.nan, "zero": 0, "value": -1}[mark]
        rules = {"value": -1.0} if mark == "value" else {}
    clip = filled(marked, scores, **rules)
    np.testing.assert_allclose(clip.frames[0], expected, atol=1e-5)
    assert sum(clip.filled) == count > 0
    assert (frames == np.where(missing[None, ..., None], frames, marked)).all()  # not written to


def test_origin_is_no_gap():
    centred = some(2, 9, 17, 2)
    centred -= centred[:1, :, 5:6]
    clip = filled(centred)
    assert np.array_equal(clip.frames, centred) and not any(clip.filled)
    at_first = some(1, 9, 17, 2)
    at_first -= at_first[:, :1, 2:3]
    assert np.array_equal(filled(at_first).frames, at_first)
    # Any other joint, or a later frame, is a gap.
    later = some(1, 9, 17, 2)
    later[0, 0, 3] = later[0, 4, 2] = 0
    clip = filled(later)
    assert np.flatnonzero(clip.filled).tolist() == [2, 3]
    assert np.array_equal(clip.frames[0, 0, 3], later[0, 1, 3])


def test_joints_that_are_never_seen_lie_in_the_middle_of_the_others():
    frames = some(1, 4, 17, 2)
    frames[:, :, [3, 4]] = 0  # not one of them is an origin
    clip = filled(frames)
    others = np.delete(frames, [3, 4], axis=2).mean(axis=2)
    np.testing.assert_allclose(clip.frames[:, :, 3], others, atol=1e-6)
    assert clip.filled == tuple(4 * (j in (3, 4)) for j in range(17))


def test_more_than_half_missing_is_left_out():
    frames = some(1, 2, 17, 2)
    frames.reshape(-1, 2)[:17] = np.nan  # the first frame shows nobody, which is no gap
    assert filled(frames).frames.shape == (1, 1, 17, 2)
    frames = some(1, 4, 17, 2)
    frames[0, :, :8] = np.nan
    frames[0, 0:2, 8] = np.nan
    assert isinstance(filled(frames), Clip)
    frames[0, 2, 8] = np.nan
    assert filled(frames) == BadClip("a", "51% of its joints are missing, more than 50%")


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        ((2, 5, 17, 2), "shows nobody: all joints are missing in all 5 frames"),
        ((0, 5, 17, 2), "it has no body"),
        ((2, 0, 17, 2), "it has no frame"),
        ((1 << 40, 0, 17, 2), "it has no frame"),
    ],
)
def test_nobody_and_nothing(shape, told):
    assert filled(np.zeros(shape)) == BadClip("a", told)


@pytest.mark.parametrize("score", [-1.0, np.nan, np.inf])
def test_scores_that_cannot_be_asked_for(score):
    with pytest.raises(InputError, match=r"min_score .*: give a number from 0"):
        gaps.Rules(score)


def test_who_is_always_there_is_left_as_he_is():
    frames = some(3, 6, 17, 2).astype(np.float16)
    assert np.array_equal(filled(frames).frames, frames.astype(np.float32))
