"""Names the action of raw clips, with calibrated probabilities."""

import dataclasses
import functools
import pathlib
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Float32

from igm_jax import features, metrics, run_folder
from igm_jax.data import Clip
from igm_jax.errors import InputError
from igm_jax.evaluation.embed import clip_batches, read_clip
from igm_jax.evaluation.encoder import check_only_checkpoint
from igm_jax.evaluation.head import Head, outputs, probe_head
from igm_jax.evaluation.run import Run, load_run
from igm_jax.finetuning.head import load_finetuned
from igm_jax.models import Hardware

# A clip that is longer than so many times the longest training clip holds more than one action.
MOST_LENGTHS = 2


class Latency(NamedTuple):
    """Seconds from the joint coordinates of one clip in memory to its probabilities.

    Attributes:
      cold: of the first clip of its size, with compilation.
      warm: median of the next ones.
    """

    cold: float
    warm: float


@dataclasses.dataclass(frozen=True, eq=False)
class Predictor:
    """A run with a head; `load_predictor` makes it.

    Attributes:
      run: the run.
      head: its head.
    """

    run: Run
    head: Head

    def probabilities(self, clips: Iterable[Clip]) -> Float[np.ndarray, "n classes"]:
        """Calibrated probability of each class, for clips of any length.

        Args:
          clips: joints [M, T, V, C] in the units of the training data; read once, in order.

        Returns:
          [n, classes] float64; rows sum to 1.

        Raises:
          InputError: a clip that the encoder cannot read; names it.
        """
        return metrics.calibrated_probabilities(self.logits(clips), self.head.temperature)

    def logits(self, clips: Iterable[Clip]) -> Float32[np.ndarray, "n classes"]:
        """Logits [n, classes]; see `probabilities`."""
        batches = clip_batches(read_clip(self.run, clip) for clip in clips)
        present_ones = (_without_absent(*batch) for batch in batches)
        return features.rows_of(self._compiled, present_ones, len(self.head.class_names))

    def top(
        self, probabilities: Float[np.ndarray, " classes"], k: int = 5
    ) -> list[tuple[str, float]]:
        """The k most probable actions with their probabilities, the most probable first."""
        order = np.argsort(-probabilities, kind="stable")[:k]
        return [(self.head.class_names[i], float(probabilities[i])) for i in order]

    def check_length(self, clip: Clip) -> None:
        """Raises `InputError` for a clip that is too long to hold one action."""
        shortest, median, longest = self.head.lengths
        frames = clip.frames.shape[1]
        if frames > MOST_LENGTHS * longest:
            raise InputError(
                f"{clip.name}: has {frames} frames, and the training clips had {shortest} to "
                f"{longest}: slide a window over it with --window={median}"
            )

    def check_window(self, window: int) -> None:
        """Raises `InputError` for a window of so many frames that it holds more than one action."""
        shortest, median, longest = self.head.lengths
        if window > MOST_LENGTHS * longest:
            raise InputError(
                f"--window={window} is too long, because the training clips had {shortest} to "
                f"{longest} frames: choose --window={median}"
            )

    def latency(self, clip: Clip, repeats: int = 5) -> Latency:
        """Measures how long one clip takes; the first call of this predictor is the cold one."""
        seconds = []
        for _ in range(1 + repeats):
            started = time.perf_counter()
            self.probabilities([clip])
            seconds.append(time.perf_counter() - started)
        return Latency(seconds[0], float(np.median(seconds[1:])))

    @functools.cached_property
    def _compiled(self) -> Callable[[Array, Array], Array]:
        run, head = self.run, self.head
        hardware = Hardware.here()
        compute = jax.jit(
            functools.partial(outputs, run=run, logits=head.logits, hardware=hardware),
            compiler_options=hardware.compiler_options,
        )
        return lambda clip, present: compute(run.params, head.params, clip, present)["logits"]


def _without_absent(clip: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Leaves out bodies that no clip of the batch has: they cost time and count for nothing."""
    bodies = int(present.any(axis=0).sum())  # those that are there come first
    return clip[:, :bodies], present[:, :bodies]


def load_predictor(
    folder: str | pathlib.Path, which: str | int = "last", head: str | None = None
) -> Predictor:
    """Loads a run and the head that names actions.

    Args:
      folder: of a pre-training run that was probed, or of a fine-tuned run.
      which: checkpoint of a pre-training run: "last", "best" by validation KNN, or a step.
      head: file of another probe in the run folder, such as linear_probe-10pct.npz; in a
        fine-tuned run the folder of a subset, such as subset-3.

    Raises:
      InputError: no such run, or it has no head; says which command makes one.
    """
    folder = pathlib.Path(folder)
    if run_folder.is_finetuned(folder):
        check_only_checkpoint(folder, which)
        return Predictor(*load_finetuned(folder, head))
    run = load_run(folder, which)
    return Predictor(run, probe_head(run, head))
