"""A clip and what a generator makes of it, as a strip of moments and as a moving picture."""

import os
import pathlib
from collections.abc import Iterator

import numpy as np
from matplotlib import animation
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from igm_jax.drawing.canvas import FLOOR, QUIET, Strokes, add_pose, finite, paper, write
from igm_jax.drawing.moving_picture import FPS
from igm_jax.drawing.projection import OBLIQUE
from igm_jax.report.build import RunReport
from igm_jax.report.player import DDIM_STEPS, Shown

_MOMENTS = 9
_CELL, _HEIGHT = (0.95, 1.35), 1.0  # inches: of a moment, and of the body in it
_PANEL = (1.7, 2.3)  # inches, of the moving picture


def versions(report: RunReport) -> list[tuple[str, Shown]]:
    """Titles and clips: real, noised, one step, generated; or the real one where it is alone.

    Of the clips that were generated from, it takes the one that moves most.
    """
    clips = report.clips
    row = max(clips.generated or range(len(clips.real)), key=lambda i: _motion(clips.real[i]))
    real = (f"real: {report.class_name(row)}", clips.real[row])
    if row not in clips.generated:
        return [real]
    made, t = clips.generated[row], clips.first
    noised, steps = f"noised, t = {clips.ts[t]}", f"generated, {DDIM_STEPS} steps"
    pairs = [(noised, made.noised[t]), ("one step", made.one_step[t]), (steps, made.sampled)]
    return [real, *pairs]


def strip(report: RunReport) -> Figure:
    """The versions of one clip below each other, each as moments from beginning to end."""
    shown, layout = versions(report), report.store.layout
    views = _views([clip for _, clip in shown], layout.origin)
    scale = _HEIGHT / _height(views[0])
    figure, axes = paper(_CELL[0] * _MOMENTS + 0.3, (_CELL[1] + 0.25) * len(shown) + 0.1)
    frames = np.linspace(0, views[0].shape[1] - 1, min(_MOMENTS, views[0].shape[1])).astype(int)
    for row, ((title, _), view) in enumerate(zip(reversed(shown), reversed(views))):
        floor = row * (_CELL[1] + 0.25) + 0.12
        axes.plot([0.15, 0.15 + _CELL[0] * _MOMENTS], [floor] * 2, color=FLOOR, lw=0.8, zorder=1)
        ground = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        write(axes, 0.15, floor + _CELL[1], title, size=8.5, weight="bold", bbox=ground, zorder=3)
        strokes = Strokes()
        for column, frame in enumerate(frames):
            shift = np.array([0.15 + (column + 0.5) * _CELL[0], floor, 0.0])
            add_pose(strokes, view[:, frame] * scale + shift, layout, width=1.5)
        lines = axes.add_collection(strokes.collection())
        box = Rectangle((0.0, floor - 0.1), _CELL[0] * _MOMENTS + 0.3, _CELL[1] + 0.2)
        lines.set_clip_path(box.get_path(), box.get_patch_transform() + axes.transData)
    return figure


def save_moving_strip(path: str | os.PathLike, report: RunReport, most: int = 100) -> None:
    """Draws the versions of one clip side by side as an endless GIF of at most `most` frames."""
    shown, layout = versions(report), report.store.layout
    views = _views([clip for _, clip in shown], layout.origin)
    scale = 0.72 * _PANEL[1] / _height(views[0])
    figure, axes = paper(_PANEL[0] * len(shown), _PANEL[1])
    for i, (title, _) in enumerate(shown):
        left = i * _PANEL[0]
        write(axes, left + 0.12, _PANEL[1] - 0.22, title, size=8.0, weight="bold", color=QUIET)
        axes.plot([left + 0.12, left + _PANEL[0] - 0.12], [0.2] * 2, color=FLOOR, lw=0.8, zorder=1)
    gif = animation.PillowWriter(fps=FPS)
    gif.setup(figure, os.fspath(path))
    length = views[0].shape[1]
    for frame in range(0, length, -(-length // most)):
        drawn = []
        for i, view in enumerate(views):
            strokes = Strokes()
            shift = np.array([(i + 0.5) * _PANEL[0], 0.2, 0.0])
            add_pose(strokes, view[:, frame] * scale + shift, layout, width=2.0)
            drawn.append(axes.add_collection(strokes.collection()))
            box = Rectangle((i * _PANEL[0] + 0.03, 0.0), _PANEL[0] - 0.06, _PANEL[1] - 0.27)
            drawn[-1].set_clip_path(box.get_path(), box.get_patch_transform() + axes.transData)
        gif.grab_frame()
        for lines in drawn:
            lines.remove()
    gif.finish()


def save(folder: pathlib.Path, report: RunReport) -> Iterator[pathlib.Path]:
    """Writes both into a folder; yields their paths."""
    figure = strip(report)
    for ending in ("png", "pdf"):
        path = folder / f"clips.{ending}"
        figure.savefig(path, dpi=200)
        yield path
    path = folder / "clips.gif"
    save_moving_strip(path, report)
    yield path


def _views(clips: list[Shown], origin: int) -> list[np.ndarray]:
    """The clips seen obliquely, and held in the middle as the first one moves over the floor."""
    angle = np.radians(OBLIQUE)
    cosine, sine = np.cos(angle), np.sin(angle)
    middle = np.nan_to_num(clips[0][:1, :, origin : origin + 1]) * np.array([1.0, 0.0, 1.0])
    views = []
    for clip in clips:
        x, y, z = np.moveaxis(clip - middle, -1, 0)
        views.append(np.stack([cosine * x + sine * z, y, cosine * z - sine * x], axis=-1))
    return views


def _height(view: np.ndarray) -> float:
    return float(np.ptp(finite(view[..., 1]))) or 1.0


def _motion(clip: Shown) -> float:
    """Mean path of a joint in relation to the first one."""
    inner = clip - clip[:, :, :1]
    return float(np.nan_to_num(np.linalg.norm(np.diff(inner, axis=1), axis=-1)).sum())
