"""One's own skeletons, from well-meant files to hostile ones."""

import csv
import io
import json
import os
import pickle
import re
import struct
import zipfile

import numpy as np
import pytest

from igm_jax.data import protocols
from igm_jax.data.formats import custom
from igm_jax.data.formats.prepare import prepare_store
from igm_jax.data.formats.sources import FORMATS
from igm_jax.data.store import BadClip, Clip, SkeletonStore
from igm_jax.errors import InputError
from igm_jax.skeleton import Layout

LAYOUT = {
    "name": "three",
    "joints": ["hip", "left hand", "right hand"],
    "parents": [None, 0, "hip"],
}
FRAMES = np.random.default_rng(0).normal(size=(5, 3, 2)).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    """A folder with a layout and no clip yet."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "layout.json").write_text(json.dumps(LAYOUT))
    return folder


def put_csv(path, frames=FRAMES, header=None):
    with open(path, "w", encoding="utf-8", newline="") as file:
        rows = frames.reshape(len(frames), -1).tolist()
        csv.writer(file).writerows([header, *rows] if header else rows)


def table(folder, *lines):
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")


def only(folder):
    (clip,) = custom.read(folder)
    return clip


def reasons(folder):
    return {bad.name: bad.reason for bad in custom.read(folder) if isinstance(bad, BadClip)}


# What is read


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


def test_layout(folder):
    joints = ["hip", "neck", "left hip", "right hip"]
    values = {
        "name": "four",
        "joints": joints,
        "parents": ["neck", -1, "hip", 0],
        "pairs": [["left hip", 3]],
        "axes": ["hip", "neck", "left hip", "right hip"],
        "units": "feet",
    }
    np.save(folder / "a.npy", np.ones((1, 4, 3)))
    (folder / "layout.json").write_text(json.dumps(values))
    raw = custom.read(folder)
    expected = Layout("four", tuple(joints), (1, -1, 0, 0), ((2, 3),), 1, (0, 1, 2, 3))
    assert (raw.layout, raw.units) == (expected, "feet")
    (folder / "layout.json").write_text(json.dumps({**values, "origin": "left hip"}))
    assert custom.read(folder).layout.origin == 2


# labels.csv


@pytest.fixture
def three(folder):
    """A folder with the clips a, b and c/d."""
    (folder / "c").mkdir()
    for name in ("a", "b", "c/d"):
        np.save(folder / f"{name}.npy", FRAMES)
    return folder


def facts(folder):
    return [clip.facts for clip in custom.read(folder)]


def test_columns_in_any_order(three):
    table(
        three,
        "split,Camera,label,clip,setup,subject",
        "train,1,walk,b,,2",
        "test,2,run,c/d.npy,3,1",
        ",1,,./a,,",
    )
    assert facts(three) == [("a", -1, 0, 1, 0, 1), ("b", 1, 2, 1, 0, 1), ("c/d", 0, 1, 2, 3, 2)]
    assert custom.read(three).class_names == ("run", "walk")


def test_only_the_clip_must_be_there(three):
    table(three, "clip", "a", "b", "c\\d")
    assert facts(three) == [(name, -1, 0, 0, 0, 1) for name in ("a", "b", "c/d")]


@pytest.mark.parametrize(
    ("labels", "names", "expected"),
    [
        (("10", "9", "2"), ("2", "9", "10"), (2, 1, 0)),
        (("1.0", "", "0"), ("0", "1"), (1, -1, 0)),
        (("10", "9", "walk"), ("10", "9", "walk"), (0, 1, 2)),
        (("ß", "b", "B"), ("B", "b", "ß"), (2, 1, 0)),
    ],
)
def test_classes_are_the_labels_that_occur(labels, names, expected, three):
    table(three, "clip,label", *(f"{c},{label}" for c, label in zip(("a", "b", "c/d"), labels)))
    assert custom.read(three).class_names == names
    assert tuple(clip.label for clip in custom.read(three)) == expected


def test_classes_file_decides_where_it_is(three):
    (three / "classes.txt").write_text("walk\nrun\njump\n\n")
    table(three, "clip,label", "a,jump", "b,0", "c/d,swim")
    raw = custom.read(three)
    assert raw.class_names == ("walk", "run", "jump")
    a, b, bad = raw
    assert (a.label, b.label) == (2, 0)
    assert "line 4: label 'swim' is none of the 3 classes" in bad.reason
    (three / "classes.txt").write_text("1\n2\n3\n")
    table(three, "clip,label", "a,1", "b,3.0", "c/d,0")
    a, b, bad = custom.read(three)
    assert (a.label, b.label) == (0, 2)
    assert "label '0' is none" in bad.reason


def test_people_by_name_are_numbered_in_sorted_order(three):
    table(three, "clip,subject,camera", "a,zoe,7", "b,,5", "c/d,anna,7.0")
    assert [clip.facts[2:4] for clip in custom.read(three)] == [(2, 7), (0, 5), (1, 7)]


def test_what_is_not_in_the_table_and_what_is_only_there_are_named(three):
    table(three, "clip,label", "a,x", "nothing,x", "b,y")
    told = reasons(three)
    assert told == {
        "c/d.npy": "has no row in labels.csv: add one",
        "nothing": "labels.csv line 3: there is no such clip",
    }


BAD_ROWS = {
    "parent": ("../../etc/passwd,x", "../../etc/passwd", "line 2: the clip is not below"),
    "back": ("c/../../a,x", "c/../../a", "line 2: the clip is not below"),
    "absolute": ("/etc/passwd,x", "/etc/passwd", "line 2: the clip is not below"),
    "drive": ("C:\\a,x", "C:\\a", "line 2: the clip is not below"),
    "no clip": (",x", "labels.csv line 2", "line 2: has no clip"),
    "folder": ("c,x", "c", "line 2: there is no such clip"),
    "long": ("a,x,1", "a.npy", "line 2: has 3 cells, the header 2"),
    "short": ("a", "a.npy", "line 2: has 1 cells, the header 2"),
    "twice": ("a,x\na.npy,x", "a.npy", "line 3: is in line 2 too"),
    "other split": ("a,dev", "a.npy", "line 2: split 'dev' is neither train nor test"),
}


@pytest.mark.parametrize(("row", "name", "reason"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_bad_row_is_named_and_the_rest_goes_on(row, name, reason, three):
    table(three, "clip,split" if "split" in reason else "clip,label", row, "b,")
    assert reason in reasons(three)[name]
    assert "b" in [clip.name for clip in custom.read(three)]


def test_row_that_may_mean_two_files(three):
    put_csv(three / "a.csv")
    table(three, "clip,label", "a,x", "b,x", "c/d,x")
    assert "may mean a.csv or a.npy: write the suffix" in reasons(three)["a"]
    table(three, "clip,label", "a.csv,x", "b,x", "c/d,x")
    assert list(reasons(three)) == ["a.npy"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("clip;label\na;x\n", "column 'clip;label' is unknown .* with commas between"),
        ("clip,lable\na,x\n", "column 'lable' is unknown"),
        ("clip,label,label\na,x,y\n", "column 'label' is unknown or there twice"),
        ("label\nx\n", "has no column clip"),
        ("clip,label\na,-1\n", "line 2: label '-1' is negative: leave the cell empty"),
        ("clip,subject\na,0\n", "line 2: subject '0': count from 1"),
        ("clip,camera\na,1\nb,-2\n", "line 3: camera '-2': count from 1"),
        ("clip,label\na," + "x" * 200_000 + "\n", "is no table in UTF-8"),
        (b"clip,label\na,\xff\n", "is no table in UTF-8"),
    ],
)
def test_table_that_cannot_be_used(content, told, three):
    content = content.encode() if isinstance(content, str) else content
    (three / "labels.csv").write_bytes(content)
    with pytest.raises(InputError, match=rf"labels\.csv: {told}"):
        custom.read(three)


@pytest.mark.parametrize("content", [b"walk\nwalk\n", b"walk\n\nrun\n", b"\xff\n"])
def test_classes_file_that_cannot_be_used(content, three):
    (three / "classes.txt").write_bytes(content)
    with pytest.raises(InputError, match=r"classes\.txt: .*(line 2|UTF-8)"):
        custom.read(three)


# layout.json


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": ""}, "name '': give a word"),
        ({"joints": []}, r"joints \[\]: give a list"),
        ({"joints": "hip"}, "joints 'hip': give a list"),
        ({"joints": ["hip", "hip", "hand"]}, "joints: 'hip' is there twice"),
        ({"joints": ["hip", 3, "hand"]}, "joints: 3 is no name"),
        ({"parents": [None, 0]}, "parents has 2 entries, not 3"),
        ({"parents": [None, 0, "elbow"]}, "parents: 'elbow' is none of the joints: hip, left"),
        ({"parents": [None, 0, 3]}, "parents: 3 is no joint: give its name, or 0 to 2"),
        ({"parents": [None, 0, True]}, "parents: True is no joint"),
        ({"parents": [None, [0], 0]}, r"parents: \[0\] is no joint"),
        (
            {"parents": [None, "right hand", "left hand"]},
            "parents lead in a circle: left hand → right hand → left hand: give",
        ),
        ({"parents": [1, 2, 0]}, "parents lead in a circle: hip → left hand → right hand → hip"),
        ({"pairs": [["left hand", "right foot"]]}, "pairs: 'right foot' is none"),
        ({"pairs": [["left hand"]]}, "pairs .*: give a list of"),
        ({"pairs": [[1, 2], [2, 0]]}, "pairs: 'right hand' is there twice"),
        ({"pairs": [[1, 1]]}, "pairs: 'left hand' is there twice"),
        ({"origin": "head"}, "origin: 'head' is none"),
        ({"axes": ["hip", "left hand"]}, "axes has 2 entries, not 4"),
        ({"axes": [0, 1, 2, 2]}, r"axes \[0, 1, 2, 2\]: hip and shoulder centre, .* must differ"),
        ({"units": 3}, "units 3: give a word"),
        ({"missing": "-1"}, "missing '-1': give a number"),
        ({"missing": True}, "missing 'True': give a number"),
        ({"missing": 10**400}, "missing '1000.*': give a number"),
        ({"missing": float("nan")}, "missing 'nan': give a number"),
        ({"parent": []}, "key 'parent' is unknown: use name, joints, parents"),
    ],
)
def test_layout_that_cannot_be(changes, told, folder):
    np.save(folder / "a.npy", FRAMES)
    (folder / "layout.json").write_text(json.dumps({**LAYOUT, **changes}))
    with pytest.raises(InputError, match=rf"layout\.json: {told}"):
        custom.read(folder)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[]", '{"name": "x"}', "\x00"])
def test_layout_that_is_none(text, folder):
    np.save(folder / "a.npy", FRAMES)
    (folder / "layout.json").write_text(text)
    with pytest.raises(InputError, match=r"layout\.json: (is no JSON|has no key)"):
        custom.read(folder)


def test_missing_folder_clips_or_layout_say_what_to_do(folder, tmp_path):
    for source in (tmp_path / "nowhere", folder):
        with pytest.raises(InputError, match=f"{source}: no .*own_data.md.*prepare_data.py"):
            custom.read(source)
    np.save(folder / "a.npy", FRAMES)
    (folder / "layout.json").unlink()
    with pytest.raises(InputError, match=r"layout\.json: no such file: .*own_data\.md"):
        custom.read(folder)


# Damaged and hostile clips


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def npy(array=FRAMES):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def header(shape, descr="<f4", data=b""):
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def npz(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


def stored(array):
    file = io.BytesIO()
    np.savez(file, array)
    return file.getvalue()


def with_nan(value=np.nan):
    frames = np.tile(FRAMES, (2, 1, 1, 1))
    frames[1, 3:, 1:, 1] = value
    return frames


def half_missing():
    frames = FRAMES.copy()
    frames.reshape(-1, 2)[[0, 1, 4, 5, 8, 9, 12, 14]] = np.nan
    return frames


BAD_CLIPS = {
    "empty": ("a.npy", b"", "a.npy is damaged, or no NumPy array"),
    "text": ("a.npy", b"1,2,3", "is damaged, or no NumPy array"),
    "cut": ("a.npy", npy()[:-4], "has 244 bytes where its header promises 248"),
    "cut header": ("a.npy", npy()[:40], "is damaged, or no NumPy array"),
    "long": ("a.npy", npy() + b"more", "has 252 bytes where its header promises 248"),
    "huge": ("a.npy", header((10**18, 3, 2), data=b"x"), "where its header promises 24000000"),
    "wraps": ("a.npy", header((2**61, 2**3, 2)), "where its header promises"),
    "negative": ("a.npy", header((-1, 3, 2)), "where its header promises"),
    "deep": ("a.npy", header("(" * 5000), "is damaged, or no NumPy array"),
    "code": ("a.npy", header("__import__('os').getcwd()"), "is damaged, or no NumPy array"),
    "version": ("a.npy", b"\x93NUMPY\x09\x00" + npy()[8:], "is damaged, or no NumPy array"),
    "words": ("a.npy", npy(np.full((2, 3, 2), "x")), "holds <U1, not real numbers"),
    "complex": ("a.npy", npy(FRAMES.astype(complex)), "holds complex128, not real"),
    "flags": ("a.npy", npy(FRAMES > 0), "holds bool, not real numbers"),
    "rank": ("a.npy", npy(FRAMES[0]), r"shape \[3, 2\], not \[frames, 3, 2 or 3\] or \[bodies, "),
    "scalar": ("a.npy", npy(np.float32(1)), r"has shape \[\]"),
    "joints": ("a.npy", npy(FRAMES[:, :2]), r"has shape \[5, 2, 2\], not \[frames, 3, 2 or 3\]"),
    "axes": ("a.npy", npy(FRAMES.transpose(2, 0, 1)), r"has shape \[2, 5, 3\]"),
    "four": ("a.npy", npy(np.ones((5, 3, 4))), r"has shape \[5, 3, 4\]"),
    "NaN": ("a.npy", npy(with_nan()[1:] * [np.nan, 1]), "shows nobody: all joints are missing"),
    "gaps": ("a.npy", npy(half_missing()), "53% of its joints are missing, more than 50%"),
    "infinite": ("a.npy", npy(with_nan(-np.inf)[1:]), "has -inf for joint .* from 0: correct"),
    "infinite body": ("a.npy", npy(with_nan(np.inf)), "'left hand' in frame 3, .*, of body 1: cor"),
    "overflow": ("a.npy", npy(FRAMES.astype(np.float64) * 1e300), "has -?inf for joint 'hip'"),
    "no archive": ("a.npz", b"PK\x03\x04" + b"x" * 100, "a.npz is damaged .*BadZipFile"),
    "npy as npz": ("a.npz", npy(), "is damaged"),
    "nothing": ("a.npz", npz(), "holds nothing: it needs one array, or one named frames"),
    "which": ("a.npz", npz(x=npy(), y=npy()), "holds x, y: it needs one array"),
    "member": ("a.npz", npz(x=b"text"), "is damaged, or no NumPy array"),
    "huge member": ("a.npz", npz(x=header((10**15, 3, 2))), "where its header promises"),
    "bomb": ("a.npz", npz(x=header((2**28, 3, 2)) + bytes((1 << 28) + 1)), "bytes unpacked: cut"),
    "checksum": ("a.npz", stored(FRAMES).replace(FRAMES[4].tobytes(), bytes(24)), "Bad CRC-32"),
    "ragged": ("a.csv", b"1,2,3,4,5,6\n1,2,3,4,5\n", "line 2 has 5 columns, the first has 6"),
    "number": ("a.csv", b"1,2,3,4,5,6\n\n1,2,x,4,5,6\n", "line 3, column 3: 'x' is no number"),
    "columns": ("a.csv", b"0,1,2,3,4,5,6\n", "has 7 columns: 3 joints need 6 or 9"),
    "no row": ("a.csv", b"", "has 0 columns: 3 joints need 6 or 9"),
    "NaN in text": ("a.csv", b"nan,2,nan,4,5,6\n", "67% of its joints are missing"),
    "scores": ("a.csv", b"a,b,c,d,e,f,hip_c\n1,2,3,4,5,6,7\n", "has 1 columns of scores, but 3"),
    "order of scores": (
        "a.csv",
        b"a,b,c,d,e,f,left hand_c,hip_c,right hand_c\n1,2,3,4,5,6,1,1,1\n",
        "column 7 is 'left hand' where layout.json has 'hip'",
    ),
    "bytes": ("a.csv", b"\xff\xfe1,2", "is no table in UTF-8"),
    "one cell": ("a.csv", b"1" * 200_000, "is no table in UTF-8 .field larger"),
    "order": (
        "a.csv",
        b"left hand_x,left hand_y,hip_x,hip_y,right hand_x,right hand_y\n1,2,3,4,5,6\n",
        "column 1 is 'left hand_x' where layout.json has 'hip_x'",
    ),
}


@pytest.mark.parametrize(("file", "content", "reason"), BAD_CLIPS.values(), ids=BAD_CLIPS)
def test_damaged_clip_is_named_and_the_rest_goes_on(file, content, reason, folder):
    (folder / file).write_bytes(content)
    np.save(folder / "good.npy", FRAMES)
    bad, good = custom.read(folder)
    assert good == Clip("good", FRAMES[None], split=1)
    assert (type(bad), bad.name) == (BadClip, "a")
    assert re.search(reason, bad.reason), bad.reason


@pytest.mark.parametrize("kind", ["object array", "bare", "member"])
def test_pickles_are_refused_and_not_run(kind, folder, tmp_path):
    trap = np.array([Trap(tmp_path / "sprung")], dtype=object)
    content = {
        "object array": lambda: npy(trap),
        "bare": lambda: pickle.dumps(trap),
        "member": lambda: npz(frames=npy(trap)),
    }[kind]()
    (folder / ("a.npz" if kind == "member" else "a.npy")).write_bytes(content)
    bad = only(folder)
    assert isinstance(bad, BadClip)
    assert "holds object, not real" in bad.reason or "no NumPy array" in bad.reason
    assert not (tmp_path / "sprung").exists()


def test_file_too_large_is_not_read(folder):
    with open(folder / "a.npy", "wb") as file:
        file.truncate((1 << 28) + 1)  # takes no room on the disk
    assert only(folder) == BadClip("a", f"is larger than {1 << 28} bytes: cut it into clips")


@pytest.mark.parametrize(
    ("frames", "reason"),
    [
        (FRAMES[:0], "it has no frame"),
        (0 * FRAMES, "shows nobody: all joints are missing in all 5 frames"),
        (np.ones((2, 3, 3)), "it has 3 coordinates a joint, the clips before have 2"),
    ],
)
def test_what_the_store_refuses_is_named(frames, reason, folder, tmp_path):
    np.save(folder / "a.npy", FRAMES)
    np.save(folder / "b.npy", frames)
    assert prepare_store(tmp_path / "store", custom.read(folder), source="tests") == [
        BadClip("b", reason)
    ]


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
