"""Retrieval by a run's features: `python experiments/retrieval.py [RUN] [--baselines]`.

Each test clip looks for clips of its class: among the training clips, and among the other
test clips.
"""

import functools

import _clone  # noqa: F401
from absl import flags

from igm_jax import cli, run_folder
from igm_jax.evaluation import frozen, judge, parts, run_flags, table

selected = run_flags.define_run_flags()


def main() -> None:
    """Reads the flags, evaluates the run and prints the table."""
    run, baselines = selected()
    check = functools.partial(parts.check_labels, names=("train", "test"))
    rows = judge.evaluate(run, frozen.evaluate_retrieval, baselines=baselines, check=check)
    print(f"Retrieval in % of {run.folder} ({run.judged_on}), {run.progress}\n")
    print(table.markdown_table(rows))
    table.save_rows(run.results(run_folder.RETRIEVAL), run, rows)


flags.adopt_module_key_flags(run_flags)  # for --help


if __name__ == "__main__":
    cli.run(main, argument="run")
