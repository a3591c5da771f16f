"""A small run on synthetic clips is killed over and over: while it starts, between steps, while a
checkpoint is being written.

A run saves while it trains, and the next save waits. So each start must resume from the
last checkpoint that was begun, or from the one before. In the end parameters, optimiser state and
log must be those of a run that nothing interrupted, bit for bit.
"""

import json
import os
import pathlib
import random
import re
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

ROOT = pathlib.Path(__file__).parents[2]
INTERVAL = 4  # steps of an epoch, and so between checkpoints
CLIPS = 150  # of which about half are training clips: so many batches of 16
MOST = 4  # intervals that a start gets on with before it is killed
# As a user's, the runs keep their compiled programs beside them and go on with those.
ENV = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_run_that_is_killed_over_and_over_is_the_same_run(tmp_path, kills):
    call(
        "prepare_data.py",
        "--dataset=synthetic",
        f"--num_clips={CLIPS}",
        f"--out={tmp_path / 'data'}",
    )
    epochs = (kills + 2) * (MOST + 1)
    settings = [
        f"--config={ROOT / 'configs' / 'synthetic.py'}:smoke",
        f"--config.data.path={tmp_path / 'data'}",
        f"--config.train.epochs={epochs}",
        "--config.train.log_every=1",
        "--config.train.knn_every=1000000",
        "--config.train.checkpoint_every=1",
    ]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    call("pretrain.py", *settings, f"--run={whole}")
    assert last_step(whole) == epochs * INTERVAL, "an epoch is no interval"

    command = [*script("pretrain.py"), *settings, f"--run={killed}"]
    draw, startup, resumed, moments = random.Random(0), 10.0, [], []
    for kill in range(kills):
        before, log = last_step(killed), tmp_path / f"killed.{kill}.log"
        moment = "starting" if draw.random() < 0.2 else "running"
        startup = kill_a_start(command, log, killed, moment, draw, startup)
        step = resumed_after(log)
        # The checkpoint of step `before` is begun after its line in the log: perhaps not yet.
        begun = max(0, before - 1) // INTERVAL * INTERVAL
        assert step is None or step >= begun - INTERVAL, f"start {kill}: {before} steps were done"
        moments.append(moment)
        resumed.append(step)
    assert moments.count("running") > kills / 2
    assert any(resumed), "no start went on from a checkpoint"
    if kills > 3:
        assert "starting" in moments

    call("pretrain.py", *settings, f"--run={killed}")
    assert reports(killed) == reports(whole)
    assert_same_state(killed, whole, epochs * INTERVAL)
    programs = [path.name for path in (tmp_path / ".jax_cache").iterdir()]
    assert len([name for name in programs if name.startswith("jit_train_step-")]) == 1


def kill_a_start(command, log, run_folder, moment, draw, startup):
    """Starts the run and kills it; returns how long a start takes to say where it resumes."""
    begin = time.monotonic()
    with log.open("w") as file:
        process = subprocess.Popen(command, stderr=file, env=ENV)
        try:
            if moment == "starting":
                time.sleep(draw.uniform(0, startup))
            else:
                # What was logged after the checkpoint is cut off first, then written again.
                told = wait(process, log)
                startup = time.monotonic() - begin
                goal = told + draw.randint(1, MOST * INTERVAL)
                while last_step(run_folder) < goal and process.poll() is None:
                    time.sleep(0.001)
                time.sleep(draw.uniform(0, 0.1))
        finally:
            process.kill()
            process.wait()
    assert process.returncode == -9, f"it ended by itself: {log.read_text()[-2000:]}"
    return startup


def wait(process, log):
    """The step that a start resumes from, once it says so."""
    while process.poll() is None:
        if (step := resumed_after(log)) is not None:
            return step
        time.sleep(0.005)
    raise AssertionError(f"it ended before its first step: {log.read_text()[-2000:]}")


def resumed_after(log):
    """The step that the first line of a run names; None as long as it is not there."""
    match = re.search(r"; (?:resumed after step ([\d,]+)|compiling …)\n", log.read_text())
    return match and int((match[1] or "0").replace(",", ""))


def last_step(run_folder):
    """The newest step in the log."""
    path = run_folder / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return max((json.loads(x)["step"] for x in lines if x.endswith("\n")), default=0)


def reports(run_folder):
    lines = (run_folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(x).items() if k != "clips_per_second"} for x in lines]


def assert_same_state(a, b, step):
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        states = [reader.restore((f / f"checkpoints/{step}/state").absolute()) for f in (a, b)]
    leaves = [jax.tree_util.tree_leaves_with_path(state) for state in states]
    for (path, x), (_, y) in zip(*leaves, strict=True):
        assert np.array_equal(x, y), jax.tree_util.keystr(path)


def script(name):
    return [sys.executable, str(ROOT / "experiments" / name)]


def call(name, *arguments):
    command = [*script(name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=ENV)
    assert done.returncode == 0, done.stderr[-2000:]
