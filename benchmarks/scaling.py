"""What a step needs on many devices: `python benchmarks/scaling.py --devices=8`.

The cost model of docs/scaling.md, by formula: work, memory traffic, what crosses the network, what
the input and a checkpoint weigh. With `--compile` the train step is compiled for so many simulated
devices, and the collectives found in the compiled program stand beside the formula's.
"""

import dataclasses
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # works uninstalled too

import jax
from absl import flags

from benchmarks import flops, sizes
from benchmarks.bounds import FLOAT32, bounds
from benchmarks.collectives import (
    KINDS,
    collectives,
    compile_step,
    compiled_collectives,
    network_bytes,
)
from igm_jax import cli
from igm_jax.training import parallel
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.program import build_program
from igm_jax.training.state import TrainState

_SIZE = flags.DEFINE_enum("size", "ntu_masked", list(sizes.SIZES), "Which networks.")
_DEVICES = flags.DEFINE_integer("devices", 8, "How many.", lower_bound=1)
_FSDP = flags.DEFINE_integer("fsdp", 1, "Devices that share a state.", lower_bound=1)
_CLIPS = flags.DEFINE_integer("clips", 16, "Clips of a step on each device.", lower_bound=1)
_DTYPE = flags.DEFINE_enum("dtype", "bfloat16", ["float32", "bfloat16"], "Of the networks.")
_DATA = flags.DEFINE_integer("data_clips", 63_026, "Training clips; default: NTU-120 xsub's.")
_PEAK = flags.DEFINE_float("peak_flops", 989e12, "FLOP/s a device; default: H100, bfloat16.")
_BANDWIDTH = flags.DEFINE_float("bandwidth", 3.35e12, "Bytes/s of memory; default: H100.")
_NETWORK = flags.DEFINE_float("network", 50e9, "Bytes/s each way a device; default: 400 Gb/s.")
_COMPILE = flags.DEFINE_bool("compile", False, "Compile for simulated devices, and compare.")


def needs(config: ExperimentConfig, state: TrainState, devices: int) -> dict[str, float]:
    """One step of `train.batch_size` clips on `devices` devices, as each of them sees it."""
    clips = config.train.batch_size // devices
    mine = dataclasses.replace(config, train=dataclasses.replace(config.train, batch_size=clips))
    parts = bounds(mine)
    least = sum(b.seconds(_PEAK.value, _BANDWIDTH.value) for b in parts)
    sent = network_bytes(collectives(config, state), devices)
    e = config.model.encoder
    read = clips * config.data.crops * config.data.bodies * e.frames * e.joints * 3 * FLOAT32
    whole = least + sent / _NETWORK.value
    return {
        "model GFLOP": flops.train_step(mine) / 1e9,
        "memory traffic, GB": sum(b.bytes for b in parts) / 1e9,
        "least time of both, ms": 1e3 * least,
        "sent and received, MB": sent / 1e6,
        "its time, overlapped with nothing, ms": 1e3 * sent / _NETWORK.value,
        "input, MB": read / 1e6,
        "input at the least time, MB/s": read / whole / 1e6,
        "clips/s at the least time, all devices": config.train.batch_size / whole,
        "epoch at the least time, s": _DATA.value // config.train.batch_size * whole,
        "checkpoint of all devices, MB": sum(
            x.size * x.dtype.itemsize for x in jax.tree.leaves(state)
        )
        / 1e6,
    }


def main() -> None:
    """Prints the needs, and the comparison."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", _DEVICES.value)
    config = sizes.size(_SIZE.value, batch=_DEVICES.value * _CLIPS.value, dtype=_DTYPE.value)
    config = dataclasses.replace(
        config, parallel=dataclasses.replace(config.parallel, fsdp=_FSDP.value)
    )
    program = build_program(config, sizes.inputs(config), _DATA.value)
    state = program.restore_target
    print(f"{_SIZE.value}, {_DTYPE.value}, {config.train.batch_size} clips a step; "
          f"{parallel.describe(state)}\n")  # fmt: skip
    print("| a step, each device | |\n| --- | --- |")
    for name, value in needs(config, state, _DEVICES.value).items():
        print(f"| {name} | {value:,.4g} |")
    if _COMPILE.value:
        predicted = collectives(config, state)
        found = compiled_collectives(compile_step(config, program))
        print("\n| collectives, MB | by formula | compiled |\n| --- | --- | --- |")
        for kind in KINDS:
            if predicted.get(kind) or found.get(kind):
                cells = (predicted.get(kind, 0) / 1e6, found.get(kind, 0) / 1e6)
                print(f"| {kind} | {cells[0]:,.4f} | {cells[1]:,.4f} |")


if __name__ == "__main__":
    cli.run(main)
