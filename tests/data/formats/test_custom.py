"""Own skeletons: clips that are read, and the way to a store."""

import json

import numpy as np
import pytest
from custom_folders import FRAMES, LAYOUT, npy, only, put_csv, table

from igm_jax.data import protocols
from igm_jax.data.formats import custom
from igm_jax.data.formats.prepare import prepare_store
from igm_jax.data.formats.sources import FORMATS
from igm_jax.data.store import Clip, SkeletonStore
from igm_jax.errors import InputError


def test_it_is_a_source():
    assert FORMATS["custom"] is custom


NAMES = ["hip_x", "hip_y", "Left hand_x", "left hand_y", "right hand_x", "right hand_y"]
WRITERS = {
    "npy": ("a.npy", lambda path: np.save(path, FRAMES)),
    "bodies": ("a.npy", lambda path: np.save(path, FRAMES[None])),
    "float64": ("a.npy", lambda path: np.save(path, FRAMES.astype(np.float64))),
    "big-endian": ("a.npy", lambda path: np.save(path, FRAMES.astype(">f4"))),
    "fortran": ("a.NPY", lambda path: path.write_bytes(npy(np.asfortranarray(FRAMES)))),
    "npz": ("a.npz", lambda path: np.savez(path, joints=FRAMES)),
    "frames": ("a.npz", lambda path: np.savez_compressed(path, fps=30, frames=FRAMES)),
    "csv": ("a.csv", put_csv),
    "header": ("a.csv", lambda path: put_csv(path, header=[f"c{i}" for i in range(6)])),
    "names": ("a.csv", lambda path: put_csv(path, header=NAMES)),
}


@pytest.mark.parametrize(("file", "write"), WRITERS.values(), ids=WRITERS)
def test_round_trip(file, write, folder):
    write(folder / file)
    assert only(folder) == Clip("a", FRAMES[None], split=1)


def test_csv_as_spreadsheets_write_it(folder):
    text = "\n".join(",".join(f" {x:.9g} " for x in frame.ravel()) for frame in FRAMES)
    (folder / "a.csv").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n\r\n").encode())
    assert only(folder) == Clip("a", FRAMES[None], split=1)


NAN = float("nan")
GAP = [[1, 1, 2, 2, 3, 3], [1, 1, NAN, NAN, 3, 3], [1, 1, 4, 6, 3, 3]]


def test_all_that_says_missing_gives_the_same_clip(folder):
    """NaN, zeros, an empty cell, the layout's own value, and scores, by whichever name."""
    gap = np.array(GAP).reshape(3, 3, 2)
    np.save(folder / "nan.npy", gap)
    np.save(folder / "zero.npy", np.nan_to_num(gap))
    np.save(folder / "value.npy", np.nan_to_num(gap, nan=-1))
    put_csv(folder / "empty.csv", np.where(np.isnan(gap), "", gap.astype(str)))
    wild = np.nan_to_num(gap, nan=77)
    scores = np.ones((3, 3, 1))
    scores[1, 1] = 0.2
    joints = LAYOUT["joints"]
    for i, end in enumerate(("_score", "_c", " likelihood", "_visibility")):
        names = [f"{joint}{axis}" for joint in joints for axis in ("_x", "_y", end)]
        put_csv(folder / f"beside{i}.csv", np.concatenate([wild, scores], -1), names)
        names = [f"c{j}" for j in range(6)] + [f"{joint}{end}" for joint in joints]
        table = np.concatenate([wild.reshape(3, -1), scores[..., 0]], -1)
        put_csv(folder / f"behind{i}.csv", table, names)
    (folder / "layout.json").write_text(json.dumps({**LAYOUT, "missing": -1}))
    clips = list(custom.read(folder, min_score=0.5))
    assert len(clips) == 12
    expected = gap[None].astype(np.float32)
    expected[0, 1, 1] = 3, 4
    for clip in clips:
        assert clip == Clip(clip.name, expected, split=1)
        assert clip.filled == (0, 1, 0)
    by_default = {clip.name: clip.frames[0, 1, 1].tolist() for clip in custom.read(folder)}
    assert by_default["value"] == [3, 4] and by_default["beside0"] == [77, 77]


def test_scores_are_asked_of_tables_alone(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((3, 6, 2)))
    (tmp_path / "layout.json").write_text(json.dumps(LAYOUT))
    with pytest.raises(InputError, match=r"min_score 0\.5: only \.csv clips have scores"):
        custom.read(tmp_path, min_score=0.5)


@pytest.mark.parametrize("coordinates", [2, 3])
@pytest.mark.parametrize("suffix", ["npy", "csv"])
def test_plane_and_space(coordinates, suffix, folder):
    frames = np.ones((4, 3, coordinates), np.float32)
    np.save(folder / "a.npy", frames) if suffix == "npy" else put_csv(folder / "a.csv", frames)
    assert np.array_equal(only(folder).frames, frames[None])


def test_whole_numbers_are_coordinates(folder):
    np.save(folder / "a.npy", np.ones((4, 3, 2), np.uint8))
    assert only(folder) == Clip("a", np.ones((1, 4, 3, 2), np.float32), split=1)


def test_a_body_of_zeros_is_absent(folder):
    np.save(folder / "a.npy", np.stack([0 * FRAMES, FRAMES, 0 * FRAMES]))
    assert np.array_equal(only(folder).frames, FRAMES[None])


def test_clips_lie_at_any_depth_and_what_begins_with_a_dot_does_not_count(folder):
    for name in ("b.npy", "walk/b.npy", "walk/slow/a.1.npy", ".trash/a.npy", "walk/._b.npy"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / name, FRAMES)
    (folder / "walk" / "notes.txt").write_text("not a clip")
    assert [clip.name for clip in custom.read(folder)] == ["b", "walk/b", "walk/slow/a.1"]


# From a folder to a store that can be cut


@pytest.mark.parametrize("workers", [1, 2])
def test_store(workers, folder, tmp_path):
    rng = np.random.default_rng(1)
    expected, rows = [], ["clip,label,subject,split"]
    for i in range(12):
        frames = rng.normal(size=(1 + i % 2, 3 + i, 3, 2)).astype(np.float32)
        name, label, subject = f"s{i % 4}/{i:02d}", ("run", "walk")[i % 2], 1 + i % 4
        (folder / name).parent.mkdir(exist_ok=True)
        np.save(folder / f"{name}.npy", frames)
        rows.append(f"{name},{label},{subject},{'test' if i > 8 else ''}")
        expected.append(Clip(name, frames, i % 2, subject, split=2 if i > 8 else 1))
    (folder / "s0" / "damaged.npz").write_bytes(b"x")
    table(folder, *rows, "s0/damaged,run,1,")

    (bad,) = prepare_store(tmp_path / "store", custom.read(folder), source="tests", workers=workers)
    assert bad.name == "s0/damaged"
    store = SkeletonStore.open(tmp_path / "store")
    SkeletonStore.verify(store.path)
    assert list(store) == sorted(expected, key=lambda clip: clip.name)
    assert (store.dataset, store.class_names) == ("custom", ("run", "walk"))
    assert store.layout.joints == tuple(LAYOUT["joints"])
    assert store.meta["units"] == "unknown"
    subjects = {
        part: np.unique(store.clips["subject"][protocols.split(store, "xsub", part)]).tolist()
        for part in ("fit", "val", "test")
    }
    assert subjects == {"fit": [1], "val": [3], "test": [2, 4]}
    assert len(protocols.split(store, "split", "test")) == 3
