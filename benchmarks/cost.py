"""Counts what a step of each row of a grid computes: `python benchmarks/cost.py --grid=poster`.

It counts the matrix products in the traced step, so it knows every objective. Nothing is executed.
"""

import _clone  # noqa: F401
import jax
from absl import flags

from benchmarks import sizes, tracing
from igm_jax import cli
from igm_jax.ablation.plan import parse_grid
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.program import build_program

_CONFIG = flags.DEFINE_string("config", "configs/utd_mhad.py", sizes.HELP)
_GRID = flags.DEFINE_string("grid", "poster", "Rows, as in experiments/ablate.py.")

_NUM_CLIPS = 10_000  # of the data: the schedule needs a number, the step does not


def cost(config: ExperimentConfig) -> tuple[float, float, float]:
    """Parameters of f and of all networks in millions, and GFLOP of a step for a clip."""
    # Zeros stand for the numbers of a store: the layouts of `sizes.reading` are in space.
    config = config.fitted(config.model.encoder.joints, 3 * len(config.data.streams), 1)
    program = build_program(config, sizes.reading(config), _NUM_CLIPS, jax.devices()[:1])
    params = program.restore_target.params
    encoder, all_networks = (
        sum(x.size for x in jax.tree.leaves(tree)) / 1e6 for tree in (params["encoder"], params)
    )
    products = tracing.matrix_products(tracing.trace_step(config, program).jaxpr.jaxpr)
    return encoder, all_networks, products / 1e9 / config.train.batch_size


def main() -> None:
    """Prints a table with one row for each row of the grid."""
    print("| row | parameters of f, M | of all networks, M | GFLOP a clip |\n|---|---|---|---|")
    for row, changes in parse_grid(_GRID.value).items():
        encoder, all_networks, products = cost(sizes.read(_CONFIG.value, changes))
        print(f"| {row} | {encoder:.2f} | {all_networks:.2f} | {products:.3f} |", flush=True)


if __name__ == "__main__":
    cli.run(main)
