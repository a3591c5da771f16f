"""The figures of a page for papers: PNG and PDF, and a GIF of the clips."""

import pathlib

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from igm_jax.report import strips
from igm_jax.report.build import RunReport
from igm_jax.report.results import Chart, Confusion


def save_figures(folder: pathlib.Path, report: RunReport) -> list[pathlib.Path]:
    """Writes curves, map, confusion matrix and clips of a run into a folder.

    Returns:
      The paths: `NAME.png` and `NAME.pdf` of each figure that the run has data for, `clips.gif`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    figures = {f"map-{name.lower()}": feature_map(report, name) for name in report.map.places}
    if report.curves:
        figures["curves"] = curves(report.curves)
    if report.confusions:
        figures["confusion"] = confusion(report.confusions[0])
    paths = []
    for name, figure in figures.items():
        for ending in ("png", "pdf"):
            paths.append(folder / f"{name}.{ending}")
            figure.savefig(paths[-1], dpi=200, bbox_inches="tight")
    return [*paths, *strips.save(folder, report)]


def curves(charts: list[Chart]) -> Figure:
    """The charts of the log, side by side."""
    figure = _figure(3.4 * len(charts), 2.9)
    for axes, chart in zip(figure.subplots(1, len(charts), squeeze=False)[0], charts):
        for line in chart["lines"]:
            axes.plot(line["steps"], line["values"], label=line["name"], lw=1.4)
        unit = f" in {chart['unit']}" if chart["unit"] else ""
        axes.set_title(chart["title"] + unit, fontsize=9)
        axes.set_xlabel("step")
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=7, frameon=False)
    return figure


def confusion(found: Confusion) -> Figure:
    """Share of the test clips of each class by the class that a classifier says."""
    counts = np.asarray(found["counts"], float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = max(3.0, 0.28 * len(counts) + 1.2)
    figure = _figure(size + 0.8, size)
    axes = figure.subplots()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    names, places = found["classes"], range(len(counts))
    axes.set_xticks(places, names, rotation=45, ha="right", rotation_mode="anchor", fontsize=7)
    axes.set_yticks(places, names, fontsize=7)
    axes.set(xlabel="taken for", ylabel="class of the clip", title=found["title"])
    if len(counts) <= 16:
        for i, j in zip(*np.nonzero(counts)):
            tone = "white" if shares[i, j] > 0.5 else "black"
            text = f"{counts[i, j]:.0f}"
            axes.text(j, i, text, ha="center", va="center", fontsize=6.5, color=tone)
    figure.colorbar(picture, ax=axes, label="share of the class", shrink=0.8)
    return figure


def feature_map(report: RunReport, method: str) -> Figure:
    """Test clips where their features lie on the map, coloured by class."""
    places = report.map.places[method]
    labels = report.store.clips["label"][report.map.indices]
    known = np.unique(labels)
    figure = _figure(6.2, 4.8)
    axes = figure.subplots()
    for number, label in enumerate(known):
        rows = labels == label
        name = report.store.class_names[label] if label >= 0 else "unlabelled"
        tone, marker = f"C{number % 10}", "osD^vP*X"[number // 10 % 8]
        x, y = places[rows].T
        axes.scatter(x, y, s=13, color=tone, marker=marker, label=name, linewidths=0)
    axes.set(xticks=[], yticks=[], title=f"features of {len(labels)} test clips, {method}")
    columns = 1 + len(known) // 20
    axes.legend(
        loc="center left", bbox_to_anchor=(1, 0.5), fontsize=7, frameon=False, ncols=columns
    )
    return figure


def _figure(width: float, height: float) -> Figure:
    figure = Figure((width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure
