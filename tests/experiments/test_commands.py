"""The commands from end to end in a folder of their own, and what they say to bad input."""

import json
import os
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
from commands import ROOT, assert_refused, experiment, finish, run, start

from igm_jax.evaluation.table import heading

SMOKE = f"--config={ROOT}/configs/synthetic.py:smoke"
NUM_CLIPS = 192


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a store and a finished run, made by the commands."""
    folder = tmp_path_factory.mktemp("commands")
    result = run(folder, "prepare_data.py", "--dataset=synthetic", f"--num_clips={NUM_CLIPS}")
    assert result.returncode == 0, result.stderr
    result = run(folder, "pretrain.py", SMOKE)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "runs/synthetic-xsub-smoke: finished. Next: python experiments/linear_probe.py "
        "runs/synthetic-xsub-smoke"
    ]
    return folder


def metrics(run_folder):
    path = run_folder / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


# From raw data to a table


def test_pretraining_leaves_a_run(folder):
    run_folder = folder / "runs" / "synthetic-xsub-smoke"
    config = json.loads((run_folder / "config.json").read_text())
    assert config["name"] == "synthetic-xsub-smoke" and config["data"]["path"] == "data/synthetic"
    reports = metrics(run_folder)
    assert reports[-1]["epoch" if "epoch" in reports[-1] else "step"] > 0
    assert all(np.isfinite(value) for report in reports for value in report.values())
    assert {"val_knn_1", "val_knn_20"} <= reports[-1].keys()


@pytest.mark.parametrize(
    ("script", "columns"),
    [
        (
            "linear_probe.py",
            [
                "features",
                "learning_rate",
                "validation_linear",
                "test_linear",
                "test_linear_interval",
                "test_linear_best_epoch",
                "details",
            ],
        ),
        (
            "knn.py",
            [
                "features",
                "validation_knn_1",
                "validation_knn_20",
                "test_knn_1",
                "test_knn_1_interval",
                "test_knn_20",
                "test_knn_20_interval",
                "details",
            ],
        ),
    ],
)
def test_probes_take_the_newest_run_and_write_their_table(folder, script, columns):
    result = run(folder, script, "--baselines")
    assert (result.returncode, result.stderr) == (0, "")
    run_folder = folder / "runs" / "synthetic-xsub-smoke"
    saved = json.loads((run_folder / script.replace(".py", ".json")).read_text())
    last = max(int(p.name) for p in (run_folder / "checkpoints").iterdir())
    assert (saved["step"], saved["protocol"]) == (last, "xsub")
    names = [f"pre-trained, step {last}", "untrained encoder", "joint coordinates, 32 frames"]
    assert [row["features"] for row in saved["rows"]] == names
    for row in saved["rows"]:
        # Of so few clips, validation has classes that training lacks, and a note says so.
        assert [name for name in row if name != "note"] == columns
        assert all(
            0 <= bound <= 100
            for key, value in row.items()
            if key.startswith(("test", "validation"))
            for bound in (value if key.endswith("interval") else [value])
        )
    title, _, header, _, *rows, _, follows = result.stdout.strip().splitlines()
    probed = (folder / "runs" / "synthetic-xsub-smoke" / "linear_probe.npz").exists()
    next_script = "predict.py" if probed else "linear_probe.py"
    command = f"next: python experiments/{next_script} runs/synthetic-xsub-smoke"
    assert follows.startswith(command)
    assert "runs/synthetic-xsub-smoke (xsub)" in title
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in [header, *rows]]
    names = [name for name in saved["rows"][0] if name != "details"]
    values = [[str(row[name]) for name in names] for row in saved["rows"]]
    assert table == [[heading(name) for name in names], *values]


def test_finetuning_writes_a_run_that_names_its_parent(folder):
    flags = (
        "--labels=10%",
        "--subsets=2",
        "--subset=3",
        "--generated=0.5",
        "--config.epochs=2",
        "--config.warmup_epochs=0.5",
        "--config.min_steps=2",
        "--config.judgements=2",
        "--config.hidden=16",
        "--config.learning_rates=(1e-3,)",
    )
    result = run(folder, "finetune.py", *flags)
    assert result.returncode == 0, result.stderr
    parent = folder / "runs" / "synthetic-xsub-smoke"
    own = parent / "finetune-10pct-generated0.5"
    saved = json.loads((own / "results.json").read_text())
    assert saved["parent"]["folder"] == str(parent.absolute())
    assert [row["subset"] for row in saved["rows"]] == [3, 4]
    *_, mean, _, follows = result.stdout.splitlines()
    assert mean.split("|")[1].strip() == "mean ± std"
    assert follows.endswith(
        "predict.py runs/synthetic-xsub-smoke/finetune-10pct-generated0.5 FILES…"
    )
    assert_refused(run(folder, "finetune.py", *flags, "--config.hidden=8"), "hidden: 16 → 8")
    assert_refused(
        run(folder, "finetune.py", "--config.hiden=8"), "hiden: did you mean --config.hidden?"
    )


# Interrupted


def interrupt(process, run_folder, number, after_step):
    """Sends a signal as soon as this step was reported, and waits for the end."""
    deadline = time.monotonic() + 180
    while not any(report["step"] >= after_step for report in metrics(run_folder)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=120)
    return process.returncode, stdout, stderr


def test_interrupted_run_is_saved_and_the_same_command_finishes_it(folder):
    """Ctrl-C ends with the exit code that shells know it by, SIGTERM with 75: not finished."""
    flags = (
        SMOKE,
        "--run=runs/stopped",
        "--config.train.epochs=20",
        "--config.train.log_every=1",
        "--config.train.knn_every=20",
        "--config.train.checkpoint_every=20",
        # Less to compile.
        "--config.objective.name=spectral_contrastive",
    )
    run_folder = folder / "runs" / "stopped"
    reached = 0
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 75)):
        process = start(folder, *experiment("pretrain.py", *flags))
        returncode, stdout, stderr = interrupt(process, run_folder, number, reached + 2)
        assert (returncode, stdout) == (code, "")
        step = max(int(p.name) for p in (run_folder / "checkpoints").iterdir())
        assert step > reached
        told = f"{number.name}: saved step {step} of 120 in runs/stopped; the same command resumes"
        assert stderr.splitlines()[-1].startswith(told)
        assert f"resumed after step {reached}" in stderr or reached == 0
        reached = step
    probe = run(folder, "linear_probe.py", "--run=runs/stopped", "--augmented")
    progress = f"step {reached} of 120, unfinished"
    assert probe.returncode == 0, probe.stderr
    title, _, _, _, row, _, follows = probe.stdout.splitlines()
    assert follows.endswith("runs/stopped FILES… --head=linear_probe-augmented.npz")
    assert title.endswith(f"(xsub, new crops and rotations in each epoch), {progress}")
    assert row.startswith(f"| pre-trained, {progress} |")
    saved = json.loads((run_folder / "linear_probe-augmented.json").read_text())
    assert (saved["step"], saved["total_steps"], saved["unfinished"]) == (reached, 120, True)
    result = run(folder, "pretrain.py", *flags)
    assert result.returncode == 0 and f"resumed after step {reached}" in result.stderr
    assert "runs/stopped: finished" in result.stdout
    steps = [report["step"] for report in metrics(run_folder) if "loss" in report]
    assert steps == list(range(1, 121))
    shutil.rmtree(run_folder)


def test_run_and_its_store_may_move(folder, tmp_path):
    """From any folder, with the store at its old place or a new one; it is known by its content."""
    run_folder = folder / "runs" / "synthetic-xsub-smoke"
    copied = tmp_path / "run"
    shutil.copytree(run_folder, copied)
    result = run(tmp_path, "knn.py", f"--run={copied}")  # data/synthetic is not in this folder
    assert (result.returncode, result.stderr) == (0, "")
    moved = folder / "data" / "moved"
    (folder / "data" / "synthetic").rename(moved)
    try:
        assert_refused(
            run(folder, "knn.py", f"--run={copied}"),
            "not at data/synthetic",
            "that folder by --data",
        )
        again = run(tmp_path, "knn.py", f"--run={copied}", f"--data={moved}")
        assert again.returncode == 0 and again.stdout == result.stdout
        flags = (SMOKE, f"--run={copied}", f"--config.data.path={moved}")
        result = run(tmp_path, "pretrain.py", *flags)
        assert result.returncode == 0 and "resumed after step" in result.stderr
    finally:
        moved.rename(folder / "data" / "synthetic")


def test_batch_script_of_the_docs_puts_a_stopped_job_back(tmp_path):
    """With srun and scontrol that only say what they were asked for."""
    text = (ROOT / "docs" / "scaling.md").read_text()
    (script,) = [part.split("```")[0] for part in text.split("```\n#!/bin/bash\n")[1:]]
    (tmp_path / "job.sh").write_text(script)
    srun = "trap 'exit ${CODE}' TERM\ntouch started\nfor i in $(seq 300); do sleep 0.1; done\n"
    (tmp_path / "srun").write_text(f"#!/bin/bash\n{srun}")
    (tmp_path / "scontrol").write_text('#!/bin/bash\necho "$@" > asked\n')
    for name in ("srun", "scontrol"):
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    for code, asked in ((75, True), (1, False)):
        env = os.environ | {"PATH": path, "SLURM_JOB_ID": "12", "CODE": str(code)}
        job = subprocess.Popen(["bash", "job.sh"], cwd=tmp_path, env=env)
        deadline = time.monotonic() + 20
        while not (tmp_path / "started").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        job.send_signal(signal.SIGTERM)
        assert job.wait(20) == code
        assert (tmp_path / "asked").exists() == asked
        if asked:
            assert (tmp_path / "asked").read_text() == "requeue 12\n"
            (tmp_path / "asked").unlink()
        (tmp_path / "started").unlink()


# Refused


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--config.train.epohcs=3",), ("'epohcs'", "did you mean 'epochs'")),
        (("--config.objetcive.max_t_share=1",), ("'objetcive'", "objective")),
        (("--config.=3",), ("config has no key ''",)),
        (("--config.train.epochs.x=3",), ("config has no key 'train.epochs.x'",)),
        (("--config.train.epochs=many",), ("--config.train.epochs=many",)),
        (("--config.data.coordinates=side",), ("data.coordinates='side' is unknown", "body")),
        (
            ("--config.model.encoder.joints=20", "--run=runs/other"),
            ("has 25 joints (ntu25)", "joints=20"),
        ),
        (("--config.data.path=nowhere",), ("'synthetic' is not at nowhere", "prepare_data.py")),
        (("--config.seed=5", "--run=runs/synthetic-xsub-smoke"), ("another config (seed: 0 → 5)",)),
        (("--run=runs/synthetic-xsub-smoke", "--resume=never"), ("holds a run already",)),
        (
            ("--config.optimizer.warmup_epochs=2", "--run=runs/x"),
            ("warmup_epochs=2 is not less than train.epochs=2", "warmup_epochs=0.2"),
        ),
        (("--config.name=",), ("--config.name=''", "give one word, or a folder by --run")),
        (("--config.name=../x",), ("--config.name='../x'", "give one word")),
        (("--config.seed=-1", "--run=runs/x"), ("seed=-1: must be at least 0",)),
        (("--run=/proc/x",), ("/proc/.x.lock", "cannot be made")),
        (("--run=/",), ("/ is the root of a file system",)),
        (("--run=file",), ("file", "exists")),
        (("--rnu=x",), ("unknown flag --rnu", "--run")),
    ],
)
def test_pretraining_refuses_in_one_line(folder, flags, told):
    (folder / "file").write_text("not a folder")
    before = {p: p.stat().st_mtime_ns for p in sorted(folder.glob("runs/*/**/*"))}
    assert_refused(run(folder, "pretrain.py", SMOKE, *flags), *told)
    assert {p: p.stat().st_mtime_ns for p in sorted(folder.glob("runs/*/**/*"))} == before


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (f"{ROOT}/configs/synthetic.py:xset", ("variant 'xset' is unknown", "xsub, xview")),
        ("configs/synthetik.py", ("no such file", "configs/synthetic.py")),
        (f"{ROOT}/configs/nw_ucla.py", ("not at data/nw_ucla", "download", "--dataset=nw_ucla")),
    ],
)
def test_config_that_cannot_be_used(folder, config, told):
    assert_refused(run(folder, "pretrain.py", f"--config={config}"), *told)


def test_damaged_store_is_named_with_its_file_and_the_check(folder):
    shutil.copytree(folder / "data" / "synthetic", folder / "data" / "damaged")
    with open(folder / "data" / "damaged" / "frames.npy", "r+b") as file:
        file.truncate(10_000)
    result = run(folder, "pretrain.py", SMOKE, "--config.data.path=data/damaged", "--run=runs/new")
    assert_refused(result, "data/damaged/frames.npy", "truncated")
    assert not (folder / "runs" / "new").exists()


@pytest.mark.parametrize(
    ("script", "flags", "told"),
    [
        ("linear_probe.py", ["--run=runs/x"], ["'runs/x' does not exist: 'runs' holds", "smoke"]),
        (
            "knn.py",
            ["--run=runs/synthetic-xsub-smoke", "--checkpoint=3"],
            ["no checkpoint 3", "it has ["],
        ),
        ("linear_probe.py", ["--augmented=maybe"], ["--augmented=maybe: give true or false"]),
        ("knn.py", ["--checkpoint=first"], ["--checkpoint=first is unknown", "last, best"]),
    ],
)
def test_probes_refuse_in_one_line(folder, script, flags, told):
    assert_refused(run(folder, script, *flags), *told)


def test_probe_where_there_is_no_run(tmp_path):
    assert_refused(run(tmp_path, "linear_probe.py"), "no run under 'runs'", "pretrain.py")


def test_checkpoint_that_cannot_be_written_ends_in_one_error(folder):
    """No file may grow beyond 16 kB: config and log do not, a checkpoint would."""
    limited = ("sh", "-c", 'ulimit -f 16; exec "$@"', "sh")
    flags = (SMOKE, "--run=runs/full", "--config.train.log_every=100")
    result = finish(folder, *limited, *experiment("pretrain.py", *flags))
    # Around the error may stand what other libraries' threads print when a write fails half-way.
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert (result.returncode, result.stdout) == (1, "")
    assert "runs/full/checkpoints: a checkpoint could not be written (File too large)" in error
    # With room again, the same command resumes.
    assert run(folder, "pretrain.py", *flags).returncode == 0


# All protocols, and sums of runs


@pytest.fixture(scope="module")
def evaluated(folder):
    """The run after evaluate.py; with what the command printed."""
    result = run(folder, "evaluate.py", "runs/synthetic-xsub-smoke")
    assert result.returncode == 0, result.stderr
    return folder / "runs" / "synthetic-xsub-smoke", result.stdout


def test_evaluate_ends_in_one_table_and_does_nothing_twice(folder, evaluated):
    run_folder, printed = evaluated
    saved = json.loads((run_folder / "evaluation.json").read_text(encoding="utf-8"))
    rows = [line for line in printed.splitlines() if line.startswith("| ")]
    assert [row.split("|")[1].strip() for row in rows[1:]] == [r["measure"] for r in saved["table"]]
    names = {"knn", "ridge", "retrieval", "few_shot", "kmeans", "linear_probe"}
    assert saved["results"].keys() | saved["not_possible"].keys() == names
    assert all((run_folder / f"{name}.json").exists() for name in saved["results"])
    before = {p.name: p.stat().st_mtime_ns for p in run_folder.glob("*.np[yz]")}
    again = run(folder, "evaluate.py", "--run=runs/synthetic-xsub-smoke", "--suite=paper")
    assert again.stdout == printed and again.stderr.count("done at step") == len(saved["results"])
    assert {p.name: p.stat().st_mtime_ns for p in run_folder.glob("*.np[yz]")} == before


def test_retrieval_and_few_shot_print_and_save_their_tables(folder):
    for script, flags in (
        ("retrieval.py", ()),
        ("few_shot.py", ("--ways=2", "--shots=1,2", "--queries=1", "--episodes=9")),
    ):
        result = run(folder, script, "runs/synthetic-xsub-smoke", *flags)
        assert (result.returncode, result.stderr) == (0, "")
        path = folder / "runs" / "synthetic-xsub-smoke" / script.replace(".py", ".json")
        saved = json.loads(path.read_text(encoding="utf-8"))
        (row,) = saved["rows"]
        assert all(f" {row[name]} " in result.stdout for name in row if "_" in name and row[name])
    wanted = {"ways": 2, "shots": [1, 2], "queries": 1, "episodes": 9}
    assert saved["settings"] == wanted and {"test_1_shot_knn", "test_2_shot_knn"} < row.keys()


def test_ensemble_of_a_run_with_itself_is_that_run(folder, evaluated):
    shutil.copytree(evaluated[0], folder / "runs" / "copied")
    runs = ("runs/synthetic-xsub-smoke", "runs/copied")
    result = run(folder, "ensemble.py", *runs, "--out=sum.json")
    assert (result.returncode, result.stderr) == (0, "")
    saved = json.loads((folder / "sum.json").read_text(encoding="utf-8"))
    assert len({row["test_linear"] for row in saved["rows"]}) == 1 and len(saved["rows"]) == 3
    for flags, told in (
        (runs[:1], "at least 2 different runs"),
        ((*runs, "--weights=1,x"), "--weights=1,x: give numbers"),
        ((*runs, "--labels=10%"), "linear_probe-10pct.npz does not exist"),
    ):
        assert_refused(run(folder, "ensemble.py", *flags), told)
    shutil.rmtree(folder / "runs" / "copied")


def test_a_run_is_judged_on_the_data_of_another_config(folder):
    """Here other views of the same clips; the joints are the same, so nothing is said of them."""
    shutil.copytree(folder / "data" / "synthetic", folder / "data" / "views")
    run_name, other = "runs/synthetic-xsub-smoke", f"--transfer={ROOT}/configs/synthetic.py:xview"
    result = run(folder, "knn.py", run_name, other, "--data=data/views")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"Cosine KNN of {run_name} (views, xview)")
    saved = json.loads((folder / run_name / "knn-views.json").read_text())
    assert saved["transfer"]["joints"] == "the same" and saved["protocol"] == "xview"
    for flag, told in (
        ("--transfer.data.streams=('bone',)", "reads the streams joint, motion and no others"),
        ("--transfer.data.coordinates=body", "transfer.data.coordinates is decided by runs/"),
        ("--classes=unseen", "--classes=unseen and --transfer exclude each other: give one"),
    ):
        assert_refused(run(folder, "knn.py", run_name, other, flag), told)
    assert_refused(
        run(folder, "knn.py", run_name, "--transfer=x.py"), "--transfer=x.py: no such file"
    )


def test_theory_prints_its_tables(folder):
    run_name = "runs/synthetic-xsub-smoke"
    flags = ("--checkpoints=1", "--clips=24", "--draws=1")
    result = run(folder, "theory.py", run_name, *flags)
    assert (result.returncode, result.stderr) == (0, "")
    saved = json.loads((folder / run_name / "theory.json").read_text())
    names = [stage["name"] for stage in saved["stages"]]
    assert names == ["untrained", f"step {saved['step']}"]
    assert all(result.stdout.count(f"| {name} ") == 2 for name in names)
    assert_refused(run(folder, "theory.py"), "no run is given")


def test_few_shot_and_runs_by_name_refuse_in_one_line(folder):
    run_name = "runs/synthetic-xsub-smoke"
    assert_refused(
        run(folder, "few_shot.py", run_name, "--shots=0"), "--shots=0: give numbers above 0"
    )
    assert_refused(run(folder, "knn.py", run_name, "runs/other"), "'runs/other' is no flag")
    refused = run(folder, "few_shot.py", "--episodes", "7", "--shots=0", run_name)
    assert_refused(refused, "--shots=0: give numbers above 0")
