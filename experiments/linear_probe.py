"""Linear probe of a run: `python experiments/linear_probe.py [--run=runs/NAME] [--baselines]`.

`--labels=10%` trains it with a tenth of the clips of every class, and `--subset=3` draws others.
`--augmented` draws new crops and rotations of the training clips in each epoch, as MAMP does.
Without it, features of whole clips are computed once.
"""

import functools

import _clone  # noqa: F401
from absl import flags

from igm_jax import cli, run_folder, shell
from igm_jax.data.few_labels import SUBSETS
from igm_jax.errors import InputError
from igm_jax.evaluation import judge, parts, run_flags, table

_LABELS = flags.DEFINE_enum(
    "labels",
    run_folder.ALL_LABELS,
    [run_folder.ALL_LABELS, *SUBSETS],
    "Train the probe on this share of the labels.",
)
_AUGMENTED = flags.DEFINE_bool(
    "augmented", False, "Train the probe on new crops and rotations in each epoch."
)
_SUBSET = flags.DEFINE_integer(
    "subset",
    None,
    "Draw the clips of --labels with this seed. Default: the seed of the run.",
    lower_bound=0,
)

selected = run_flags.define_run_flags()


def main() -> None:
    """Reads the flags, evaluates the run and prints the table."""
    run, baselines = selected()
    labels, augmented, subset = _LABELS.value, _AUGMENTED.value, _SUBSET.value
    if subset is not None and labels == run_folder.ALL_LABELS:
        raise InputError(f"--subset={subset} draws no clips of all labels: give --labels as well")
    judged = functools.partial(
        judge.evaluate_linear, labels=labels, augmented=augmented, subset=subset, save=True
    )
    check = functools.partial(parts.check_labels, labels=labels, subset=subset)
    rows = judge.evaluate(run, judged, baselines=baselines, check=check)
    few = "" if labels == run_folder.ALL_LABELS else f", {labels} of the labels"
    few += "" if subset is None else f", subset {subset}"
    crops = ", new crops and rotations in each epoch" if augmented else ""
    print(f"Linear probe of {run.folder} ({run.judged_on}{few}{crops}), {run.progress}\n")
    print(table.markdown_table(rows))
    table.save_rows(run.results(run_folder.linear_probe(labels, augmented, subset)), run, rows)
    head = run.results(run_folder.probe_scores(labels, augmented, subset)).name
    chosen = [] if head == run_folder.probe_scores() else [f"--head={head}"]
    if run.origin is None:
        words = (run.folder, "FILES…", *chosen, *cli.given("checkpoint"))
        print(f"\nnext: {shell.command('predict.py', *words)}")


flags.adopt_module_key_flags(run_flags)  # for --help


if __name__ == "__main__":
    cli.run(main, argument="run")
