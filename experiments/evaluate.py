"""All protocols on one run: `python experiments/evaluate.py [RUN] [--suite=paper] [--baselines]`.

Features are computed once. Protocols that are done at this checkpoint are not run again. The
table and all results are in evaluation.json of the run folder.
"""

import sys

import _clone  # noqa: F401
from absl import flags

from igm_jax import cli
from igm_jax.evaluation import run_flags, suite, table

_SUITE = flags.DEFINE_enum(
    "suite", "paper", list(suite.SUITES), "paper runs all; quick leaves out the linear probe."
)

selected = run_flags.define_run_flags()


def main() -> None:
    """Reads the flags, runs the protocols and prints the table."""
    run, baselines = selected()
    found = suite.run_suite(
        run,
        _SUITE.value,
        baselines=baselines,
        report=lambda line: print(line, file=sys.stderr, flush=True),
    )
    print(f"Frozen features of {run.folder} ({run.judged_on}), {run.progress}, in %\n")
    if found["table"]:
        print(table.markdown_table(found["table"]))
    notes = {row["note"] for rows in found["results"].values() for row in rows if "note" in row}
    for note in sorted(notes):
        print(f"\nNote: {note}.")
    for name, reason in found["not_possible"].items():
        print(f"\nNot possible: {name}: {reason}.")
    if run.origin is None and "linear_probe" not in found["not_possible"]:
        print(f"\nnext: {run_flags.next_command(run)}")


flags.adopt_module_key_flags(run_flags)  # for --help


if __name__ == "__main__":
    cli.run(main, argument="run")
