"""Times the whole IGM training step: `python benchmarks/train_step.py --against=torch`.

Ours is the program that `experiments/pretrain.py` runs; the other is the same step in PyTorch,
`tests/torch_reference`. Each has a process of its own; their rounds alternate, and the median
counts. Needs jax, flax, optax, jaxtyping, ml_collections, NumPy and PyTorch, but no data.
"""

import importlib.util
import json
import math
import pathlib
import statistics
import tempfile
from typing import Any

import _clone  # noqa: F401
from absl import flags

from benchmarks import bounds, flops, machine, report, sizes
from benchmarks.worker import Worker
from igm_jax import cli
from igm_jax.errors import InputError
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.mapping import to_mapping

_SIZES = flags.DEFINE_list("sizes", ["nw_ucla", "ntu_masked", "ntu_unmasked"], sizes.HELP)
_AGAINST = flags.DEFINE_enum("against", None, ["torch"], "What ours is compared with.")
_PLATFORM = flags.DEFINE_enum("platform", "cpu", ["cpu", "gpu"], "Where it runs.")
_BATCH = flags.DEFINE_integer("batch", 0, "Clips in a step; 0: the size's own.", lower_bound=0)
_DTYPE = flags.DEFINE_enum(
    "dtype", None, ["float32", "bfloat16"], "Precision; default: the size's own, float32."
)
_THREADS = flags.DEFINE_integer("threads", 0, "Cores for each side; 0: all.", lower_bound=0)
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Measurements; the median counts.", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 2.0, "Time for which steps repeat in a round.")
_COMPILE = flags.DEFINE_bool("compile", False, "Compile the PyTorch step with torch.compile.")
_EACH_TOKEN = flags.DEFINE_bool(
    "each_token", False, "PyTorch projects the condition of each token, alike or not."
)
_BODIES = flags.DEFINE_float(
    "bodies",
    0.0,
    "Mean number of bodies of a clip, where a size has two; ours computes no absent one. NTU RGB+D "
    "60 has 1.18. 0: all are present.",
    lower_bound=0.0,
)
_PEAK = flags.DEFINE_float("peak_flops", 0.0, "FLOP/s of the hardware by its data sheet, for MFU.")
_BANDWIDTH = flags.DEFINE_float(
    "bandwidth", 0.0, "Bytes/s of its memory; with --peak_flops for the share of the bound."
)
_PROFILE = flags.DEFINE_string("profile", None, "Folder for a jax trace of three steps.")
_JSON = flags.DEFINE_string("json", None, "File for the results and facts of the machine.")
_BEFORE = flags.DEFINE_string("before", None, "Earlier --json file; exit code 1 if a ratio fell.")
_MARGIN = flags.DEFINE_float("margin", 0.1, "Share of a ratio that may be lost with --before.")


def mean_bodies(config: ExperimentConfig) -> float:
    """Mean number of bodies of a clip; 0 where all are present."""
    return _BODIES.value if config.data.bodies > 1 else 0.0


def start(config: ExperimentConfig, folder: str) -> dict[str, Worker]:
    """The workers, each compiled and warm."""
    job = {
        "config": to_mapping(config),
        "threads": _THREADS.value,
        "platform": _PLATFORM.value,
        "weights": f"{folder}/weights.npz",
        "queue": f"{folder}/queue.npy",
        "profile": _PROFILE.value,
        "bodies": mean_bodies(config),
    }
    workers = {"ours": Worker("benchmarks.ours", job)}
    if _AGAINST.value:
        ready = workers["ours"].ready
        job |= {
            "reading": sizes.reading(config).to_dict(),
            "torch_device": "cpu" if _PLATFORM.value == "cpu" else "cuda",
            "compiled": _COMPILE.value,
            "each_token": _EACH_TOKEN.value,
            **{name: ready[name] for name in ("total_steps", "steps_per_epoch")},
        }
        workers["torch"] = Worker("benchmarks.theirs", job)
    return workers


def measure(workers: dict[str, Worker]) -> dict[str, list[dict[str, float]]]:
    """Milliseconds a step of each side, by the clock and of all threads: one entry a round."""
    steps = {}
    for name, worker in workers.items():
        worker.run(2)
        seconds = worker.run(1)["seconds"]
        steps[name] = max(1, math.ceil(_SECONDS.value / seconds))
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
    for _ in range(_ROUNDS.value):
        for name, worker in workers.items():  # A B A B, and so on
            done = worker.run(steps[name])
            if not math.isfinite(done["loss"]):
                raise RuntimeError(f"{name}: the loss is {done['loss']}")
            rounds[name].append({x: 1e3 * done[f"{x}seconds"] / steps[name] for x in ("", "cpu_")})
    return rounds


def result(config: ExperimentConfig) -> dict[str, Any]:
    """Measures one size."""
    with tempfile.TemporaryDirectory() as folder:
        workers = start(config, folder)
        try:
            rounds = measure(workers)
            ends = {name: worker.close() for name, worker in workers.items()}
        finally:
            for worker in workers.values():
                worker.kill()
    count, batch = flops.train_step(config), config.train.batch_size
    if mean_bodies(config):
        count *= mean_bodies(config) / config.data.bodies  # of the bodies that are present
    least = None
    if _PEAK.value and _BANDWIDTH.value and not mean_bodies(config):  # it counts all rows
        least = 1e3 * bounds.least_seconds(config, _PEAK.value, _BANDWIDTH.value)
    sides = {}
    for name, worker in workers.items():
        by_clock, of_threads = ([r[x] for r in rounds[name]] for x in ("", "cpu_"))
        milliseconds = statistics.median(by_clock)
        rate = count / milliseconds * 1e3
        sides[name] = {
            "ms_per_step": milliseconds,
            "cpu_ms_per_step": statistics.median(of_threads),
            "clips_per_second": batch / milliseconds * 1e3,
            "flops_per_second": rate,
            "mfu": rate / _PEAK.value if _PEAK.value else None,
            "of_bound": least / milliseconds if least else None,
            "rounds_ms": by_clock,
            **ends[name],
            **worker.ready,
        }
    ratios = [b[""] / a[""] for a, b in zip(rounds["ours"], rounds.get("torch", []))]
    return {
        "size": config.name,
        "batch": batch,
        "bodies": config.data.bodies,
        "mean_bodies": mean_bodies(config) or config.data.bodies,
        "dtype": config.model.encoder.dtype,
        "compiled": _COMPILE.value,
        "each_token": _EACH_TOKEN.value,
        "platform": _PLATFORM.value,
        "flops": count,
        **sides,
        "ratio": statistics.median(ratios) if ratios else None,
    }


def main() -> None:
    """Measures every size; prints a table, writes the results."""
    options = {"batch": _BATCH.value, "dtype": _DTYPE.value, "on_cpu": _PLATFORM.value == "cpu"}
    configs = [sizes.size(name, **options) for name in _SIZES.value]
    if _AGAINST.value and not importlib.util.find_spec("torch"):
        raise InputError("--against=torch needs PyTorch: pip install -e '.[bench]'")
    before = (
        json.loads(pathlib.Path(_BEFORE.value).read_text(encoding="utf-8"))
        if _BEFORE.value
        else None
    )
    results = []
    print(report.HEAD, flush=True)
    for config in configs:
        results.append(result(config))
        print(report.row(results[-1]), flush=True)
    if _JSON.value:
        everything = {"machine": machine.facts(), "results": results}
        pathlib.Path(_JSON.value).write_text(
            json.dumps(everything, indent=1) + "\n", encoding="utf-8"
        )
    if before:
        lost = report.fallen(results, before["results"], _MARGIN.value)
        if lost:
            raise InputError("slower than before: " + "; ".join(lost))


if __name__ == "__main__":
    cli.run(main)
