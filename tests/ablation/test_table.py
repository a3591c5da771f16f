"""Results of runs, and the tables that compare them."""

import dataclasses
import json

import numpy as np
import pytest
from ablation_jobs import ROWS, finish, plan
from scipy import stats

from configs import custom
from igm_jax.ablation import plan as ablation
from igm_jax.ablation import table as comparison
from igm_jax.errors import InputError
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.mapping import from_mapping


def test_run_is_measured_when_both_probes_saw_its_last_step(tmp_path):
    job = plan(tmp_path)[0]
    assert ablation.measured(job, "test") is None
    finish(job, linear=50.0, nearest=40.0, rank=5.0)
    assert ablation.measured(job, "validation") == {
        "linear": 50.0,
        "KNN K=1": 40.0,
        "KNN K=20": 42.0,
        "effective rank": 5.0,
    }
    assert ablation.measured(job, "test")["linear"] == 51.0


@pytest.mark.parametrize("name", ["linear_probe.json", "knn.json", "metrics.jsonl"])
def test_killed_while_a_file_was_written(name, tmp_path):
    job = plan(tmp_path)[0]
    finish(job, rank=None)
    path = job.folder / name
    path.write_text(path.read_text()[:-5])
    assert ablation.measured(job, "validation") is None
    path.unlink()
    assert ablation.measured(job, "validation") is None


def test_probe_of_an_earlier_step_is_not_the_result(tmp_path):
    job = plan(tmp_path)[0]
    finish(job)
    saved = json.loads((job.folder / "knn.json").read_text())
    (job.folder / "knn.json").write_text(json.dumps({**saved, "step": 5}))
    assert ablation.measured(job, "validation") is None
    assert ablation.probe_rows(job, "linear_probe") and not ablation.probe_rows(job, "knn")


@pytest.mark.parametrize("count", [2, 3, 10])
def test_difference_and_interval_are_those_of_the_paired_test(count):
    rng = np.random.default_rng(count)
    a, b = rng.normal(70, 2, (2, count))
    values, reference = dict(enumerate(a)), dict(enumerate(b))
    # A seed that one of them lacks does not count; nor does the order.
    found = comparison.paired_difference(values | {99: 0.0}, dict(reversed(reference.items())))
    interval = stats.ttest_rel(a, b).confidence_interval(0.95)
    np.testing.assert_allclose(found["mean"], (a - b).mean(), rtol=1e-12)
    np.testing.assert_allclose([found["low"], found["high"]], interval, rtol=1e-9)
    assert found["seeds"] == list(range(count))
    expected = {"mean": a.mean(), "std": np.sqrt(((a - a.mean()) ** 2).sum() / (count - 1))}
    assert comparison.spread(values) == pytest.approx(expected, rel=1e-12)


def test_statistics_of_too_few_seeds():
    assert comparison.spread({}) == {"mean": None, "std": None}
    assert comparison.spread({3: 70.0}) == {"mean": 70.0, "std": None}
    assert comparison.paired_difference({0: 1.0}, {1: 1.0}) is None
    one = {"seeds": [1], "mean": 2.0, "low": None, "high": None}
    assert comparison.paired_difference({0: 1.0, 1: 5.0}, {1: 3.0}) == one


def table(jobs, split="validation"):
    text = comparison.table_text(jobs, comparison.summarize(jobs, split), split)
    head, empty, *lines = text.splitlines()
    assert empty == ""
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return head, [dict(zip(header, row)) for row in rows]


def test_table_of_finished_runs(tmp_path):
    jobs = plan(tmp_path)
    for job, linear in zip(jobs, (50.0, 51.5, 52.0, 54.5)):
        finish(job, linear=linear)
    head, (first, second) = table(jobs)
    assert head.startswith("tiny, validation accuracy in %, 2 epochs, seeds 0, 1: mean ± sample")
    assert first == {
        "row": "first",
        "linear": "51.00 ± 1.41",
        "Δ linear": "-",
        "KNN K=1": "40.00 ± 0.00",
        "Δ KNN K=1": "-",
        "KNN K=20": "42.00 ± 0.00",
        "effective rank": "5.00 ± 0.00",
    }
    assert second["linear"] == "53.00 ± 2.12"
    assert second["Δ linear"] == "+2.00 [-4.35, +8.35]"
    head, (first, _) = table(jobs, "test")
    assert "test accuracy" in head and first["linear"] == "52.00 ± 1.41"


def test_note_on_validation_stands_over_the_table(tmp_path):
    jobs = plan(tmp_path)
    for job in jobs:
        finish(job)
        saved = json.loads((job.folder / "knn.json").read_text())
        saved["rows"][0]["note"] = "validation shares people with training"
        (job.folder / "knn.json").write_text(json.dumps(saved))
    text = comparison.table_text(jobs, comparison.summarize(jobs, "validation"), "validation")
    assert text.splitlines()[1:3] == ["Note: validation shares people with training.", ""]


def test_table_while_runs_are_missing(tmp_path):
    jobs = plan(tmp_path)
    _, rows = table(jobs)
    assert [(row["linear"], row["seeds"]) for row in rows] == [("-", "0 of 2")] * 2
    finish(jobs[0], linear=50.0)
    finish(jobs[1], linear=51.0)
    finish(jobs[3], linear=53.0)
    _, (first, second) = table(jobs)
    assert (first["linear"], first["seeds"]) == ("50.00", "1 of 2")
    assert (second["linear"], second["seeds"]) == ("52.00 ± 1.41", "2 of 2")
    assert second["Δ linear"] == "+1.00"  # over the seed that both have


def best(tmp_path, linear, seeds=(0, 1), rows=ROWS):
    jobs = plan(tmp_path, rows, seeds)
    for job, value in zip(jobs, linear):
        finish(job, linear=value, nearest=100 - value)
    return comparison.best_text(comparison.summarize(jobs, "validation"))


def test_best_row_is_named_with_its_flags_and_how_sure_it_is(tmp_path):
    text = best(tmp_path / "close", (50.0, 51.5, 52.0, 54.5))
    assert text == (
        "\nBest by mean linear accuracy: second row, with --config.objective.mask_ratio=0.25. Its "
        "lead over first is +2.00 [-4.35, +8.35]. The interval contains zero, so the two are not "
        "told apart. By KNN K=1, first is best.\n"
    )
    text = best(tmp_path / "clear", (60.0, 50.0, 61.0, 51.1))
    assert "first, with no flag. Its lead over second row is +9.95 [" in text
    assert "The interval is above zero." in text
    rows = {**ROWS, "third": {"objective.mask_ratio": 0.3}}
    values = (60.0, 50.0, 40.0, 61.0, 51.1, 41.0)
    text = best(tmp_path / "many", values, rows=rows)
    assert "above zero, but too narrow for the best of 3 rows" in text
    assert "One seed gives no interval" in best(tmp_path / "one", (50.0, 51.0), seeds=(3,))


def test_no_row_is_best_while_runs_are_missing(tmp_path):
    assert best(tmp_path, (50.0, 51.5, 52.0)) == ""
    assert best(tmp_path / "alone", (50.0, 51.5), rows={"first": {}}) == ""


def test_presets_of_the_camera_are_rows_that_differ(tmp_path):
    """Also if the config sets another preset, or flags set some of its keys."""
    rows = ablation.parse_grid("augmentation")
    config = from_mapping(ExperimentConfig, custom.get_config().to_dict())
    jobs = plan(tmp_path, rows, (0,), config=config)
    assert [job.config.data.mirror for job in jobs] == [0.0, 0.5, 0.0]
    assert [job.config.data.crop[0] for job in jobs] == [0.7, 0.5, 0.5]
    assert jobs[1].flags[1:] == ("--config.data.camera=moving", "--config.seed=0")
    given = dataclasses.replace(config, data=dataclasses.replace(config.data, crop=(0.9, 1.0)))
    jobs = plan(tmp_path, rows, (0,), config=given, given={"data.crop": (0.9, 1.0)})
    assert {job.config.data.crop for job in jobs} == {(0.9, 1.0)}
    both = {"data.mirror": 0.0, "data.rotation": (0.3, 0.3, 0.3), "data.crop": (0.9, 1.0)}
    alike = {"a": {"data.camera": "fixed", **both}, "b": {"data.camera": "moving", **both}}
    with pytest.raises(InputError, match="'a' and 'b' give the same run"):
        plan(tmp_path, alike, (0,), config=config)


def test_column_that_a_run_lacks_is_left_out(tmp_path):
    jobs = plan(tmp_path)
    for job in jobs:
        finish(job)
    finish(jobs[2], rank=None)
    assert "effective rank" not in table(jobs)[1][0]


def test_summary_is_json_with_commands_that_can_be_repeated(tmp_path):
    jobs = plan(tmp_path)
    for job in jobs:
        finish(job)
    first, second = json.loads(json.dumps(comparison.summarize(jobs, "validation")))
    assert second["overrides"] == {"objective.mask_ratio": 0.25}
    run = tmp_path / "second-row" / "seed1"
    assert second["commands"]["1"] == [
        f"python experiments/pretrain.py --config=configs/x.py --config.objective.mask_ratio=0.25 "
        f"--config.seed=1 --run={run}",
        f"python experiments/linear_probe.py --run={run} --data=data/synthetic",
        f"python experiments/knn.py --run={run} --data=data/synthetic",
    ]
    assert second["columns"]["linear"]["values"] == {"0": 50.0, "1": 50.0}
    assert second["columns"]["linear"]["difference"]["high"] == 0
    assert "difference" not in first["columns"]["linear"]
