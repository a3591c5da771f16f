"""The folder of a run: the names of its files, and how they are written and read.

All files are JSON or JSON lines, except the checkpoints (`igm_jax.training.checkpoint`) and the
scores of linear probes, which are NumPy archives without pickle.
"""

import contextlib
import json
import os
import pathlib
import re
import zipfile
from collections.abc import Callable, Mapping
from typing import IO, Any

import numpy as np

from igm_jax.errors import InputError

CONFIG = "config.json"
ENVIRONMENT = "environment.json"
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"
KNN = "knn.json"
RIDGE = "ridge.json"
RETRIEVAL = "retrieval.json"
FEW_SHOT = "few_shot.json"
KMEANS = "kmeans.json"
EVALUATION = "evaluation.json"
GENERATION = "generation.json"
THEORY = "theory.json"
REPORT = "report.html"
# Of fine-tuning: of one subset of the labels, and of all.
RESULT = "result.json"
SCORES = "scores.npz"
HEAD = "head.json"
TRAINED = "train"
SUBSETS = "subset-*"  # pattern of the names of `subset_folder`
RESULTS = "results.json"

TABLE = "table.json"  # of an ablation

ALL_LABELS = "100%"  # share of the labels; `data.few_labels.SUBSETS` has the smaller ones


def linear_probe(
    labels: str = ALL_LABELS, augmented: bool = False, subset: int | None = None
) -> str:
    """Name of the results of a linear probe.

    >>> linear_probe("10%", augmented=True)
    'linear_probe-10pct-augmented.json'
    >>> linear_probe("10%", subset=3)
    'linear_probe-10pct-subset3.json'
    """
    share = "" if labels == ALL_LABELS else f"-{labels.replace('%', 'pct')}"
    which = "" if subset is None else f"-subset{subset}"
    return f"linear_probe{share}{which}{'-augmented' if augmented else ''}.json"


def finetuning(
    labels: str = ALL_LABELS, scratch: bool = False, generated: float = 0.0, data: str = ""
) -> str:
    """Name of the folder, within that of the pre-training run, that fine-tuning writes.

    `data` is the name of the data set, if it is not that of the run.

    >>> finetuning("10%", generated=0.5)
    'finetune-10pct-generated0.5'
    """
    start = "-scratch" if scratch else ""
    clips = f"-generated{generated:g}" if generated else ""
    return f"finetune{f'-{data}' * bool(data)}-{labels.replace('%', 'pct')}{start}{clips}"


def probe_scores(
    labels: str = ALL_LABELS, augmented: bool = False, subset: int | None = None
) -> str:
    """Name of the head and the test scores of a linear probe, beside its results.

    >>> probe_scores("10%")
    'linear_probe-10pct.npz'
    """
    return linear_probe(labels, augmented, subset).removesuffix(".json") + ".npz"


def subset_folder(seed: int) -> str:
    """Name of the folder, within that of fine-tuning, of one subset of the labels.

    >>> subset_folder(3)
    'subset-3'
    """
    return f"subset-{seed}"


def by_number(name: str) -> tuple[str, int]:
    """Key that sorts names by the number at their end.

    >>> sorted(["subset-10", "subset-9"], key=by_number)
    ['subset-9', 'subset-10']
    """
    number = re.search(r"\d*$", name)
    digits = number[0] if number else ""
    return name.removesuffix(digits), int(digits or 0)


def subset_results(folder: pathlib.Path) -> list[dict[str, Any]]:
    """The results of the finished subsets in a folder of fine-tuning, in the order of the seeds."""
    saved = map(read_json, folder.glob(f"{SUBSETS}/{RESULT}"))
    return sorted(filter(None, saved), key=lambda row: row["subset"])


def variant(name: str, data: str = "", classes: str = "all") -> str:
    """Name of results on another data set, or on some classes only.

    >>> variant("knn.json", classes="unseen"), variant("knn.json", data="utd_mhad")
    ('knn-unseen.json', 'knn-utd_mhad.json')
    """
    stem, dot, suffix = name.rpartition(".")
    kind = [data, "" if classes == "all" else classes]
    return "-".join([stem, *filter(None, kind)]) + dot + suffix


def write_text(path: pathlib.Path, text: str) -> None:
    """`write_bytes` of a text in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Writes a file at once: a reader finds the old content or the new one, never a part.

    Raises:
      OSError: it cannot be written; it names `path`, and the old file is kept.
    """
    _write(path, lambda file: file.write(content))


def write_arrays(path: pathlib.Path, arrays: Mapping[str, Any]) -> None:
    """Writes named arrays of numbers or text as a NumPy archive (.npz), at once.

    Raises:
      OSError: it cannot be written; it names `path`, and the old file is kept.
      ValueError: an array of Python objects, which would need pickle.
    """
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise ValueError(f"array {name!r} holds Python objects")
    _write(path, lambda file: np.savez(file, **arrays))


def read_arrays(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Reads what `write_arrays` wrote. It never unpickles.

    Raises:
      InputError: the file is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} is damaged: remove it and make it again") from error


def _write(path: pathlib.Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Writes beside `path`, then replaces it."""
    temporary = path.with_name(f".{path.name}.writing")
    try:
        with open(temporary, "wb") as file:
            write(file)
        os.replace(temporary, path)
    except OSError as error:
        error.filename = str(path)
        raise


def write_json(path: pathlib.Path, content: Any) -> None:
    """`write_text` of plain JSON types."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def read_json(path: pathlib.Path) -> dict[str, Any] | None:
    """Reads a JSON object; None if the file is missing or holds no JSON object."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        content = json.loads(path.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else None
    return None


def whole_lines(path: pathlib.Path) -> list[str]:
    """Lines of a text file with their ends; none if it is missing.

    A process that is killed while it writes leaves a line without an end, which is left out.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [line for line in lines if line.endswith("\n")]


def read_reports(path: pathlib.Path) -> list[dict[str, Any]]:
    """Reports of a metrics file, each with its `step`; none if it is missing.

    Raises:
      InputError: a line is no report; names the line.
    """
    reports = []
    for number, line in enumerate(whole_lines(path), 1):
        try:
            reports.append({**json.loads(line)})
            reports[-1]["step"] = int(reports[-1]["step"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path}: line {number} is damaged: remove it, or all of it"
            ) from error
    return reports


def checkpoint_steps(folder: pathlib.Path) -> list[int]:
    """Steps of the complete checkpoints, in order."""
    names = (path.name for path in (folder / CHECKPOINTS).glob("[0-9]*"))
    return sorted(int(name) for name in names if name.isdigit())


def newest_step(folder: pathlib.Path) -> int:
    """Newest complete step of a run, or 0 if there is none."""
    return max(checkpoint_steps(folder), default=0)


def newest_run(root: str | pathlib.Path = "runs") -> pathlib.Path:
    """The most recently written run under `root`.

    Raises:
      InputError: there is none.
    """
    logs = list(pathlib.Path(root).glob(f"*/{METRICS}"))
    if not logs:
        raise InputError(
            f"no run under {str(root)!r}: start one with experiments/pretrain.py, or give --run"
        )
    return max(logs, key=lambda p: p.stat().st_mtime).parent


def runs_in(folder: pathlib.Path) -> list[str]:
    """Names of the runs that lie in a folder."""
    return sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))


def is_finetuned(folder: pathlib.Path) -> bool:
    """Whether this is the folder of a fine-tuned run, or of a subset of the labels in one."""
    return "parent" in (read_json(folder / CONFIG) or {}) or (folder / HEAD).exists()


def subsets(folder: pathlib.Path, file: str) -> list[str]:
    """Names of the subsets of a fine-tuned run that hold this file, by their numbers."""
    names = (path.parent.name for path in folder.glob(f"{SUBSETS}/{file}"))
    return sorted(names, key=by_number)


def finetuned_subset(folder: pathlib.Path, name: str | None = None) -> pathlib.Path:
    """The folder of a finished subset of the labels.

    Args:
      folder: of a fine-tuned run; that of a subset is its own answer.
      name: of the subset; by default the finished one of the lowest number.

    Raises:
      InputError: no such subset, or it is not finished.
    """
    if (folder / HEAD).exists() and name not in (None, folder.name):
        raise InputError(f"{folder} is one subset of the labels, so it has no {name}: leave it out")
    done = subsets(folder, HEAD)
    subset = folder if (folder / HEAD).exists() else folder / (name or [*done, subset_folder(0)][0])
    if name and done and name not in done:
        raise InputError(f"{folder} has no head {name}: choose one of {', '.join(done)}")
    if not (subset / HEAD).exists() or not newest_step(subset / TRAINED):
        raise InputError(
            f"{subset} has no trained head: finish it with the same experiments/finetune.py command"
        )
    return subset
