"""The table, and the comparison with an earlier result."""

import pytest

from benchmarks import report
from igm_jax.errors import InputError


def one(size="nw_ucla", ratio=1.5, **changes):
    side = {
        "ms_per_step": 20.0,
        "clips_per_second": 3200.0,
        "flops_per_second": 2e11,
        "mfu": None,
        "of_bound": None,
        "peak_bytes": 2**30,
        "compile_seconds": 12.0,
    }
    run = {"size": size, "batch": 64, "dtype": "float32", "platform": "cpu"}
    run |= {"compiled": False, "each_token": False}
    theirs = {**side, "ms_per_step": 20.0 * ratio}
    return {
        **run,
        "ours": {**side, "mfu": 0.25, "of_bound": 0.5},
        "torch": theirs,
        "ratio": ratio,
        **changes,
    }


def test_rows_fit_the_head():
    alone = {**one(), "ratio": None}
    del alone["torch"]
    lines = [*report.HEAD.splitlines(), report.row(one()), report.row(alone)]
    assert {line.count("|") for line in lines} == {len(report.COLUMNS) + 1}
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert dict(zip(report.COLUMNS, cells))["size"] == "nw_ucla"
    assert cells[2:9] == ["20.0", "3200.0", "200", "25.0 %", "50.0 %", "1.00", "12"]
    assert cells[9:] == ["30.0", "3200.0", "200", "1.00", "1.50"]
    assert lines[3].endswith("| - | - | - | - | - |")


def test_a_ratio_that_fell_is_named():
    before = [one(ratio=2.0), one("ntu_masked", ratio=1.0)]
    assert report.fallen([one(ratio=1.81), one("ntu_masked", ratio=3.0)], before, 0.1) == []
    (line,) = report.fallen([one(ratio=1.79), one("ntu_masked", ratio=0.95)], before, 0.1)
    assert line.startswith("nw_ucla: 1.79") and "2.00" in line


def test_what_cannot_be_compared_is_refused():
    other_batch, another_dtype = one(batch=8), one(dtype="bfloat16")
    for before in (
        [],
        [other_batch],
        [another_dtype],
        [{**one(), "ratio": None}],
        [one(platform="gpu")],
    ):
        with pytest.raises(InputError, match="in common"):
            report.fallen([one()], before, 0.1)
