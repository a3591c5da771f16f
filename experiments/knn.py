"""Cosine KNN of a run: `python experiments/knn.py [--run=runs/NAME] [--baselines]`."""

import _clone  # noqa: F401
from absl import flags

from igm_jax import cli, run_folder
from igm_jax.evaluation import judge, parts, run_flags, table

selected = run_flags.define_run_flags()


def main() -> None:
    """Reads the flags, evaluates the run and prints the table."""
    run, baselines = selected()
    rows = judge.evaluate(run, judge.evaluate_knn, baselines=baselines, check=parts.check_labels)
    print(f"Cosine KNN of {run.folder} ({run.judged_on}), {run.progress}\n")
    print(table.markdown_table(rows))
    table.save_rows(run.results(run_folder.KNN), run, rows)
    if run.origin is None:
        print(f"\nnext: {run_flags.next_command(run)}")


flags.adopt_module_key_flags(run_flags)  # for --help


if __name__ == "__main__":
    cli.run(main, argument="run")
