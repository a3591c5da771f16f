"""Adds the scores of runs: `python experiments/ensemble.py RUN RUN RUN`.

Each run needs the scores that experiments/linear_probe.py saves, or is a folder of
experiments/finetune.py. The softmax scores are added with equal weights, or with `--weights`.
Choose weights on validation clips only.

`python experiments/ensemble.py runs/ablations/NAME-streams` takes the folder of an ablation. It
adds the rows for each seed, and prints mean and standard deviation over the seeds.
"""

import pathlib
from typing import Any

import _clone  # noqa: F401
import numpy as np
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
_SUBSET = flags.DEFINE_integer("subset", None, "Take the probes of this subset of the labels.")
_AUGMENTED = flags.DEFINE_bool("augmented", False, "Take the probes with new crops in each epoch.")
_CLASSES = flags.DEFINE_enum(
    "classes", "all", ["all", "unseen", "seen"], "Take the probes on these classes."
)
_TRANSFER = flags.DEFINE_string(
    "transfer", "", "Take the probes on this other data set: the name of its folder."
)
_OUT = flags.DEFINE_string("out", None, "Also write the rows to this JSON file.")


def _weights() -> list[float] | None:
    try:
        return None if _WEIGHTS.value is None else [float(w) for w in _WEIGHTS.value]
    except ValueError as error:
        raise InputError(
            f"--weights={','.join(_WEIGHTS.value)}: give numbers, as 1,1,0.5"
        ) from error


def _groups() -> dict[str, dict[str, pathlib.Path]]:
    """Name of a sum → name of a run → its folder; one sum for each seed of an ablation."""
    folders = [pathlib.Path(run) for run in _RUNS.value]
    if len(folders) == 1 and not (folders[0] / run_folder.CONFIG).exists():
        if groups := _of_ablation(folders[0]):
            return groups
    return {"": {str(folder): folder for folder in folders}}


def _of_ablation(folder: pathlib.Path) -> dict[str, dict[str, pathlib.Path]]:
    """Seed → row → run folder; none if this is no folder of an ablation.

    Raises:
      InputError: a seed lacks a run that another seed has, or that was started.
    """
    runs = [path.parent for path in folder.glob(f"*/seed*/{run_folder.CONFIG}")]
    seeds = sorted({run.name for run in runs}, key=run_folder.by_number)
    rows = sorted({path.parent.name for path in folder.glob("*/seed*")})  # folders and logs of runs
    groups = {seed: {row: folder / row / seed for row in rows} for seed in seeds}
    wanted = [run for group in groups.values() for run in group.values()]
    if missing := [str(run) for run in wanted if run not in runs]:
        raise InputError(
            f"all seeds need the same runs, and these are missing: {', '.join(missing)}: finish "
            "them with the same experiments/ablate.py command, or name the runs of one seed"
        )
    return groups


def _scores(folder: pathlib.Path) -> scores.Scores:
    tuned = sorted(folder.glob(f"subset-*/{run_folder.SCORES}"))
    if tuned:
        return scores.load_finetuned(tuned[0])
    name = run_folder.probe_scores(_LABELS.value, _AUGMENTED.value, _SUBSET.value)
    return scores.load_scores(folder / run_folder.variant(name, _TRANSFER.value, _CLASSES.value))


def _over_seeds(sums: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Mean and sample standard deviation of each row, of several seeds."""
    rows = []
    for same in zip(*sums):
        column = next(name for name in same[0] if name.startswith("test_"))
        values = [row[column] for row in same]
        text = f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f}"
        rows.append({"scores": same[0]["scores"], column: text, "seeds": len(values)})
    return rows


def main() -> None:
    """Reads the flags and the scores, and prints each run and the sum."""
    sums, protocol, tuned = {}, "", False
    for name, group in _groups().items():
        found = {run: _scores(folder) for run, folder in group.items()}
        named = {f"{run} ({s.streams}, step {s.step})": s for run, s in found.items()}
        tuned = not all(isinstance(s, scores.ProbeScores) for s in found.values())
        column = "test_finetune" if tuned else "test_linear"
        sums[name] = scores.ensemble(named, _weights(), column)
        protocol = next(iter(found.values())).protocol
    few = "" if _LABELS.value == "all" else f", {_LABELS.value} of the labels"
    equal = "weights " + ", ".join(_WEIGHTS.value) if _WEIGHTS.value else "equal weights"
    kind = "fine-tuned classifiers" if tuned else "linear probes"
    print(f"Sum of softmax scores of {kind} ({protocol}{few}), {equal}")
    for name, rows in sums.items():
        print(f"\n{name}\n" if name else "")
        print(table.markdown_table(rows))
    if len(sums) > 1:
        print(f"\nOver {len(sums)} seeds, mean ± sample standard deviation\n")
        print(table.markdown_table(_over_seeds(list(sums.values()))))
    if _OUT.value:
        rows = [{"seed": name, **row} if name else row for name, s in sums.items() for row in s]
        content = {"protocol": protocol, "weights": _weights(), "rows": rows}
        run_folder.write_json(pathlib.Path(_OUT.value), content)


flags.adopt_module_key_flags(cli)  # for --help


if __name__ == "__main__":
    cli.run(main, argument="run")
