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
        (tmp_path / name / "finetune" / "subset-0").mkdir(parents=True)
        fields = {f.name: getattr(made, f.name) for f in dataclasses.fields(Scores)}
        save_finetuned(tmp_path / name / "finetune" / "subset-0" / "scores.npz", Scores(**fields))
    runs = (tmp_path / "one", tmp_path / "two")
    of_probes = ensemble(*runs, "--classes=unseen")
    other = ensemble(*runs, "--labels=10%", "--subset=3", "--transfer=other")
    tuned = ensemble(*(run / "finetune" for run in runs))
    last = [text.splitlines()[-1].split() for text in (of_probes, other, tuned)]
    assert last[0] == last[1] == last[2] and last[0][:2] == ["|", "sum"]
    assert "fine-tuned classifiers" in tuned and "10% of the labels" in other
