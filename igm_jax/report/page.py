"""Writes the page: one HTML file that holds its style, its programs and its data."""

import json
import pathlib
import string
from collections.abc import Sequence
from importlib import resources
from typing import Any

import plotly.offline

import igm_jax
from igm_jax import run_folder
from igm_jax.report import facts, player, results
from igm_jax.report.build import RunReport

# In the order in which the page runs them.
_SCRIPTS = ("page.js", "charts.js", "player.js", "start.js")


def write_page(path: pathlib.Path, reports: Sequence[RunReport]) -> None:
    """Writes the page about these runs; it needs no network and no other file.

    Args:
      path: of the HTML file.
      reports: at least one.

    Raises:
      OSError: the file cannot be written; an older one is kept.
    """
    run_folder.write_text(path, page(reports))


def page(reports: Sequence[RunReport]) -> str:
    """The page as text."""
    files = resources.files("igm_jax.report")
    read = {name: (files / name).read_text("utf-8") for name in ("page.html", "page.css")}
    script = "\n".join((files / name).read_text("utf-8") for name in _SCRIPTS)
    runs, clips = zip(*map(_run, reports))
    content = {
        "version": igm_jax.__version__,
        "runs": runs,
        "differences": facts.differences([report.run for report in reports]),
    }
    title = ", ".join(report.name for report in reports)
    return string.Template(read["page.html"]).substitute(
        title=title.replace("&", "&amp;").replace("<", "&lt;"),
        style=read["page.css"],
        script=script,
        # "</script>" in a name would end the element.
        content=json.dumps(content, separators=(",", ":")).replace("</", "<\\/"),
        clips="\n".join(clips),
        # 4.8 MB, and 2 MB like this.
        plotly=player.deflated(plotly.offline.get_plotlyjs().encode("utf-8")),
    )


def _run(report: RunReport) -> tuple[dict[str, Any], str]:
    """Content of the page for one run, and its clips as text."""
    run, store, shown = report.run, report.store, report.map
    moves, clips = player.packed(report.clips, store.layout, store.meta["units"])
    table = store.clips[shown.indices]
    names = table["name"].astype(str).tolist()
    content = {
        "name": report.name,
        "folder": str(run.folder),
        "progress": run.progress,
        "numbers": results.numbers(run),
        "training": facts.training(run, store),
        "data": facts.data(store),
        "environment": facts.environment(run),
        "settings": facts.settings(run),
        "curves": report.curves,
        "tables": report.tables,
        "confusions": report.confusions,
        "classes": list(store.class_names),
        "noGenerator": report.no_generator,
        "noiseSteps": run.config.objective.diffusion_steps,
        "map": {
            "total": shown.total,
            "places": {name: _rounded(xy, 4) for name, xy in shown.places.items()},
            "names": names,
            "said": results.predictions(run, names),
            "labels": table["label"].tolist(),
            "facts": [_who(row) for row in table],
            "neighbours": shown.neighbours.tolist(),
            "cosines": _rounded(shown.cosines, 3),
        },
        "player": moves,
    }
    return content, clips


def _rounded(values: Any, digits: int) -> list[list[float]]:
    return [[round(float(x), digits) for x in row] for row in values]


def _who(row: Any) -> str:
    """Known ids of a clip: `subject 3, camera 1`."""
    return ", ".join(f"{name} {row[name]}" for name in ("subject", "camera", "setup") if row[name])
