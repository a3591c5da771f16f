import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tiny
from absl import flags
from ml_collections import config_flags
from scipy import stats

from configs import custom
from igm_jax import locking
from igm_jax.ablation import plan as ablation
from igm_jax.ablation import table as comparison
from igm_jax.ablation import workers as processes
from igm_jax.errors import InputError
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.mapping import from_mapping, to_mapping

ROWS = {"first": {}, "second row": {"objective.mask_ratio": 0.25}}


def plan(out, rows=ROWS, seeds=(0, 1), given=None, config=None):
    config = config or tiny.config(given)
    return ablation.plan(config, rows, seeds, out, config_file="configs/x.py", given=given or {})


def finish(job, linear=50.0, nearest=40.0, rank=5.0, step=10):
    """The files of a finished run, with these numbers and larger ones on the test split."""
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / "config.json").write_text(json.dumps(to_mapping(job.config)))
    reports = []
    for at, epoch in ((5, 1.0), (step, float(job.config.train.epochs))):
        reports += [{"step": at, "epoch": epoch}]
        reports += [{"step": at, "val_effective_rank": rank + step - at}] if rank else []
    (job.folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in reports))
    for probe, row in (
        ("linear_probe", {"validation_linear": linear, "test_linear": linear + 1}),
        (
            "knn",
            {
                "validation_knn_1": nearest,
                "validation_knn_20": nearest + 2,
                "test_knn_1": nearest + 1,
                "test_knn_20": nearest + 3,
            },
        ),
    ):
        content = {"step": step, "rows": [row, {"features": "raw"}]}
        (job.folder / f"{probe}.json").write_text(json.dumps(content))


# Grids


def test_named_grids_start_with_what_the_others_are_compared_to():
    rows = ablation.parse_grid("constraints")
    assert list(rows) == ["L_gen alone", "feature", "distribution", "both"]
    pulls = {**rows["feature"], **rows["distribution"]}
    assert rows["L_gen alone"] == {**pulls, "objective.entropy_weight": 0}
    assert rows["both"] == {}
    assert {row["objective.name"] for row in ablation.parse_grid("objectives").values()} == {
        "masked_autoencoding",
        "motion_prediction",
        "spectral_contrastive",
        "momentum_contrast",
        "igm",
    }


def test_inline_grid_is_every_combination():
    rows = ablation.parse_grid("objective.mask_ratio=0.5, 0.7; data.coordinates=body")
    assert rows == {
        "mask_ratio=0.5 coordinates=body": {
            "objective.mask_ratio": 0.5,
            "data.coordinates": "body",
        },
        "mask_ratio=0.7 coordinates=body": {
            "objective.mask_ratio": 0.7,
            "data.coordinates": "body",
        },
    }
    (row,) = ablation.parse_grid("data.crop=(0.5,1.0);train.tensorboard=True").values()
    assert row == {"data.crop": (0.5, 1.0), "train.tensorboard": True}
    rows = ablation.parse_grid("model.encoder.depth=1,2;model.generator.depth=1")
    assert "model.encoder.depth=2 model.generator.depth=1" in rows


def test_grid_from_a_file(tmp_path):
    (tmp_path / "grid.json").write_text(json.dumps(ROWS))
    assert ablation.parse_grid(f"{tmp_path}/grid.json") == ROWS


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("constrants", "did you mean 'constraints'"),
        ("a=1;b", "'b' is no KEY=VALUE"),
        ("a=1;a=2", "'a=2' .* something twice"),
        ("a=1,1", "'a=1,1' .* something twice"),
        ("a=[1],(1)", "no distinct folders"),
        ('{"row": {}', "Expecting"),
        ("[]", "needs {row name"),
        ('{"row": 3}', "needs {row name"),
        ("{}", "no distinct folders"),
        ('{"..": {}}', "no distinct folders"),
        ('{"A b": {}, "a/b": {}}', "no distinct folders"),
    ],
)
def test_grid_that_is_none(text, told, tmp_path):
    if text[0] in "[{":
        (tmp_path / "x.json").write_text(text)
        text = f"{tmp_path}/x.json"
    with pytest.raises(InputError, match=told):
        ablation.parse_grid(text)


# Jobs


@pytest.mark.parametrize("name", ablation.GRIDS)
def test_named_grid_fits_the_config(name, tmp_path):
    by_camera = {"data.crop": None, "data.mirror": None, "data.rotation": None}
    jobs = plan(tmp_path, ablation.parse_grid(name), config=tiny.config(by_camera))
    assert len({job.config for job in jobs}) == len(jobs)


@pytest.mark.parametrize("coordinates", [2, 3])
def test_objectives_are_compared_in_the_plane_and_in_space(coordinates, tmp_path):
    """A config that leaves joints and channels to the store stays so in every row."""
    given = {"model.encoder.joints": 0, "model.encoder.channels": 0}
    for job in plan(tmp_path, ablation.parse_grid("objectives"), given=given):
        channels = coordinates * len(job.config.data.streams)
        encoder = job.config.fitted(17, channels, 2).model.encoder
        assert (encoder.joints, encoder.channels) == (17, channels), job.row


def test_every_row_has_every_seed_and_early_tables_have_all_rows(tmp_path):
    jobs = plan(tmp_path, given={"train.epochs": 3})
    assert [(job.row, job.seed) for job in jobs] == [
        ("first", 0),
        ("second row", 0),
        ("first", 1),
        ("second row", 1),
    ]
    assert jobs[3].folder == tmp_path / "second-row" / "seed1"
    config = {"train.epochs": 3, "objective.mask_ratio": 0.25, "seed": 1}
    assert jobs[3].config == tiny.config(config)
    assert list(jobs[3].commands) == ["pretrain", "linear_probe", "knn"]
    assert not any(tmp_path.iterdir())


def test_flags_make_the_config_of_the_job(tmp_path, monkeypatch):
    """Parsed as pretrain.py parses them, for each type of value; a row overrules a flag."""
    path = tmp_path / "config.py"
    path.write_text(
        "import json, ml_collections\n"
        f"VALUES = json.loads({json.dumps(to_mapping(tiny.config()))!r})\n"
        "def tuples(x):\n"
        "    return {k: tuple(v) if isinstance(v, list) else tuples(v) if isinstance(v, dict)"
        " else v for k, v in x.items()}\n"
        "def get_config():\n"
        "    return ml_collections.ConfigDict(tuples(VALUES))\n"
    )
    given = {"train.epochs": 3, "name": "a name", "objective.mask_ratio": 0.75}
    row = {
        "objective.mask_ratio": 0,
        "data.crop": [0.25, 1],
        "probe.learning_rates": (0.5,),
        "train.tensorboard": True,
        "objective.target_gradient": False,
        "data.coordinates": "camera",
    }
    (job,) = ablation.plan(
        tiny.config(given), {"row": row}, [7], tmp_path, config_file=str(path), given=given
    )
    assert job.overrides["data.crop"] == (0.25, 1.0)
    argv = ["pretrain.py", *job.flags]
    monkeypatch.setattr(sys, "argv", argv)
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file("config", None, lock_config=True, flag_values=values)
    values(argv)
    assert from_mapping(ExperimentConfig, holder.value.to_dict()) == job.config


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"objective.mask_ratoi": 0.5}, "'objective.mask_ratoi' .did you mean 'mask_ratio'"),
        ({"objetcive.mask_ratio": 0.5}, "did you mean 'objective'"),
        ({"objective.mask_ratio": "0.5"}, "needs float, not '0.5'"),
        ({"train.epochs": 2.5}, "needs int, not 2.5"),
        ({"objective.mask_ratio": 2}, "needs 0 <= ratio < 1"),
        ({"objective": 2}, "one by one"),
        ({"objective": {"mask_ratio": 0.5}}, "one by one"),
        ({"name.x": 2}, "'name' is no group"),
        ({"seed": 2}, "--seeds"),
    ],
)
def test_row_that_the_config_refuses_is_named(row, told, tmp_path):
    with pytest.raises(InputError, match=f"row 'bad': .*{told}"):
        plan(tmp_path, {"good": {}, "bad": row})


def test_folder_with_a_run_of_another_config_is_named(tmp_path):
    finish(plan(tmp_path)[1])
    plan(tmp_path)
    other = {**ROWS, "second row": {"objective.mask_ratio": 0.75}}
    with pytest.raises(InputError, match=r"second-row/seed0 holds .*mask_ratio: 0.25 → 0.75"):
        plan(tmp_path, other)
    for name in ("linear_probe.json", "knn.json"):
        (tmp_path / "second-row" / "seed0" / name).unlink()
    plan(tmp_path, other)  # without a checkpoint there is nothing to lose
    (tmp_path / "second-row" / "seed0" / "checkpoints" / "5").mkdir(parents=True)
    with pytest.raises(InputError, match="second-row/seed0"):
        plan(tmp_path, other)


# Results


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
    with pytest.raises(InputError, match="'a' and 'b' are the same config"):
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


# Processes, with scripts that write what the true ones write

SCRIPT = """
import json, os, pathlib, signal, sys, time
out, script = pathlib.Path(__file__).parent, pathlib.Path(__file__).stem
flags = dict(a.split("=", 1) for a in sys.argv[1:])
run = pathlib.Path(flags["--run"])
run.mkdir(parents=True, exist_ok=True)
name = f"{run.parent.name}-{run.name}"
with open(out / "calls", "a") as calls:
    print(script, name, *(sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []),
          file=calls)
if script != "pretrain":
    if (out / f"fail-{name}").exists():
        print("error: out of luck\\n")
        sys.exit(3)
    keys = ["validation_linear", "validation_knn_1", "validation_knn_20"]
    row = dict.fromkeys(keys, 50.0)
    (run / f"{script}.json").write_text(json.dumps({"step": 10, "rows": [row]}))
elif (out / "wait").exists():
    def save(number, _):
        print(f"{signal.Signals(number).name}: saved step 5", flush=True)
        sys.exit(75)
    signal.signal(signal.SIGTERM, save)
    (out / f"starts-{name}").write_text(str(os.getpid()))
    (out / f"starts-{name}").rename(out / f"waits-{name}")
    time.sleep(60)
else:
    (run / "metrics.jsonl").write_text(json.dumps({"step": 10, "epoch": 2.0}) + "\\n")
"""


@pytest.fixture
def scripts(tmp_path):
    for name in ("pretrain", "linear_probe", "knn"):
        (tmp_path / f"{name}.py").write_text(SCRIPT)
    return tmp_path


def run(scripts, jobs, workers=2):
    """The processes, and what went wrong by run."""
    problems = {}
    all_ = processes.Processes(scripts, workers)
    all_.run(jobs, lambda job, problem: problems.update({job.folder.name: problem}))
    return all_, problems


def calls(scripts):
    return [line.split() for line in (scripts / "calls").read_text().splitlines()]


def soon(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not pin")
def test_workers_have_their_own_cpus(scripts):
    jobs = plan(scripts / "runs", {"row": {}}, seeds=range(4))
    before = os.sched_getaffinity(0)
    all_, problems = run(scripts, jobs)
    assert problems == {f"seed{k}": None for k in range(4)} and all_.stopped is None
    assert all(ablation.measured(job, "validation") for job in jobs)
    log = (scripts / "runs" / "row" / "seed0.log").read_text()
    assert [line.split()[2].rpartition("/")[2] for line in log.splitlines()] == [
        "pretrain.py",
        "linear_probe.py",
        "knn.py",
    ]
    shares = {tuple(line[2:]) for line in calls(scripts)}
    if len(before) > 1:
        one, two = shares
        assert not set(one) & set(two) and len(one) + len(two) == len(before)
    assert os.sched_getaffinity(0) == before


def test_failed_run_is_told_with_its_last_line_and_the_others_go_on(scripts):
    jobs = plan(scripts / "runs", {"row": {}}, seeds=range(3))
    (scripts / "fail-row-seed1").touch()
    _, problems = run(scripts, jobs, workers=1)
    told = "linear_probe.py ended with exit code 3 before its end: error: out of luck"
    assert problems == {"seed0": None, "seed1": told, "seed2": None}
    # The same again, after the reason is gone: only what is missing runs.
    (scripts / "fail-row-seed1").unlink()
    (scripts / "calls").unlink()
    assert run(scripts, jobs, workers=1)[1] == {f"seed{k}": None for k in range(3)}
    expected = [[script, "row-seed1"] for script in ("pretrain", "linear_probe", "knn")]
    assert [line[:2] for line in calls(scripts)] == expected


def test_signal_reaches_the_runs_and_the_same_command_goes_on(scripts):
    jobs = plan(scripts / "runs", {"row": {}}, seeds=range(3))
    (scripts / "wait").touch()

    def interrupt():
        soon(lambda: all((scripts / f"waits-row-seed{k}").exists() for k in range(2)))
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    handler = signal.getsignal(signal.SIGTERM)
    thread.start()
    all_, problems = run(scripts, jobs)
    thread.join()
    assert all_.stopped == signal.SIGTERM and problems == {}
    assert signal.getsignal(signal.SIGTERM) == handler
    for k in range(2):
        log = (scripts / "runs" / "row" / f"seed{k}.log").read_text()
        assert log.endswith("SIGTERM: saved step 5\n")
    assert {name for _, name, *_ in calls(scripts)} == {"row-seed0", "row-seed1"}
    (scripts / "wait").unlink()
    assert run(scripts, jobs)[1] == {f"seed{k}": None for k in range(3)}


def test_run_stopped_from_elsewhere_is_not_finished(scripts):
    (job,) = plan(scripts / "runs", {"row": {}}, seeds=[0])
    (scripts / "wait").touch()

    def interrupt():
        soon((scripts / "waits-row-seed0").exists)
        os.kill(int((scripts / "waits-row-seed0").read_text()), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    all_, problems = run(scripts, [job])
    thread.join()
    assert all_.stopped is None
    told = "pretrain.py was stopped before its end, the same command goes on: SIGTERM: saved step 5"
    assert problems == {"seed0": told}


def test_run_of_a_killed_command_is_waited_for(scripts, capsys):
    """What a killed command has started holds the run folder, and may finish the run."""
    (job,) = plan(scripts / "runs", {"row": {}}, seeds=[0])
    job.folder.mkdir(parents=True)
    code = (
        "import pathlib, time\nfrom igm_jax import locking\n"
        f"with locking.exclusive(pathlib.Path({str(job.folder)!r}), 'trains'):\n"
        f"    while not pathlib.Path({str(scripts / 'go')!r}).exists(): time.sleep(0.02)"
    )
    orphan = subprocess.Popen([sys.executable, "-c", code])
    soon(lambda: locking.is_held(job.folder))
    problems = []
    timer = threading.Timer(0.5, lambda: (problems.append("waited"), (scripts / "go").touch()))
    finish(job)
    (job.folder / "knn.json").unlink()
    timer.start()
    processes.Processes(scripts, 1).run([job], lambda _, problem: problems.append(problem))
    assert problems == ["waited", None] and orphan.wait() == 0
    assert calls(scripts)[-1][0] == "knn"
    told = f"{job.folder}: an earlier start still trains it: waiting for it\n"
    assert capsys.readouterr().err == told


def test_two_commands_share_the_runs(scripts, capsys):
    """The second waits for the run that the first works on, and does not do it again."""
    (job,) = plan(scripts / "runs", {"row": {}}, seeds=[0])
    second, problems = processes.Processes(scripts, 1), []
    thread = threading.Thread(target=lambda: problems.append(second._finish(job)))
    said = []
    with locking.exclusive(job.log, "works"):
        thread.start()
        soon(lambda: said.append(capsys.readouterr().err) or any(said))
        assert thread.is_alive()
        finish(job)
    thread.join()
    assert problems == [None] and not (scripts / "calls").exists()
    assert f"process {os.getpid()} on host" in "".join(said)


# GPUs, of which none is here


def test_gpus_are_shared_out_like_cpus():
    environments = processes.gpu_environments(3, [str(i) for i in range(8)])
    shares = [e["CUDA_VISIBLE_DEVICES"].split(",") for e in environments]
    assert [gpu for share in shares for gpu in share] == [str(i) for i in range(8)]
    assert sorted(map(len, shares)) == [2, 3, 3]
    # No GPU, or one worker: nothing is said, and a run takes what it finds.
    assert processes.gpu_environments(2, []) == [{}, {}]
    assert processes.gpu_environments(1, ["0", "1"]) == [{}]
    with pytest.raises(InputError, match=r"--workers=3, but there are 2 GPUs.*use --workers=2"):
        processes.gpu_environments(3, ["0", "1"])


@pytest.mark.parametrize(
    ("says", "visible", "found"),
    [
        ("gpu 4", None, ["0", "1", "2", "3"]),
        ("gpu 2", "5,GPU-8932", ["5", "GPU-8932"]),
        ("gpu 1", "3,-1,4", ["3"]),
        ("cpu 1", None, []),
    ],
)
def test_gpus_are_counted_in_another_process(says, visible, found, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    asked = []

    def answer(command, **_):
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, f"a line of a plugin\n{says}\n", "")

    monkeypatch.setattr(subprocess, "run", answer)
    assert processes.find_gpus(2) == found and len(asked) == 1
    assert processes.find_gpus(1) == [] and len(asked) == 1


def test_devices_that_cannot_be_shared(monkeypatch):
    done = subprocess.CompletedProcess([], 0, "tpu 4\n", "")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    with pytest.raises(InputError, match="--workers=2: a TPU serves one process"):
        processes.find_gpus(2)
    failed = subprocess.CompletedProcess([], 1, "", "Traceback\nRuntimeError: no backend\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(InputError, match="finds no device for --workers=2: RuntimeError: no back"):
        processes.find_gpus(2)


def test_each_run_sees_the_gpus_of_its_worker(scripts):
    for name in ("pretrain", "linear_probe", "knn"):
        path = scripts / f"{name}.py"
        path.write_text(
            SCRIPT.replace("print(script, name,", "print(os.environ['CUDA_VISIBLE_DEVICES'],")
        )
    jobs = plan(scripts / "runs", {"row": {}}, seeds=range(4))
    all_ = processes.Processes(scripts, 2, ["0", "1", "2"])
    all_.run(jobs, lambda *_: None)
    seen = {line[0] for line in calls(scripts)}
    assert seen == {"0", "1,2"} and len(calls(scripts)) == 12
