"""Counts what a step of each row of a grid computes: `python benchmarks/cost.py --grid=poster`.

It counts the matrix products in the traced step, so it knows every objective. `--steps=10` also
executes the steps, on noise, and prints their median time. Objectives with two stages are counted
and timed in both, and each stage weighs as its share of the run.
"""

import statistics
import time
from typing import NamedTuple

import _clone  # noqa: F401
import jax
import jax.numpy as jnp
from absl import flags

from benchmarks import sizes, tracing, worker
from igm_jax import cli, parallel
from igm_jax.ablation.plan import parse_grid
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.objectives import has_stages
from igm_jax.training.program import Program, build_program

_CONFIG = flags.DEFINE_string("config", "configs/utd_mhad.py", sizes.HELP)
_GRID = flags.DEFINE_string("grid", "poster", "Rows, as in experiments/ablate.py.")
_STEPS = flags.DEFINE_integer("steps", 0, "Time this many steps; 0 executes none.", lower_bound=0)


class Cost(NamedTuple):
    """Size and cost of an objective.

    Attributes:
      encoder: parameters of f.
      networks: parameters of all networks.
      products: FLOPs of the matrix products of a step, for one clip.
      seconds: median time of a step; None if it was not executed.
    """

    encoder: int
    networks: int
    products: float
    seconds: float | None = None


def cost(config: ExperimentConfig, steps: int = 0) -> Cost:
    """Counts, and times `steps` steps on one device."""
    # Zeros stand for the numbers of a store: the layouts of `sizes.reading` are in space.
    config = config.fitted(config.model.encoder.joints, 3 * len(config.data.streams), 1)
    program = build_program(config, sizes.reading(config), sizes.NUM_CLIPS, jax.devices()[:1])
    params = program.restore_target.params
    encoder, networks = (
        sum(x.size for x in jax.tree.leaves(tree)) for tree in (params["encoder"], params)
    )
    first, last = stages(config)
    traced = tracing.trace_step(config, program).jaxpr.jaxpr
    products = first * tracing.matrix_products(traced, min)
    products += last * tracing.matrix_products(traced, max)
    seconds = step_seconds(config, program, steps) if steps else None
    return Cost(encoder, networks, products / config.train.batch_size, seconds)


def stages(config: ExperimentConfig) -> tuple[float, float]:
    """Shares of the run in the first and in the last stage, which is all of it if there is one."""
    first = config.objective.mining_start if has_stages(config.objective) else 0.0
    return first, 1 - first


def step_seconds(config: ExperimentConfig, program: Program, steps: int) -> float:
    """Median time of a step, after one that warms up; the mean of both stages."""
    key = jax.device_put(jax.random.key(0), parallel.replicated(program.mesh))
    state, seconds = program.init(key), 0.0
    raw = parallel.to_devices(program.mesh, worker.random_batch(config))
    for share, begin in zip(stages(config), (0, program.total_steps)):
        if not share:
            continue
        state, times = state.replace(step=jnp.full_like(state.step, begin)), []
        for _ in range(steps + 1):
            start = time.perf_counter()
            state, metrics = program.step(state, raw, key)
            float(metrics["loss"])  # waits
            times.append(time.perf_counter() - start)
        seconds += share * statistics.median(times[1:])
    return seconds


def main() -> None:
    """Prints a table with one row for each row of the grid."""
    print("| row | parameters of f, M | of all networks, M | GFLOP a clip | ms a step |")
    print("|---|---|---|---|---|")
    for row, changes in parse_grid(_GRID.value).items():
        found = cost(sizes.read(_CONFIG.value, changes), _STEPS.value)
        time_of_step = f"{1e3 * found.seconds:.0f}" if found.seconds is not None else ""
        print(
            f"| {row} | {found.encoder / 1e6:.2f} | {found.networks / 1e6:.2f} | "
            f"{found.products / 1e9:.3f} | {time_of_step} |",
            flush=True,
        )


if __name__ == "__main__":
    cli.run(main)
