"""The command that adds scores: folders of ablations, of fine-tuning, and other probes."""

import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
from commands import assert_refused, run

from igm_jax import run_folder
from igm_jax.evaluation.linear_probe import LinearHead
from igm_jax.evaluation.scores import ProbeScores, Scores, save_finetuned, save_scores

SCRIPT = pathlib.Path(__file__).parents[2] / "experiments" / "ensemble.py"
LABELS = np.arange(60) % 3


def probe(seed, streams):
    noise = np.random.default_rng(seed).normal(size=(60, 3))
    return ProbeScores(
        class_names=np.array(["a", "b", "c"]), clips=np.array([f"{i}" for i in range(60)]),
        labels=LABELS, scores=(np.eye(3)[LABELS] + noise).astype(np.float32), step=10,
        protocol="xsub", streams=streams, data="{}", temperature=1.0,
        lengths=np.array([6, 12, 19]),
        head=LinearHead(jnp.ones((4, 3)), jnp.zeros(3), jnp.zeros(4), jnp.ones(4)),
    )  # fmt: skip


def ensemble(*flags):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, flags)], capture_output=True, encoding="utf-8"
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_an_ablation_is_added_up_for_each_seed(tmp_path):
    wanted = []
    for seed in (0, 1):
        total = 0
        for i, stream in enumerate(("bone", "joint", "motion")):
            folder, made = tmp_path / stream / f"seed{seed}", probe(3 * seed + i, stream)
            folder.mkdir(parents=True)
            run_folder.write_json(folder / run_folder.CONFIG, {})
            save_scores(folder / "linear_probe.npz", made)
            p = np.exp(made.scores.astype(np.float64))
            total = total + p / p.sum(axis=1, keepdims=True)
        wanted.append(round(100 * (total.argmax(1) == LABELS).mean(), 2))
    printed = ensemble(tmp_path, f"--out={tmp_path}/sum.json")
    rows = json.loads((tmp_path / "sum.json").read_text())["rows"]
    assert [row["test_linear"] for row in rows if row["scores"] == "sum"] == wanted
    assert [row["seed"] for row in rows] == 4 * ["seed0"] + 4 * ["seed1"]
    assert f"{np.mean(wanted):.2f} ± {np.std(wanted, ddof=1):.2f}" in printed.splitlines()[-1]
    # Interrupted: the rows of the seeds would not be those of the same runs. Of `late` one seed
    # has begun, and its log is all that there is.
    shutil.rmtree(tmp_path / "motion" / "seed1")
    (tmp_path / "late").mkdir()
    (tmp_path / "late" / "seed0.log").write_text("stopped", encoding="utf-8")
    missing = [f"{tmp_path}/{name}" for name in ("late/seed0", "late/seed1", "motion/seed1")]
    result = run(tmp_path, "ensemble.py", tmp_path)
    assert_refused(result, "all seeds need the same runs", *missing)


def test_fine_tuned_classifiers_and_probes_on_other_classes_or_data(tmp_path):
    for i, name in enumerate(("one", "two")):
        made = probe(i, name)
        for file in ("linear_probe-unseen.npz", "linear_probe-10pct-subset3-other.npz"):
            (tmp_path / name).mkdir(exist_ok=True)
            save_scores(tmp_path / name / file, made)
        fields = {f.name: getattr(made, f.name) for f in dataclasses.fields(Scores)}
        tuned = tmp_path / name / "finetune"
        for subset in (8, 9, 10):
            (tuned / f"subset-{subset}").mkdir(parents=True)
            better = fields["scores"] + (subset - 8) * np.eye(3, dtype=np.float32)[LABELS]
            found = Scores(**fields | {"scores": better})
            save_finetuned(tuned / f"subset-{subset}" / "scores.npz", found)
        run_folder.write_json(tuned / "config.json", {"parent": {}, "labels": "10%"})
    runs = (tmp_path / "one", tmp_path / "two")
    tuned = [path / "finetune" for path in runs]
    of_probes = ensemble(*runs, "--classes=unseen")
    other = ensemble(*runs, "--labels=10%", "--subset=3", "--transfer=other")
    first = ensemble(*tuned, "--labels=10%")
    last = [text.splitlines()[-1].split() for text in (of_probes, other, first)]
    assert last[0] == last[1] == last[2] and last[0][:2] == ["|", "sum"]
    assert "fine-tuned classifiers" in first and "10% of the labels" in other
    assert f"| {tuned[0]}/subset-8 (one, step 10) |" in first
    # One folder with the flag, one by its name, and a probe beside them.
    save_scores(runs[0] / "linear_probe-subset10.npz", probe(0, "one"))
    mixed = ensemble(runs[0], tuned[0], tuned[1] / "subset-10", "--subset=10")
    assert "softmax scores of linear probes and fine-tuned classifiers (xsub)" in mixed
    rows = [[cell.strip() for cell in line.split("|")[1:3]] for line in mixed.splitlines()[4:]]
    named = {row[0]: float(row[1]) for row in rows if row[0]}
    subsets = [f"{tuned[0]}/subset-10 (one, step 10)", f"{tuned[1]}/subset-10 (two, step 10)"]
    assert list(named) == [f"{runs[0]} (one, step 10)", *subsets, "sum"]
    assert named[subsets[0]] > named[f"{runs[0]} (one, step 10)"]  # better by construction


def test_a_run_that_was_not_probed_says_how(tmp_path):
    (tmp_path / "a run").mkdir()
    refused = run(tmp_path, "ensemble.py", "a run", "b")
    assert_refused(refused, "does not exist", "python experiments/linear_probe.py 'a run'")
    assert_refused(run(tmp_path, "ensemble.py", "b", "a run"), "b: no such run folder")
    refused = run(tmp_path, "ensemble.py", "a run", "b", "--transfer=configs/utd_mhad.py")
    assert_refused(refused, "give the name of the store's folder alone")


def test_a_grid_that_is_not_finished_is_told(tmp_path):
    for row in ("one", "two"):
        (tmp_path / row / "seed0").mkdir(parents=True)
        run_folder.write_json(tmp_path / row / "seed0" / "config.json", {})
    run_folder.write_json(tmp_path / "table.json", {})
    refused = run(tmp_path, "ensemble.py", tmp_path)
    assert_refused(refused, "the grid is not finished", "experiments/ablate.py again")


def test_flags_that_do_not_fit_a_fine_tuned_folder_are_refused(tmp_path):
    made = probe(0, "joint")
    (tmp_path / "subset-2").mkdir()
    fields = {f.name: getattr(made, f.name) for f in dataclasses.fields(Scores)}
    save_finetuned(tmp_path / "subset-2" / "scores.npz", Scores(**fields))
    run_folder.write_json(tmp_path / "config.json", {"parent": {}, "labels": "10%"})
    for flag, told in (
        ("--labels=100%", f"--labels chooses a linear probe, and {tmp_path} is fine-tuned"),
        ("--labels=1%", f"--labels chooses a linear probe, and {tmp_path} is fine-tuned"),
        ("--subset=1", f"{tmp_path} has no scores of subset-1: it has subset-2"),
    ):
        assert_refused(run(tmp_path, "ensemble.py", tmp_path, tmp_path / "subset-2", flag), told)
