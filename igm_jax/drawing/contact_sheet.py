"""Draws many clips on one sheet, each as moments from its beginning to its end."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from igm_jax.data.store import Clip
from igm_jax.drawing.canvas import (
    COLOURS,
    FLOOR,
    QUIET,
    Strokes,
    add_pose,
    bone_sides,
    cut,
    extent,
    finite,
    paper,
    write,
)
from igm_jax.drawing.projection import OBLIQUE, project
from igm_jax.errors import InputError
from igm_jax.skeleton import Layout

_CELL, _STRIP = (3.8, 1.72), (3.5, 1.22)  # inches: with the title, without
_GHOSTS = (0.10, 0.18, 0.30)  # opacity of what came before a moment, earliest first
_MOMENTS = (6, 5, 4, 3, 2)


def moments(length: int, count: int) -> list[list[int]]:
    """Chooses `count` moments of a clip, each with some frames before it.

    Args:
      length: T.
      count: how many moments, at most T.

    Returns:
      For each of as many equal parts of the clip a few ascending frames, the last one its moment.

    >>> moments(16, 2)
    [[0, 2, 4, 6], [8, 10, 12, 14]]
    >>> moments(1, 1)
    [[0]]
    """
    steps = len(_GHOSTS) + 1
    parts = [[int((i + k / steps) * length / count) for k in range(steps)] for i in range(count)]
    return [sorted(set(part)) for part in parts]


def contact_sheet(
    clips: Sequence[Clip],
    titles: Sequence[str],
    layout: Layout,
    units: str,
    *,
    heading: str = "",
    columns: int | None = None,
) -> Figure:
    """A grid of clips, each as moments side by side from its beginning to its end.

    Behind every moment is a faint trace of the motion before it. Walking is left
    out: moments are placed side by side.

    Args:
      clips: at least one.
      titles: one title for each clip.
      layout: what their joints are.
      units: unit of their coordinates.
      heading: title of the sheet.
      columns: of the grid; by default as many as make a page.

    Returns:
      A figure to be saved; `figure.savefig(path)`.

    Raises:
      InputError: there is no clip, or its joints have one coordinate only.
    """
    if not clips:
        raise InputError("a contact sheet needs a clip: there is none")
    columns = columns or min(len(clips), 3 if len(clips) <= 30 else 5)
    rows = -(-len(clips) // columns)
    width, top = columns * _CELL[0] + 0.3, 0.62
    figure, axes = paper(width, rows * _CELL[1] + top + 0.1)
    strokes = Strokes()
    for i, (clip, title) in enumerate(zip(clips, titles, strict=True)):
        left = 0.15 + i % columns * _CELL[0] + (_CELL[0] - _STRIP[0]) / 2
        floor = (rows - 1 - i // columns) * _CELL[1] + 0.25
        _add_strip(strokes, clip.frames, layout, units, left, floor)
        axes.plot([left, left + _STRIP[0]], [floor] * 2, color=FLOOR, lw=0.8, zorder=1)
        over = floor + _STRIP[1] + 0.1
        length = clip.frames.shape[1]
        note = f"{cut(clip.name, 24)} · {length} frame{'s' * (length != 1)}"
        write(axes, left, over, cut(title, 30), size=9.0, weight="bold")
        write(axes, left + _STRIP[0], over, note, size=6.5, color=QUIET, ha="right")
    line = rows * _CELL[1] + 0.36
    write(axes, 0.3, line, cut(heading, 40 * columns - 25), size=12.0, weight="bold")
    # A heading beside which there is no room has the legend below it.
    _add_legend(axes, width - 0.3, line if columns > 2 else line - 0.22, layout, clips)
    axes.add_collection(strokes.collection())
    return figure


def _add_strip(
    strokes: Strokes,
    frames: np.ndarray,
    layout: Layout,
    units: str,
    left: float,
    floor: float,
) -> None:
    """Draws as many moments of a clip as fit into the strip."""
    view = _placed(project(frames, layout, units, OBLIQUE), layout)
    length = view.shape[1]
    height = max(np.ptp(finite(view[..., 1])), 1e-9)
    count, *fewer = [n for n in _MOMENTS if n <= length] or [1]
    while True:
        parts = moments(length, count)
        extents = [extent(view[:, part, :, 0], 0.08 * height) for part in parts]
        across = sum(high - low for low, high in extents)
        if not fewer or across * _STRIP[1] / height <= _STRIP[0]:
            break
        count, *fewer = fewer
    scale = min(_STRIP[1] / height, _STRIP[0] / across)
    gap = (_STRIP[0] - scale * across) / count  # the first and the last have half of it outside
    bottom = finite(view[..., 1]).min()
    at = left + gap / 2
    for part, (low, high) in zip(parts, extents):
        shift = np.array([at - scale * low, floor - scale * bottom, 0.0])
        for frame, opacity in zip(part, [*_GHOSTS[len(_GHOSTS) - len(part) + 1 :], 1.0]):
            add_pose(
                strokes,
                view[:, frame] * scale + shift,
                layout,
                width=1.6 if opacity == 1.0 else 1.1,
                opacity=opacity,
            )
        at += scale * (high - low) + gap


def _placed(view: np.ndarray, layout: Layout) -> np.ndarray:
    """Removes walking: the mean origin of the people is at x = 0 in every frame."""
    where = view[:, :, layout.origin, 0]
    present = np.isfinite(where)
    middle = np.where(present, where, 0).sum(axis=0) / np.maximum(present.sum(axis=0), 1)
    # Without any origin a frame stays where it was last, or stands at the middle of all its joints.
    for t in np.flatnonzero(~present.any(axis=0)):
        joints = view[:, t, :, 0]
        middle[t] = joints[np.isfinite(joints)].mean() if np.isfinite(joints).any() else 0.0
    moved = view.copy()
    moved[..., 0] -= middle[:, None]
    return moved


def _add_legend(axes: Axes, right: float, y: float, layout: Layout, clips: Sequence[Clip]) -> None:
    """Draws the legend of the colours, aligned to the right."""
    sides = [side for side in COLOURS if side in bone_sides(layout)]
    if len(sides) < 2:
        return
    entries = [(side, [side]) for side in sides]
    if any(len(clip.frames) > 1 for clip in clips):
        entries.append(("second person", sides))
    for name, colours in reversed(entries):
        write(axes, right, y, name, size=8.0, color=QUIET, ha="right")
        right -= 0.10 + 0.062 * len(name)
        for side in reversed(colours):
            colour = COLOURS[side][name == "second person"]
            axes.plot([right - 0.16, right], [y + 0.04] * 2, color=colour, lw=2.4, zorder=2)
            right -= 0.22
        right -= 0.12
