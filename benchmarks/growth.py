"""How the time of a step grows: `python benchmarks/growth.py`.

One dimension at a time doubles, the others stay. Beside the exponent that fits the measured times
(the slope of log time over log size) stands the one that fits the model FLOPs of the same steps.
"""

import json
import math
import pathlib
import statistics
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # works uninstalled too

from absl import flags

from benchmarks import flops, machine, report, sizes
from benchmarks.worker import Worker
from igm_jax import cli
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.mapping import to_mapping

_PLATFORM = flags.DEFINE_enum("platform", "cpu", ["cpu", "gpu"], "Where it runs.")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of the networks.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Measurements of each step.", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 1.0, "Steps are repeated for so long in a round.")
_OUT = flags.DEFINE_string("out", None, "File for the results, JSON.")

# What every step has but for the dimension that grows; nothing is hidden, so that f and g both
# see all tokens.
BASE = {"tokens": 100, "width": 128, "depth": 2, "batch": 8}
GROWN = {
    "tokens": (50, 100, 200, 400, 800),
    "width": (64, 128, 256, 512),
    "depth": (1, 2, 4, 8),
    "batch": (2, 4, 8, 16, 32),
}


def milliseconds(config: ExperimentConfig) -> float:
    """Median time of a step, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        job = {
            "config": to_mapping(config), "threads": 0, "platform": _PLATFORM.value,
            "profile": None, "weights": f"{folder}/weights.npz", "queue": f"{folder}/queue.npy",
        }  # fmt: skip
        worker = Worker("benchmarks.ours", job)
        try:
            worker.run(2)
            steps = max(1, math.ceil(_SECONDS.value / worker.run(1)["seconds"]))
            times = [worker.run(steps)["seconds"] / steps for _ in range(_ROUNDS.value)]
            worker.close()
        finally:
            worker.kill()
    return 1e3 * statistics.median(times)


def main() -> None:
    """Prints a row for each dimension; writes the results."""
    results = {}
    print("| grows | from, to | ms a step | exponent | of the FLOPs | of the last doubling |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, values in GROWN.items():
        configs = [sizes.plain_step(**BASE | {name: value}, dtype=_DTYPE.value) for value in values]
        predicted = [flops.train_step(config) for config in configs]
        times = [milliseconds(config) for config in configs]
        results[name] = {"values": values, "flops": predicted, "ms": times}
        fitted = [report.exponent(values, x) for x in (times, predicted)]
        last = [report.exponent(values[-2:], x[-2:]) for x in (times, predicted)]
        print(
            f"| {name} | {values[0]}, {values[-1]} | {', '.join(f'{x:.3g}' for x in times)} | "
            f"{fitted[0]:.2f} | {fitted[1]:.2f} | {last[0]:.2f} of {last[1]:.2f} |",
            flush=True,
        )
    if _OUT.value:
        everything = {"machine": machine.facts(), "base": BASE, "results": results}
        pathlib.Path(_OUT.value).write_text(json.dumps(everything, indent=1) + "\n")


if __name__ == "__main__":
    cli.run(main)
