"""Pre-trains IGM: `python experiments/pretrain.py --config=configs/nw_ucla.py`.

Any key of the config can be set from the command line: `--config.train.epochs=50`. The run goes to
runs/<name>; the same command goes on with it if it was interrupted.
"""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # works uninstalled too

import jax
from absl import flags

from igm_jax import cli
from igm_jax.data import open_dataset
from igm_jax.training.loop import pretrain

CONFIG = cli.define_config("configs/synthetic.py")
RUN = flags.DEFINE_string("run", None, "run folder; default: runs/<config.name>")
RESUME = flags.DEFINE_enum(
    "resume", "auto", ["auto", "never"], "auto goes on with a run of the same config"
)


def main() -> None:
    """Flags, config, one call."""
    config = cli.experiment_config(CONFIG)
    run_folder = pathlib.Path(RUN.value or pathlib.Path("runs") / config.name)
    store = open_dataset(config.data.dataset, config.data.path)
    # Compiled programs are kept beside the runs: the second start takes seconds.
    jax.config.update("jax_compilation_cache_dir", str(run_folder.parent.absolute() / ".jax_cache"))
    result = pretrain(config, store, run_folder, resume=RESUME.value)
    if result == "finished":
        print(
            f"{run_folder}: finished. Next: python experiments/linear_probe.py --run={run_folder}"
        )
    elif result == "SIGINT":
        sys.exit(130)


flags.adopt_module_key_flags(cli)  # for --help


if __name__ == "__main__":
    cli.run(main)
