"""Damage that opening or verifying a store must notice."""

import itertools
import json
import os
import pickle

import numpy as np
import pytest
from clip_samples import random_clips

from igm_jax.data.store import SkeletonStore
from igm_jax.data.store import files as store_files
from igm_jax.errors import InputError
from igm_jax.skeleton import KINECT20


def change_meta(**changes):
    def damage(path):
        meta = json.loads((path / "meta.json").read_text())
        (path / "meta.json").write_text(json.dumps({**meta, **changes}))

    return damage


def change_table(column, row, value):
    def damage(path):
        table = np.load(path / "clips.npy")
        table[column][row] = value
        np.save(path / "clips.npy", table)

    return damage


def wrap_around(path):
    """Sixteen clips of 2**60 rows: their sum is 0 in 64 bits, and the last one fits."""
    table, rows = np.load(path / "clips.npy"), len(np.load(path / "frames.npy"))
    table["bodies"], table["length"] = 2**30, 2**30
    table["bodies"][-1], table["length"][-1] = 1, rows
    used = table["bodies"].astype(np.int64) * table["length"]
    table["offset"] = np.cumsum(used) - used
    assert (np.cumsum(used)[-1], table["offset"][-1]) == (rows, 0)
    np.save(path / "clips.npy", table)


def replace(name, make):
    def damage(path):
        (path / name).write_bytes(make((path / name).read_bytes()))

    return damage


def save(name, make):
    return lambda path: np.save(path / name, make(np.load(path / name)), allow_pickle=True)


LAYOUT = KINECT20.to_dict()
DAMAGES = {
    "meta missing": (lambda path: (path / "meta.json").unlink(), "meta.json: no such file"),
    "frames missing": (lambda path: (path / "frames.npy").unlink(), "frames.npy: no such file"),
    "clips missing": (lambda path: (path / "clips.npy").unlink(), "clips.npy: no such file"),
    "meta cut": (replace("meta.json", lambda b: b[:-9]), "meta.json: is not the JSON"),
    "meta list": (replace("meta.json", lambda b: b"[]"), "meta.json: is not the JSON"),
    "meta binary": (replace("meta.json", lambda b: b"\xff\xfe"), "meta.json: is not the JSON"),
    "other format": (change_meta(format="zip"), "meta.json: says format 'zip'"),
    "newer": (change_meta(version=3), "version 3 is newer than the 2 read here: update igm_jax"),
    "older": (change_meta(version=1), "version 1 is older than the 2 read here: prepare"),
    "filled": (change_meta(filled=[1]), "meta.json: key 'filled' does not count"),
    "filled joints": (change_meta(filled={"clips": 1, "joints": [-1]}), "key 'filled' does not"),
    "no counts": (change_meta(counts=None), "meta.json: key 'counts' is missing"),
    "odd counts": (change_meta(counts={"clips": "8"}), "meta.json: key counts.clips"),
    "odd names": (change_meta(class_names=[1]), "meta.json: class_names are not"),
    "odd layout": (change_meta(layout={**LAYOUT, "origin": 99}), "meta.json: key 'layout'"),
    "strange layout": (change_meta(layout={"a": 1}), "meta.json: key 'layout' is no layout"),
    "frames cut": (replace("frames.npy", lambda b: b[:-4]), "frames.npy: is truncated"),
    "frames grown": (replace("frames.npy", lambda b: b + b"0000"), "frames.npy: has .* bytes"),
    "frames empty": (replace("frames.npy", lambda b: b""), "frames.npy: is truncated"),
    "header cut": (replace("frames.npy", lambda b: b[:40]), "frames.npy: is truncated"),
    "float64": (save("frames.npy", lambda a: a.astype(float)), "frames.npy: is float64"),
    "Fortran": (save("frames.npy", np.asfortranarray), "frames.npy: .* in C order"),
    "joints": (save("frames.npy", lambda a: a[:, :19]), r"frames.npy: is float32 \[\d+, 19, 3\]"),
    "rows": (save("frames.npy", lambda a: a[:-1]), "frames.npy: is float32"),
    "clips cut": (replace("clips.npy", lambda b: b[:-1]), "clips.npy: is truncated"),
    "clips short": (save("clips.npy", lambda a: a[:-1]), "clips.npy: 16 clips, meta.json says 17"),
    "no table": (save("clips.npy", lambda a: np.zeros(8)), "clips.npy: .* no clip table"),
    "no clip": (save("clips.npy", lambda a: a[:0]), "clips.npy"),
    "objects": (save("clips.npy", lambda a: a.astype(object)), "clips.npy: .* no plain .npy"),
    "offset beyond": (change_table("offset", -1, 10**12), "clips.npy: .* one after the other"),
    "offset negative": (change_table("offset", 0, -1), "clips.npy: .* one after the other"),
    "too long": (change_table("length", -1, 10**6), "clips.npy: .* one after the other"),
    "sum wraps": (wrap_around, "clips.npy: .* one after the other"),
    "no length": (change_table("length", 2, 0), "clips.npy: a clip has no bodies or no frames"),
    "no bodies": (change_table("bodies", 2, -1), "clips.npy: a clip has no bodies or no frames"),
    "label": (change_table("label", 2, 4), "clips.npy: a label is outside"),
    "camera": (change_table("camera", 2, -4), "clips.npy: .* is negative"),
}


@pytest.mark.parametrize("chunk", [4, 17])
@pytest.mark.parametrize(("damage", "told"), DAMAGES.values(), ids=DAMAGES)
def test_damage_is_named_on_opening(damage, told, chunk, write, monkeypatch):
    monkeypatch.setattr(store_files, "_CHUNK", chunk)
    store = write(random_clips(17))
    damage(store.path)
    with pytest.raises(InputError, match=told) as raised:
        SkeletonStore.open(store.path)
    assert len(str(raised.value).splitlines()) == 1


def test_no_such_folder(tmp_path):
    with pytest.raises(InputError, match="nothing is no skeleton store: give the folder"):
        SkeletonStore.open(tmp_path / "nothing")


class Exploit:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["clips.npy", "frames.npy", "meta.json"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_pickles_are_refused_and_run_nothing(name, wrapped, write, tmp_path):
    store = write(random_clips(3))
    code = Exploit(tmp_path / "executed")
    if wrapped:
        with open(store.path / name, "wb") as file:
            np.save(file, np.array([code], dtype=object), allow_pickle=True)
    else:
        (store.path / name).write_bytes(pickle.dumps(code))
    for check in (SkeletonStore.open, SkeletonStore.verify):
        with pytest.raises(InputError, match=name):
            check(store.path)
    assert not (tmp_path / "executed").exists()


def test_random_damage_to_headers_is_told_or_harmless(write):
    store = write(random_clips(4))
    rng = np.random.default_rng(0)
    for name, _ in itertools.product(("frames.npy", "clips.npy", "meta.json"), range(100)):
        whole = (store.path / name).read_bytes()
        broken = bytearray(whole)
        broken[rng.integers(min(len(whole), 200))] = rng.integers(256)
        (store.path / name).write_bytes(broken)
        try:
            SkeletonStore.open(store.path)
        except InputError as error:
            assert name in str(error) or "frames.npy" in str(error)
        (store.path / name).write_bytes(whole)


# Verification


def test_verify_returns_the_summary(write):
    store = write(random_clips(8))
    assert SkeletonStore.verify(store.path, chunk_rows=7) == store.summary()


@pytest.mark.parametrize("name", ["frames.npy", "clips.npy"])
def test_verify_finds_a_flipped_bit(name, write):
    store = write(random_clips(8))
    data = bytearray((store.path / name).read_bytes())
    # The lowest bit of the last coordinate, or of a label: a value that nothing else would doubt.
    at = len(data) - 4 if name == "frames.npy" else len(data) - 32
    data[at] ^= 1
    (store.path / name).write_bytes(data)
    SkeletonStore.open(store.path)
    with pytest.raises(InputError, match=f"{name}: sha256"):
        SkeletonStore.verify(store.path)


def test_verify_finds_two_clips_of_one_name(write):
    """Written by something else, for our writer refuses them; opening does not compare names."""
    store = write(random_clips(8))
    change_table("name", 5, "clip0002")(store.path)
    checksum = store_files.sha256(store.path / "clips.npy")
    change_meta(sha256={**store.meta["sha256"], "clips.npy": checksum})(store.path)
    SkeletonStore.open(store.path)
    with pytest.raises(InputError, match=r"clips.npy: two clips have one name, 'clip0002'"):
        SkeletonStore.verify(store.path)


def test_verify_names_the_clip_that_is_not_finite(write):
    store = write(random_clips(8))
    frames = np.load(store.path / "frames.npy")
    frames[store.clips["offset"][5]] = np.inf
    np.save(store.path / "frames.npy", frames)
    checksum = store_files.sha256(store.path / "frames.npy")
    change_meta(sha256={**store.meta["sha256"], "frames.npy": checksum})(store.path)
    with pytest.raises(InputError, match=r"frames.npy: row \d+ \(clip 'clip0005'\) is not finite"):
        SkeletonStore.verify(store.path, chunk_rows=7)
