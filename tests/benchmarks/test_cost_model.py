"""The cost model: what does and does not change with the devices."""

import pytest

from benchmarks import bounds, collectives, flops, sizes
from benchmarks.cost_model import Hardware, needs
from igm_jax.training.program import build_program


def of_step(clips, devices, hardware):
    config = sizes.size("smoke", batch=clips * devices)
    state = build_program(config, sizes.inputs(config), 64).restore_target
    return config, state, needs(config, state, devices, hardware)


def test_each_device_works_on_its_own_clips():
    hardware = Hardware(1e12, 1e12, 1e12)
    config, state, eight = of_step(4, 8, hardware)
    one = sizes.size("smoke", batch=4)
    assert eight["model GFLOP of a device"] == flops.train_step(one) / 1e9
    least = sum(b.seconds(1e12, 1e12) for b in bounds.bounds(one))
    assert eight["least time for both, ms"] == pytest.approx(1e3 * least)
    sent = collectives.network_bytes(collectives.collectives(config, state), 8)
    assert eight["sent and received by a device, MB"] == sent / 1e6
    # Two bodies, two crops where the objective reads two views, 8 frames, 25 joints, 3 numbers.
    clip = config.data.crops * 2 * 8 * 25 * 3 * 4
    assert eight["clips to a device, MB"] == 4 * clip / 1e6


def test_what_bounds_the_rate():
    fast, slow = Hardware(1e12, 1e12, 1e15), Hardware(1e12, 1e12, 1e3)
    for hardware, bound in ((fast, "least time for both, ms"), (slow, "least time for it, ms")):
        _, _, row = of_step(4, 8, hardware)
        beside = row["clips/s, sending beside working"]
        assert beside == pytest.approx(32 / row[bound] * 1e3)
        both = row["least time for both, ms"] + row["least time for it, ms"]
        assert row["clips/s, one after the other"] == pytest.approx(32 / both * 1e3)
