import functools
import io
import os
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest
from clip_samples import content

from igm_jax.data import protocols, synthetic
from igm_jax.data.formats import mamp_npz, ntu60, ntu120, pku_mmd, prepare
from igm_jax.data.formats.prepare import prepare_store
from igm_jax.data.formats.sources import FORMATS
from igm_jax.data.store import BadClip, Clip, SkeletonStore
from igm_jax.errors import InputError

FRAMES = 40  # the genuine files pad to 300


def some_clips(count=7, classes=60):
    """Of one or two bodies and various lengths, as the file will name them."""
    for i, clip in zip(range(count), synthetic.generate(count, seed=4)):
        two = clip.frames[:1, :, :, :] + [0.8, 0, 0]
        frames = np.concatenate([clip.frames[:1], two]) if i % 3 == 1 else clip.frames[:1]
        yield Clip(f"train_{i}", frames[:, : 10 + 3 * i].astype(np.float32), i % classes, split=1)


def dense(clips, classes=60):
    """x [N, T, 150] and one-hot y, padded as published."""
    clips = list(clips)
    x = np.zeros((len(clips), FRAMES, 2, 25, 3), np.float32)
    for row, clip in zip(x, clips, strict=True):
        row[: clip.frames.shape[1], : len(clip.frames)] = clip.frames.swapaxes(0, 1)
    return x.reshape(len(clips), FRAMES, 150), np.eye(classes)[[clip.label for clip in clips]]


def arrays(**changes):
    """Seven clips to train on and the last three of them to test on."""
    x, y = dense(some_clips())
    return {"x_train": x, "y_train": y, "x_test": x[4:], "y_test": y[4:], **changes}


def put(folder, save=np.savez, name="NTU60_XSub.npz", **changes):
    path = folder / name
    held = {k: v for k, v in arrays(**changes).items() if v is not None}
    save(path, **held)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_round_trip(save, tmp_path):
    raw = mamp_npz.read(put(tmp_path, save))
    expected = list(some_clips())
    test = [Clip(f"test_{i}", c.frames, c.label, split=2) for i, c in enumerate(expected[4:])]
    assert list(raw) == expected + test
    assert list(raw) == expected + test  # a second time, from the beginning
    assert {len(clip.frames) for clip in raw} == {1, 2}
    assert raw.layout.name == "ntu25" and raw.units == "metres"
    assert raw.class_names == ntu60.CLASS_NAMES


def test_one_archive_is_open_at_a_time(tmp_path, monkeypatch):
    raw, opened = mamp_npz.read(put(tmp_path)), []

    class Kept(zipfile.ZipFile):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            opened.append(self)

    monkeypatch.setattr(zipfile, "ZipFile", Kept)
    assert len(list(raw)) == len(list(raw))  # from x_train to x_test, and back to the beginning
    assert [archive.fp is None for archive in opened] == [True, True, True, False]


def test_types_of_the_arrays(tmp_path):
    x, y = dense(some_clips())
    changes = {"x_train": x.astype(np.float64), "x_test": x.astype(">f4")[4:]}
    changes |= {"y_train": y.astype(np.int64), "y_test": y.astype(np.float32)[4:]}
    raw = mamp_npz.read(put(tmp_path, **changes))
    assert [clip.frames.dtype for clip in raw] == [np.float32] * 10
    assert list(raw)[:7] == list(some_clips())


@pytest.mark.parametrize(
    ("classes", "names"),
    [
        (60, ntu60.CLASS_NAMES),
        (120, ntu120.CLASS_NAMES),
        (51, pku_mmd.CLASS_NAMES),
        (7, tuple(f"class {i}" for i in range(7))),
    ],
)
def test_class_names_are_those_of_the_published_files(classes, names, tmp_path):
    _, y = dense(some_clips(), classes)
    changes = {"y_train": y, "y_test": y[4:]}
    assert mamp_npz.read(put(tmp_path, **changes)).class_names == names


def test_a_copied_second_body_is_absent_and_a_lost_one_is_held(tmp_path):
    x, _ = dense(some_clips())
    x[0, :, 75:] = x[0, :, :75]  # as NTU RGB+D 120 is filled
    x[1, 5:8, 75:] = 0
    x[3, 2:4] = 0
    clips = list(mamp_npz.read(put(tmp_path, x_train=x)))
    expected = list(some_clips())
    assert clips[0] == expected[0] and clips[2] == expected[2]
    assert np.array_equal(clips[1].frames[0], expected[1].frames[0])
    assert (clips[1].frames[1, 5:8] == expected[1].frames[1, 4]).all()
    assert np.array_equal(clips[3].frames, np.delete(expected[3].frames, [2, 3], axis=1))


def test_bad_rows_are_named_and_the_rest_goes_on(tmp_path):
    x, y = dense(some_clips())
    x[2] = 0
    y[0, 5], y[1], y[4], y[5] = 1, 0, y[4] * 0.5, np.nan
    clips = list(mamp_npz.read(put(tmp_path, x_train=x, y_train=y)))
    of_one = "row {} of y_train does not name exactly one class"
    assert [c for c in clips if isinstance(c, BadClip)] == [
        BadClip("train_0", of_one.format(0)),
        BadClip("train_1", of_one.format(1)),
        BadClip("train_2", "shows nobody: all joints are missing in all 40 frames"),
        BadClip("train_4", of_one.format(4)),
        BadClip("train_5", of_one.format(5)),
    ]
    assert sum(isinstance(clip, Clip) for clip in clips) == 5


def test_infinite_coordinates_are_named_and_nan_is_filled(tmp_path):
    x, _ = dense(some_clips())
    x[2, 3, 4], x[3, 1, 4] = np.inf, np.nan
    expected = (x[3, 0, 3:6] + x[3, 2, 3:6]) / 2
    raw = mamp_npz.read(put(tmp_path, x_train=x))
    (bad,) = prepare_store(tmp_path / "s", raw, source="t")
    assert (bad.name, bad.reason[:37]) == ("train_2", "has inf for joint 'mid spine' in fram")
    (clip,) = (clip for clip in SkeletonStore.open(tmp_path / "s") if clip.name == "train_3")
    np.testing.assert_allclose(clip.frames[0, 1, 1], expected, rtol=1e-5)


def test_origin_of_a_centred_clip_is_no_gap(tmp_path):
    """The published scripts move joint 1 of the first frame to zero."""
    x, y = dense(some_clips())
    first = x[:, 0, 3:6].copy()
    x = np.where(x.any(axis=-1, keepdims=True), x - np.tile(first, 50)[:, None], 0)
    for clip, row in zip(mamp_npz.read(put(tmp_path, x_train=x, y_train=y)), x):
        assert not clip.frames[0, 0, 1].any() and not any(clip.filled)
        assert np.array_equal(clip.frames[0, 0].ravel(), row[0, :75].astype(np.float32))


def npy(array=None, header=None, version=(1, 0), values=b""):
    """The bytes of a .npy file, or of one with a header of any kind."""
    file = io.BytesIO()
    if header is None:
        np.save(file, array)
    else:
        file.write(np.lib.format.magic(*version))
        text = (repr(header) if isinstance(header, dict) else header).encode()
        file.write(len(text).to_bytes(2, "little") + text + values)
    return file.getvalue()


def promise(shape, descr="<f4", fortran=False):
    return {"descr": descr, "fortran_order": fortran, "shape": shape}


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


X, Y = dense(some_clips())
HOSTILE = {
    "no x": ({"x_train": None}, "has no array x_train, but 'x_test.npy', 'y_"),
    "no y": ({"y_test": None}, "has no array y_test"),
    "two axes": ({"x_train": X[0]}, r"x_train is float32 \[40, 150\], not float \[clips"),
    "joints": ({"x_train": X[..., :75]}, r"\[7, 40, 75\], not float \[clips, frames, 150\]"),
    "whole numbers": ({"x_test": X.astype(int)}, r"x_test is int64 \[7, 40, 150\], not float"),
    "no frames": ({"x_train": X[:, :0]}, "promises 7 clips of 0 frames"),
    "labels": ({"y_train": Y[:6]}, r"y_train has shape \[6, 60\], not \[7, classes\]"),
    "indices": ({"y_train": Y.argmax(1)}, r"y_train has shape \[7\], not \[7, classes\]"),
    "no class": ({"y_train": Y[:, :0]}, r"y_train has shape \[7, 0\]"),
    "other classes": ({"y_test": np.eye(50)[:3]}, r"have \[50, 60\] columns, not the same"),
    "text": ({"y_train": Y.astype("U9")}, "y_train holds <U9, not real numbers"),
    "objects": ({"x_train": np.array([Evil()], dtype=object)}, "x_train holds object"),
    "object labels": ({"y_test": np.array([[Evil()]] * 3)}, "y_test holds object"),
    "complex": ({"x_train": X.astype(complex)}, "holds complex128"),
    "fortran": ({"x_train": np.asfortranarray(X)}, "is in Fortran order: save a copy"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_other_arrays_are_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changes, told = HOSTILE[name]
    path = put(tmp_path, **changes)
    with pytest.raises(InputError, match=told) as error:
        mamp_npz.read(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
    assert not (tmp_path / "executed").exists()


FORGED = {
    "clips": (promise((1 << 40, 40, 150)), "header promises"),
    "overflow": (promise((1 << 62, 1 << 62, 150)), "header promises"),
    "negative": (promise((-1, 40, 150)), "header promises|is damaged"),
    "none": (promise((1 << 40, 1, 0)), "not float"),
    "objects": (promise((7, 40, 150), "|O"), "holds object"),
    "code": ("__import__('os').system('touch executed')", "is damaged"),
    "deep": ("(" * 3000, "is damaged"),
    "long": (" " * 60_000, "is damaged"),
}


@pytest.mark.parametrize("name", FORGED)
@pytest.mark.parametrize("member", ["x_train", "y_test"])
def test_forged_headers_claim_no_memory(name, member, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    header, told = FORGED[name]
    path = tmp_path / "forged.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for key, array in arrays().items():
            made = (
                npy(header=header, values=b"\0" * (64 * (name != "none")))
                if key == member
                else npy(array)
            )
            archive.writestr(f"{key}.npy", made)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=f"{member} .*({told}|not .7|not .3)") as error:
            mamp_npz.read(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 23
    finally:
        tracemalloc.stop()
    assert "\n" not in str(error.value)
    assert not (tmp_path / "executed").exists()


def test_more_clips_or_labels_than_anybody_has(tmp_path, monkeypatch):
    path = put(tmp_path)
    for limit, value, told in (
        ("_MAX_CLIPS", 6, "promises 7 clips of 40 frames, where 0 to 6"),
        ("_MAX_FRAMES", 39, "promises 7 clips of 40 frames"),
        ("_MAX_LABEL_BYTES", 100, "more than 100 bytes"),
    ):
        with monkeypatch.context() as patch, pytest.raises(InputError, match=told):
            patch.setattr(mamp_npz, limit, value)
            mamp_npz.read(path)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_cut_or_changed_archives_are_one_error(save, tmp_path):
    path = put(tmp_path, save)
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=f"^{path}: x_train .*zip file: download"):
            mamp_npz.read(path)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        info = archive.getinfo("x_train.npy")
    changed = bytearray(whole)
    at = info.header_offset + info.compress_size // 2
    changed[at : at + 100] = b"\x55" * 100
    path.write_bytes(changed)
    with pytest.raises(
        InputError, match=r"x_train row \d cannot be read .*: download or make it again"
    ):
        list(mamp_npz.read(path))
    path.write_bytes(b"PK no archive")
    with pytest.raises(InputError, match="not a zip file"):
        mamp_npz.read(path)


def test_a_pickle_is_not_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.npz"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(InputError, match="not a zip file"):
        mamp_npz.read(path)
    assert not (tmp_path / "executed").exists()


def test_the_arrays_stay_in_the_file(tmp_path):
    """Three hundred clips of 300 frames are 54 MB; one is 180 kB."""
    x = np.ones((300, 300, 150), np.float32)
    y = np.eye(60)[np.zeros(300, int)]
    path = put(tmp_path, np.savez_compressed, x_train=x, y_train=y)
    del x
    tracemalloc.start()
    assert sum(len(clip.frames) for clip in mamp_npz.read(path)) > 300
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def stopping(read_part, part, *, at):
    if part.name == at:
        raise KeyboardInterrupt
    return read_part(part)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_stopped_limited_or_with_workers_it_is_the_same(save, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare, "_COMMIT_EVERY", -1.0)
    path = put(tmp_path, save)
    prepare_store(tmp_path / "whole", mamp_npz.read(path), source="t")
    prepare_store(tmp_path / "two", mamp_npz.read(path), source="t", workers=2)
    for at in ("train_5", "test_1"):
        raw = mamp_npz.read(path)
        object.__setattr__(raw, "read_part", functools.partial(stopping, raw.read_part, at=at))
        with pytest.raises(KeyboardInterrupt):
            prepare_store(tmp_path / "stopped", raw, source="t")
    seen = []
    prepare_store(tmp_path / "stopped", mamp_npz.read(path), source="t", progress=seen.append)
    assert seen[0] == 8
    assert content(tmp_path / "whole") == content(tmp_path / "two") == content(tmp_path / "stopped")
    few = list(mamp_npz.read(path).limited(4))
    assert len(few) == 4 and all(clip in list(mamp_npz.read(path)) for clip in few)
    store = SkeletonStore.open(tmp_path / "whole")
    parts = {part: len(protocols.split(store, "split", part)) for part in ("train", "test")}
    assert parts == {"train": 7, "test": 3}


def test_missing_files_say_how_to_get_them(tmp_path):
    for source in (tmp_path, tmp_path / "nowhere.npz"):
        with pytest.raises(InputError, match=f"^{source}: no such file: .*--dataset=mamp_npz"):
            mamp_npz.read(source)
    assert FORMATS["mamp_npz"] is mamp_npz
