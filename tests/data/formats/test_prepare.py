import dataclasses
import functools
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
from clip_samples import content, random_clips

from igm_jax.data import synthetic
from igm_jax.data.formats import prepare
from igm_jax.data.formats.prepare import prepare_store
from igm_jax.data.raw import RawData, one_clip
from igm_jax.data.store import BadClip, SkeletonStore
from igm_jax.errors import InputError
from igm_jax.skeleton import KINECT20

ROOT = pathlib.Path(__file__).parents[3]


def read_three(part):
    """Three clips a part; every fifth part is damaged."""
    if part % 5 == 4:
        return [BadClip(f"part{part}", "is damaged")]
    clips = random_clips(3, seed=part)
    return [dataclasses.replace(clip, name=f"{part}-{clip.name}") for clip in clips]


def stopping(part, *, at):
    if part == at:
        raise KeyboardInterrupt
    return read_three(part)


def dying(part, *, at):
    if part >= at:
        os._exit(1)
    return read_three(part)


def raw(read_part=read_three, parts=range(30)):
    return RawData(parts, read_part, "toy", KINECT20, ("w", "x", "y", "z"), ("a step",))


@pytest.fixture
def expected(tmp_path):
    """The bytes of an undisturbed run."""
    prepare_store(tmp_path / "expected", raw(), source="tests")
    return content(tmp_path / "expected")


@pytest.fixture(autouse=True)
def commit_at_once(monkeypatch):
    monkeypatch.setattr(prepare, "_COMMIT_EVERY", -1.0)


def visible(folder):
    """All but the lock files, which stay."""
    return sorted(name for name in os.listdir(folder) if not name.endswith(".lock"))


def test_is_what_the_store_writes_itself(tmp_path, write, expected):
    skipped = prepare_store(tmp_path / "a", raw(), source="tests")
    assert [bad.name for bad in skipped] == [
        "part4",
        "part9",
        "part14",
        "part19",
        "part24",
        "part29",
    ]
    store = write(raw(), source="tests", dataset="toy", cleaning=["a step"], on_bad="skip")
    assert content(tmp_path / "a") == content(store.path) == expected
    assert visible(tmp_path) == ["a", "expected", "store"]


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_change_no_byte(workers, tmp_path):
    data = synthetic.generate(200, seed=3)
    stores = []
    for count in (1, workers):
        seen = []
        prepare_store(
            tmp_path / str(count), data, source="tests", workers=count, progress=seen.append
        )
        assert seen == list(range(len(data) + 1))
        stores.append(content(tmp_path / str(count)))
    assert stores[0] == stores[1]


@pytest.mark.parametrize("at", [0, 1, 5, 17, 29])
def test_a_stopped_run_goes_on_to_the_same_bytes(at, tmp_path, expected):
    stop = functools.partial(stopping, at=at)
    with pytest.raises(KeyboardInterrupt):
        prepare_store(tmp_path / "store", raw(stop), source="tests")
    assert not (tmp_path / "store").exists()
    seen = []
    prepare_store(tmp_path / "store", raw(), source="tests", progress=seen.append)
    assert seen == list(range(at, 31))
    assert content(tmp_path / "store") == expected
    assert visible(tmp_path) == ["expected", "store"]


def test_what_was_written_after_the_last_line_is_cut_off(tmp_path, expected):
    with pytest.raises(KeyboardInterrupt):
        prepare_store(tmp_path / "store", raw(functools.partial(stopping, at=7)), source="tests")
    folder = tmp_path / ".store.partial"
    with (
        open(folder / "frames.npy", "ab") as frames,
        open(folder / "journal.jsonl", "a", encoding="utf-8") as journal,
    ):
        frames.write(b"half a clip")
        journal.write('{"parts": 8, "clips": [["8-cl')
    prepare_store(tmp_path / "store", raw(), source="tests")
    assert content(tmp_path / "store") == expected


def test_frames_that_the_disk_lost_are_read_again(tmp_path, expected):
    with pytest.raises(KeyboardInterrupt):
        prepare_store(tmp_path / "store", raw(functools.partial(stopping, at=7)), source="tests")
    os.truncate(tmp_path / ".store.partial" / "frames.npy", 500)
    prepare_store(tmp_path / "store", raw(), source="tests")
    assert content(tmp_path / "store") == expected


def test_other_data_are_not_mixed_in(tmp_path, expected):
    other = raw(functools.partial(stopping, at=7), range(1, 30))
    with pytest.raises(KeyboardInterrupt):
        prepare_store(tmp_path / "store", other, source="tests")
    prepare_store(tmp_path / "store", raw(), source="tests")
    assert content(tmp_path / "store") == expected


def test_a_file_that_changed_is_other_data(tmp_path):
    file = tmp_path / "file"
    file.write_text("a")
    data = raw(parts=[file])
    before = data.fingerprint()
    assert data.fingerprint() == before
    file.write_text("ab")
    assert data.fingerprint() != before
    assert dataclasses.replace(data, cleaning=()).fingerprint() != data.fingerprint()


# A run in another process that commits each part and says so.
RUN = """
import sys
sys.path[:0] = ["tests/data", "tests/data/formats"]
from igm_jax.data.formats import prepare
from test_prepare import raw
prepare._COMMIT_EVERY = -1.0
prepare.prepare_store(
    sys.argv[1], raw(), source="tests", progress=lambda parts: print(parts, flush=True)
)
"""


def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path, expected):
    command = [sys.executable, "-c", RUN, str(tmp_path / "store")]
    for kills in range(3):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        first = int(process.stdout.readline())
        assert first >= 3 * kills
        while int(process.stdout.readline()) < first + 4:
            pass
        process.send_signal(signal.SIGKILL)
        process.communicate()
    prepare_store(tmp_path / "store", raw(), source="tests")
    assert content(tmp_path / "store") == expected


def test_one_process_at_a_time(tmp_path):
    def meanwhile(part):
        with pytest.raises(InputError, match=r"process \d+ on host \S+ prepares this store: wait"):
            prepare_store(tmp_path / "store", raw(), source="tests")
        return read_three(part)

    prepare_store(tmp_path / "store", raw(meanwhile, range(2)), source="tests")
    assert len(SkeletonStore.open(tmp_path / "store")) == 6


def test_refused_clips_leave_nothing(tmp_path):
    with pytest.raises(InputError, match=r"'part4': is damaged: .*without --strict"):
        prepare_store(tmp_path / "store", raw(), source="tests", on_bad="refuse")
    assert visible(tmp_path) == []


def test_what_the_publisher_leaves_out_is_never_refused(tmp_path):
    listed = BadClip("listed", "is on the list", published=True)
    data = raw(lambda part: [listed] if part == 4 else list(random_clips(3)), parts=[0, 4])
    skipped = prepare_store(tmp_path / "store", data, source="tests", on_bad="refuse")
    assert skipped == [listed]
    assert len(SkeletonStore.open(tmp_path / "store")) == 3


def test_a_dead_reader_is_one_clear_error_and_loses_nothing(tmp_path, monkeypatch, expected):
    monkeypatch.setattr("igm_jax.data.raw._TOGETHER", 2)
    with pytest.raises(InputError, match=r"reading process was killed.*fewer --workers"):
        prepare_store(
            tmp_path / "store", raw(functools.partial(dying, at=24)), source="tests", workers=2
        )
    seen = []
    prepare_store(tmp_path / "store", raw(), source="tests", progress=seen.append)
    assert seen[0] > 0
    assert content(tmp_path / "store") == expected


def test_no_usable_clip_says_why(tmp_path):
    data = raw(functools.partial(one_clip, lambda part: BadClip(str(part), "is empty")))
    with pytest.raises(
        InputError, match=r"no clip to write \(30 skipped; the first, 0: is empty\)"
    ):
        prepare_store(tmp_path / "store", data, source="tests")


def test_limit_spreads_over_the_parts():
    few = list(raw().limited(4).parts)
    assert few == list(raw().limited(4).parts) == sorted(set(few)) and len(few) == 4
    assert raw().limited(30).parts == raw().limited(99).parts == range(30)
    with pytest.raises(InputError, match="limit of 0"):
        raw().limited(0)
    clips = list(synthetic.generate(1152).limited(50))
    assert len({clip.subject for clip in clips}) == 16
    assert np.unique([clip.label for clip in clips]).size >= 20
