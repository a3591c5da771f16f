"""Pre-trains an encoder: `python experiments/pretrain.py --config=configs/nw_ucla.py`.

Any key of the config can be set from the command line: `--config.train.epochs=50`. The run goes to
runs/<name>. The same command resumes an interrupted run. Exit code: 0 finished, 75 saved
and stopped by SIGTERM, 130 saved and stopped by Ctrl-C, 1 an error.

On many hosts, one process each: `srun python experiments/pretrain.py …` within Slurm, elsewhere
with --coordinator, --processes and --process, or --distributed (docs/scaling.md).
"""

import pathlib
import sys

import _clone  # noqa: F401
from absl import flags

from igm_jax import cli, shell
from igm_jax.data import open_dataset, protocols
from igm_jax.errors import InputError
from igm_jax.training import distributed
from igm_jax.training.loop import pretrain

CONFIG = cli.define_config()
RUN = flags.DEFINE_string("run", None, "Write to this run folder. Default: runs/<config.name>.")
RESUME = flags.DEFINE_enum(
    "resume",
    "auto",
    ["auto", "never"],
    "auto resumes a run of the same config; never refuses an existing run.",
)
COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "Connect to process 0 at HOST:PORT, if there are many processes."
)
PROCESSES = flags.DEFINE_integer("processes", None, "Start as one of this many processes.")
PROCESS = flags.DEFINE_integer("process", None, "Start as the process of this number, from 0.")
DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "Let JAX detect the processes (TPU pod, Kubernetes, Slurm, Open MPI)."
)
HEARTBEAT = flags.DEFINE_integer(
    "heartbeat",
    distributed.HEARTBEAT_SECONDS,
    "Treat a process as dead after this many seconds of silence.",
)


def main() -> None:
    """Reads the flags and the config and trains the run."""
    distributed.join(
        COORDINATOR.value,
        PROCESSES.value,
        PROCESS.value,
        detect=DISTRIBUTED.value,
        heartbeat_seconds=HEARTBEAT.value,
    )
    config = cli.experiment_config(CONFIG)
    word = pathlib.PurePath(config.name).name
    if not RUN.value and (word != config.name or word in ("", "..")):
        raise InputError(f"--config.name={config.name!r}: give one word, or a folder by --run")
    run_folder = pathlib.Path(RUN.value or pathlib.Path("runs") / config.name)
    store = open_dataset(config.data.dataset, config.data.path)
    cli.keep_compiled_programs(run_folder)
    result = pretrain(config, store, run_folder, resume=RESUME.value)
    if result == "finished" and distributed.leader():
        judged = not protocols.unjudged(store, config.data.protocol)
        words = ("linear_probe.py", run_folder) if judged else ("embed.py", run_folder, "FILES…")
        print(f"{run_folder}: finished. Next: {shell.command(*words)}")
    elif result != "finished":
        sys.exit(cli.exit_code(result))


flags.adopt_module_key_flags(cli)  # for --help


if __name__ == "__main__":
    cli.run(main)
