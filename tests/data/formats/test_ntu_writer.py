"""The whole way of the genuine data: from text in an archive or a folder to the store."""

import numpy as np
import pytest

from igm_jax.data import synthetic
from igm_jax.data.formats import ntu60, ntu_writer
from igm_jax.data.formats.ntu_cleaning import clean
from igm_jax.data.formats.ntu_text import NOT_TRACKED, TRACKED, parse
from igm_jax.data.formats.prepare import prepare_store
from igm_jax.data.store import SkeletonStore


@pytest.fixture(scope="module")
def clips():
    """Of one and of two people."""
    chosen = list(synthetic.generate(72, seed=1))[40:]
    assert {len(clip.frames) for clip in chosen} == {1, 2}
    return {clip.name: clip for clip in chosen}


@pytest.mark.parametrize("name", ["raw.zip", "raw"])
def test_the_same_clips_come_back(name, clips, tmp_path):
    source = ntu_writer.write(tmp_path / name, clips.values(), digits=9)
    for workers in (1, 2):
        path = tmp_path / f"store{workers}"
        raw = ntu60.read(source)
        assert prepare_store(path, raw, source="tests", workers=workers, on_bad="refuse") == []
        store = SkeletonStore.open(path)
        assert {clip.name: clip for clip in store} == {
            name: ntu_writer.expected(clip) for name, clip in clips.items()
        }
        assert store.meta["cleaning"] == list(ntu60.CLEANING)
    one, two = ((tmp_path / f"store{n}" / "frames.npy").read_bytes() for n in (1, 2))
    assert one == two


def test_seven_digits_are_a_tenth_of_a_micrometre(clips, tmp_path):
    source = ntu_writer.write(tmp_path / "raw.zip", clips.values())
    for clip in ntu60.read(source):
        error = clip.frames - ntu_writer.expected(clips[clip.name]).frames
        assert 0 < np.abs(error).max() < 2e-6


def test_every_trouble_is_there(clips, tmp_path):
    folder = ntu_writer.write(tmp_path / "raw", clips.values())
    texts = [path.read_bytes() for path in sorted(folder.iterdir())]
    assert {b"\r\n" in text for text in texts} == {True, False}
    for text in texts:
        recording = parse(text)
        assert len(recording.bodies) >= 3
        assert recording.frame.min() == 3  # nobody before
        assert len(np.unique(recording.frame)) == recording.num_frames - 4
        assert min(map(len, recording.bodies)) == 11
        assert {NOT_TRACKED, TRACKED} <= set(recording.tracking.ravel().tolist())
        # Without the steps that are for it, the table or the glitch stays.
        bodies = clean(recording, ("drop_empty_frames", "hold_lost_bodies"))
        assert not np.array_equal(bodies, clean(recording))
