"""Draws one clip as a moving picture."""

import os

import numpy as np
from matplotlib import animation

from igm_jax.data.store import Clip
from igm_jax.drawing.canvas import (
    FLOOR,
    QUIET,
    Strokes,
    add_pose,
    cut,
    extent,
    finite,
    paper,
    write,
)
from igm_jax.drawing.projection import FRONT, SIDE, is_flat, project
from igm_jax.skeleton import Layout

FPS = 20
_PANEL_HEIGHT, _PANEL_WIDTHS = 2.4, (1.3, 4.2)  # inches


def save_moving_picture(
    path: str | os.PathLike,
    clip: Clip,
    layout: Layout,
    units: str,
    *,
    title: str = "",
    max_frames: int = 200,
) -> None:
    """Draws a clip as an endless GIF: from the front and, in 3-D, from the side.

    Args:
      path: the file to write.
      clip: the clip.
      layout: what its joints are.
      units: unit of its coordinates.
      title: stands over it; by default its name.
      max_frames: of a longer clip every second, third, … frame is drawn.

    Raises:
      InputError: its joints have one coordinate only.
    """
    flat = is_flat(clip.frames.shape[-1], units)
    views = [
        project(clip.frames, layout, units, yaw) for yaw in ((FRONT,) if flat else (FRONT, SIDE))
    ]
    length = clip.frames.shape[1]
    height = max(np.ptp(finite(view[..., 1])) for view in views) or 1.0
    extents = [extent(view[..., 0], 0.08 * height) for view in views]
    widest = max(high - low for low, high in extents)
    scale = min(_PANEL_HEIGHT / height, _PANEL_WIDTHS[1] / widest)
    widths = [max(_PANEL_WIDTHS[0], scale * (high - low)) for low, high in extents]
    width = max(sum(widths) + 0.2 * (len(widths) + 1), 3.0)
    figure, axes = paper(width, scale * height + 0.85)
    edge, floor, over = 0.2, 0.3, scale * height + 0.62
    count = write(axes, width - edge, over, "", size=8.0, color=QUIET, ha="right")
    write(
        axes,
        edge,
        over,
        cut(title or clip.name, int(11 * (width - 1.4))),
        size=10.0,
        weight="bold",
    )
    axes.plot([edge, width - edge], [0.1] * 2, color=FLOOR, lw=2.5, zorder=1)
    (bar,) = axes.plot([], [], color=QUIET, lw=2.5, zorder=2, solid_capstyle="butt")
    shifts, left = [], (width - sum(widths) - 0.2 * (len(widths) - 1)) / 2
    for view, (low, high), wide in zip(views, extents, widths):
        axes.plot([left, left + wide], [floor] * 2, color=FLOOR, lw=0.8, zorder=1)
        middle = left + (wide - scale * (high + low)) / 2
        shifts.append(np.array([middle, floor - scale * finite(view[..., 1]).min(), 0.0]))
        left += wide + 0.2
    gif = animation.PillowWriter(fps=FPS)
    gif.setup(figure, os.fspath(path))
    for frame in range(0, length, -(-length // max_frames)):
        strokes = Strokes()
        for view, shift in zip(views, shifts):
            add_pose(strokes, view[:, frame] * scale + shift, layout, width=2.4)
        bones = axes.add_collection(strokes.collection())
        count.set_text(f"{frame + 1} / {length}")
        bar.set_data([edge, edge + (width - 2 * edge) * (frame + 1) / length], [0.1] * 2)
        gif.grab_frame()
        bones.remove()
    gif.finish()
