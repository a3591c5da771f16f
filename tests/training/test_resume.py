"""A run goes on elsewhere: on fewer devices, and after it was killed."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import jax
import numpy as np
import tiny

from igm_jax import parallel
from igm_jax.evaluation.run import load_run
from igm_jax.training.log import RunLog
from igm_jax.training.loop import pretrain

ROOT = pathlib.Path(__file__).parents[2]
# No projector: its batch normalisation hides an offset that all features share, whose gradient then
# is rounding, which Adam scales up to steps like any other.
SETTINGS = {
    "objective.name": "momentum_contrast",
    "objective.ema_decay": 0.9,
    "data.crops": 2,
    "train.epochs": 3,
    "train.knn_every": 3,
}


def reports(folder):
    lines = [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in x.items() if k != "clips_per_second"} for x in lines]


def test_from_eight_devices_to_four_to_one(tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "SMALL", 64)
    store = tiny.write_store(tmp_path / "store")
    whole, moved = tmp_path / "whole", tmp_path / "moved"
    assert pretrain(tiny.config(SETTINGS), store, whole, devices=jax.devices()[:1]) == "finished"

    stops = iter([4, 9])
    stop, advance = next(stops), RunLog.advance

    def hooked(self, step):
        advance(self, step)
        if step == stop:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(RunLog, "advance", hooked)
    for devices, fsdp, end in ((8, 2, "SIGTERM"), (4, 4, "SIGTERM"), (1, 1, "finished")):
        config = tiny.config(SETTINGS | {"parallel.fsdp": fsdp})
        assert pretrain(config, store, moved, devices=jax.devices()[:devices]) == end
        stop = next(stops, None)

    assert len(reports(moved)) == len(reports(whole)) == 16
    for a, b in zip(reports(moved), reports(whole)):
        assert a.keys() == b.keys()
        for key, value in b.items():
            np.testing.assert_allclose(a[key], value, rtol=1e-4, atol=1e-5, err_msg=key)
    a, b = (load_run(folder).params["embed"]["kernel"] for folder in (moved, whole))
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_killed_three_times_is_the_same_run(tmp_path):
    """The soak in short: by hand it kills more often.

    As a user's, its runs keep their compiled programs beside them and go on with those.
    """
    env = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    command = [sys.executable, str(ROOT / "benchmarks/soak.py"), "--kills=3", "--out=soak"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *kills, last = done.stdout.splitlines()
    assert len(kills) == 3 and all(line.startswith("start ") for line in kills)
    assert last == "3 kills: the end is that of an uninterrupted run, bit for bit"
    kept = [path.name for path in (tmp_path / "soak" / ".jax_cache").iterdir()]
    assert len([name for name in kept if name.startswith("jit_train_step-")]) == 1
