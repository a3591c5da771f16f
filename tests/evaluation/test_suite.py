"""One command for all protocols: features once, nothing twice, one table."""

import dataclasses
import json

import numpy as np
import pytest
import tiny

from igm_jax import run_folder
from igm_jax.errors import InputError
from igm_jax.evaluation import judge, suite, table
from igm_jax.evaluation.parts import FeatureSet
from igm_jax.evaluation.run import Run

POSSIBLE = ["knn", "ridge", "retrieval", "kmeans", "linear_probe"]  # 3 classes: no 5-way episodes


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run with features of its own; `run.params` counts how often they were computed."""
    store = tiny.write_store(tmp_path / "store")
    config = tiny.config({"probe.learning_rates": (0.1,), "probe.epochs": 2})
    made = Run(tmp_path, 10, config, tiny.READING, data={}, params=[], total_steps=20)
    values = np.eye(3, dtype=np.float32)[store.clips["label"]] + np.float32(0.1)

    def feature_sets(run, store, *, baselines):
        run.params.append(baselines)
        whitened = ["pre-trained" + judge.WHITENED] if run.whiten else []
        names = ["pre-trained", *whitened, *(["untrained", "raw"] if baselines else [])]
        return [FeatureSet(name, values, trained=name == "pre-trained") for name in names]

    monkeypatch.setattr(judge, "feature_sets", feature_sets)
    monkeypatch.setattr(suite, "open_store", lambda run: store)
    return made


def test_everything_that_is_possible_runs_once(run):
    said = []
    found = suite.run_suite(run, report=said.append)
    assert list(found["results"]) == POSSIBLE and run.params == [False]
    assert "ways=5" in found["not_possible"]["few_shot"]
    assert [line.split(":")[0] for line in said] == list(suite.PROTOCOLS)
    assert json.loads((run.folder / run_folder.EVALUATION).read_text()) == found
    shown = {row["measure"]: row for row in found["table"]}
    assert (
        shown["linear probe"]["pre-trained"] == found["results"]["linear_probe"][0]["test_linear"]
    )
    assert shown["KNN, K=1"]["95 % interval"] == [100.0, 100.0]
    assert shown["k-means, 100 NMI"]["95 % interval"] == "-"
    assert len(table.markdown_table(found["table"]).splitlines()) == 2 + len(shown)
    # The same command again computes nothing, and says the same.
    again = suite.run_suite(run)
    assert run.params == [False] and again == found


def test_only_what_is_missing_or_stale_runs_again(run):
    suite.run_suite(run)
    (run.folder / run_folder.RIDGE).unlink()
    (run.folder / run_folder.probe_scores()).unlink()
    saved = json.loads((run.folder / run_folder.KNN).read_text())
    del saved["rows"][0]["test_knn_1_interval"]  # as older versions wrote it
    run_folder.write_json(run.folder / run_folder.KNN, saved)
    said = []
    suite.run_suite(run, report=said.append)
    kept = [line.split(":")[0] for line in said if "done at step 10" in line]
    assert kept == ["retrieval", "kmeans"] and run.params == [False, False]
    # Another checkpoint, or whitened features or baselines that are missing: all of it.
    for other, baselines in (
        (dataclasses.replace(run, step=15), False),
        (dataclasses.replace(run, whiten=True), False),
        (run, True),
    ):
        said = []
        suite.run_suite(other, "quick", baselines=baselines, report=said.append)
        assert not [line for line in said if "done at step" in line]
    table = json.loads((run.folder / run_folder.EVALUATION).read_text())["table"]
    assert list(table[0]) == ["measure", "pre-trained", "95 % interval", "untrained", "raw"]


def test_whitened_rows_are_no_baselines(run):
    whitened = dataclasses.replace(run, whiten=True)
    suite.run_suite(whitened, "quick")
    said = []
    suite.run_suite(whitened, "quick", report=said.append)
    assert [line for line in said if "done at step" in line]
    rows = suite.done_rows(run, suite.PROTOCOLS["knn"])
    assert rows is not None and rows == suite.done_rows(whitened, suite.PROTOCOLS["knn"])
    assert suite.done_rows(run, suite.PROTOCOLS["knn"], baselines=True) is None


def test_results_on_unseen_classes_have_files_of_their_own(run):
    made = suite.run_suite(dataclasses.replace(run, classes="unseen"), "quick")
    assert made["classes"] == "unseen"
    names = {path.name for path in run.folder.glob("*.json")}
    assert names == {f"{name}-unseen.json" for name in [*POSSIBLE[:-1], "evaluation"]}
    assert json.loads((run.folder / "knn-unseen.json").read_text())["classes"] == "unseen"


def test_unknown_suite_is_refused(run):
    with pytest.raises(InputError, match="suite='all' is unknown: choose one of paper, quick"):
        suite.run_suite(run, "all")
