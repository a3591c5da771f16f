"""Slides a window over recordings, and writes predictions as tables."""

import csv
import dataclasses
import io
import pathlib
from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Int

from igm_jax import run_folder
from igm_jax.data import Clip
from igm_jax.errors import InputError
from igm_jax.prediction.predictor import Predictor


@dataclasses.dataclass(frozen=True, eq=False)
class Timeline:
    """Predictions of the windows of one recording; a whole clip is one window.

    Attributes:
      name: of the recording.
      windows: [n, 2] first frame of each window, and one past its last.
      probabilities: [n, classes] calibrated; rows sum to 1.
      class_names: of the classes.
    """

    name: str
    windows: Int[np.ndarray, "n 2"]
    probabilities: Float[np.ndarray, "n classes"]
    class_names: tuple[str, ...]


def windows(frames: int, length: int, stride: int) -> Int[np.ndarray, "n 2"]:
    """Windows of `length` frames every `stride` frames; the last one ends with the recording.

    Args:
      frames: of the recording. If it is shorter than a window, all of it is one window.
      length: of a window, at least 1.
      stride: from one window to the next, at least 1.

    Raises:
      InputError: a length or stride below 1.

    >>> windows(10, 4, 3).tolist()
    [[0, 4], [3, 7], [6, 10]]
    >>> windows(9, 4, 4).tolist()
    [[0, 4], [4, 8], [5, 9]]
    """
    if length < 1 or stride < 1:
        raise InputError(f"window={length} and stride={stride} must be at least 1 frame")
    last = max(0, frames - length)
    starts = np.append(np.arange(0, last, stride), last)
    return np.stack([starts, np.minimum(starts + length, frames)], axis=1)


def timeline(predictor: Predictor, clip: Clip, length: int, stride: int) -> Timeline:
    """Predicts every window of a recording, as if it were a clip of its own."""
    places = windows(clip.frames.shape[1], length, stride)
    parts = (dataclasses.replace(clip, frames=clip.frames[:, a:b]) for a, b in places)
    return Timeline(clip.name, places, predictor.probabilities(parts), predictor.head.class_names)


def save_table(path: pathlib.Path, timelines: Iterable[Timeline]) -> None:
    """Writes predictions as a table .csv, one row for each window.

    Its columns are clip, start, stop, action, probability, and one for each class.

    Raises:
      OSError: it cannot be written; an older file is kept.
    """
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    header = False
    for found in timelines:
        if not header:
            table.writerow(["clip", "start", "stop", "action", "probability", *found.class_names])
            header = True
        for (start, stop), row in zip(found.windows.tolist(), found.probabilities):
            best = int(row.argmax())
            values = (f"{value:.6f}" for value in (row[best], *row))
            table.writerow([found.name, start, stop, found.class_names[best], *values])
    path.parent.mkdir(parents=True, exist_ok=True)
    run_folder.write_text(path, text.getvalue())
