import json
import mmap
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import time
import tracemalloc
import types

import numpy as np
import pytest
from clip_samples import random_clips

from igm_jax.data.store import BadClip, Clip, SkeletonStore
from igm_jax.data.store import files as store_files
from igm_jax.errors import InputError
from igm_jax.skeleton import KINECT20, Layout

ROOT = pathlib.Path(__file__).parents[3]
FILES = ("frames.npy", "clips.npy", "meta.json")


def content(path):
    return {name: (path / name).read_bytes() for name in FILES}


def good(name="good", **changes):
    return Clip(**{"name": name, "frames": np.ones((1, 2, 20, 3), np.float32), **changes})


# Round trip


def test_write_then_read_is_the_identity(write):
    clips = list(random_clips(50))
    assert {clip.frames.shape[0] for clip in clips} == {1, 2, 3}
    store = write(iter(clips), dataset="toy", units="feet", cleaning=["a", "b"])
    assert len(store) == 50
    assert list(store) == clips
    assert store.frames.shape == (sum(c.frames.shape[0] * c.frames.shape[1] for c in clips), 20, 3)
    assert store.layout == KINECT20
    assert store.class_names == ("w", "x", "y", "z")
    assert (store.dataset, store.meta["units"], store.meta["cleaning"]) == (
        "toy",
        "feet",
        ["a", "b"],
    )
    assert np.array_equal(store[-1].frames, clips[-1].frames)


def test_clips_differ_in_any_field():
    clip = good()
    changes = {"name": "b", "label": 1, "subject": 1, "camera": 1, "setup": 1, "split": 1}
    for change in [{key: value} for key, value in changes.items()]:
        assert clip != good(**change)
    assert clip != good(frames=np.zeros((1, 2, 20, 3), np.float32))
    assert clip == good()


def test_rows_are_body_major_and_plain_numpy_reads_them(write):
    frames = np.arange(2 * 3 * 20 * 3, dtype=np.float32).reshape(2, 3, 20, 3)
    store = write([good(), good("second", frames=frames)])
    rows = np.load(store.path / "frames.npy", allow_pickle=False)
    row = np.load(store.path / "clips.npy", allow_pickle=False)[1]
    assert (row["name"], row["bodies"], row["offset"], row["length"]) == ("second", 2, 2, 3)
    assert np.array_equal(rows[2:8], frames.reshape(6, 20, 3))


def test_other_channels_layouts_and_float64_input(write):
    layout = Layout("stick", ("a", "b", "c"), (-1, 0, 1))
    frames = np.random.default_rng(0).normal(size=(1, 4, 3, 2))
    store = write([good(frames=frames)], layout=layout, class_names=[])
    assert store.layout == layout
    assert np.array_equal(store[0].frames, frames.astype(np.float32))


def test_same_clips_give_same_bytes(write, tmp_path):
    a, b = (write(random_clips(9), path=tmp_path / name) for name in "ab")
    assert content(a.path) == content(b.path)


def test_files_are_read_only_maps(write):
    store = write(random_clips(3))
    with pytest.raises(ValueError):
        store[0].frames[:] = 0
    assert isinstance(store.frames, np.memmap)
    assert isinstance(store.clips, np.memmap)


def test_pickles_as_its_path(write):
    store = write(random_clips(40))
    data = pickle.dumps(store)
    assert len(data) < 1000
    assert list(pickle.loads(data)) == list(store)


def test_writing_needs_the_memory_of_one_clip(write):
    frames = np.ones((1, 1000, 20, 3), np.float32)  # 240 kB
    tracemalloc.start()
    write(good(str(i), frames=frames.copy()) for i in range(200))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3e6  # of 48 MB


def test_opens_114_000_clips_in_a_second_and_keeps_nothing_of_them(write):
    store = write([good()])
    count = 114_000
    table = np.zeros(count, store_files.clip_dtype(20))
    table["name"] = np.char.add("S001C001P001R", np.arange(count).astype("<U7"))
    table["bodies"], table["length"], table["offset"] = 1, 2, 2 * np.arange(count)
    np.save(store.path / "clips.npy", table)
    np.save(store.path / "frames.npy", np.zeros((2 * count, 20, 3), np.float32))
    store.meta["counts"].update(clips=count, rows=2 * count)
    (store.path / "meta.json").write_text(json.dumps(store.meta))
    started = time.perf_counter()
    assert len(SkeletonStore.open(store.path)) == count
    assert time.perf_counter() - started < 1
    tracemalloc.start()
    SkeletonStore.open(store.path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6  # of a table of 13 MB


def test_reads_ahead_the_pages_of_its_clips_and_no_others(write):
    store = write(random_clips(40))
    advised = []
    file = types.SimpleNamespace(madvise=lambda *call: advised.append(call))
    whole = store.frames
    frames = types.SimpleNamespace(strides=whole.strides, offset=whole.offset, base=file)
    chosen = store.clips[[31, 4, 5]]
    SkeletonStore.read_ahead(types.SimpleNamespace(frames=frames), chosen)
    content = (store.path / "frames.npy").read_bytes()
    for clip, (advice, start, size) in zip(chosen, advised, strict=True):
        assert advice == mmap.MADV_WILLNEED and start % mmap.PAGESIZE == 0
        rows = whole[clip["offset"] :][: clip["bodies"] * clip["length"]].tobytes()
        advised_bytes = content[start : start + size]
        assert advised_bytes.endswith(rows)
        assert len(advised_bytes) < len(rows) + mmap.PAGESIZE
    store.read_ahead(chosen)  # the system takes it


def test_summary(write):
    facts = write(random_clips(20)).summary()
    assert (facts["clips"], facts["classes"], facts["subjects"]) == (20, 4, 5)
    assert (facts["cameras"], facts["setups"], facts["skipped"]) == (3, 2, 0)
    assert facts["length"][0] >= 1 and facts["length"][2] <= 30


# Bad clips

NAN = np.full((1, 2, 20, 3), np.nan, np.float32)
BAD = {
    "no frame": (good("bad", frames=np.zeros((1, 0, 20, 3), np.float32)), "has no frame"),
    "no body": (good("bad", frames=np.zeros((0, 5, 20, 3), np.float32)), "has no body"),
    "nan": (good("bad", frames=NAN), "NaN or infinite"),
    "float32 overflow": (good("bad", frames=np.full((1, 2, 20, 3), 1e39)), "NaN or infinite"),
    "joints": (
        good("bad", frames=np.ones((1, 2, 25, 3), np.float32)),
        "has 25 joints, layout 'kinect20' has 20",
    ),
    "channels": (good("bad", frames=np.ones((1, 2, 20, 2), np.float32)), "has 2 coordinates"),
    "label": (good("bad", label=4), "label 4 is outside the 4 class names"),
    "subject": (good("bad", subject=-1), "not all 0 "),
    "unreadable": (BadClip("bad", "line 3: not a number"), "line 3: not a number"),
}


@pytest.mark.parametrize(("bad", "reason"), BAD.values(), ids=BAD)
def test_bad_clip_is_refused_or_skipped_by_name(bad, reason, write, tmp_path):
    clips = [good("first"), bad, good("last")]
    with pytest.raises(InputError, match=f"'bad': .*{reason}"):
        write(clips)
    assert os.listdir(tmp_path) == []
    store = write(clips, on_bad="skip")
    assert [clip.name for clip in store] == ["first", "last"]
    assert store.meta["skipped"]["count"] == 1
    ((name, told),) = store.meta["skipped"]["clips"]
    assert name == "bad" and reason in told
    assert store.summary()["skipped"] == 1


def test_skipped_clips_are_returned(tmp_path):
    skipped = SkeletonStore.write(
        tmp_path / "store",
        [good("a"), good("a"), BadClip("b", "gone")],
        layout=KINECT20,
        class_names=[],
        source="tests",
        on_bad="skip",
    )
    assert [bad.name for bad in skipped] == ["a", "b"]
    assert "came before" in skipped[0].reason
    assert len(SkeletonStore.open(tmp_path / "store")) == 1


@pytest.mark.parametrize("name", ["", "a\0b", "a\nb", "x" * 257])
def test_names_are_printable(name, write):
    with pytest.raises(InputError, match="printable"):
        write([good(name)])


def test_array_of_wrong_rank_or_kind(write):
    for frames in (np.ones((2, 20, 3), np.float32), np.ones((1, 2, 20, 3), int)):
        clip = good("bad")
        object.__setattr__(clip, "frames", frames)  # past the shape check of the test run
        with pytest.raises(InputError, match=r"'bad': frames are .*, not floating \[M, T, V, C\]"):
            write([clip])


def test_nothing_to_write(write, tmp_path):
    with pytest.raises(InputError, match="no clip to write"):
        write([])
    with pytest.raises(InputError, match=r"no clip to write \(1 skipped"):
        write([good(frames=NAN)], on_bad="skip")
    with pytest.raises(InputError, match="on_bad='ignore' is unknown"):
        write([good()], on_bad="ignore")
    assert os.listdir(tmp_path) == []


# Targets


def test_existing_store_is_replaced_only_if_told(write, tmp_path):
    store = write(random_clips(3))
    before = content(store.path)
    with pytest.raises(InputError, match="exists already"):
        write(random_clips(5))
    assert content(store.path) == before
    assert len(write(random_clips(5), overwrite=True)) == 5
    assert os.listdir(tmp_path) == ["store"]


def test_failed_overwrite_loses_nothing(write, tmp_path):
    store = write(random_clips(3))
    before = content(store.path)

    def breaks():
        yield good()
        raise RuntimeError("reader broke")

    with pytest.raises(RuntimeError, match="reader broke"):
        write(breaks(), overwrite=True)
    assert content(store.path) == before
    assert os.listdir(tmp_path) == ["store"]


def test_failed_exchange_puts_the_old_store_back(write, tmp_path, monkeypatch):
    store = write(random_clips(3))
    before, rename = content(store.path), pathlib.Path.rename

    def fails_for_the_new(self, target):
        if "writing" in self.name:
            raise OSError(5, "Input/output error", str(target))
        return rename(self, target)

    monkeypatch.setattr(pathlib.Path, "rename", fails_for_the_new)
    with pytest.raises(OSError, match="Input/output"):
        write(random_clips(5), overwrite=True)
    assert content(store.path) == before
    assert os.listdir(tmp_path) == ["store"]


def test_only_stores_are_overwritten(write, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("more")
    for name in ("home", "file"):
        with pytest.raises(InputError, match="not part of a skeleton store"):
            write([good()], path=tmp_path / name, overwrite=True)
    assert (tmp_path / "home" / "thesis.txt").read_text() == "years of work"
    assert (tmp_path / "file").read_text() == "more"


def test_target_that_appears_meanwhile_is_kept(write, tmp_path):
    def clips():
        yield good()
        write([good("other")], path=tmp_path / "store")

    with pytest.raises(InputError, match="exists already"):
        write(clips())
    assert SkeletonStore.open(tmp_path / "store")[0].name == "other"


def test_a_link_stays_a_link(write, tmp_path):
    real = write(random_clips(2), path=tmp_path / "real").path
    (tmp_path / "link").symlink_to(real)
    assert len(write(random_clips(4), path=tmp_path / "link", overwrite=True)) == 4
    assert (tmp_path / "link").is_symlink()
    assert len(SkeletonStore.open(real)) == 4


def test_unwritable_folder(write, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write([good()], path=tmp_path / "file" / "store")


# A writer in another process that tells where it is and never stops.
WRITER = """
import itertools, pathlib, resource, sys
import numpy as np
from igm_jax.data.store import Clip, SkeletonStore
from igm_jax.skeleton import KINECT20
limit = int(sys.argv[2])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
def clips():
    for i in itertools.count():
        if i == 100:
            print("writing", flush=True)
        yield Clip(str(i), np.ones((1, 9, 20, 3), np.float32))
try:
    SkeletonStore.write(sys.argv[1], clips(), layout=KINECT20, class_names=[], source="endless")
except OSError as error:
    print("OSError", error, flush=True)
"""


def start_writer(target, limit=0):
    command = [sys.executable, "-c", WRITER, str(target), str(limit)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_killed_writer_leaves_no_target(write, tmp_path):
    process = start_writer(tmp_path / "store")
    assert process.stdout.readline() == "writing\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (leftover,) = os.listdir(tmp_path)
    assert leftover.startswith(".store.writing-")
    with pytest.raises(InputError, match="no skeleton store"):
        SkeletonStore.open(tmp_path / "store")
    assert len(write([good()])) == 1
    assert sorted(os.listdir(tmp_path)) == [leftover, "store"]


def test_full_disk_is_an_oserror_with_the_path(tmp_path):
    output = start_writer(tmp_path / "store", limit=10_000_000).communicate(timeout=60)[0]
    assert "OSError" in output and str(tmp_path / "store") in output
    assert os.listdir(tmp_path) == []
