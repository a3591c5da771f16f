"""Tables of results: headings, Markdown, and the JSON files of a run folder."""

import pathlib
import re
import sys
from collections.abc import Sequence
from typing import Any

from igm_jax import run_folder
from igm_jax.evaluation.run import Run
from igm_jax.evaluation.transfer import described


def heading(name: str) -> str:
    """Heading of the column that holds the values of this name.

    >>> [heading(name) for name in ("learning_rate", "test_linear", "test_knn_20")]
    ['learning rate', 'test %', 'test K=20 %']
    >>> heading("test_finetune")
    'test %'
    >>> heading("test_linear_interval")
    '95 % interval'
    """
    if name.endswith("_interval"):
        return "95 % interval"
    name = re.sub(r"_knn_(\d+)$", r" K=\1 %", name)
    name = re.sub(r"_linear_best_epoch$", " %, best epoch", name)
    name = re.sub(r"_(linear|finetune)$", " %", name)
    return name.replace("_", " ")


def markdown_table(rows: Sequence[dict[str, Any]]) -> str:
    """Formats rows with the same keys as a Markdown table; `details` are left out, None is "-".

    >>> print(markdown_table([{"features": "joint coordinates", "test_knn_1": 69.6}]))
    | features          | test K=1 % |
    |-------------------|------------|
    | joint coordinates | 69.6       |
    """
    names = [name for name in rows[0] if name != "details"]
    cells = [[heading(name) for name in names], *([_cell(row[n]) for n in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths)) + " |" for line in cells]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)


def _cell(value: Any) -> str:
    return "-" if value is None else str(value)


def stated(run: Run) -> dict[str, Any]:
    """The data that results of a run belong to, as their files state it.

    Returns:
      `protocol`, and what `transfer.described` says of a transferred run.
    """
    return {"protocol": run.config.data.protocol, **described(run)}


def header(run: Run) -> dict[str, Any]:
    """The checkpoint and the data that results of a run belong to, the beginning of their files."""
    return {
        "step": run.step,
        "total_steps": run.total_steps,
        "unfinished": run.unfinished,
        **stated(run),
    }


def is_of(saved: dict[str, Any], run: Run) -> bool:
    """Whether saved results belong to the data that this run is judged on."""
    return all(saved.get(key) == value for key, value in stated(run).items())


def save_rows(
    path: pathlib.Path,
    run: Run,
    rows: Sequence[dict[str, Any]],
    settings: dict[str, Any] | None = None,
) -> None:
    """Writes rows as JSON into the run folder, with the step and the settings that they belong to.

    Rows of other features, such as baselines, stay if they belong to the same. If the new rows
    replace results on other data, a line on standard error says so. Such data has the same name:
    another protocol or number of bodies, or another store whose folder has that name.

    Raises:
      OSError: the file cannot be written; an older one is kept.
    """
    belongs = {
        **header(run),
        **({"classes": run.classes} if run.classes != "all" else {}),
        **({"settings": settings} if settings else {}),
    }
    before = run_folder.read_json(path)
    kept: list[dict[str, Any]] = []
    if before is not None and belongs == {k: v for k, v in before.items() if k != "rows"}:
        named, columns = {row["features"] for row in rows}, [set(row) for row in rows]
        kept = [
            row for row in before["rows"] if row["features"] not in named and set(row) in columns
        ]
    run_folder.write_json(path, {**belongs, "rows": [*rows, *kept]})
    if before is not None and not is_of(before, run):
        print(f"{path}: replaced results on {_data(before)}", file=sys.stderr, flush=True)


def _data(saved: dict[str, Any]) -> str:
    """The data of saved results in words."""
    bodies = saved.get("transfer", {}).get("settings", {}).get("bodies")
    most = "" if bodies is None else f", {bodies} bodies"
    return f"other data of this name (protocol {saved.get('protocol')}{most})"
