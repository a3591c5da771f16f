"""Collectives of a step on many devices: `python benchmarks/devices.py --devices=8`.

Compiles the train step for that many simulated CPU devices. Prints the megabytes of the arrays that
its collectives work on, by formula and as found in the compiled program.
"""

import dataclasses

import _clone  # noqa: F401
import jax
from absl import flags

from benchmarks import sizes
from benchmarks.collectives import KINDS, collectives, compile_step, compiled_collectives
from igm_jax import cli, parallel
from igm_jax.training.program import build_program

_SIZE = flags.DEFINE_string("size", "ntu_masked", sizes.HELP)
_DEVICES = flags.DEFINE_integer("devices", 8, "Simulated devices.", lower_bound=1)
_FSDP = flags.DEFINE_integer("fsdp", 1, "Devices that share a state.", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch", 0, "Clips in a step; 0: one a device.", lower_bound=0)
_DTYPE = flags.DEFINE_enum(
    "dtype", None, ["float32", "bfloat16"], "Precision; default: the size's own, float32."
)


def main() -> None:
    """Compiles one step; prints a table in Markdown."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", _DEVICES.value)
    config = sizes.size(_SIZE.value, batch=_BATCH.value or _DEVICES.value, dtype=_DTYPE.value)
    config = dataclasses.replace(
        config, parallel=dataclasses.replace(config.parallel, fsdp=_FSDP.value)
    )
    program = build_program(config, sizes.reading(config), sizes.NUM_CLIPS)
    state = program.restore_target
    print(
        f"{_SIZE.value}, {config.model.encoder.dtype}, {config.train.batch_size} clips a step; "
        f"{parallel.describe(state)}\n"
    )
    predicted = collectives(config, state)
    found = compiled_collectives(compile_step(config, program))
    print("| collectives, MB | by formula | compiled |\n| --- | --- | --- |")
    for kind in KINDS:
        if predicted.get(kind) or found.get(kind):
            cells = (predicted.get(kind, 0) / 1e6, found.get(kind, 0) / 1e6)
            print(f"| {kind} | {cells[0]:,.4f} | {cells[1]:,.4f} |")


if __name__ == "__main__":
    cli.run(main)
