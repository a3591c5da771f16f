import json
import sys

import numpy as np
import pytest
from commands import ROOT, finish

from benchmarks import large_store
from igm_jax.data.store import SkeletonStore
from igm_jax.errors import InputError


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    tiny = ("--num_clips=150", "--batches=1", "--files=3", f"--work={folder}")

    def bench(*flags):
        return finish(folder, sys.executable, ROOT / "benchmarks" / "data.py", *tiny, *flags)

    return bench


def table(text):
    header, _, *lines = text.splitlines()
    names = [cell.strip() for cell in header.strip("|").split("|")]
    return [dict(zip(names, [c.strip() for c in x.strip("|").split("|")])) for x in lines]


def test_every_promise_has_its_row(bench, tmp_path):
    result = bench("--check", f"--json={tmp_path / 'figures.json'}")
    rows = table(result.stdout)
    assert [row["promised"] for row in rows if row["promised"]] == [
        "< 1 s",
        "< 300 MB",
        "< 300 MB",
        "< 300 MB",
        "≥ 5,000 clips/s",
        "≥ 5,000 clips/s",
        "≥ 2 times",
    ]
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
    assert len(table(result.stdout)) == 3
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
