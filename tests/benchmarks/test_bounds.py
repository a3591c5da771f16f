"""The bound: its parts are those of the step, and it moves with the hardware as it should."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from benchmarks import bounds, flops, sizes
from igm_jax.models import IGM


@pytest.mark.parametrize("name", sizes.SIZES)
def test_flops_are_those_of_the_step(name):
    config = sizes.size(name)
    assert sum(b.flops for b in bounds.bounds(config)) == flops.train_step(config)


def test_the_slower_resource_bounds():
    part = bounds.Bound("any", flops=100, bytes=10)
    assert part.seconds(peak_flops=100, bandwidth=1) == 10
    assert part.seconds(peak_flops=10, bandwidth=10) == 10


def test_a_step_takes_at_least_the_time_of_its_parts():
    config = sizes.size("ntu_masked")
    parts = bounds.bounds(config)
    slow_memory = bounds.least_seconds(config, peak_flops=1e30, bandwidth=1e9)
    assert slow_memory == pytest.approx(sum(p.bytes for p in parts) / 1e9)
    # The optimiser has no FLOPs by the formula: only memory bounds it.
    slow_cores = bounds.least_seconds(config, peak_flops=1e9, bandwidth=1e18)
    assert slow_cores == pytest.approx(flops.train_step(config) / 1e9)


def test_parameters_are_those_of_the_model():
    config = sizes.size("smoke")
    e = config.model.encoder
    clip = jnp.zeros((1, e.frames, e.joints, e.channels))
    params = jax.eval_shape(IGM(config.model).init, jax.random.key(0), clip)["params"]
    count = bounds.parameters(config)
    assert count.keys() == params.keys()
    assert sum(count.values()) == sum(x.size for x in jax.tree.leaves(params))


def test_bytes_of_a_block_counted_by_hand():
    """Ten tokens, D = 4, MLP 16: two norms; qkv, attention, output and residual; MLP."""
    norms = 2 * (4 + 4)
    attention = (4 + 12) + (12 + 4) + (4 + 4 + 4)
    mlp = (4 + 16) + (16 + 4 + 4)
    assert bounds.block_numbers(10, 4, 16) == 10 * (norms + attention + mlp)


def test_half_precision_halves_the_traffic_of_activations_alone():
    whole, half = (sizes.size("ntu_masked", dtype=d) for d in ("float32", "bfloat16"))
    twice = dataclasses.replace(half, train=dataclasses.replace(half.train, batch_size=16))

    def read(config):
        return bounds.bounds(config)[0].bytes

    weights = 3 * bounds.parameters(whole)["encoder"] * 4
    assert read(whole) - weights == 2 * (read(half) - weights) == read(twice) - weights
    assert bounds.bounds(whole)[-1] == bounds.bounds(half)[-1]
