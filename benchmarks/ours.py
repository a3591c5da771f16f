"""The worker that takes steps of our compiled program; see `benchmarks.worker`."""

import time
from typing import Any

import flax
import jax
import jaxlib
import numpy as np
import optax
from flax.traverse_util import flatten_dict

from benchmarks import sizes
from benchmarks.worker import Prepared, random_batch, serve
from igm_jax import parallel
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.mapping import from_mapping
from igm_jax.training.packing import Packing
from igm_jax.training.program import build_program


def prepare(job: dict[str, Any]) -> Prepared:
    """Compiles the step that `job["config"]` describes; see `worker.serve`."""
    if job["platform"] == "cpu":
        jax.config.update("jax_platforms", "cpu")
    config = from_mapping(ExperimentConfig, job["config"])
    program = build_program(config, sizes.reading(config), sizes.NUM_CLIPS, jax.devices()[:1])
    key = jax.device_put(jax.random.key(config.seed), parallel.replicated(program.mesh))
    state = program.init(key)
    batch = random_batch(config, bodies=job["bodies"])
    present = batch["present"]
    packing = Packing.of(
        present.sum(axis=1), config.data.bodies, len(present), 1, config.parallel.accumulate
    )
    packed = packing.rows(present)
    raw = parallel.to_devices(
        program.mesh, batch if packed is None else {**batch, "packed": packed}
    )
    np.savez(job["weights"], **flatten_dict(jax.device_get(state.params), sep="/"))
    np.save(job["queue"], state.queue)

    start = time.perf_counter()
    compiled = program.step.lower(state, raw, key).compile()
    seconds = time.perf_counter() - start

    def step() -> float:
        nonlocal state
        state, metrics = compiled(state, raw, key)
        return float(metrics["loss"])  # waits

    if job["profile"]:
        step()
        with jax.profiler.trace(job["profile"]):
            for i in range(3):
                with jax.profiler.StepTraceAnnotation("train", step_num=i):
                    step()

    device = jax.devices()[0]

    def peak_bytes() -> int:
        return (device.memory_stats() or {}).get("peak_bytes_in_use", 0)

    ready = {
        "compile_seconds": seconds,
        "device": device.device_kind,
        "platform": device.platform,
        "total_steps": program.total_steps,
        "steps_per_epoch": program.steps_per_epoch,
        "versions": {m.__name__: m.__version__ for m in (jax, jaxlib, flax, optax, np)},
    }
    return ready, step, peak_bytes


if __name__ == "__main__":
    serve(prepare)
