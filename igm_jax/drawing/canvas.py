"""Draws poses in inches: lines, dots, text and the page they go on."""

import dataclasses
import functools
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.text import Text

from igm_jax.skeleton import Layout

# Side → colours of the first body and of all others. They are the colours of Okabe and Ito, which
# colour-blind people can tell apart.
COLOURS = {
    "left": ("#D55E00", "#F0A858"),
    "right": ("#0072B2", "#72BDE6"),
    "trunk": ("#333333", "#9A9A9A"),
}
FLOOR, QUIET = "#DDDDDD", "#777777"
_DOT = np.array([[-0.004, 0.0], [0.004, 0.0]])  # inches: Agg draws no line of length zero
_DPI = 110


def bone_sides(layout: Layout) -> tuple[str, ...]:
    """Key of `COLOURS` for each of `layout.bones`; all are trunk if there are no pairs."""
    left, right = (set(side) for side in zip(*layout.pairs)) if layout.pairs else ((), ())
    return tuple(
        "left" if {j, p} & set(left) else "right" if {j, p} & set(right) else "trunk"
        for j, p in layout.bones
    )


@dataclasses.dataclass
class Strokes:
    """Lines and dots in inches, in drawing order."""

    lines: list[np.ndarray] = dataclasses.field(default_factory=list)  # [2, 2] each
    colours: list[tuple] = dataclasses.field(default_factory=list)  # RGBA
    widths: list[float] = dataclasses.field(default_factory=list)  # points

    def add(self, line: np.ndarray, colour: str, width: float, opacity: float = 1.0) -> None:
        """Appends a line; a dot is a joint plus `_DOT`."""
        self.lines.append(line)
        self.colours.append(_rgba(colour, opacity))
        self.widths.append(width)

    def collection(self) -> LineCollection:
        """All lines as one Matplotlib collection."""
        # Matplotlib needs [N, 2, 2], also without lines.
        lines = self.lines or [np.full((2, 2), np.nan)]
        return LineCollection(
            lines,
            colors=self.colours or "none",
            linewidths=self.widths or 1,
            capstyle="round",
            snap=False,  # to whole pixels, where both ends of a dot may be one
            zorder=2,
        )


@functools.cache
def _rgba(colour: str, opacity: float) -> tuple[float, ...]:
    return (*(int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)), opacity)


def add_pose(
    strokes: Strokes,
    pose: Float[np.ndarray, "M V 3"],
    layout: Layout,
    *,
    width: float,
    opacity: float = 1.0,
) -> None:
    """Adds the bones of all bodies in one frame, the farthest first.

    Args:
      strokes: to add to.
      pose: `project`ed joints, in inches.
      layout: what the V joints are.
      width: of a bone, in points.
      opacity: below 1 the pose is a ghost: fainter, and without the light edge of what is in front.
    """
    bones, sides = layout.bones, bone_sides(layout)
    parts = []  # (depth, joints of the line, colour, width)
    for m, joints in enumerate(pose):
        for (j, p), side in zip(bones, sides):
            if np.isfinite(joints[[j, p]]).all():
                depth = joints[[j, p], 2].mean()
                parts.append((depth, joints[[j, p], :2], COLOURS[side][min(m, 1)], width))
        for head in (j for j, name in enumerate(layout.joints) if name.lower() == "head"):
            if np.isfinite(joints[head]).all():
                # In front of the neck, whose light edge would cover part of it.
                necks = [joints[[j, p], 2].mean() for j, p in bones if head in (j, p)]
                depth, dot = np.nanmin([joints[head, 2], *necks]), joints[head, :2] + _DOT
                parts.append((depth, dot, COLOURS["trunk"][min(m, 1)], 3.2 * width))
        if not bones:
            for joint in joints[np.isfinite(joints).all(axis=-1)]:
                parts.append((joint[2], joint[:2] + _DOT, COLOURS["trunk"][min(m, 1)], width))
    for _, line, colour, thickness in sorted(parts, key=lambda part: -part[0]):
        if opacity == 1.0:
            strokes.add(_shortened(line, thickness), "#FFFFFF", thickness + 1.4)
        strokes.add(line, colour, thickness, opacity)


def _shortened(line: np.ndarray, points: float) -> np.ndarray:
    """Shortens a line, so that its light edge does not cover its neighbours.

    Short lines and dots vanish.
    """
    length = np.hypot(*(line[1] - line[0]))
    cut = min(0.5, points / 72 / length) if length else 0.0
    return line + cut * (line[::-1] - line)


def paper(width: float, height: float) -> tuple[Figure, Axes]:
    """A white page and axes on it whose unit is the inch."""
    figure = Figure((width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height), aspect="equal")
    axes.set_axis_off()
    return figure, axes


def write(axes: Axes, x: float, y: float, text: str, *, size: float, **style: Any) -> Text:
    """Writes a line of text that begins at (x, y) inches."""
    # Names are shown as they are: a dollar sign begins no formula.
    return axes.text(x, y, text, fontsize=size, parse_math=False, **style)


def cut(text: str, length: int) -> str:
    """Shortens a text to `length` characters, the last one an ellipsis."""
    return text if len(text) <= length else text[: length - 1] + "…"


def finite(values: np.ndarray) -> np.ndarray:
    """The finite values, or one zero if there are none."""
    values = values[np.isfinite(values)]
    return values if len(values) else np.zeros(1)


def extent(values: np.ndarray, margin: float) -> tuple[float, float]:
    """Least and greatest finite value, `margin` beyond each."""
    values = finite(values)
    return values.min() - margin, values.max() + margin
