"""The folder of a run: the names of its files, and how they are written and read.

All files are JSON or JSON lines, except the checkpoints (`igm_jax.training.checkpoint`).
"""

import contextlib
import json
import os
import pathlib
from typing import Any

from igm_jax.errors import InputError

CONFIG = "config.json"
ENVIRONMENT = "environment.json"
METRICS = "metrics.jsonl"
CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"
KNN = "knn.json"


def linear_probe(labels: str = "all", augmented: bool = False) -> str:
    """Name of the results of a linear probe.

    >>> linear_probe("10%", augmented=True)
    'linear_probe-10pct-augmented.json'
    """
    share = "" if labels == "all" else f"-{labels.replace('%', 'pct')}"
    return f"linear_probe{share}{'-augmented' if augmented else ''}.json"


def write_text(path: pathlib.Path, text: str) -> None:
    """`write_bytes` of a text in UTF-8, with the line ends of the system."""
    write_bytes(path, text.replace("\n", os.linesep).encode())


def write_bytes(path: pathlib.Path, content: bytes) -> None:
    """Writes a file at once: a reader finds the old content or the new one, never a part.

    Raises:
      OSError: it cannot be written; it names `path`, and the old file is kept.
    """
    temporary = path.with_name(f".{path.name}.writing")
    try:
        temporary.write_bytes(content)
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
