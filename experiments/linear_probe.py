"""Linear probe of a run: `python experiments/linear_probe.py [--run=runs/NAME] [--baselines]`."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # works uninstalled too

from absl import flags

from igm_jax import cli
from igm_jax.evaluation import protocol

selected = cli.define_run_flags()


def main() -> None:
    """Flags, run folder, one table."""
    run, baselines = selected()
    rows = protocol.evaluate(run, protocol.evaluate_linear, baselines=baselines)
    print(f"Linear probe of {run.folder} ({run.config.data.protocol})\n")
    print(protocol.markdown_table(rows))
    protocol.save_rows(run.folder / "linear_probe.json", run, rows)


flags.adopt_module_key_flags(cli)  # for --help


if __name__ == "__main__":
    cli.run(main)
