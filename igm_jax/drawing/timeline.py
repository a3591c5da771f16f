"""Draws the predictions of a recording over time."""

import numpy as np
from jaxtyping import Float, Int
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from igm_jax.drawing.canvas import COLOURS, QUIET, cut

_MOST_ROWS = 12  # classes; the others are never among the likely ones


def timeline_picture(
    name: str,
    windows: Int[np.ndarray, "n 2"],
    probabilities: Float[np.ndarray, "n classes"],
    class_names: tuple[str, ...],
) -> Figure:
    """Draws the probability of each action over time; a mark is the most probable one.

    Args:
      name: of the recording, for the title.
      windows: [n, 2] first frame of each window, and one past its last.
      probabilities: [n, classes].
      class_names: of the classes. Of more than 12, those with the highest peaks are drawn.

    Returns:
      The figure; its `savefig` writes .png, .pdf or .svg.
    """
    rows = np.sort(np.argsort(-probabilities.max(axis=0), kind="stable")[:_MOST_ROWS])
    figure = Figure((9, 1.3 + 0.28 * len(rows)), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    centre = windows.mean(axis=1)
    # Each window colours the time that is nearer to its centre than to any other.
    between = (centre[1:] + centre[:-1]) / 2
    edges = np.concatenate([windows[:1, 0], between, windows[-1:, 1]])
    shown = probabilities[:, rows].T
    mesh = axes.pcolormesh(edges, np.arange(len(rows) + 1), shown, cmap="Blues", vmin=0, vmax=1)
    place = {int(row): i + 0.5 for i, row in enumerate(rows)}
    best = [(c, place[int(i)]) for c, i in zip(centre, probabilities.argmax(axis=1)) if i in place]
    axes.plot(*zip(*best), ".", color=COLOURS["left"][0], markersize=5)
    axes.set_yticks(np.arange(len(rows)) + 0.5, [cut(class_names[i], 28) for i in rows])
    axes.invert_yaxis()
    axes.set_xlabel("frame")
    axes.set_title(cut(name, 80), fontsize=10, loc="left", parse_math=False)
    axes.tick_params(length=0, colors=QUIET)
    for side in axes.spines.values():
        side.set_visible(False)
    figure.colorbar(mesh, ax=axes, label="probability")
    return figure
