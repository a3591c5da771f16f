"""Own clips that are damaged or hostile."""

import io
import os
import pickle
import re
import struct
import zipfile

import numpy as np
import pytest
from custom_folders import FRAMES, npy, only

from igm_jax.data.formats import custom
from igm_jax.data.formats.prepare import prepare_store
from igm_jax.data.store import BadClip, Clip


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


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
