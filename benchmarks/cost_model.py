"""What a step needs on many devices, by formula; see docs/scaling.md."""

import dataclasses
from typing import NamedTuple

import jax

from benchmarks import flops
from benchmarks.bounds import FLOAT32, bounds
from benchmarks.collectives import collectives, network_bytes
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.state import TrainState


class Hardware(NamedTuple):
    """What a device can do at most, by its data sheet.

    Attributes:
      flops: FLOP/s.
      bandwidth: bytes/s from and to memory.
      network: bytes/s each way.
    """

    flops: float
    bandwidth: float
    network: float


def needs(
    config: ExperimentConfig, state: TrainState, devices: int, hardware: Hardware
) -> dict[str, float]:
    """Rows of a table: a step of `train.batch_size` clips on `devices` devices.

    Each device's work is that on its own clips; the optimiser's memory traffic is counted whole,
    though of a state that is cut a device updates its part.

    Args:
      config: the experiment.
      state: `Program.restore_target` on so many devices.
      devices: how many.
      hardware: of one device.
    """
    batch, data, e = config.train.batch_size, config.data, config.model.encoder
    mine = dataclasses.replace(
        config, train=dataclasses.replace(config.train, batch_size=batch // devices)
    )
    parts = bounds(mine)
    working = sum(b.seconds(hardware.flops, hardware.bandwidth) for b in parts)
    sent = network_bytes(collectives(config, state), devices)
    sending = sent / hardware.network
    clip = data.crops * data.bodies * e.frames * e.joints * 3 * FLOAT32
    return {
        "model GFLOP of a device": flops.train_step(mine) / 1e9,
        "memory traffic of a device, GB": sum(b.bytes for b in parts) / 1e9,
        "least time for both, ms": 1e3 * working,
        "sent and received by a device, MB": sent / 1e6,
        "least time for it, ms": 1e3 * sending,
        "clips to a device, MB": batch // devices * clip / 1e6,
        "clips/s, one after the other": batch / (working + sending),
        "clips/s, sending beside working": batch / max(working, sending),
        "checkpoint, MB": sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state)) / 1e6,
    }
