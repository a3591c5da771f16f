"""Rows of absent bodies are not computed, and the step stays the same to rounding."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny

from igm_jax import parallel
from igm_jax.models import blocks
from igm_jax.training import run_data
from igm_jax.training.packing import Packing
from igm_jax.training.program import build_program

TWO_CROPS = {"data.crops": 2, "objective.aux_tokens": False, "objective.own_t": True}
RECIPES = {
    "igm": {},
    "two crops and a teacher": {**TWO_CROPS, "objective.ema_decay": 0.5},
    "motion_prediction": {"objective.name": "motion_prediction"},
    "actionlet_contrast": {
        "objective.name": "actionlet_contrast",
        "objective.ema_decay": 0.5,
        "objective.mining_start": 0.0,
        "data.crops": 2,
    },
    "masked_contrast": {
        "objective.name": "masked_contrast",
        "objective.ema_decay": 0.5,
        "data.crops": 2,
    },
    "spectral_contrastive": {"objective.name": "spectral_contrastive", "data.crops": 2},
}


def test_capacity_is_a_little_more_than_the_mean():
    bodies = np.where(np.arange(1000) < 180, 2, 1)  # the share of NTU RGB+D
    packing = Packing.of(bodies, most=2, clips=128, shards=1, parts=1)
    assert packing.capacity == 168  # 151 in the mean, of 256
    counts = np.random.default_rng(0).choice(bodies, (10_000, 128)).sum(axis=1)
    assert (counts > packing.capacity).mean() < 1e-3
    assert Packing.of(bodies, most=1, clips=128, shards=1, parts=1).capacity is None
    assert Packing.of(np.full(9, 2), most=2, clips=128, shards=1, parts=1).capacity is None
    assert Packing.of(bodies, most=2, clips=128, shards=8, parts=3).capacity == 27


def test_rows_are_those_of_present_bodies():
    present = np.array([[1, 0], [1, 1], [1, 0], [0, 1]], bool)
    assert Packing(5).rows(present).tolist() == [0, 2, 3, 4, 7]
    assert Packing(6).rows(present).tolist() == [0, 2, 3, 4, 7, 1]
    assert Packing(3, shards=2).rows(present).tolist() == [0, 2, 3, 0, 3, 1]
    assert Packing(4).rows(present) is None  # more bodies than fit: all rows are computed
    assert Packing(None).rows(present) is None


def batch(config, seed):
    rng, shape = np.random.default_rng(seed), (8, 2, 8, 6, 3)
    present = np.tile([True, False], (8, 1))
    present[[1, 4]] = True
    zero = present[..., None, None, None]
    raw = {"clip": rng.normal(size=shape).astype(np.float32) * zero, "present": present}
    if config.data.crops == 2:
        raw["other"] = rng.normal(size=shape).astype(np.float32) * zero
    return raw


def two_steps(config, devices, packing):
    program = build_program(config, tiny.READING, 40, devices=jax.devices()[:devices])
    key = jax.device_put(jax.random.key(3), parallel.replicated(program.mesh))
    state = program.init(key)
    out = []
    for seed in range(2):
        raw = batch(config, seed)
        packed = packing.rows(raw["present"])
        raw |= {} if packed is None else {"packed": packed}
        state, metrics = program.step(state, parallel.to_devices(program.mesh, raw), key)
        out.append(jax.device_get(metrics))
    return jax.device_get(state), out


def assert_same(a, b):
    for x, y in zip(a[1], b[1], strict=True):
        assert x.keys() == y.keys()
        for name in x:
            np.testing.assert_allclose(x[name], y[name], rtol=1e-4, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(a[0].queue, b[0].queue, atol=1e-5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_packed_is_unpacked(recipe):
    """11 rows, which is no other size of the tiny networks."""
    config = tiny.config(RECIPES[recipe])
    assert_same(two_steps(config, 1, Packing(11)), two_steps(config, 1, Packing(None)))


@pytest.mark.parametrize("devices,accumulate", [(1, 2), (4, 1), (2, 2)])
def test_packed_is_unpacked_on_devices_and_in_parts(devices, accumulate):
    config = tiny.config(TWO_CROPS)
    parts = dataclasses.replace(
        config, parallel=dataclasses.replace(config.parallel, accumulate=accumulate)
    )
    packing = Packing(12 // devices // accumulate * accumulate, devices)
    assert packing.rows(batch(config, 0)["present"]) is not None
    assert_same(two_steps(parts, devices, packing), two_steps(config, 1, Packing(None)))


def test_networks_get_the_packed_rows_alone(monkeypatch):
    sizes, by_parts = set(), blocks._in_parts

    def spy(function, count, rows):
        sizes.update(len(x) for x in jax.tree.leaves(rows))
        return by_parts(function, count, rows)

    monkeypatch.setattr(blocks, "_in_parts", spy)
    two_steps(tiny.config(TWO_CROPS), 1, Packing(12))
    assert sizes == {12}


@pytest.mark.parametrize("processes", [1, 2])
def test_a_run_packs_where_some_body_is_absent(processes, tmp_path, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    store, config = tiny.write_store(tmp_path / "store"), tiny.config({"train.batch_size": 40})
    mesh = parallel.make_mesh(config.parallel, 40, jax.devices()[:1])
    packing = run_data.packing(config, store, np.arange(len(store)), mesh)
    assert packing.capacity == 64  # of 80: some of the clips have two bodies
    one_body = tiny.config({"data.bodies": 1, "train.batch_size": 40})
    assert run_data.packing(one_body, store, np.arange(len(store)), mesh).capacity is None
