"""Pictures of skeleton clips: a contact sheet of many, and one clip as a moving picture.

Everything is drawn in inches on one pair of axes a picture, by an orthographic camera, so metres
(or pixels) are as long across as upwards. Needs the extra `viz` (Matplotlib and Pillow).
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

from igm_jax.data.store import Clip
from igm_jax.errors import InputError
from igm_jax.skeleton import Layout

FPS = 20
# Side → colours of the first body and of all others; the colours of Okabe and Ito, which people of
# every kind of colour vision tell apart.
COLOURS = {
    "left": ("#D55E00", "#F0A858"),
    "right": ("#0072B2", "#72BDE6"),
    "trunk": ("#333333", "#9A9A9A"),
}
FRONT, SIDE, OBLIQUE = 0.0, 90.0, 30.0  # degrees; the oblique one shows what goes forwards too

_FLOOR, _QUIET = "#DDDDDD", "#777777"
_CELL, _STRIP = (3.8, 1.72), (3.5, 1.22)  # inches: with the title, without
_GHOSTS = (0.10, 0.18, 0.30)  # opacity of what came before a moment, earliest first
_MOMENTS = (6, 5, 4, 3, 2)
_DOT = np.array([[-0.004, 0.0], [0.004, 0.0]])  # inches: Agg draws no line of length zero
_PANEL_HEIGHT, _PANEL_WIDTHS = 2.4, (1.3, 4.2)  # inches
_DPI = 110


def bone_sides(layout: Layout) -> tuple[str, ...]:
    """The key of `COLOURS` for each of `layout.bones`; all are trunk where there are no pairs."""
    left, right = (set(side) for side in zip(*layout.pairs)) if layout.pairs else ((), ())
    return tuple(
        "left" if {j, p} & set(left) else "right" if {j, p} & set(right) else "trunk"
        for j, p in layout.bones
    )


def is_seen(frames: Float[np.ndarray, "M T V C"], layout: Layout) -> Bool[np.ndarray, "M T V"]:
    """Which joints are to be drawn: a joint at exactly zero is a missing one.

    The layout's origin is not, if it is at zero throughout the clip and other joints are not: then
    the clip was centred on it.
    """
    seen = (frames != 0).any(axis=-1)
    if not seen[:, :, layout.origin].any():
        seen[:, :, layout.origin] = seen.any(axis=-1)
    return seen


def project(
    frames: Float[np.ndarray, "M T V C"], layout: Layout, units: str, yaw: float = FRONT
) -> Float[np.ndarray, "M T V 3"]:
    """What the picture's camera sees: rightwards, upwards, and away from the viewer.

    Coordinates that are 2-D, or in pixels, are taken as they are, pixels growing downwards. 3-D
    ones are in the space of the camera that recorded them (y up, z away from it, x to its left);
    they are turned around the vertical until the picture shows the first body from the front on
    average, or two bodies with the first on the left and the second on the right.

    Args:
      frames: a clip's coordinates.
      layout: what the V joints are.
      units: unit of the coordinates.
      yaw: degrees by which the viewer then walks around them: 90 is the person's right side.

    Returns:
      Picture coordinates in the units of the clip; NaN where a joint is missing.

    Raises:
      InputError: the joints have one coordinate only.
    """
    channels = frames.shape[-1]
    if channels < 2:
        raise InputError(f"joints of {channels} coordinate cannot be drawn: 2 or 3 are needed")
    seen = is_seen(frames, layout)
    frames = frames.astype(np.float64)
    if is_flat(channels, units):
        up = -1.0 if units == "pixels" else 1.0
        flat = np.stack([frames[..., 0], up * frames[..., 1], np.zeros(frames.shape[:-1])], axis=-1)
        return np.where(seen[..., None], flat, np.nan)
    x, y, z = np.moveaxis(frames[..., :3], -1, 0)
    cosine, sine = _heading(frames, seen, layout)
    x, z = cosine * x + sine * z, -sine * x + cosine * z
    cosine, sine = np.cos(np.radians(yaw)), np.sin(np.radians(yaw))
    x, z = cosine * x + sine * z, -sine * x + cosine * z
    # Who looks along z with y up has x on the left.
    return np.where(seen[..., None], np.stack([-x, y, z], axis=-1), np.nan)


def is_flat(channels: int, units: str) -> bool:
    """Whether there is only one side to see clips of these coordinates from."""
    return channels == 2 or units == "pixels"  # a third number beside pixels is a confidence


def _heading(frames: np.ndarray, seen: np.ndarray, layout: Layout) -> tuple[float, float]:
    """Cosine and sine of the turn after which the person's right (or the first body) is along x."""
    across = np.zeros(3)
    if len(frames) > 1:
        both = seen[0, :, layout.origin] & seen[1, :, layout.origin]
        across = (frames[0] - frames[1])[both, layout.origin, :3].sum(axis=0)
    if layout.axes and np.hypot(across[0], across[2]) == 0:
        left, right = layout.axes[2:]
        both = seen[0, :, left] & seen[0, :, right]
        across = (frames[0, :, right] - frames[0, :, left])[both, :3].sum(axis=0)
    length = np.hypot(across[0], across[2])
    return (across[0] / length, across[2] / length) if length > 1e-9 else (1.0, 0.0)


@dataclasses.dataclass
class Strokes:
    """Lines and dots in inches, in the order in which they are to be drawn."""

    lines: list[np.ndarray] = dataclasses.field(default_factory=list)  # [2, 2] each
    colours: list[tuple] = dataclasses.field(default_factory=list)  # RGBA
    widths: list[float] = dataclasses.field(default_factory=list)  # points

    def add(self, line: np.ndarray, colour: str, width: float, opacity: float = 1.0) -> None:
        """Appends a line; a dot is a joint plus `_DOT`."""
        self.lines.append(line)
        self.colours.append(_rgba(colour, opacity))
        self.widths.append(width)

    def collection(self) -> LineCollection:
        """All of it as something that Matplotlib draws at once."""
        # An empty list would be no [N, 2, 2] to Matplotlib.
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
    """Adds the bones of all bodies in one moment, the farthest first; the nearer ones cross over.

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
                # In front of the neck, whose light edge would bite a piece out of it.
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
    """The line less its ends, so that its light edge does not cut it off its neighbours.

    Of a short one, and of a dot, nothing is left.
    """
    length = np.hypot(*(line[1] - line[0]))
    cut = min(0.5, points / 72 / length) if length else 0.0
    return line + cut * (line[::-1] - line)


def moments(length: int, count: int) -> list[list[int]]:
    """Frames that stand for the whole clip: `count` moments, each with what came before it.

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

    Behind every moment is a faint trace of the motion that led to it. Where people walk is left
    out: each moment stands where it is readable.

    Args:
      clips: at least one.
      titles: what stands over each of them.
      layout: what their joints are.
      units: unit of their coordinates.
      heading: what stands over all of them.
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
    figure, axes = _paper(width, rows * _CELL[1] + top + 0.1)
    strokes = Strokes()
    for i, (clip, title) in enumerate(zip(clips, titles, strict=True)):
        left = 0.15 + i % columns * _CELL[0] + (_CELL[0] - _STRIP[0]) / 2
        floor = (rows - 1 - i // columns) * _CELL[1] + 0.25
        _add_strip(strokes, clip.frames, layout, units, left, floor)
        axes.plot([left, left + _STRIP[0]], [floor] * 2, color=_FLOOR, lw=0.8, zorder=1)
        over = floor + _STRIP[1] + 0.1
        length = clip.frames.shape[1]
        note = f"{_cut(clip.name, 24)} · {length} frame{'s' * (length != 1)}"
        _write(axes, left, over, _cut(title, 30), size=9.0, weight="bold")
        _write(axes, left + _STRIP[0], over, note, size=6.5, color=_QUIET, ha="right")
    line = rows * _CELL[1] + 0.36
    _write(axes, 0.3, line, _cut(heading, 40 * columns - 25), size=12.0, weight="bold")
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
    """Draws as many moments of a clip as there is room for into the strip that begins there."""
    view = _placed(project(frames, layout, units, OBLIQUE), layout)
    length = view.shape[1]
    height = max(np.ptp(_finite(view[..., 1])), 1e-9)
    for count in [n for n in _MOMENTS if n <= length] or [1]:
        parts = moments(length, count)
        extents = [_extent(view[:, part, :, 0], 0.08 * height) for part in parts]
        across = sum(high - low for low, high in extents)
        if across * _STRIP[1] / height <= _STRIP[0]:
            break
    scale = min(_STRIP[1] / height, _STRIP[0] / across)
    gap = (_STRIP[0] - scale * across) / count  # the first and the last have half of it outside
    bottom = _finite(view[..., 1]).min()
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
    """Follows the people: in every frame the middle of their origins is at zero, across."""
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


def _finite(values: np.ndarray) -> np.ndarray:
    """What there is of them; one zero if there is nothing."""
    values = values[np.isfinite(values)]
    return values if len(values) else np.zeros(1)


def _extent(values: np.ndarray, margin: float) -> tuple[float, float]:
    values = _finite(values)
    return values.min() - margin, values.max() + margin


def _add_legend(
    axes: object, right: float, y: float, layout: Layout, clips: Sequence[Clip]
) -> None:
    """Says at the end of a line what the colours mean, from right to left."""
    sides = [side for side in COLOURS if side in bone_sides(layout)]
    if len(sides) < 2:
        return
    entries = [(side, [side]) for side in sides]
    if any(len(clip.frames) > 1 for clip in clips):
        entries.append(("second person", sides))
    for name, colours in reversed(entries):
        _write(axes, right, y, name, size=8.0, color=_QUIET, ha="right")
        right -= 0.10 + 0.062 * len(name)
        for side in reversed(colours):
            colour = COLOURS[side][name == "second person"]
            axes.plot([right - 0.16, right], [y + 0.04] * 2, color=colour, lw=2.4, zorder=2)
            right -= 0.22
        right -= 0.12


def moving_picture(
    clip: Clip, layout: Layout, units: str, *, title: str = "", max_frames: int = 200
) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """Draws a clip frame by frame: from the front and, in 3-D, from the side.

    Args:
      clip: the clip.
      layout: what its joints are.
      units: unit of its coordinates.
      title: what stands over it.
      max_frames: of a longer clip every second, third, … frame is drawn.

    Yields:
      Pictures of one size.

    Raises:
      InputError: its joints have one coordinate only.
    """
    flat = is_flat(clip.frames.shape[-1], units)
    views = [
        project(clip.frames, layout, units, yaw) for yaw in ((FRONT,) if flat else (FRONT, SIDE))
    ]
    length = clip.frames.shape[1]
    height = max(np.ptp(_finite(view[..., 1])) for view in views) or 1.0
    extents = [_extent(view[..., 0], 0.08 * height) for view in views]
    widest = max(high - low for low, high in extents)
    scale = min(_PANEL_HEIGHT / height, _PANEL_WIDTHS[1] / widest)
    widths = [max(_PANEL_WIDTHS[0], scale * (high - low)) for low, high in extents]
    width = max(sum(widths) + 0.2 * (len(widths) + 1), 3.0)
    figure, axes = _paper(width, scale * height + 0.85)
    edge, floor, over = 0.2, 0.3, scale * height + 0.62
    count = _write(axes, width - edge, over, "", size=8.0, color=_QUIET, ha="right")
    _write(
        axes,
        edge,
        over,
        _cut(title or clip.name, int(11 * (width - 1.4))),
        size=10.0,
        weight="bold",
    )
    axes.plot([edge, width - edge], [0.1] * 2, color=_FLOOR, lw=2.5, zorder=1)
    (bar,) = axes.plot([], [], color=_QUIET, lw=2.5, zorder=2, solid_capstyle="butt")
    shifts, left = [], (width - sum(widths) - 0.2 * (len(widths) - 1)) / 2
    for view, (low, high), wide in zip(views, extents, widths):
        axes.plot([left, left + wide], [floor] * 2, color=_FLOOR, lw=0.8, zorder=1)
        middle = left + (wide - scale * (high + low)) / 2
        shifts.append(np.array([middle, floor - scale * _finite(view[..., 1]).min(), 0.0]))
        left += wide + 0.2
    canvas = FigureCanvasAgg(figure)
    for frame in range(0, length, -(-length // max_frames)):
        strokes = Strokes()
        for view, shift in zip(views, shifts):
            add_pose(strokes, view[:, frame] * scale + shift, layout, width=2.4)
        bones = axes.add_collection(strokes.collection())
        count.set_text(f"{frame + 1} / {length}")
        bar.set_data([edge, edge + (width - 2 * edge) * (frame + 1) / length], [0.1] * 2)
        canvas.draw()
        yield np.asarray(canvas.buffer_rgba())[..., :3].copy()
        bones.remove()


def save_gif(
    path: str | os.PathLike, pictures: Sequence[UInt8[np.ndarray, "height width 3"]]
) -> None:
    """Writes an endlessly repeated GIF of `FPS` pictures a second."""
    # One palette for all, or colours would flicker; a few frames of the clip hold all of them.
    sample = np.concatenate(pictures[:: max(1, len(pictures) // 8)])
    palette = Image.fromarray(sample).quantize(64)
    first, *others = (
        Image.fromarray(picture).quantize(palette=palette, dither=Image.Dither.NONE)
        for picture in pictures
    )
    first.save(
        pathlib.Path(path),
        format="GIF",
        save_all=True,
        append_images=others,
        duration=1000 // FPS,
        loop=0,
    )


def _paper(width: float, height: float) -> tuple[Figure, object]:
    """A white page and axes on it whose unit is the inch."""
    figure = Figure((width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height), aspect="equal")
    axes.set_axis_off()
    return figure, axes


def _write(axes: object, x: float, y: float, text: str, *, size: float, **style: object) -> object:
    # Names are shown as they are: a dollar sign begins no formula.
    return axes.text(x, y, text, fontsize=size, parse_math=False, **style)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
