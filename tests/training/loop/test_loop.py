"""A run from beginning to end: interrupted, killed, resumed."""

import dataclasses
import json
import os
import signal

import jax
import numpy as np
import pytest
from loop_world import (
    CONFIG,
    ONE,
    assert_same_run,
    at_step,
    killed,
    lines,
    reading_of,
    send,
    steps_in,
)

from igm_jax.data import pipeline
from igm_jax.training import checkpoint, loop
from igm_jax.training.loop import pretrain
from igm_jax.training.stopping import Stopping


def test_run_folder_of_a_whole_run(whole, store, traces):
    assert {p.name for p in whole.iterdir()} == {
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "checkpoints",
    }
    config = json.loads((whole / "config.json").read_text())
    assert config["train"]["epochs"] == 3 and config["data"]["crop"] == [0.5, 1.0]
    environment = json.loads((whole / "environment.json").read_text())
    assert environment["versions"]["jax"] == jax.__version__ and environment["cpus"] > 0
    assert environment["devices"] == ["cpu"]  # of the run, not the eight of this process
    assert steps_in(whole) == [10, 15]
    reports = lines(whole)
    assert [(x["step"], "loss" in x) for x in reports] == [
        (4, True),
        (8, True),
        (10, False),
        (12, True),
        (15, True),
        (15, False),
    ]
    for report in reports:
        assert all(np.isfinite(v) for v in report.values())
    named = {
        "step",
        "epoch",
        "loss",
        "loss_gen",
        "loss_feat",
        "loss_dist",
        "learning_rate",
        "grad_norm",
        "cos_aux",
        "cos_generated",
        "mean_cosine",
        "effective_rank",
        "coding_length",
        "residual",
        "second_term",
        "radius",
    }
    assert reports[0].keys() == named
    assert {"val_knn_1", "val_knn_20", "val_ridge", "val_effective_rank"} < reports[2].keys()
    assert reports[0]["epoch"] == 0.8
    assert len(traces) == 1
    # Nothing is left to do, nor done again.
    before = (whole / "metrics.jsonl").read_bytes()
    assert pretrain(CONFIG, store, whole, devices=ONE) == "finished"
    assert (whole / "metrics.jsonl").read_bytes() == before and steps_in(whole) == [10, 15]


def test_reports_are_means_over_their_steps(whole, store, tmp_path):
    every = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, log_every=1))
    pretrain(every, store, tmp_path / "run", devices=ONE)
    single = [x for x in lines(tmp_path / "run") if "loss" in x]
    assert [x["step"] for x in single] == list(range(1, 16))
    report = [x for x in lines(whole) if "loss" in x][1]  # steps 5 to 8
    for name in ("loss", "loss_gen", "loss_feat", "loss_dist", "cos_aux", "grad_norm"):
        np.testing.assert_allclose(report[name], np.mean([x[name] for x in single[4:8]]), rtol=1e-6)
    for name in ("learning_rate", "effective_rank", "mean_cosine", "epoch"):
        assert report[name] == single[7][name]


def test_interrupted_twice_is_the_same_run(whole, store, tmp_path, monkeypatch, traces):
    """Between two reports, between two epochs, by both signals."""
    handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        at_step(patch, 5, send(signal.SIGTERM))
        assert pretrain(CONFIG, store, folder, devices=ONE) == "SIGTERM"
    assert steps_in(folder) == [5, 6]
    with monkeypatch.context() as patch:
        at_step(patch, 10, send(signal.SIGINT))
        assert pretrain(CONFIG, store, folder, devices=ONE) == "SIGINT"
    assert steps_in(folder) == [10, 11]
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert pretrain(CONFIG, store, folder, devices=ONE) == "finished"
    assert_same_run(folder, whole, store)
    assert len(traces) == 1


def test_goes_on_with_the_statistics_it_began_with(store, tmp_path, monkeypatch):
    """Which are not read off the data again, whatever would come out today."""
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        at_step(patch, 5, send(signal.SIGTERM))
        pretrain(CONFIG, store, folder, devices=ONE)
    begun = checkpoint.restore_meta(folder, 6)["reading"]
    monkeypatch.setattr(pipeline, "statistics", None)
    assert pretrain(CONFIG, store, folder, devices=ONE) == "finished"
    assert checkpoint.restore_meta(folder, 15)["reading"] == begun


def test_signal_in_the_last_step_is_too_late(store, tmp_path, monkeypatch):
    at_step(monkeypatch, 14, send(signal.SIGTERM))
    assert pretrain(CONFIG, store, tmp_path / "run", devices=ONE) == "finished"


def test_second_ctrl_c_means_now(store):
    with Stopping(loop.build_program(CONFIG, *reading_of(store), ONE).mesh) as stopping:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopping.agreed() == "SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_killed_in_mid_write_is_the_same_run(whole, store, tmp_path):
    """Lines after the last checkpoint are cut off, and written again on the way."""
    folder = tmp_path / "run"
    killed(store, folder, 8)
    assert steps_in(folder) == [5]
    assert [x["step"] for x in lines(folder)] == [4, 8]
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "loss": 1.0}\n{"step": 10, "val_kn')
    assert pretrain(CONFIG, store, folder, devices=ONE) == "finished"
    assert_same_run(folder, whole, store)


@pytest.mark.parametrize("resume", ["auto", "never"])
def test_killed_before_the_first_checkpoint_starts_again(whole, store, tmp_path, resume):
    folder = tmp_path / "run"
    killed(store, folder, 4)
    assert steps_in(folder) == [] and len(lines(folder)) == 1
    # It has nothing to lose, so it need not have had this config.
    (folder / "config.json").write_text('{"seed": 5}')
    assert pretrain(CONFIG, store, folder, resume=resume, devices=ONE) == "finished"
    assert (folder / "config.json").read_text() == (whole / "config.json").read_text()
    assert_same_run(folder, whole, store)


def test_best_checkpoint_by_knn_is_kept(store, tmp_path, monkeypatch):
    accuracy = iter([0.2, 0.9, 0.5, 0.4, 0.3])
    evaluated = lambda *_, **__: {"val_knn_1": next(accuracy), "val_knn_20": 1.0}  # noqa: E731
    monkeypatch.setattr(loop, "evaluate", evaluated)
    train = dataclasses.replace(CONFIG.train, epochs=5, knn_every=1, keep_checkpoints=1)
    config = dataclasses.replace(CONFIG, train=train)
    # The step itself is of no interest here, and another number of epochs another program.
    program = loop.build_program(CONFIG, *reading_of(store), ONE)
    program = dataclasses.replace(program, total_steps=25)
    monkeypatch.setattr(loop, "build_program", lambda *_: program)
    pretrain(config, store, tmp_path / "run", devices=ONE)
    assert steps_in(tmp_path / "run") == [10, 25]
