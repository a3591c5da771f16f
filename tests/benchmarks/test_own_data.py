"""The held-out folder of own data takes the documented way, with the presets that fit it."""

import numpy as np
import pytest

from benchmarks import own_data
from igm_jax.data.formats import custom
from igm_jax.data.formats.prepare import prepare_store
from igm_jax.data.store import SkeletonStore
from igm_jax.data.suggest import suggest


@pytest.mark.parametrize(
    ("kind", "channels", "expected"),
    [
        ("3d", 3, {"data.camera": "moving", "data.coordinates": "posture"}),
        ("2d", 2, {"data.camera": "moving", "data.coordinates": "posture"}),
    ],
)
def test_folder_becomes_a_store_with_its_preset(kind, channels, expected, tmp_path):
    assert own_data.write(tmp_path / "raw", kind, 48, seed=1000) == 48
    raw = custom.read(str(tmp_path / "raw"))
    assert prepare_store(tmp_path / "store", raw, source="tests") == []
    store = SkeletonStore.open(tmp_path / "store")
    assert store.frames.shape[1:] == (17, channels)
    assert len(store) == 48 and len(store.class_names) == 12
    few = {"train.batch_size": 16}  # of 48 clips
    assert {found.key: found.value for found in suggest(store)} == expected | few
    if kind == "2d":  # in an image of 1280 × 720 points, feet below the head
        head, ankle = (store.layout.joints.index(name) for name in ("head", "left ankle"))
        assert (store.frames[:, ankle, 1] > store.frames[:, head, 1]).mean() > 0.95
        assert 0 < np.median(store.frames[..., 0]) < 1280


def test_resampled_clip_keeps_its_path():
    frames = np.arange(31.0)[:, None, None] * np.ones((1, 2, 3))
    slow = own_data._resampled(frames)
    np.testing.assert_allclose(slow[:, 0, 0], np.arange(0, 30, 1.5))
