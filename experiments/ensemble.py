"""Adds the scores of runs: `python experiments/ensemble.py RUN RUN RUN`.

Each run needs the scores that experiments/linear_probe.py saves, or is a folder of
experiments/finetune.py, or of one subset of the labels in it. `--labels`, `--augmented`,
`--classes` and `--transfer` choose the probe, `--subset` the subset of either. The softmax scores
are added with equal weights, or with `--weights`. Choose weights on validation clips only.

`python experiments/ensemble.py runs/ablations/NAME-streams` takes the folder of an ablation. It
adds the rows for each seed, and prints mean and standard deviation over the seeds.
"""

import pathlib
from typing import Any

import _clone  # noqa: F401
import numpy as np
from absl import flags

from igm_jax import cli, run_folder, shell
from igm_jax.data.few_labels import SUBSETS
from igm_jax.errors import InputError
from igm_jax.evaluation import scores, table

_RUNS = flags.DEFINE_multi_string("run", [], "Add the scores of this run folder. Repeat it.")
_WEIGHTS = flags.DEFINE_list("weights", None, "Weigh the runs by these numbers, in their order.")
_LABELS = flags.DEFINE_enum(
    "labels",
    run_folder.ALL_LABELS,
    [run_folder.ALL_LABELS, *SUBSETS],
    "Take the probes with this share of the labels.",
)
_SUBSET = flags.DEFINE_integer("subset", None, "Take this subset of the labels.")
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


def _scores_file(folder: pathlib.Path) -> pathlib.Path:
    """The scores that the flags choose in this folder of a run."""
    if (folder / run_folder.SCORES).exists() or run_folder.is_finetuned(folder):
        return _finetuned_file(folder)
    name = run_folder.probe_scores(_LABELS.value, _AUGMENTED.value, _SUBSET.value)
    return folder / run_folder.variant(name, _TRANSFER.value, _CLASSES.value)


def _finetuned_file(folder: pathlib.Path) -> pathlib.Path:
    """The scores of a subset in a fine-tuned run, or of the subset that this folder is.

    Raises:
      InputError: no such subset, or a flag that says something else than the folder.
    """
    own = (folder / run_folder.SCORES).exists()
    stated = run_folder.read_json((folder.parent if own else folder) / run_folder.CONFIG) or {}
    given = [f.name for f in (_AUGMENTED, _CLASSES, _TRANSFER) if f.value != f.default]
    if _LABELS.present and _LABELS.value != stated.get("labels"):
        given.append(_LABELS.name)
    if given:
        raise InputError(
            f"--{given[0]} chooses a linear probe, and {folder} is fine-tuned: leave the flag out, "
            "or name the folder of another fine-tuned run"
        )
    done = [folder.name] if own else run_folder.subsets(folder, run_folder.SCORES)
    asked = None if _SUBSET.value is None else run_folder.subset_folder(_SUBSET.value)
    if not done or asked not in (None, *done):
        others = f": it has {', '.join(done)}" if done else ": finish it with finetune.py"
        raise InputError(f"{folder} has no scores of {asked or 'a subset'}{others}")
    return (folder.parent if own else folder) / (asked or done[0]) / run_folder.SCORES


def _load(path: pathlib.Path) -> scores.Scores:
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such run folder")
    if not path.exists():
        if (path.parent.parent.parent / run_folder.TABLE).exists():
            raise InputError(
                f"{path} does not exist: the grid is not finished, so give its command of "
                "experiments/ablate.py again"
            )
        probe = shell.command("linear_probe.py", path.parent)
        raise InputError(f"{path} does not exist: name runs that were probed, or probe it: {probe}")
    return (scores.load_finetuned if _is_finetuned(path) else scores.load_scores)(path)


def _is_finetuned(path: pathlib.Path) -> bool:
    return path.name == run_folder.SCORES


def _name(run: str, path: pathlib.Path) -> str:
    """Name of a run, with the subset that was chosen in it."""
    subset = path.parent.name
    chosen = _is_finetuned(path) and pathlib.PurePath(run).name != subset
    return f"{run}/{subset}" if chosen else run


def _kind(paths: list[pathlib.Path]) -> tuple[str, str]:
    """Names the classifiers whose scores are added, and the column of their accuracy."""
    tuned = [_is_finetuned(path) for path in paths]
    if any(tuned) and not all(tuned):
        return "linear probes and fine-tuned classifiers", "test_accuracy"
    if any(tuned):
        return "fine-tuned classifiers", "test_finetune"
    return "linear probes", "test_linear"


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
    sums, protocol = {}, ""
    if "/" in _TRANSFER.value:
        raise InputError(f"--transfer={_TRANSFER.value}: give the name of the store's folder alone")
    if _OUT.value:
        pathlib.Path(_OUT.value).parent.mkdir(parents=True, exist_ok=True)
    groups = {
        name: {run: _scores_file(folder) for run, folder in group.items()}
        for name, group in _groups().items()
    }
    kind, column = _kind([path for group in groups.values() for path in group.values()])
    for name, group in groups.items():
        found = {_name(run, path): _load(path) for run, path in group.items()}
        named = {f"{run} ({s.streams}, step {s.step})": s for run, s in found.items()}
        sums[name] = scores.ensemble(named, _weights(), column)
        protocol = next(iter(found.values())).protocol
    few = "" if _LABELS.value == run_folder.ALL_LABELS else f", {_LABELS.value} of the labels"
    equal = "weights " + ", ".join(_WEIGHTS.value) if _WEIGHTS.value else "equal weights"
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
