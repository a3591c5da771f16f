"""Predicts a stream of frames while it comes.

The text format has one frame a line: the coordinates of all joints in the order of the layout,
`x y z x y z …`, with spaces, tabs or commas between the numbers. Further bodies follow on the same
line. `nan` is a missing coordinate. Empty lines and lines that begin with `#` are passed over.
"""

import collections
import dataclasses
import time
from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float, Float32

from igm_jax.data import BadClip, Clip
from igm_jax.data.formats import gaps
from igm_jax.errors import InputError
from igm_jax.evaluation.embed import check_units
from igm_jax.prediction.predictor import Predictor
from igm_jax.skeleton import Layout


@dataclasses.dataclass(frozen=True, eq=False)
class Answer:
    """Prediction of the newest frames.

    Attributes:
      frame: how many frames have come.
      probabilities: [classes] calibrated; None if the window cannot be read.
      problem: why not; "" otherwise.
      seconds: from the newest frame to the answer.
    """

    frame: int
    probabilities: Float[np.ndarray, " classes"] | None
    problem: str
    seconds: float


def frames_of_lines(
    lines: Iterable[str], layout: Layout, channels: int, bodies: int
) -> Iterator[Float32[np.ndarray, "M V C"]]:
    """Parses lines of text; each frame may have another number of bodies.

    Args:
      lines: as the module says.
      layout: the V joints.
      channels: C.
      bodies: most bodies of a line.

    Raises:
      InputError: a line that is no frame; names its number.
    """
    size = layout.num_joints * channels
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            values = np.array([float(word) for word in text.replace(",", " ").split()], np.float32)
        except ValueError as error:
            raise InputError(f"line {number}: {error}: give numbers alone") from error
        if not 1 <= len(values) / size <= bodies or len(values) % size:
            most = "" if bodies == 1 else f", for 1 to {bodies} bodies"
            raise InputError(
                f"line {number}: has {len(values)} numbers, not {size}: {layout.num_joints} joints "
                f"({layout.name}) of {channels} coordinates{most}"
            )
        yield values.reshape(-1, layout.num_joints, channels)


def watch(
    predictor: Predictor,
    frames: Iterable[Float32[np.ndarray, "_ V C"]],
    length: int,
    stride: int,
) -> Iterator[Answer]:
    """Predicts the last `length` frames after every `stride` new ones, and once more at the end.

    Missing joints are filled in within the window, as `prepare_data.py` does for own data.

    Args:
      predictor: compiled already, see `warm_up`.
      frames: read one by one, and each answer comes before the next frame is read.
      length: of the window. Before so many frames have come, there is no answer.
      stride: frames from one answer to the next.

    Raises:
      InputError: no frame at all.
    """
    recent: collections.deque[np.ndarray] = collections.deque(maxlen=length)
    count = answered = 0
    for count, frame in enumerate(frames, 1):
        recent.append(frame)
        if count >= length and (count - length) % stride == 0:
            answered = count
            yield _answer(predictor, recent, count)
    if not count:
        raise InputError("no frame has come: give one frame a line")
    if answered < count:
        yield _answer(predictor, recent, count)


def warm_up(predictor: Predictor) -> None:
    """Compiles the networks for every number of bodies, so that the first answer is fast."""
    run = predictor.run
    channels = run.config.model.encoder.channels // len(run.reading.streams)
    rng = np.random.default_rng(0)
    for bodies in range(1, run.reading.bodies + 1):
        shape = (bodies, 2, run.reading.source_layout.num_joints, channels)
        predictor.probabilities([Clip("warm-up", rng.normal(size=shape).astype(np.float32))])


def _answer(predictor: Predictor, recent: Iterable[np.ndarray], count: int) -> Answer:
    started = time.perf_counter()
    layout = predictor.run.reading.source_layout
    window = gaps.filled(Clip(f"frame {count}", _side_by_side(recent)), layout)
    if isinstance(window, BadClip):
        return Answer(count, None, window.reason, time.perf_counter() - started)
    try:
        check_units(predictor.run, window)
    except InputError as error:
        problem = str(error).removeprefix(f"{window.name}: ")
        return Answer(count, None, problem, time.perf_counter() - started)
    probabilities = predictor.probabilities([window])[0]
    return Answer(count, probabilities, "", time.perf_counter() - started)


def _side_by_side(recent: Iterable[np.ndarray]) -> Float32[np.ndarray, "M t V C"]:
    """One array of all frames, in which absent bodies are NaN."""
    frames = list(recent)
    most = max(len(frame) for frame in frames)
    absent = ((0, 0), (0, 0))
    padded = [
        np.pad(frame, ((0, most - len(frame)), *absent), constant_values=np.nan) for frame in frames
    ]
    return np.stack(padded, axis=1)
