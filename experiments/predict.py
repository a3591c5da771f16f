"""Names the actions of raw clips: `python experiments/predict.py RUN FILES…`.

RUN has a head: it was probed by linear_probe.py, or fine-tuned by finetune.py. FILES are as for
embed.py. `--window=60` slides a window over long recordings, and draws a timeline of each.
`--watch` reads frames from standard input as they come: one frame a line, `x y z` of every joint
in the order of the layout, with spaces or commas between the numbers (docs/using.md).
"""

import dataclasses
import itertools
import os
import pathlib
import signal
import sys
import types

import _clone  # noqa: F401
import _files
import numpy as np
from absl import flags

from igm_jax import cli
from igm_jax.errors import InputError
from igm_jax.prediction import watch
from igm_jax.prediction.predictor import Latency, Predictor, load_predictor
from igm_jax.prediction.timeline import Timeline, save_table, timeline

_WINDOW = flags.DEFINE_integer(
    "window", None, "Slide a window of so many frames over each recording.", lower_bound=1
)
_STRIDE = flags.DEFINE_integer(
    "stride", None, "Move the window by so many frames. Default: a quarter of it.", lower_bound=1
)
_OUT = flags.DEFINE_string(
    "out",
    None,
    "Write this table .csv; with --window, a table and a picture of each recording into this "
    "folder. Default: none; with --window, RUN/timelines.",
)
_HEAD = flags.DEFINE_string(
    "head", None, "Use this head of the run, such as linear_probe-10pct.npz, or subset-3."
)
_WATCH = flags.DEFINE_bool("watch", False, "Read frames from standard input as they come.")

place = cli.define_run_folder()


def title(predictor: Predictor) -> str:
    """The head in words."""
    head = predictor.head
    unsure = "" if head.calibrated else " (probabilities are not calibrated, see docs/using.md)"
    return f"{head.origin}, of {len(head.class_names)} actions{unsure}"


def shown(predictor: Predictor, probabilities: np.ndarray) -> str:
    """The five most probable actions on one line."""
    return ", ".join(f"{name} {100 * p:.1f} %" for name, p in predictor.top(probabilities))


def report(predictor: Predictor, found: Timeline) -> None:
    """Prints the predictions of a clip; of many windows, those where the action changes."""
    if _WINDOW.value is None:
        print(f"{found.name}: {shown(predictor, found.probabilities[0])}", flush=True)
        return
    print(f"{found.name}: {len(found.windows)} windows of {_WINDOW.value} frames")
    last = None
    for (start, stop), row in zip(found.windows.tolist(), found.probabilities):
        if row.argmax() != last:
            print(f"  frames {start} to {stop}: {shown(predictor, row)}")
        last = row.argmax()


def drawing_module() -> types.ModuleType:
    """Imports the module that draws, which needs the extra viz."""
    try:
        from igm_jax import drawing
    except ModuleNotFoundError as error:
        raise InputError(f"no picture without {error.name}: pip install 'igm_jax[viz]'") from error
    return drawing


def save_timeline(folder: pathlib.Path, found: Timeline, taken: set[str]) -> None:
    """Writes table and picture of a recording under a name of its own."""
    drawing = drawing_module()
    stem = pathlib.PurePath(found.name).stem
    names = itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2)))
    name = next(name for name in names if name not in taken)
    taken.add(name)
    save_table(folder / f"{name}.csv", [found])
    picture = drawing.timeline_picture(
        found.name, found.windows, found.probabilities, found.class_names
    )
    picture.savefig(folder / f"{name}.png", dpi=130)
    print(f"  {folder / name}.csv and .png", flush=True)


def predict_files(predictor: Predictor) -> None:
    """Predicts the files, prints, and writes tables and pictures."""
    out = pathlib.Path(_OUT.value or predictor.run.folder / "timelines")
    if _WINDOW.value is None and _OUT.value and out.suffix != ".csv":
        raise InputError(f"--out={out}: choose a name that ends in .csv, or give --window")
    if _WINDOW.value is not None and out.suffix == ".csv":
        raise InputError(f"--out={out}: --window writes a folder, choose a name without .csv")
    if _WINDOW.value is not None:
        drawing_module()  # its absence is told before all is computed
    if _OUT.value:
        out.parent.mkdir(parents=True, exist_ok=True)  # before all is computed
    kept: list[Timeline] = []
    try:
        latency = predict_each(predictor, out, kept)
    finally:  # also of the clips before one that ends the command
        if kept:
            save_table(out, kept)
            print(f"{out}: {len(kept)} clips")
    what = "window" if _WINDOW.value else "clip"
    print(
        f"latency: {1000 * latency.cold:.0f} ms for the first {what} (cold), "
        f"{1000 * latency.warm:.1f} ms a {what} (warm)"
    )


def predict_each(predictor: Predictor, out: pathlib.Path, kept: list[Timeline]) -> Latency:
    """Predicts one clip after the other; returns the latency of the first.

    With `--window` each is written into the folder `out`, else added to `kept` for `--out`.
    """
    taken, latency = set(), None
    check = predictor.check_length if _WINDOW.value is None else lambda _: None
    for clip in _files.clips(predictor.run, check):
        length = _WINDOW.value or clip.frames.shape[1]
        if latency is None:
            first = dataclasses.replace(clip, frames=clip.frames[:, :length])
            latency = predictor.latency(first)
            print(f"{title(predictor)}:")
        found = timeline(predictor, clip, length, stride_of(length))
        report(predictor, found)
        if _WINDOW.value is not None:
            save_timeline(out, found, taken)
        elif _OUT.value:
            kept.append(found)
    assert latency is not None, "_files.clips yields a clip or raises"
    return latency


def stride_of(length: int) -> int:
    """The stride of the flags, or a quarter of the window."""
    return _STRIDE.value or max(1, length // 4)


def predict_stream(predictor: Predictor) -> None:
    """Predicts the frames of standard input, and prints each answer at once."""
    run, layout = predictor.run, predictor.run.reading.source_layout
    length = _WINDOW.value or predictor.head.lengths[1]  # the median of the training clips
    stride = stride_of(length)
    watch.warm_up(predictor)
    print(
        f"{title(predictor)}: ready for {layout.num_joints} joints ({layout.name}), a window "
        f"of {length} frames every {stride} frames",
        file=sys.stderr,
        flush=True,
    )
    channels = run.config.model.encoder.channels // len(run.reading.streams)
    frames = watch.frames_of_lines(sys.stdin, layout, channels, run.reading.bodies)
    for answer in watch.watch(predictor, frames, length, stride):
        rows = answer.probabilities
        text = answer.problem if rows is None else shown(predictor, rows)
        print(f"frame {answer.frame}: {text} ({1000 * answer.seconds:.0f} ms)", flush=True)


def main() -> None:
    """Reads the flags, and predicts files or a stream."""
    if _STRIDE.value is not None and not (_WINDOW.value or _WATCH.value):
        raise InputError(f"--stride={_STRIDE.value} moves a window: give --window as well")
    if _WATCH.value and (_files.FILES.value or _OUT.value):
        raise InputError("--watch reads standard input and writes no file: leave files and --out")
    folder, which = place()
    predictor = load_predictor(folder, which, _HEAD.value)
    if _WINDOW.value is not None:
        predictor.check_window(_WINDOW.value)
    if _WATCH.value:
        # How a user ends it. An exception could be lost in a callback of JAX that it interrupts.
        signal.signal(signal.SIGINT, lambda *_: os._exit(cli.exit_code("SIGINT")))
        predict_stream(predictor)
    else:
        predict_files(predictor)


flags.adopt_module_key_flags(cli)  # for --help
flags.adopt_module_key_flags(_files)


if __name__ == "__main__":
    cli.run(main, argument="run", files="files")
