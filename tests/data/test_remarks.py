"""Remarks on stores whose clips are in mixed units, have one frame, or miss a class."""

import numpy as np
import pytest
import tiny

from igm_jax.data.remarks import remarks
from igm_jax.data.store import Clip, SkeletonStore


@pytest.fixture
def store_of(tmp_path):
    """Writes a store of random bodies; `scales` and `lengths` have an entry for each clip.

    Two joints of clip `lost` are at zero.
    """

    def store_of(scales, lengths=None, classes=("a", "b"), lost=None):
        generator = np.random.default_rng(0)
        clips = []
        for i, scale in enumerate(scales):
            length = lengths[i] if lengths else 4
            frames = generator.uniform(1, 2, (1, length, 6, 3)) * scale
            frames[..., 2] += 40  # far from the camera, which is at zero
            if i == lost:
                frames[:, :, :2] = 0
            clips.append(Clip(f"clip{i}", frames.astype(np.float32), i % 2))
        path = tmp_path / "store"
        SkeletonStore.write(
            path, clips, layout=tiny.LAYOUT, class_names=classes, source="tests", dataset="custom"
        )
        return SkeletonStore.open(path)

    return store_of


def test_nothing_to_remark_on(store_of):
    assert remarks(store_of([1, 1.5, 8, 1])) == ()


def test_lost_joints_are_no_other_unit(store_of):
    assert remarks(store_of([1, 1, 1], lost=1)) == ()


def test_clips_in_millimetres_among_metres(store_of):
    (told,) = remarks(store_of([1, 1000, 1]))
    assert "'clip1'" in told and "times as large as that of" in told
    assert 500 < float(told.split(" is ")[1].split(" times")[0].replace(",", "")) < 2000


def test_clips_of_one_frame_are_counted(store_of):
    (told,) = remarks(store_of([1, 1, 1, 1], lengths=[4, 1, 2, 1]))
    assert told.startswith("2 of 4 clips have one frame") and told.endswith("such as 'clip1'")


def test_classes_without_a_clip_are_named(store_of):
    (told,) = remarks(store_of([1, 1], classes=("a", "b", "walk", "run")))
    assert told == "2 of 4 classes have no clip, such as 'walk'"


def test_labels_of_one_class_are_told(store_of):
    (told,) = remarks(store_of([1], classes=("a",)))
    assert told == "all labelled clips are of class 'a': nothing can be judged"
