"""Curves and tables of a run, as its folder holds them."""

import pathlib
import re
from collections.abc import Sequence
from typing import Any, TypedDict

from igm_jax import run_folder
from igm_jax.evaluation.run import Run
from igm_jax.evaluation.scores import load_scores
from igm_jax.evaluation.table import heading

# Files of results whose names say too little.
_TITLES = {
    run_folder.KNN: "Nearest neighbours",
    run_folder.RIDGE: "Ridge probe, closed form",
    run_folder.RETRIEVAL: "Retrieval",
    run_folder.FEW_SHOT: "Few-shot episodes",
    run_folder.KMEANS: "k-means",
    run_folder.GENERATION: "Quality of generated clips",
    run_folder.THEORY: "Theory",
    run_folder.linear_probe(): "Linear probe",
}


# The numbers that are shown first: file, column, name.
_NUMBERS = (
    (run_folder.linear_probe(), "test_linear", "linear probe"),
    (run_folder.KNN, "test_knn_1", "nearest neighbour"),
    (run_folder.RIDGE, "test_ridge", "ridge probe"),
    (run_folder.RETRIEVAL, "test_map", "retrieval, mAP"),
)


# Charts of the log: title, pattern of the names in it, unit.
_CHARTS = (
    ("Losses", r"^loss", ""),
    ("Effective rank of the features", r"effective_rank$", ""),
    ("Accuracy on validation clips", r"^val_(knn|ridge)", "%"),
    ("Mean cosine between clips", r"^mean_cosine$", ""),
)


class Line(TypedDict):
    """One quantity of the log."""

    name: str
    steps: list[int]
    values: list[float]


class Chart(TypedDict):
    """Quantities that share their axes; a share in [0, 1] is in percent."""

    title: str
    unit: str
    lines: list[Line]


class Table(TypedDict):
    """A table of results as text; `note` may be empty."""

    title: str
    note: str
    columns: list[str]
    rows: list[list[str]]


class Confusion(TypedDict):
    """Test clips of each class (row) by the class that a classifier says (column)."""

    title: str
    classes: list[str]
    counts: list[list[int]]


def curves(run: Run) -> list[Chart]:
    """Charts of what the log of the run holds; empty ones are left out."""
    found: dict[str, tuple[list[int], list[float]]] = {}
    for report in run_folder.read_reports(run.folder / run_folder.METRICS):
        for name, value in report.items():
            if isinstance(value, int | float):
                steps, values = found.setdefault(name, ([], []))
                steps.append(report["step"])
                values.append(value)
    charts: list[Chart] = []
    for title, pattern, unit in _CHARTS:
        lines: list[Line] = [
            {
                "name": _line_name(name),
                "steps": steps,
                "values": [100 * v for v in values] if unit == "%" else values,
            }
            for name, (steps, values) in found.items()
            if re.search(pattern, name)
        ]
        if lines:
            charts.append({"title": title, "unit": unit, "lines": lines})
    return charts


def _line_name(key: str) -> str:
    """Name of a line of the log.

    >>> [_line_name(k) for k in ("loss", "loss_gen", "val_knn_1", "val_effective_rank")]
    ['total', 'gen', 'nearest 1', 'fitting clips']
    """
    named = {"loss": "total", "effective_rank": "one batch", "val_effective_rank": "fitting clips"}
    key = re.sub(r"^val_knn_", "nearest ", named.get(key, key))
    return re.sub(r"^(loss|val)_", "", key).replace("_", " ")


def numbers(run: Run) -> list[tuple[str, str]]:
    """The main results as `(value, name)`: on test clips, or else those on validation clips."""
    found: list[tuple[str, str]] = []
    for name, column, title in _NUMBERS:
        rows = (run_folder.read_json(run.folder / name) or {}).get("rows") or [{}]
        # None: the protocol ran, but no test clip counts in this column.
        if (value := rows[0].get(column)) is not None:
            found.append((f"{value:.1f} %", f"test, {title}"))
    log = {
        (chart["title"], line["name"]): line["values"][-1]
        for chart in curves(run)
        for line in chart["lines"]
    }
    if not found:
        names = {"nearest 1": "nearest neighbour", "ridge": "ridge probe"}
        found = [
            (f"{value:.1f} %", f"validation, {names[name]}")
            for (title, name), value in log.items()
            if title == _CHARTS[2][0] and name in names
        ]
    for name in ("fitting clips", "one batch"):
        if value := log.get((_CHARTS[1][0], name)):
            return [*found, (f"{value:.1f}", "effective rank of the features")]
    return found


def tables(run: Run) -> list[Table]:
    """Tables of every protocol that was run, the summary of all first."""
    made: list[Table] = []
    for path in _files(run):
        content = run_folder.read_json(path) or {}
        rows = content.get("table") or content.get("rows") or content.get("stages")
        if not rows:
            continue
        nested = {n for row in rows for n, value in row.items() if _is_nested(value)}
        names = [n for n in dict.fromkeys(n for row in rows for n in row) if n not in nested]
        names = [n for n in names if n != "note"]
        made.append(
            {
                "title": _title(path, run),
                "note": _note(content, run),
                "columns": [heading(name) for name in names],
                "rows": [[_cell(row.get(name)) for name in names] for row in rows],
            }
        )
    return made


def confusions(run: Run) -> list[Confusion]:
    """Confusion matrices of the run's encoder, in every result that holds one."""
    made: list[Confusion] = []
    for path in _files(run):
        rows = (run_folder.read_json(path) or {}).get("rows") or [{}]
        # The first row is that of the run's encoder; the others are baselines.
        for name, details in rows[0].get("details", {}).items():
            if not isinstance(details, dict) or "confusion" not in details:
                continue
            which = f", K={name.removeprefix('knn_')}" if name.startswith("knn_") else ""
            made.append(
                {
                    "title": _title(path, run) + which,
                    "classes": details["class_names"],
                    "counts": details["confusion"],
                }
            )
    return made


def predictions(run: Run, clips: Sequence[str]) -> list[str | None]:
    """The class that the saved linear probe says for each of these test clips.

    None where no probe of this checkpoint was saved, or it has no such clip.
    """
    path = run.folder / run_folder.probe_scores()
    if not path.exists() or (found := load_scores(path)).step != run.step:
        return [None] * len(clips)
    names = found.class_names[found.scores.argmax(axis=1)]
    said = dict(zip(found.clips.tolist(), names.tolist()))
    return [said.get(name) for name in clips]


def _files(run: Run) -> list[pathlib.Path]:
    """Files of results: the summary, the known protocols, and what else the folder holds."""
    order = [run_folder.EVALUATION, run_folder.linear_probe(), *_TITLES]
    others = {run_folder.CONFIG, run_folder.ENVIRONMENT, *order}
    rest = sorted(path for path in run.folder.glob("*.json") if path.name not in others)
    tuned = sorted(run.folder.glob(f"*/{run_folder.RESULTS}"))
    return [path for name in dict.fromkeys(order) if (path := run.folder / name).exists()] + [
        *rest,
        *tuned,
    ]


def _title(path: pathlib.Path, run: Run) -> str:
    """Title of a table.

    The file says it: `linear_probe-10pct.json` is “linear probe, 10 % of the labels”.
    """
    if path.name == run_folder.EVALUATION:
        return "All protocols"
    if path.name in _TITLES:
        return _TITLES[path.name]
    name = path.parent.name if path.parent != run.folder else path.stem
    name = name.replace("finetune-", "fine_tuning-")
    base, *options = name.replace("pct", " % of the labels").split("-")
    return ", ".join([_TITLES.get(f"{base}.json", base.replace("_", " ").capitalize()), *options])


def _note(content: dict[str, Any], run: Run) -> str:
    """Caveats: another checkpoint, data set or classes, validation that shares people."""
    rows = content.get("rows") or [{}]
    told = [rows[0].get("note") or content.get("note") or ""]
    if content.get("step", run.step) != run.step:
        told.append(f"of step {content['step']}, while this page shows step {run.step}")
    if content.get("classes", "all") != "all":
        told.append(f"{content['classes']} classes only")
    if other := content.get("transfer"):
        told.append(f"on the data set {other['data_set']}, {other['protocol']}")
    told += [f"{name}: {why}" for name, why in content.get("not_possible", {}).items()]
    return "; ".join(filter(None, told))


def _is_nested(value: Any) -> bool:
    """Whether a value is more than a cell, such as the details of a classifier."""
    return isinstance(value, dict) or (isinstance(value, list) and any(map(_is_nested, value)))


def _cell(value: Any) -> str:
    """A cell as text; an interval as `low to high`.

    >>> _cell(59.0), _cell(0.0003), _cell([1.5, 2.25]), _cell(7), _cell(None)
    ('59.00', '0.0003', '1.50 to 2.25', '7', '-')
    """
    if isinstance(value, list):
        return " to ".join(map(_cell, value))
    if isinstance(value, float):
        return f"{value:.2f}" if abs(value) >= 0.01 or not value else f"{value:.2g}"
    return "-" if value is None else str(value)
