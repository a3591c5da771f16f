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

from benchmarks import sizes
from benchmarks.collectives import KINDS, collectives, compile_step, compiled_collectives
from benchmarks.cost_model import Hardware, needs
from igm_jax import cli, parallel
from igm_jax.training.program import build_program

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
    hardware = Hardware(_PEAK.value, _BANDWIDTH.value, _NETWORK.value)
    print(f"{_SIZE.value}, {_DTYPE.value}, {config.train.batch_size} clips a step, "
          f"{program.steps_per_epoch} steps an epoch; {parallel.describe(state)}\n")  # fmt: skip
    print("| a step | |\n| --- | --- |")
    for name, value in needs(config, state, _DEVICES.value, hardware).items():
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
