"""Runs that are refused or stopped: a folder that is taken, data that does not fit, divergence."""

import dataclasses
import importlib.util
import json
import shutil
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from loop_world import (
    CONFIG,
    ONE,
    assert_same_run,
    everything,
    reading_of,
    saved,
    steps_in,
)

from igm_jax.data import SkeletonStore, pipeline
from igm_jax.errors import DivergedError, InputError
from igm_jax.training import loop
from igm_jax.training.loop import pretrain
from igm_jax.training.packing import Packing


@pytest.mark.parametrize(
    ("changes", "resume", "told"),
    [
        ({"seed": 1}, "auto", r"run of another config \(seed: 0 → 1\): choose another --run"),
        ({"objective.max_t_share": 0.5}, "auto", r"\(objective.max_t_share: 0.9 → 0.5\)"),
        (
            {
                "seed": 1,
                "data.bodies": 1,
                "train.epochs": 9,
                "data.coordinates": "camera",
                "data.shear": 0.1,
            },
            "auto",
            r"\(data.bodies: 2 → 1; data.coordinates: .*; data.shear: .*; seed: 0 → 1 …\)",
        ),
        ({}, "never", "holds a run already: choose another --run, or --resume=auto"),
    ],
)
def test_run_folder_that_is_taken(whole, store, changes, resume, told):
    settings = {
        "objective.ema_decay": 0.9,
        "train.epochs": 3,
        "train.log_every": 4,
        "train.knn_every": 2,
    }
    before = everything(whole)
    with pytest.raises(InputError, match=told):
        pretrain(tiny.config({**settings, **changes}), store, whole, resume=resume, devices=ONE)
    assert everything(whole) == before


def test_run_goes_on_with_its_own_data_only(whole, store, tmp_path):
    other = tiny.write_store(tmp_path / "store", seed=1)
    before = everything(whole)
    with pytest.raises(InputError, match=r"store is not the data that .*run was trained on"):
        pretrain(CONFIG, other, whole, devices=ONE)
    assert everything(whole) == before
    copy = tiny.write_store(tmp_path / "copy")  # the same clips in another place
    assert pretrain(CONFIG, copy, whole, devices=ONE) == "finished"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"model.encoder.joints": 25},
            r"store has 6 joints \(tiny6\) of 3 channels, but the config says .*joints=25",
        ),
        ({"model.encoder.channels": 2}, "channels=2"),
        (
            {"train.batch_size": 48, "objective.queue_size": 48},
            "has 40 clips to pre-train on, fewer than train.batch_size=48: set .* to 40 or less",
        ),
        (
            {"train.batch_size": 32, "objective.queue_size": 32, "data.pretrain_split": "fit"},
            "has 30 clips to pre-train on",
        ),
        ({"data.protocol": "xset"}, "protocol 'xset' is unknown for data set 'synthetic'"),
    ],
)
def test_data_that_does_not_fit_leaves_no_folder(store, tmp_path, changes, told):
    with pytest.raises(InputError, match=told):
        pretrain(tiny.config(changes), store, tmp_path / "run", devices=ONE)
    assert not (tmp_path / "run").exists()


def test_what_does_not_fit_is_told_before_all_clips_are_read(store, tmp_path, monkeypatch):
    def read(*_):
        raise AssertionError("the statistics were computed")

    monkeypatch.setattr(pipeline, "statistics", read)
    with pytest.raises(InputError, match=r"parallel\.data=3"):
        pretrain(tiny.config({"parallel.data": 3}), store, tmp_path / "run")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="needs tensorboardX"):
        pretrain(tiny.config({"train.tensorboard": True}), store, tmp_path / "run", devices=ONE)
    pairless = dataclasses.replace(store.layout, pairs=())  # so that all joints are one body part
    other = dataclasses.replace(store, layout=pairless)
    config = tiny.config(tiny.changes_for("actionlet_contrast"))
    with pytest.raises(InputError, match=r"actionlet_contrast' pastes .* 'tiny6' has 1: name"):
        pretrain(config, other, tmp_path / "run", devices=ONE)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"train.epochs": 1, "optimizer.warmup_epochs": 1}, "warmup_epochs=1 is not less .*=0.1,"),
        ({"objective.ramp_epochs": 3}, "ramp_epochs=3 together are more .*epochs=2.*ramp_epochs=1"),
        ({"objective.queue_size": 48}, "queue_size=48 is more than the 40 clips .*queue_size=20"),
    ],
)
def test_run_shorter_than_its_phases_is_not_begun(store, tmp_path, changes, told):
    with pytest.raises(InputError, match=told):
        pretrain(tiny.config(changes), store, tmp_path / "run", devices=ONE)
    assert not (tmp_path / "run").exists()


def test_bookkeeping_makes_no_other_run(whole, store, tmp_path):
    """Settings of logging, checkpoints and probes, and paths of data and run."""
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "checkpoints" / "15")
    shutil.copytree(store.path, tmp_path / "moved")
    changes = {"log_every": 1, "knn_every": 3, "keep_checkpoints": 1}
    config = dataclasses.replace(
        CONFIG,
        name="renamed",
        data=dataclasses.replace(CONFIG.data, path=str(tmp_path / "moved")),
        train=dataclasses.replace(CONFIG.train, **changes),
        probe=dataclasses.replace(CONFIG.probe, epochs=7),
    )
    moved = SkeletonStore.open(tmp_path / "moved")
    assert pretrain(config, moved, folder, devices=ONE) == "finished"
    mine, theirs = (saved(f, store)[1] for f in (folder, whole))
    jax.tree.map(np.testing.assert_array_equal, mine, theirs)


def test_held_folder_is_refused_and_untouched(whole, store):
    """By a process that ends, and the lock with it."""
    code = (
        "import pathlib, sys\nfrom igm_jax import locking\n"
        f"with locking.exclusive(pathlib.Path({str(whole)!r}), 'trains'):\n"
        "    print('held', flush=True)\n    sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    holder = subprocess.Popen([sys.executable, "-c", code], **pipes)
    assert holder.stdout.readline() == "held\n"
    before = everything(whole)
    told = rf"run: process {holder.pid} on host {socket.gethostname()} trains this run: wait for it"
    with pytest.raises(InputError, match=told):
        pretrain(CONFIG, store, whole, devices=ONE)
    assert everything(whole) == before
    holder.kill()
    holder.communicate()
    assert pretrain(CONFIG, store, whole, devices=ONE) == "finished"


def test_damaged_config_is_told(whole, store, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    text = (folder / "config.json").read_text()
    for damaged in (text[:50], "[]", ""):
        (folder / "config.json").write_text(damaged)
        with pytest.raises(InputError, match=r"config.json is damaged"):
            pretrain(CONFIG, store, folder, devices=ONE)


def test_compilations_are_not_in_the_rate_of_the_first_report(store, tmp_path, monkeypatch):
    program = loop.build_program(CONFIG, *reading_of(store), ONE)
    calls = []

    def rows(_, present):
        return np.arange(present.size, dtype=np.int32) if len(calls) == 2 else None

    def slow_at_first(state, batch, key):
        calls.append(1)
        if len(calls) in (1, 3):  # the third one has packed rows
            time.sleep(2)  # as a compiler does
        return program.step(state, batch, key)

    monkeypatch.setattr(Packing, "rows", rows)
    slow = dataclasses.replace(program, step=slow_at_first)
    monkeypatch.setattr(loop, "build_program", lambda *_: slow)
    pretrain(CONFIG, store, tmp_path / "run", devices=ONE)
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["step"] == 4 and first["clips_per_second"] > 4 * 8 / 2


def test_out_of_memory_says_what_to_set(store, tmp_path, monkeypatch):
    program = loop.build_program(CONFIG, *reading_of(store), ONE)

    def too_large(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")

    large = dataclasses.replace(program, step=too_large)
    monkeypatch.setattr(loop, "build_program", lambda *_: large)
    with pytest.raises(MemoryError) as caught:
        pretrain(CONFIG, store, tmp_path / "run", devices=ONE)
    message = str(caught.value)
    assert "8 clips at once on a device do not fit" in message
    assert "--config.parallel.accumulate=2" in message and "batch_size=4" in message
    assert "allocating 9 bytes" in message


def test_file_in_place_of_the_run_folder(store, tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(OSError, match="run"):
        pretrain(CONFIG, store, tmp_path / "run", devices=ONE)
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.parametrize("metric", ["loss_dist", "grad_norm"])
def test_what_is_not_finite_stops_the_run(whole, store, tmp_path, monkeypatch, metric):
    """With step, clips and config; the last good checkpoint resumes as if nothing had happened."""
    program = loop.build_program(CONFIG, *reading_of(store), ONE)
    clip_names = []

    def poisoned(state, batch, key):
        step = int(state.step) + 1
        state, values = program.step(state, batch, key)
        return state, values | ({metric: jnp.nan} if step == 7 else {})

    def noted(self, step, values, clip_index, window):
        if step == 7:
            clip_names.extend(store.clips["name"][clip_index])
        return collect(self, step, values, clip_index, window)

    collect, folder = loop._Loop._collect, tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(loop._Loop, "_collect", noted)
        patch.setattr(loop, "build_program", lambda *_: dataclasses.replace(program, step=poisoned))
        with pytest.raises(DivergedError) as caught:
            pretrain(CONFIG, store, folder, devices=ONE)
    message = str(caught.value)
    assert f"{metric} not finite at step 7" in message and "checkpoint is step 5" in message
    assert str(folder / "config.json") in message
    assert len(clip_names) == 8 and message.endswith(", ".join(clip_names))
    assert steps_in(folder) == [5]
    assert pretrain(CONFIG, store, folder, devices=ONE) == "finished"
    assert_same_run(folder, whole, store)


def test_run_that_was_copied_goes_on_elsewhere(whole, store, tmp_path):
    """Nothing in a run folder knows where it lies."""
    folder = tmp_path / "elsewhere"
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "checkpoints" / "15")
    assert pretrain(CONFIG, store, folder, devices=ONE) == "finished"
    assert_same_run(folder, whole, store)
