"""Clips for the page: nothing is lost but what is finer than a millimetre of a body."""

import base64
import dataclasses
import itertools
import zlib

import numpy as np
import pytest
import tiny

from igm_jax.data import Clip, SkeletonStore
from igm_jax.evaluation.run import Run
from igm_jax.report import player


def unpacked(facts, text):
    """Numbers as the page reads them, in the order of the text: [frames, columns]."""
    raw = zlib.decompress(base64.b64decode(text))
    count = facts["frames"] * facts["columns"]
    values = [
        int.from_bytes(bytes([raw[i], raw[count + i]]), "little", signed=True) for i in range(count)
    ]
    rows = [values[i : i + facts["columns"]] for i in range(0, count, facts["columns"])]
    for before, row in itertools.pairwise(rows):
        for i, change in enumerate(row):
            row[i] = (before[i] + change + 32768) % 65536 - 32768
    return np.array(rows)


@pytest.fixture
def clips():
    rng = np.random.default_rng(0)
    real = [rng.normal(size=(bodies, 90, 6, 3)) for bodies in (1, 2)]
    real[0][0, 3, 2] = np.nan
    far = np.full((2, 90, 6, 3), 1e6)
    made = player.Generated([real[1] + 1, far], [real[1] - 1, real[1]], real[1] * 2)
    return player.Clips(real, {1: made}, (20, 500), 1, 50)


def test_packed_clips_are_the_clips(clips):
    facts, text = player.packed(clips, tiny.LAYOUT, "metres")
    values = unpacked(facts, text)
    scale = player.height(clips) / facts["height"]
    assert (facts["stride"], facts["frames"], facts["ts"]) == (3, 30, [20, 500])

    def read(column, bodies):
        part = values[:, column : column + bodies * 18].reshape(30, bodies, 6, 3)
        part = np.where(part == -32768, np.nan, part * scale)
        return np.moveaxis(part, 1, 0)

    one, two = facts["clips"]
    assert (one["bodies"], two["bodies"]) == (1, 2) and "sampled" not in one
    made = clips.generated[1]
    pairs = [(two["real"], clips.real[1]), (two["sampled"], made.sampled)]
    pairs += [(two["noised"][0], made.noised[0]), *zip(two["oneStep"], made.one_step)]
    for column, wanted in pairs:
        np.testing.assert_allclose(read(column, 2), wanted[:, ::3], atol=0.51 * scale)
    np.testing.assert_allclose(read(one["real"], 1), clips.real[0][:, ::3], atol=0.51 * scale)
    assert np.isnan(read(one["real"], 1)[0, 1, 2]).all()
    # Noise that leaves the range of 16 bits ends at its edge.
    np.testing.assert_array_equal(values[:, two["noised"][1]], 32000)


def test_the_page_knows_the_skeleton(clips):
    facts, _ = player.packed(clips, tiny.LAYOUT, "metres")
    assert facts["bones"] == [
        [1, 0, "trunk"], [2, 0, "left"], [3, 0, "right"], [4, 1, "left"], [5, 1, "right"],
    ]  # fmt: skip
    assert not facts["flat"]
    flat = clips._replace(real=[clip * [1, 1, 0] for clip in clips.real])
    assert player.packed(flat, tiny.LAYOUT, "pixels")[0]["flat"]


def test_clips_stand_on_the_floor_and_missing_joints_stay_missing(tmp_path):
    """Also in the coordinates of a run that follow the person; walking and distances are kept."""
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(2, 9, 6, 3)).astype(np.float32) + np.array([0, 0, 5])
    frames[0, :, 4] = 0.0
    settings = {"layout": tiny.LAYOUT, "class_names": tiny.CLASS_NAMES, "source": "tests"}
    clips = [Clip("one", frames.astype(np.float32), 0, subject=1, camera=1)]
    SkeletonStore.write(tmp_path / "store", clips, dataset="synthetic", **settings)
    store = SkeletonStore.open(tmp_path / "store")
    reading = dataclasses.replace(tiny.READING, coordinates="posture", frames=9)
    run = Run(tmp_path, 1, tiny.config(), reading, data={}, params={})
    (shown,) = player.show_clips(run, store, np.array([0]), None).real
    assert np.isnan(shown[0, :, 4]).all() and np.isfinite(shown[1]).all()
    assert np.nanmin(shown[..., 1]) == 0.0
    np.testing.assert_allclose(shown[0, 0, 0, [0, 2]], 0, atol=1e-6)
    seen = np.isfinite(shown[..., 0])
    apart = lambda x: np.linalg.norm(x[seen][:, None] - x[seen][None], axis=-1)  # noqa: E731
    np.testing.assert_allclose(apart(shown), apart(frames), atol=1e-4)


def test_clips_are_chosen_from_all_classes():
    labels = np.array([0] * 50 + [1] * 3 + [2])
    chosen = player.spread(labels, 7)
    assert np.bincount(labels[chosen]).tolist() == [3, 3, 1]
    assert len(player.spread(labels, 100)) == 54
