"""Logs the metrics of a run: JSON lines, the terminal and optionally TensorBoard."""

import contextlib
import importlib.util
import json
import pathlib
import sys
from collections.abc import Iterator, Mapping

import rich.progress

from igm_jax import progress, run_folder
from igm_jax.errors import InputError


def check_tensorboard(wanted: bool) -> None:
    """Raises `InputError` if TensorBoard events are wanted and their writer is not installed."""
    if wanted and importlib.util.find_spec("tensorboardX") is None:
        raise InputError("train.tensorboard=True needs tensorboardX: pip install tensorboardX")


class RunLog:
    """Writes `metrics.jsonl`, one line for each report, and prints it.

    Args:
      folder: of the run.
      total_steps: length of the run, for the progress bar.
      start_step: the step a resumed run starts after; later lines of the file, written after the
        last checkpoint by a run that was then killed, are cut off.
      tensorboard: also write TensorBoard events; see `check_tensorboard`.
      silent: write and show nothing, as all processes of a run but the first.

    Raises:
      InputError: a line of the file is no report.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        total_steps: int,
        start_step: int = 0,
        tensorboard: bool = False,
        silent: bool = False,
    ):
        self._silent, self._bar, self._events, self._file = silent, None, None, None
        if silent:
            return
        path = folder / run_folder.METRICS
        reports = run_folder.read_reports(path)
        kept = [json.dumps(x) + "\n" for x in reports if x["step"] <= start_step]
        if path.exists():
            run_folder.write_text(path, "".join(kept))
        self._path, self._file = path, path.open("a", buffering=1, encoding="utf-8")
        if tensorboard:
            import tensorboardX

            self._events = tensorboardX.SummaryWriter(str(folder / run_folder.TENSORBOARD))
        if sys.stderr.isatty():
            self._bar = rich.progress.Progress(*progress.columns())
            self._task = self._bar.add_task("steps", total=total_steps, completed=start_step)
            self._bar.start()

    def advance(self, step: int) -> None:
        """Moves the progress bar."""
        if self._bar:
            self._bar.update(self._task, completed=step)

    def say(self, text: str) -> None:
        """Prints a line to the terminal."""
        if self._silent:
            return
        if self._bar:
            self._bar.console.print(text, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def report(self, step: int, values: Mapping[str, float], text: str | None = None) -> None:
        """Writes `{"step": step, **values}` and shows it, or `text` instead."""
        if self._file is None:  # silent
            return
        with self._naming_the_file():
            self._file.write(json.dumps({"step": step, **values}) + "\n")
        if self._events:
            for name, value in values.items():
                self._events.add_scalar(name, value, step)
        self.say(text or format_values(step, values))

    def close(self) -> None:
        """Ends the bar and closes the files."""
        if self._bar:
            self._bar.stop()
        if self._events:
            self._events.close()
        if self._file:
            with self._naming_the_file():
                self._file.close()

    @contextlib.contextmanager
    def _naming_the_file(self) -> Iterator[None]:
        """Adds the file name to a failed write, which does not know it."""
        try:
            yield
        except OSError as error:
            error.filename = str(self._path)
            raise

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, *_) -> None:
        self.close()


def format_values(step: int, values: Mapping[str, float]) -> str:
    """Formats values as one line: `step 50  loss 0.9312  …`.

    >>> format_values(50, {"loss": 0.93124, "learning_rate": 1e-5})
    'step 50  loss 0.9312  learning_rate 1e-05'
    """
    return "  ".join([f"step {step}", *(f"{k} {v:.4g}" for k, v in values.items())])
