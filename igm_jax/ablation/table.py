"""Compares the rows of an ablation over seeds: statistics and the table."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from igm_jax import shell
from igm_jax.ablation.plan import COLUMNS, PROBES, Job, measured, probe_rows
from igm_jax.evaluation.table import markdown_table

_COMPARED = ("linear", "KNN K=1")  # columns with a difference to the first row


def spread(values: Mapping[int, float]) -> dict[str, float | None]:
    """Mean and sample standard deviation over seeds; None if there are too few."""
    x = np.array(list(values.values()))
    return {
        "mean": float(x.mean()) if len(x) else None,
        "std": float(x.std(ddof=1)) if len(x) > 1 else None,
    }


def paired_difference(
    values: Mapping[int, float], reference: Mapping[int, float]
) -> dict[str, Any] | None:
    """Mean of `values` − `reference` over the seeds that both have, and its 95 % interval.

    Returns:
      `seeds`, `mean`, and of Student's t `low` and `high` (None for a single seed); or None if the
      two share no seed.
    """
    differences = {seed: values[seed] - reference[seed] for seed in values if seed in reference}
    mean, std = spread(differences).values()
    if mean is None:
        return None
    result = {"seeds": list(differences), "mean": mean, "low": None, "high": None}
    if std is not None:
        n = len(differences)
        half = float(stats.t.ppf(0.975, n - 1)) * std / n**0.5
        result |= {"low": mean - half, "high": mean + half}
    return result


def summarize(jobs: Sequence[Job], split: str) -> list[dict[str, Any]]:
    """One entry a row, in JSON types: `name`, `overrides`, `commands` by seed, and `columns`.

    A column has `values` (seed → value of the finished runs), `mean`, `std` and, in all rows but
    the first, `difference` (see `paired_difference`).
    """
    found = [(job, values) for job in jobs if (values := measured(job, split))]
    columns = [*COLUMNS, "effective rank"]
    if not all("effective rank" in values for _, values in found):
        columns.pop()
    entries: list[dict[str, Any]] = []
    for name in dict.fromkeys(job.row for job in jobs):
        entry = {"name": name, "overrides": {}, "commands": {}, "columns": {}}
        for job in jobs:
            if job.row == name:
                entry["overrides"] = job.overrides
                entry["commands"][job.seed] = [
                    shell.command(f"{script}.py", *flags) for script, flags in job.commands.items()
                ]
        for column in columns:
            values = {job.seed: values[column] for job, values in found if job.row == name}
            entry["columns"][column] = {"values": values, **spread(values)}
            if entries and column in _COMPARED:
                first = entries[0]["columns"][column]["values"]
                entry["columns"][column]["difference"] = paired_difference(values, first)
        entries.append(entry)
    return entries


def table_text(jobs: Sequence[Job], entries: Sequence[dict[str, Any]], split: str) -> str:
    """Formats the entries of `summarize` as Markdown, below a line that explains the numbers."""
    seeds = list(dict.fromkeys(job.seed for job in jobs))
    epochs = sorted({job.config.train.epochs for job in jobs})
    done = [len(entry["columns"]["linear"]["values"]) for entry in entries]
    lines = []
    for entry, count in zip(entries, done):
        line = {"row": entry["name"]}
        for name, column in entry["columns"].items():
            line[name] = _mean_text(column)
            if name in _COMPARED:
                line[f"Δ {name}"] = _difference_text(column.get("difference"))
        if min(done) < len(seeds):
            line["seeds"] = f"{count} of {len(seeds)}"
        lines.append(line)
    probed = [probe_rows(job, probe) or [{}] for job in jobs for probe in PROBES]
    notes = sorted({f"Note: {row['note']}.\n" for row, *_ in probed if "note" in row})
    return (
        f"{jobs[0].config.name}, {split} accuracy in %, {' or '.join(map(str, epochs))} epochs, "
        f"seeds {', '.join(map(str, seeds))}: mean ± sample standard deviation; Δ is the paired "
        f"difference to the first row with its 95 % interval (Student's t).\n"
        f"{''.join(notes)}\n"
        f"{markdown_table(lines)}\n"
    )


def best_text(entries: Sequence[dict[str, Any]]) -> str:
    """Names the best row by mean linear accuracy, its flags, and how sure its lead is.

    Args:
      entries: those of `summarize`, on validation clips.

    Returns:
      One line with an empty line before it, or "" while a run is missing or for a single row.
    """
    values = {entry["name"]: entry["columns"]["linear"]["values"] for entry in entries}
    if len(entries) < 2 or any(
        len(v) < len(e["commands"]) for v, e in zip(values.values(), entries)
    ):
        return ""
    best, second = sorted(entries, key=lambda e: -e["columns"]["linear"]["mean"])[:2]
    flags = [f"--config.{key}={value}" for key, value in best["overrides"].items()]
    lead = paired_difference(values[best["name"]], values[second["name"]])
    assert lead is not None  # all rows have all seeds
    if lead["low"] is None:
        sure = "One seed gives no interval, so run more before you rely on it"
    elif lead["low"] > 0:
        sure = "The interval is above zero"
        if len(entries) > 2:
            sure += f", but too narrow for the best of {len(entries)} rows: check with new seeds"
    else:
        sure = "The interval contains zero, so the two are not told apart"
    nearest = max(entries, key=lambda e: e["columns"]["KNN K=1"]["mean"])["name"]
    other = "" if nearest == best["name"] else f" By KNN K=1, {nearest} is best."
    return (
        f"\nBest by mean linear accuracy: {best['name']}, with "
        f"{' '.join(map(shell.quote, flags)) or 'no flag'}. Its lead over {second['name']} is "
        f"{_difference_text(lead)}. {sure}.{other}\n"
    )


def _mean_text(column: Mapping[str, Any]) -> str:
    if column["mean"] is None:
        return "-"
    return f"{column['mean']:.2f}" + ("" if column["std"] is None else f" ± {column['std']:.2f}")


def _difference_text(difference: Mapping[str, Any] | None) -> str:
    if difference is None:
        return "-"
    text = f"{difference['mean']:+.2f}"
    if difference["low"] is None:
        return text
    return f"{text} [{difference['low']:+.2f}, {difference['high']:+.2f}]"
