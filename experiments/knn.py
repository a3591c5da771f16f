"""Cosine KNN of a run: `python experiments/knn.py [--run=runs/NAME] [--baselines]`."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # works uninstalled too

from absl import flags

from igm_jax import cli
from igm_jax.data import open_dataset
from igm_jax.evaluation import protocol
from igm_jax.evaluation.run import load_run, newest_run

RUN = flags.DEFINE_string("run", None, "run folder; default: the newest under runs/")
CHECKPOINT = flags.DEFINE_string("checkpoint", "last", "last, best (by validation KNN), or a step")
BASELINES = flags.DEFINE_bool(
    "baselines", False, "also judge the untrained encoder and raw coordinates"
)


def main() -> None:
    """Flags, run folder, one table."""
    run = load_run(RUN.value or newest_run(), cli.checkpoint_name(CHECKPOINT.value))
    store = open_dataset(run.config.data.dataset, run.config.data.path)
    sets = protocol.feature_sets(run, store, baselines=BASELINES.value)
    rows = [protocol.evaluate_knn(features, run, store) for features in sets]
    cli.print_table(f"KNN of {run.folder} ({run.config.data.protocol})", rows)
    protocol.save_rows(run.folder / "knn.json", run, rows)


if __name__ == "__main__":
    cli.run(main)
