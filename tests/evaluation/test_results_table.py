"""Tables of results, and the files that keep their rows."""

import dataclasses
import json

import pytest
import tiny

from igm_jax.evaluation.run import Run
from igm_jax.evaluation.table import markdown_table, save_rows


@pytest.fixture
def run(tmp_path):
    """A run of which only the folder, the step and the protocol are looked at."""
    return Run(tmp_path, 10, tiny.config(), tiny.READING, data={}, params={})


def test_table_and_file(run):
    rows = [{"features": "a", "test_linear": 69.6}, {"features": "longer", "test_linear": 7}]
    assert markdown_table(rows).splitlines() == [
        "| features | test % |",
        "|----------|--------|",
        "| a        | 69.6   |",
        "| longer   | 7      |",
    ]
    assert markdown_table([rows[0] | {"details": {}}, rows[1]]) == markdown_table(rows)
    save_rows(run.folder / "x.json", run, rows)
    assert json.loads((run.folder / "x.json").read_text()) == {
        "step": 10,
        "total_steps": None,
        "unfinished": False,
        "protocol": "xsub",
        "rows": rows,
    }


def test_baselines_stay_where_only_the_run_is_judged_again(run):
    file, both = run.folder / "y.json", [{"features": "a", "x": 1}, {"features": "raw", "x": 2}]
    save_rows(file, run, both)
    save_rows(file, run, [{"features": "a", "x": 3}])
    assert json.loads(file.read_text())["rows"] == [{"features": "a", "x": 3}, both[1]]
    save_rows(file, dataclasses.replace(run, step=20), [{"features": "a", "x": 4}])
    assert json.loads(file.read_text())["rows"] == [{"features": "a", "x": 4}]
