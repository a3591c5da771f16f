"""Sums of scores over runs: the rule, and runs that do not belong together."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from igm_jax import run_folder
from igm_jax.errors import InputError
from igm_jax.evaluation.linear_probe import LinearHead
from igm_jax.evaluation.scores import (
    ProbeScores,
    Scores,
    ensemble,
    load_finetuned,
    load_scores,
    save_finetuned,
    save_scores,
)

LABELS = np.arange(60) % 3


def scores(seed, **changes):
    rng = np.random.default_rng(seed)
    made = ProbeScores(
        head=LinearHead(jnp.ones((4, 3)), jnp.zeros(3), jnp.zeros(4), jnp.ones(4)),
        temperature=1.5,
        class_names=np.array(["a", "b", "ä"]),
        lengths=np.array([6, 12, 19]),
        clips=np.array([f"clip{i}" for i in range(60)]),
        labels=LABELS,
        scores=(np.eye(3)[LABELS] + rng.normal(size=(60, 3))).astype(np.float32),
        step=10,
        protocol="xsub",
        streams="joint",
        data='{"frames.npy": "1"}',
    )
    return dataclasses.replace(made, **changes)


def test_sum_of_softmax_scores():
    runs = {name: scores(i) for i, name in enumerate(("joint", "bone", "motion"))}
    rows = ensemble(runs)
    assert [row["scores"] for row in rows] == ["joint", "bone", "motion", "sum"]
    for row, run in zip(rows, runs.values()):
        assert row["test_linear"] == round(100 * (run.scores.argmax(1) == LABELS).mean(), 2)
    for weights in ([1.0, 1.0, 1.0], [2.0, 0.5, 0.0]):
        total = sum(w * softmax(r.scores, axis=1) for w, r in zip(weights, runs.values()))
        wanted = round(100 * (total.argmax(1) == LABELS).mean(), 2)
        assert ensemble(runs, weights)[-1]["test_linear"] == wanted
    assert ensemble(runs, [1.0, 1.0, 1.0]) == rows
    low, high = rows[-1]["test_linear_interval"]
    assert low < rows[-1]["test_linear"] < high
    assert rows[-1]["test_linear"] > max(row["test_linear"] for row in rows[:-1])
    assert ensemble(runs, [0.0, 1.0, 0.0])[-1]["test_linear"] == rows[1]["test_linear"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data": "{}"}, "two has other data than one"),
        ({"protocol": "xview"}, "two has other protocol than one"),
        ({"class_names": np.array(["a", "b", "c"])}, "two has other classes than one"),
        ({"clips": np.array(["x"] * 60)}, "two has other test clips than one"),
        ({"labels": 2 - LABELS}, "two has other labels than one"),
    ],
)
def test_runs_of_other_data_or_splits_are_refused(changes, told):
    with pytest.raises(InputError, match=told):
        ensemble({"one": scores(0), "two": scores(1, **changes)})


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, float("nan")]])
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(InputError, match="give one for each of 2 runs"):
        ensemble({"one": scores(0), "two": scores(1)}, weights)


def test_one_run_is_no_ensemble():
    with pytest.raises(InputError, match="needs at least 2 different runs"):
        ensemble({"one": scores(0)})


def test_scores_survive_and_files_of_something_else_are_refused(tmp_path):
    path, made = tmp_path / "x.npz", scores(0)
    save_scores(path, made)
    read = load_scores(path)
    for field in dataclasses.fields(made):
        one, other = getattr(made, field.name), getattr(read, field.name)
        jax.tree.map(np.testing.assert_array_equal, other, one)
    run_folder.write_arrays(path, {"kernel": np.eye(2)})
    with pytest.raises(InputError, match=r"has no 'bias': run experiments/linear_probe.py again"):
        load_scores(path)


def test_scores_of_fine_tuning_survive_and_are_summed_with_those_of_probes(tmp_path):
    probe, path = scores(0), tmp_path / "scores.npz"
    fields = {f.name: getattr(probe, f.name) for f in dataclasses.fields(Scores)}
    save_finetuned(path, Scores(**fields))
    read = load_finetuned(path)
    for name, value in fields.items():
        np.testing.assert_array_equal(getattr(read, name), value)
    rows = ensemble({"probe": probe, "tuned": read}, column="test_finetune")
    assert len({row["test_finetune"] for row in rows}) == 1
    run_folder.write_arrays(path, {"logits": np.eye(2)})
    with pytest.raises(InputError, match=r"has no 'class_names': run experiments/finetune.py"):
        load_finetuned(path)
