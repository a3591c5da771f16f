"""Tables, curves and facts of a run, from what lies in its folder."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from igm_jax import run_folder
from igm_jax.evaluation import scores, table
from igm_jax.evaluation.linear_probe import LinearHead
from igm_jax.evaluation.parts import class_details
from igm_jax.evaluation.run import Run
from igm_jax.report import facts, results


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path, 10, tiny.config(), tiny.READING, data={}, params={}, total_steps=10)


def save(run, name, rows, **changes):
    table.save_rows(run.folder / name, run, rows)
    if changes:
        content = json.loads((run.folder / name).read_text(encoding="utf-8"))
        run_folder.write_json(run.folder / name, content | changes)


def test_every_result_in_the_folder_becomes_a_table(run):
    """Also of other shares of labels, of fine-tuning, and of an older checkpoint."""
    row = {"features": "pre-trained", "test_knn_1": 70.0, "test_knn_1_interval": [1.5, 80.0]}
    save(run, run_folder.KNN, [{**row, "note": "few people", "details": {}}])
    save(run, run_folder.linear_probe("10%", subset=2), [{"test_linear": 50.0}], step=5)
    save(run, "knn-unseen.json", [{"test_knn_1": None}], classes="unseen")
    moved = {"data_set": "utd_mhad", "protocol": "xsub"}
    save(run, "knn-utd_mhad.json", [{"test_knn_1": 9.0}], transfer=moved)
    stage = {"name": "step 1", "graph": {"own_%": 3.0}, "expansion": [{"rate": 1.0}], "clips": 8}
    run_folder.write_json(run.folder / run_folder.THEORY, {"step": 10, "stages": [stage]})
    tuned = run.folder / run_folder.finetuning("5%")
    tuned.mkdir()
    run_folder.write_json(tuned / run_folder.RESULTS, {"rows": [{"epochs": 3}]})
    run_folder.write_json(run.folder / run_folder.CONFIG, {"rows": [{"no": "table"}]})
    found = {made["title"]: made for made in results.tables(run)}
    assert list(found) == [
        "Nearest neighbours",
        "Theory",
        "Nearest neighbours, unseen",
        "Nearest neighbours, utd_mhad",
        "Linear probe, 10 % of the labels, subset2",
        "Fine tuning, 5 % of the labels",
    ]
    knn, theory, unseen, moved, linear, finetuned = found.values()
    assert moved["note"] == "on the data set utd_mhad, xsub"
    assert (theory["columns"], theory["rows"]) == (["name", "clips"], [["step 1", "8"]])
    assert knn["columns"] == ["features", "test K=1 %", "95 % interval"]
    assert knn["rows"] == [["pre-trained", "70.00", "1.50 to 80.00"]]
    assert knn["note"] == "few people" and finetuned["rows"] == [["3"]]
    assert linear["note"] == "of step 5, while this page shows step 10"
    assert unseen["note"] == "unseen classes only" and unseen["rows"] == [["-"]]


def test_confusion_matrices_are_those_of_the_encoder(run):
    details = {"knn_1": class_details(np.array([0, 1, 1]), np.array([0, 1, 0]), ["a", "b"])}
    save(run, run_folder.KNN, [{"details": details}, {"details": {}}])
    (found,) = results.confusions(run)
    assert found == {
        "title": "Nearest neighbours, K=1",
        "classes": ["a", "b"],
        "counts": [[1, 1], [0, 1]],
    }


def test_the_saved_probe_says_a_class_of_each_clip(run):
    def save_probe(step):
        zeros = jnp.zeros(2)
        found = scores.ProbeScores(
            head=LinearHead(jnp.zeros((2, 2)), zeros, zeros, zeros),
            temperature=1.0,
            lengths=np.array([6, 12, 19]),
            class_names=np.array(["sit", "walk"]),
            clips=np.array(["b", "a"]),
            labels=np.array([0, 0]),
            scores=np.array([[0.0, 2.0], [3.0, 1.0]]),
            step=step,
            protocol="xsub",
            streams="joint",
            data="{}",
        )
        scores.save_scores(run.folder / run_folder.probe_scores(), found)

    assert results.predictions(run, ["a"]) == [None]
    save_probe(step=10)
    assert results.predictions(run, ["a", "b", "c"]) == ["sit", "walk", None]
    save_probe(step=5)  # of another checkpoint
    assert results.predictions(run, ["a"]) == [None]


def test_curves_and_numbers_come_from_the_log_until_a_protocol_is_run(run):
    lines = [
        {"step": 1, "loss": 3.0, "loss_gen": 1.0, "effective_rank": 2.0},
        {"step": 1, "val_knn_1": 0.25, "val_ridge": 0.5},
        {"step": 2, "loss": 2.0, "loss_gen": 0.5, "effective_rank": 4.0},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run.folder / run_folder.METRICS).write_text(text, encoding="utf-8")
    losses, rank, accuracy = results.curves(run)
    assert [(x["name"], x["steps"], x["values"]) for x in losses["lines"]] == [
        ("total", [1, 2], [3.0, 2.0]),
        ("gen", [1, 2], [1.0, 0.5]),
    ]
    assert [x["name"] for x in rank["lines"]] == ["one batch"]
    assert accuracy["unit"] == "%" and accuracy["lines"][0]["values"] == [25.0]
    validated = [("25.0 %", "validation, nearest neighbour"), ("50.0 %", "validation, ridge probe")]
    assert results.numbers(run) == [*validated, ("4.0", "effective rank of the features")]
    save(run, run_folder.KNN, [{"test_knn_1": 71.26}])
    assert results.numbers(run)[0] == ("71.3 %", "test, nearest neighbour")


def test_a_result_without_a_value_is_no_main_number(run):
    """Retrieval of training clips has none where no test clip has its class in training."""
    save(run, run_folder.RETRIEVAL, [{"test_map": None, "test_map_interval": None}])
    assert results.numbers(run) == []
    (found,) = results.tables(run)
    assert found["rows"] == [["-", "-"]]
    save(run, run_folder.KNN, [{"test_knn_1": 71.26}])
    assert results.numbers(run) == [("71.3 %", "test, nearest neighbour")]


def test_differences_name_the_settings_that_differ(run, tmp_path):
    config = tiny.config({"seed": 3, "data.rotation": (0.1, 0.2, 0.3)})
    other = Run(tmp_path, 10, config, tiny.READING, data={}, params={}, total_steps=20)
    rows = {name: values for name, *values in facts.differences([run, other])}
    assert rows == {
        "seed": ["0", "3"],
        "data.rotation": ["0.3, 0.3, 0.3", "0.1, 0.2, 0.3"],
        "checkpoint": ["step 10", "step 10 of 20, unfinished"],
    }
