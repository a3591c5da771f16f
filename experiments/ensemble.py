"""Adds the probe scores of runs: `python experiments/ensemble.py RUN RUN RUN`.

Each run needs the scores that experiments/linear_probe.py saves. The softmax scores are added
with equal weights, or with `--weights`. Choose weights on validation clips only.
"""

import pathlib

import _clone  # noqa: F401
from absl import flags

from igm_jax import cli, run_folder
from igm_jax.data.few_labels import SUBSETS
from igm_jax.errors import InputError
from igm_jax.evaluation import scores, table

_RUNS = flags.DEFINE_multi_string("run", [], "Add the scores of this run folder. Repeat it.")
_WEIGHTS = flags.DEFINE_list("weights", None, "Weigh the runs by these numbers, in their order.")
_LABELS = flags.DEFINE_enum(
    "labels", "all", ["all", *SUBSETS], "Take the probes with this share of the labels."
)
_AUGMENTED = flags.DEFINE_bool("augmented", False, "Take the probes with new crops in each epoch.")
_OUT = flags.DEFINE_string("out", None, "Also write the rows to this JSON file.")


def _weights() -> list[float] | None:
    try:
        return None if _WEIGHTS.value is None else [float(w) for w in _WEIGHTS.value]
    except ValueError as error:
        raise InputError(
            f"--weights={','.join(_WEIGHTS.value)}: give numbers, as 1,1,0.5"
        ) from error


def main() -> None:
    """Reads the flags and the scores, and prints each run and the sum."""
    name = run_folder.probe_scores(_LABELS.value, _AUGMENTED.value)
    found = {run: scores.load_scores(pathlib.Path(run) / name) for run in _RUNS.value}
    named = {f"{run} ({s.streams}, step {s.step})": s for run, s in found.items()}
    rows = scores.ensemble(named, _weights())
    few = "" if _LABELS.value == "all" else f", {_LABELS.value} of the labels"
    equal = "weights " + ", ".join(_WEIGHTS.value) if _WEIGHTS.value else "equal weights"
    protocol = next(iter(found.values())).protocol
    print(f"Sum of softmax scores of linear probes ({protocol}{few}), {equal}\n")
    print(table.markdown_table(rows))
    if _OUT.value:
        content = {"protocol": protocol, "weights": _weights(), "rows": rows}
        run_folder.write_json(pathlib.Path(_OUT.value), content)


flags.adopt_module_key_flags(cli)  # for --help


if __name__ == "__main__":
    cli.run(main, argument="run")
