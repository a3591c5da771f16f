"""A run resumes on fewer devices."""

import json
import os
import signal

import jax
import numpy as np
import tiny

from igm_jax import parallel
from igm_jax.evaluation.run import load_run
from igm_jax.training.log import RunLog
from igm_jax.training.loop import pretrain

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
