"""Trains and compares many runs: `python experiments/ablate.py --config=FILE --grid=constraints`.

It pre-trains and probes every row of a grid with every seed and prints a table. The table is
also in OUT/table.md and OUT/table.json, updated after each run. The same command resumes.
The last line names the best row on validation clips and its flags.
Any `--config.KEY=VALUE` applies to all rows.
"""

import importlib.metadata
import os
import pathlib
import platform
import shlex
import sys

import _clone  # noqa: F401
from absl import flags
from ml_collections import config_flags

from igm_jax import cli, run_folder
from igm_jax.ablation import plan as ablation
from igm_jax.ablation import table
from igm_jax.ablation.workers import Processes, find_gpus
from igm_jax.errors import InputError

CONFIG = cli.define_config()
GRID = flags.DEFINE_string(
    "grid",
    "constraints",
    f"Compare these rows: {', '.join(ablation.GRIDS)}; all KEY=VALUE,VALUE;KEY=…; or "
    "FILE.json with {row: {key: value}}",
)
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Run every row with each of these seeds.")
WORKERS = flags.DEFINE_integer(
    "workers",
    1,
    "Execute this many runs in parallel, each on its own CPUs and GPUs.",
    lower_bound=1,
)
OUT = flags.DEFINE_string(
    "out", None, "Write to this folder. Default: runs/ablations/<config.name>-<grid>."
)
TEST = flags.DEFINE_bool(
    "test", False, "Show test instead of validation accuracy. Use it once all choices are made."
)


def main() -> None:
    """Reads the flags, runs all jobs and prints the table."""
    config = cli.experiment_config(CONFIG)
    seeds = [int(s) for s in SEEDS.value if s.isdecimal()]
    if not seeds or len(set(seeds)) < len(SEEDS.value):
        raise InputError(f"--seeds={','.join(SEEDS.value)}: needs distinct whole numbers")
    name = f"{config.name}-{ablation.slug(GRID.value.removesuffix('.json'))}"
    out = pathlib.Path(OUT.value or pathlib.Path("runs") / "ablations" / name)
    jobs = ablation.plan(
        config,
        ablation.parse_grid(GRID.value),
        seeds,
        out,
        config_file=config_flags.get_config_filename(flags.FLAGS["config"]),
        given=config_flags.get_override_values(flags.FLAGS["config"]),
    )
    split = "test" if TEST.value else "validation"
    todo = [job for job in jobs if ablation.measured(job, split) is None]
    ablation.check_clips(todo)
    ablation.check_data(jobs)

    failed = []

    def ended(job: ablation.Job, problem: str | None) -> None:
        if problem:
            failed.append(job)
            print(f"error: {job.folder}: {problem}", file=sys.stderr, flush=True)
        else:
            print(f"{job.folder}: finished", file=sys.stderr, flush=True)
            write_table(out, jobs, split)

    workers = min(WORKERS.value, max(1, len(todo)))
    gpus = find_gpus(workers)
    processes = Processes(pathlib.Path(__file__).resolve().parent, workers, gpus)
    processes.run(todo, ended)
    text = write_table(out, jobs, split)
    if processes.stopped:
        print(f"{processes.stopped.name}: stopped; the same command resumes", file=sys.stderr)
        sys.exit(cli.exit_code(processes.stopped.name))
    print(text, end="")
    if failed:
        sys.exit(1)


def write_table(out: pathlib.Path, jobs: list[ablation.Job], split: str) -> str:
    """Writes table.md and table.json of the finished runs; returns the Markdown."""
    entries = table.summarize(jobs, split)
    text = table.table_text(jobs, entries, split)
    if split == "validation":  # nothing is chosen on test clips
        text += table.best_text(entries)
    environments = [run_folder.read_json(job.folder / run_folder.ENVIRONMENT) or {} for job in jobs]
    content = {
        "command": shlex.join(["python", "experiments/ablate.py", *sys.argv[1:]]),
        "split": split,
        "epochs": sorted({job.config.train.epochs for job in jobs}),
        "seeds": list(dict.fromkeys(job.seed for job in jobs)),
        "hardware": {
            "processor": platform.processor() or platform.machine(),
            "cpus": os.cpu_count(),
            "devices": sorted({d for e in environments for d in e.get("devices", [])}),
            "jax": importlib.metadata.version("jax"),
        },
        "rows": entries,
    }
    out.mkdir(parents=True, exist_ok=True)
    run_folder.write_text(out / "table.md", text)
    run_folder.write_json(out / run_folder.TABLE, content)
    return text


flags.adopt_module_key_flags(cli)  # for --help


if __name__ == "__main__":
    cli.run(main)
