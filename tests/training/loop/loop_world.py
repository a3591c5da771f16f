"""The run that the tests of the loop train, and how they interrupt and compare it."""

import json
import os

import jax
import numpy as np
import pytest
import tiny

from igm_jax.training import loop, run_data
from igm_jax.training.checkpoint import Checkpoints
from igm_jax.training.log import RunLog
from igm_jax.training.loop import pretrain

# 5 steps an epoch; reports, checkpoints and KNN do not fall on the same steps.
CONFIG = tiny.config(
    {
        "objective.ema_decay": 0.9,
        "train.epochs": 3,
        "train.log_every": 4,
        "train.knn_every": 2,
        "train.checkpoint_every": 1,
    }
)


ONE = jax.devices()[:1]


def at_step(monkeypatch, step, action):
    """Does `action` when this step is done."""
    advance = RunLog.advance

    def hooked(self, done):
        advance(self, done)
        if done == step:
            action()

    monkeypatch.setattr(RunLog, "advance", hooked)


def send(number):
    return lambda: os.kill(os.getpid(), number)


def steps_in(folder):
    return sorted(int(p.name) for p in (folder / "checkpoints").iterdir() if p.name.isdigit())


def lines(folder):
    """metrics.jsonl without what only the clock decides."""
    return [
        {k: v for k, v in json.loads(line).items() if k != "clips_per_second"}
        for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]


def saved(folder, store):
    """The newest state, and the place in the data."""
    indices, reading = run_data.prepare(CONFIG, store)
    program = loop.build_program(CONFIG, reading, len(indices), ONE)
    batches = run_data.batches(CONFIG, store, indices, reading, program.mesh)
    with Checkpoints(folder) as checkpoints:
        step = checkpoints.latest_step
        state, iterator = checkpoints.restore(step, program.restore_target, iter(batches))
        return step, jax.device_get(state), iterator.get_state()


def assert_same_run(folder, whole, store):
    """Bit for bit: the last checkpoint, the place in the data, and every line of the log."""
    (step_a, state_a, data_a), (step_b, state_b, data_b) = saved(folder, store), saved(whole, store)
    assert (step_a, data_a) == (step_b, data_b) and step_a == 15
    assert jax.tree.structure(state_a) == jax.tree.structure(state_b)
    jax.tree.map(np.testing.assert_array_equal, state_a, state_b)
    assert lines(folder) == lines(whole)


def killed(store, folder, step):
    """A run that dies without a word after this step."""

    class Killed(BaseException):
        pass

    def die():
        raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        at_step(patch, step, die)
        pretrain(CONFIG, store, folder, devices=ONE)


def reading_of(store):
    indices, reading = run_data.prepare(CONFIG, store)
    return reading, len(indices)


def everything(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
