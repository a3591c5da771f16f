"""Cosine KNN of a run: `python experiments/knn.py [--run=runs/NAME] [--baselines]`."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # works uninstalled too

from absl import flags

from igm_jax import cli
from igm_jax.evaluation import protocol

selected = cli.define_run_flags()


def main() -> None:
    """Reads the flags, evaluates the run and prints the table."""
    run, baselines = selected()
    rows = protocol.evaluate(run, protocol.evaluate_knn, baselines=baselines)
    print(f"Cosine KNN of {run.folder} ({run.config.data.protocol}), {run.progress}\n")
    print(protocol.markdown_table(rows))
    protocol.save_rows(run.folder / "knn.json", run, rows)


flags.adopt_module_key_flags(cli)  # for --help


if __name__ == "__main__":
    cli.run(main)
