"""Text and averages for the log of a run."""

import time

import jax
import numpy as np

from igm_jax import parallel
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.objectives import feature_diagnostics
from igm_jax.training.program import Program


class Window:
    """Averages the metrics between two reports.

    Attributes:
      values: metrics of the steps since the last report; a checkpoint saves them.
    """

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self.values: list[dict[str, float]] = []
        self._diagnostics = jax.jit(feature_diagnostics, static_argnames="distortion")
        self._latest: tuple[jax.Array, float] | None = None
        self.restart_clock()

    def restart_clock(self) -> None:
        """Restarts the clock, so that work between steps does not count in the throughput."""
        self._start, self._timed = time.perf_counter(), 0

    def add(self, values: dict[str, float], features_: jax.Array, distortion: float) -> None:
        """Takes a step's metrics, and its features [B, D] for the diagnostics."""
        self.values.append(values)
        self._timed += 1
        self._latest = (features_, distortion)

    def flush(self, epoch: float) -> dict[str, float]:
        """Means since the last report, diagnostics of the last batch, clips per second."""
        seconds = time.perf_counter() - self._start
        report = {"epoch": round(epoch, 3)}
        names = sorted(self.values[0], key=lambda k: (not k.startswith("loss"), k))
        report |= {k: float(np.mean([v[k] for v in self.values])) for k in names}
        report["learning_rate"] = self.values[-1]["learning_rate"]
        assert self._latest is not None, "flush comes after add"
        features_, distortion = self._latest
        report |= {k: float(v) for k, v in self._diagnostics(features_, distortion).items()}
        report["clips_per_second"] = self._batch_size * self._timed / seconds
        self.values = []
        self.restart_clock()
        return report


def progress_line(step: int, report: dict[str, float], seconds_left: float) -> str:
    """Formats the main values of a report; metrics.jsonl has all values."""
    losses = "  ".join(
        f"{k.removeprefix('loss_')} {v:.3f}" for k, v in report.items() if k.startswith("loss")
    )
    return (
        f"step {step:,}  epoch {report['epoch']:.1f}  {losses}  "
        f"rank {report['effective_rank']:.1f}  cosine {report['mean_cosine']:.2f}  "
        f"{report['clips_per_second']:.0f} clips/s  {seconds_left / 60:.1f} min left"
    )


def headline(
    config: ExperimentConfig,
    program: Program,
    clips: int,
    start: int,
    most_bodies: int,
    note: str = "",
) -> str:
    """First line of a run; with many devices, a second line describes the sharding.

    Args:
      config: the experiment, fitted to the data.
      program: its compiled side.
      clips: number of clips that are trained on.
      start: step from which the run resumes, or 0.
      most_bodies: the most that a clip of the store has; the line says if fewer are read.
      note: on the accuracies of the run, a line of its own; see `protocols.note`.
    """
    target = program.restore_target
    count = {k: sum(x.size for x in jax.tree.leaves(v)) for k, v in target.params.items()}
    parts = ", ".join(f"{k} {v:,}" for k, v in count.items())
    processes = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    bodies = config.data.bodies
    fewer = f"reads {bodies} of up to {most_bodies} bodies, " if bodies < most_bodies else ""
    platform = program.mesh.devices.flat[0].platform
    passes = program.steps_per_epoch * config.train.batch_size / clips
    of_passes = f" of {passes:.1f} passes" if passes > 1 else ""
    line = (
        f"{config.name}: {clips:,} clips, {fewer}{program.total_steps:,} steps of "
        f"{config.train.batch_size} ({config.train.epochs} epochs{of_passes}) on "
        f"{program.mesh.size} {platform} device(s){processes}; parameters: {parts}"
        + (f"; resumed after step {start:,}" if start else "; compiling …")
    )
    line += f"\nnote: {note}" if note else ""
    return line if program.mesh.size == 1 else f"{line}\n{parallel.describe(target)}"
