import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import large_store, line_reader
from igm_jax.data import synthetic
from igm_jax.data.formats import ntu_text, ntu_writer
from igm_jax.data.store import SkeletonStore
from igm_jax.errors import InputError

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    tiny = ("--clips=150", "--batches=1", "--files=3", f"--work={folder}")

    def bench(*flags):
        command = [sys.executable, str(ROOT / "benchmarks" / "data.py"), *tiny, *flags]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)

    return bench


def table(text):
    header, _, *lines = text.splitlines()
    names = [cell.strip() for cell in header.strip("|").split("|")]
    return [dict(zip(names, [c.strip() for c in x.strip("|").split("|")])) for x in lines]


def test_every_promise_has_its_row(bench, tmp_path):
    result = bench("--check", f"--json={tmp_path / 'figures.json'}")
    rows = table(result.stdout)
    assert [row["promised"] for row in rows if row["promised"]] == [
        "< 1 s", "< 300 MB", "< 300 MB", "< 300 MB", "≥ 5,000 clips/s", "≥ 5,000 clips/s",
        "≥ 10 times", "≥ 3 files",
    ]  # fmt: skip
    assert [row["measured"] for row in rows if row["promised"] == "≥ 3 files"] == ["3 files"]
    content = json.loads((tmp_path / "figures.json").read_text())
    assert content["machine"]["cores"] >= 1 and content["machine"]["versions"]["numpy"]
    assert [row["what"] for row in content["rows"]] == [row["what"] for row in rows]
    for row, told in zip(content["rows"], rows):
        # A store of a few clips needs no memory, and lies in that already.
        assert row["value"] >= 0 if row["unit"] in ("MB", "kB") else row["value"] > 0
        limits = [row["below"], row["at_least"]]
        assert told["holds"] == {True: "yes", False: "no", None: ""}[row["holds"]]
        assert (row["holds"] is None) == (limits == [None, None])
        if row["below"] is not None:
            assert row["holds"] == (row["value"] < row["below"])
    # The ratio of a machine that is busy may be anything; what it says of it is to be consistent.
    broken = [row["what"] for row in content["rows"] if row["portable"] and not row["holds"]]
    assert result.returncode == bool(broken)
    assert result.stderr == (f"error: broken: {'; '.join(broken)}\n" if broken else "")


def test_one_measure_alone_and_none_of_that_name(bench):
    result = bench("--only=parse")
    assert (result.returncode, result.stderr) == (0, "")
    assert len(table(result.stdout)) == 4
    result = bench("--only=parse,speed")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "error: --only=speed is unknown: choose from open, pipeline, parse\n"


def test_the_large_store_is_the_same_every_time(tmp_path):
    path = large_store.made(tmp_path, 1000)
    store = SkeletonStore.open(path)
    before = (path / "frames.npy").stat().st_mtime_ns
    assert large_store.made(tmp_path, 1000) == path
    assert (path / "frames.npy").stat().st_mtime_ns == before
    assert list(store)[::100] == list(large_store.clips(1000))[::100]
    assert 75 < store.clips["length"].mean() < 85
    assert 0.18 < (store.clips["bodies"] == 2).mean() < 0.26


def test_the_hollow_store_is_one_but_for_its_frames(tmp_path):
    store = SkeletonStore.open(large_store.hollow(tmp_path, 1000))
    full = SkeletonStore.open(large_store.made(tmp_path, 1000))
    columns = [name for name in store.clips.dtype.names if name != "name"]
    assert np.array_equal(store.clips[columns], full.clips[columns])
    assert store.frames.shape == full.frames.shape and not store.frames.any()
    assert (store.path / "frames.npy").stat().st_blocks < 100
    with pytest.raises(InputError, match="sha256"):
        SkeletonStore.verify(store.path)


def both(text):
    return ntu_text.parse(text), line_reader.recording(line_reader.read(text))


def people(count=2, frames=3):
    return ntu_text.record(np.random.default_rng(0).normal(size=(count, frames, 25, 3)))


def test_both_readers_agree_on_genuine_looking_files(tmp_path):
    folder = ntu_writer.write(tmp_path / "raw", list(synthetic.generate(72))[::12])
    texts = [path.read_bytes() for path in folder.iterdir()]
    assert {b"\r" in text for text in texts} == {True, False}
    for text in texts:
        ours, theirs = both(text)
        assert len(ours) > 100 and line_reader.same(ours, theirs)


JOINT = b" 0 0 0 0 0 0 0 0 2\n"
BODY = b"72057594037931101 0 0 0 0 0 0 0 0 2\n25\n"
STRANGE = {
    "nobody": b"2\n0\n0\n",
    "no frames": b"0\n",
    "spellings": b"1\n1\n" + BODY + (b"-1.5E-05 +.5 5." + JOINT + b"1e3 -0 007" + JOINT) * 12
    + b"16777217 0.1 0.12345678901234567" + JOINT,
    "tabs": ntu_text.format_recording(people()).replace(b" ", b"\t"),
    "wide": ntu_text.format_recording(people()).replace(b" ", b"   "),
    "mixed ends": ntu_text.format_recording(people()).replace(b"\n", b"\r\n", 40),
    "no end": ntu_text.format_recording(people()).rstrip(),
    "infinite pixels": b"1\n1\n" + BODY + b"1 2 3 -Infinity inf NaN 0 0 0 0 0 1\n" * 25,
}  # fmt: skip


@pytest.mark.parametrize("text", STRANGE.values(), ids=STRANGE)
def test_both_readers_agree_on_strange_files(text):
    assert line_reader.same(*both(text))


def test_a_difference_is_seen():
    ours, theirs = both(STRANGE["spellings"])
    theirs.joints[0, 24, 2] = np.nextafter(theirs.joints[0, 24, 2], np.float32(1))
    assert not line_reader.same(ours, theirs)
    assert not line_reader.same(ours, both(STRANGE["nobody"])[0])


def test_what_we_accept_the_line_reader_reads_alike():
    """It accepts more: numbers that are not finite, bodies of other joints, text after the end."""
    rng = np.random.default_rng(0)
    text = np.frombuffer(ntu_text.format_recording(people(1, 1)), np.uint8)
    whole = ntu_text.parse(text.tobytes())
    changed = 0
    for _ in range(300):
        damaged = text.copy()
        damaged[rng.integers(len(text))] = rng.choice(list(b"0123456789 .-\nNe"))
        try:
            ours = ntu_text.parse(damaged.tobytes())
        except InputError:
            continue
        try:
            theirs = line_reader.recording(line_reader.read(damaged.tobytes()))
        except ValueError:
            continue  # a field that we do not read is no number
        assert line_reader.same(ours, theirs)
        changed += not line_reader.same(ours, whole)
    assert changed > 20
