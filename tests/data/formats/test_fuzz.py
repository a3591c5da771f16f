"""Random bytes and cut files cost themselves alone, whichever reader meets them."""

import io
import json
import pickle

import numpy as np
import pytest
import scipy.io

from igm_jax.data import synthetic
from igm_jax.data.formats import (
    custom,
    mamp_npz,
    ntu60,
    ntu_writer,
    nw_ucla,
    pku_mmd,
    pyskl_pkl,
    utd_mhad,
)
from igm_jax.data.store import BadClip, Clip, SkeletonStore
from igm_jax.errors import InputError
from igm_jax.skeleton import NTU25

RNG = np.random.default_rng(0)
WALK = RNG.normal(size=(12, 20, 3))
LAYOUT = {"name": "x", "joints": [f"j{i}" for i in range(20)], "parents": [None] + [0] * 19}
ROW = " ".join(["0.25"] * 150) + "\n"


def npy(frames):
    file = io.BytesIO()
    np.save(file, frames)
    return file.getvalue()


def npz(frames):
    file = io.BytesIO()
    np.savez_compressed(file, frames=frames)
    return file.getvalue()


def mat(folder, name):
    scipy.io.savemat(folder / name, {"d_skel": WALK.transpose(1, 2, 0)})


def nw(folder, name):
    held = {"skeletons": WALK.tolist(), "label": 1}
    (folder / name).write_text(json.dumps(held))


def own(suffix):
    def put(folder, name):
        (folder / "layout.json").write_text(json.dumps(LAYOUT))
        text = "\n".join(",".join(map(str, frame.ravel())) for frame in WALK)
        content = {"npy": npy(WALK), "npz": npz(WALK), "csv": text.encode()}[suffix]
        (folder / name).write_bytes(content)

    return put


def pku(damaged):
    def put(folder, name):
        (folder / "Skeleton").mkdir(exist_ok=True)
        (folder / "Label").mkdir(exist_ok=True)
        for path in (folder / name, folder / name.replace(*damaged)):
            text = ROW * 30 if path.parent.name == "Skeleton" else "1,0,30,1\n"
            path.write_text(text)
        (folder / "cross-subject.txt").write_text(
            "Training videos:\n0002-M, 0003-M\nTest videos:\n0004-M"
        )

    return put


def ntu(folder, name):
    source = ntu_writer.write(folder / "made", synthetic.generate(1))
    (file,) = source.rglob("*.skeleton")
    file.rename(folder / name)
    source.rmdir()


# Of each: the reader, how a file is put, and three names.
FOLDERS = {
    "nw_ucla": (nw_ucla, nw, "a01_s0{}_e01_v01.json"),
    "utd_mhad": (utd_mhad, mat, "a1_s{}_t1_skeleton.mat"),
    "npy": (custom, own("npy"), "{}.npy"),
    "npz": (custom, own("npz"), "{}.npz"),
    "csv": (custom, own("csv"), "{}.csv"),
    "skeleton": (pku_mmd, pku(("Skeleton", "Label")), "Skeleton/000{}-M.txt"),
    "label": (pku_mmd, pku(("Label", "Skeleton")), "Label/000{}-M.txt"),
    "ntu60": (ntu60, ntu, "S001C001P00{}R001A001.skeleton"),
}


def damages(content):
    """Random bytes, and the content cut or changed in many places."""
    for length in (0, 1, 7, 100, 5000):
        yield RNG.bytes(length)
    for at in RNG.integers(1, len(content), 12).tolist():
        yield content[:at]
        yield content[:at] + RNG.bytes(20) + content[at + 20 :]
    yield content + RNG.bytes(50)
    yield RNG.bytes(10) + content
    yield content.decode("latin-1").encode("utf-16")


@pytest.mark.parametrize("name", FOLDERS)
def test_damaged_file_of_a_folder_costs_itself_alone(name, tmp_path):
    module, put, pattern = FOLDERS[name]
    names = [pattern.format(i) for i in (2, 3, 4)]
    for file in names:
        put(tmp_path, file)
    sound = list(module.read(tmp_path))
    assert len(sound) == 3 and all(isinstance(clip, Clip) for clip in sound)
    content = (tmp_path / names[0]).read_bytes()
    refused = 0
    for damaged in damages(content):
        (tmp_path / names[0]).write_bytes(damaged)
        first, *rest = module.read(tmp_path)
        assert rest[-2:] == sound[1:]
        assert all(isinstance(clip, Clip | BadClip) for clip in (first, *rest))
        if isinstance(first, BadClip):
            refused += 1
            assert first.reason.isprintable() and len(first.reason) < 400, first
    assert refused >= 5


@pytest.mark.parametrize("name", ["nw_ucla", "utd_mhad", "npy", "ntu60"])
def test_folder_with_the_name_of_a_clip_does_not_stop_the_others(name, tmp_path):
    module, put, pattern = FOLDERS[name]
    put(tmp_path, pattern.format(3))
    sound = [clip for clip in module.read(tmp_path) if isinstance(clip, Clip)]
    (tmp_path / pattern.format(2)).mkdir()
    assert [clip for clip in module.read(tmp_path) if isinstance(clip, Clip)] == sound != []


def test_clip_whose_name_is_no_text_is_left_out_and_named(tmp_path):
    """File names are bytes; those that are no UTF-8 could not be written into meta.json."""
    clips = [Clip(name, np.ones((1, 2, 25, 3), np.float32)) for name in ("a", "b\udcff")]
    SkeletonStore.write(
        tmp_path / "s", clips, layout=NTU25, class_names=[], source="c\udcff", on_bad="skip"
    )
    meta = SkeletonStore.open(tmp_path / "s").meta
    assert meta["skipped"]["clips"][0][0] == "b?" and meta["source"] == "c?"


def mamp(path):
    x, y = RNG.normal(size=(3, 20, 150)).astype(np.float32), np.eye(3, 60)
    np.savez_compressed(path, x_train=x, y_train=y, x_test=x, y_test=y)


def pyskl(path):
    keypoint = RNG.uniform(1, 9, size=(1, 9, 17, 2)).astype(np.float16)
    facts = {"label": 0, "total_frames": 9, "keypoint": keypoint}
    held = [{"frame_dir": f"clip {i}", **facts} for i in range(3)]
    path.write_bytes(pickle.dumps({"split": {}, "annotations": held}, 2))


@pytest.mark.parametrize(("module", "put"), [(mamp_npz, mamp), (pyskl_pkl, pyskl)])
def test_damaged_file_that_holds_all_is_refused_in_one_line(module, put, tmp_path):
    path = tmp_path / "all"
    put(path)
    path = path if path.exists() else path.with_suffix(".npz")
    content, refused = path.read_bytes(), 0
    for damaged in damages(content):
        path.write_bytes(damaged)
        try:
            assert all(isinstance(clip, Clip | BadClip) for clip in module.read(path))
        except InputError as error:
            refused += 1
            assert str(error).isprintable() and str(path) in str(error)
    assert refused >= 5
