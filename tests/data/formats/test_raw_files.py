"""Single files are read as the data sets that they come from, and refused in one line."""

import json

import numpy as np
import pytest
import tiny

from igm_jax.data import BadClip, Clip
from igm_jax.data.formats import ntu_files, ntu_text
from igm_jax.data.formats.raw_files import read_paths
from igm_jax.errors import InputError
from igm_jax.skeleton import KINECT20, NTU25


@pytest.fixture
def skeleton():
    """A walking body of 25 joints in metres."""
    rng = np.random.default_rng(0)
    body = rng.normal(size=(1, 1, 25, 3)) + np.array([0, 0, 3])
    return (body + 0.01 * rng.normal(size=(1, 20, 25, 3)).cumsum(axis=1)).astype(np.float32)


def read(layout, *paths):
    return [clip for _, clip in read_paths(paths, layout)]


@pytest.mark.parametrize(("name", "label"), [("walk", -1), ("S001C001P002R001A003", 2)])
def test_a_skeleton_file_of_any_name(tmp_path, skeleton, name, label):
    text = ntu_text.format_recording(ntu_text.record(skeleton), digits=9)
    path = tmp_path / f"{name}.skeleton"
    path.write_bytes(text)
    (clip,) = read(NTU25, path)
    expected = ntu_files.read_clip("S001C001P001R001A001", text)
    np.testing.assert_array_equal(clip.frames, expected.frames)
    assert (clip.name, clip.label) == (path.as_posix(), label)


def test_arrays_tables_and_stores_of_any_joints(tmp_path, skeleton):
    frames = skeleton[:, :, :6]
    np.save(tmp_path / "one.npy", frames[0])
    np.savez(tmp_path / "two.npz", frames=frames)
    np.savetxt(tmp_path / "three.csv", frames[0].reshape(20, -1), delimiter=",", fmt="%.9g")
    clips = read(tiny.LAYOUT, tmp_path)
    assert [clip.name.rpartition("/")[2] for clip in clips] == ["one.npy", "three.csv", "two.npz"]
    for clip in clips:
        np.testing.assert_allclose(clip.frames, frames, atol=1e-6)
    store = tiny.write_store(tmp_path / "store")
    clips = read(tiny.LAYOUT, store.path, tmp_path / "one.npy")
    assert len(clips) == 81 and clips[3] == store[3]


def test_files_that_hold_no_such_clip(tmp_path, skeleton):
    text = ntu_text.format_recording(ntu_text.record(skeleton))
    (tmp_path / "a.skeleton").write_bytes(text)
    (tmp_path / "b.npy").touch()
    (tmp_path / "c.skeleton").touch()
    np.save(tmp_path / "d.npy", skeleton[0, :, :5])
    kinect = read(KINECT20, tmp_path / "a.skeleton")
    assert kinect[0].reason == "has the 25 joints of ntu25, not the 20 of kinect20"
    found = read(NTU25, tmp_path)
    assert isinstance(found[0], Clip) and all(isinstance(bad, BadClip) for bad in found[1:])
    _, empty, text, few = (clip.reason if isinstance(clip, BadClip) else "" for clip in found)
    assert empty == "is empty" and text == "is empty"
    assert few.startswith("has shape [20, 5, 3], not [frames, 25, 2 or 3]")
    layout = {"name": "mine", "joints": ["a", "b"], "parents": [None, "a"]}
    (tmp_path / "layout.json").write_text(json.dumps(layout), encoding="utf-8")
    (bad,) = read(NTU25, tmp_path / "d.npy")
    assert "the 2 joints of 'mine', as layout.json beside it says" in bad.reason


def test_paths_that_are_refused(tmp_path):
    (tmp_path / "clip.pkl").touch()
    with pytest.raises(InputError, match=r"clip.pkl: is no \.skeleton, .* prepare_data.py first"):
        read(NTU25, tmp_path / "clip.pkl")
    with pytest.raises(InputError, match="no such file or folder"):
        read(NTU25, tmp_path / "nothing.npy")
    with pytest.raises(InputError, match="is no store, and no"):
        read(NTU25, tmp_path)
