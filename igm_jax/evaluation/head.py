"""Heads: what names the action of a clip from the tokens that the encoder makes of it."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from igm_jax import features, run_folder, shell
from igm_jax.errors import InputError
from igm_jax.evaluation.linear_probe import BATCH_NORM_EPSILON, LinearHead, head_logits
from igm_jax.evaluation.run import Run
from igm_jax.evaluation.scores import ProbeScores, checksums, load_scores
from igm_jax.metrics.classification import TEMPERATURES
from igm_jax.models import EncoderConfig, Hardware


@dataclasses.dataclass(frozen=True, eq=False)
class Head:
    """A trained classifier of the tokens of a run's encoder.

    Attributes:
      params: its parameters, a tree of arrays.
      logits: (params, tokens [B·M, N, D], present [B, M]) → logits [B, classes]; can be traced.
      class_names: of the classes.
      temperature: chosen on validation clips; softmax of logits / temperature is calibrated.
      lengths: frames of the shortest, the median and the longest training clip.
      origin: who trained it, in words.
      tensors: its parameters under the names and in the shapes of MAMP's PyTorch module.
    """

    params: Any
    logits: Callable[[Any, Array, Array], Array]
    class_names: tuple[str, ...]
    temperature: float
    lengths: tuple[int, int, int]
    origin: str
    tensors: dict[str, np.ndarray]

    @property
    def calibrated(self) -> bool:
        """Whether validation clips could choose the temperature; else it is at a limit."""
        lowest, highest = TEMPERATURES
        return 1.001 * lowest < self.temperature < 0.999 * highest


def probe_head(run: Run, name: str | None = None) -> Head:
    """Reads the head of a linear probe.

    Args:
      run: the run that was probed.
      name: its file in the run folder; by default that of the probe with all labels.

    Raises:
      InputError: there is none, or it belongs to another checkpoint, data set, protocol or other
        streams; says which command makes it.
    """
    path = run.folder / (name or run_folder.probe_scores())
    command = shell.command("linear_probe.py", run.folder)
    if not path.is_file():
        raise InputError(_no_head(run, name, command))
    if path.suffix != ".npz":
        raise InputError(f"{path} is no head: choose a linear_probe….npz, or make one: {command}")
    scores = load_scores(path)
    if problem := _misfit(scores, run, command):
        raise InputError(f"{path} {problem}")
    return Head(
        params=scores.head,
        logits=functools.partial(linear_logits, run.config.model.encoder),
        class_names=tuple(map(str, scores.class_names)),
        temperature=scores.temperature,
        lengths=(int(scores.lengths[0]), int(scores.lengths[1]), int(scores.lengths[2])),
        origin=f"linear probe of {run.folder}, {run.progress}",
        tensors=_linear_tensors(scores.head),
    )


def _misfit(scores: ProbeScores, run: Run, command: str) -> str:
    """Why a head is not one of this run as it reads its own clips; "" if it is."""
    if scores.step != run.step:
        return (
            f"belongs to step {scores.step}, and the checkpoint is step {run.step}: make a head of "
            f"this step with {command} --checkpoint={run.step}"
        )
    own = {
        "data": checksums(run.data),
        "protocol": run.config.data.protocol,
        "streams": "+".join(run.reading.streams),
    }
    others = [name for name, value in own.items() if getattr(scores, name) != value]
    if not others:
        return ""
    return (
        f"was trained on other {' and '.join(others)} than the run, as with --transfer: make a "
        f"head of its own data with {command}, or give a run that finetune.py --transfer made"
    )


def _fits(path: pathlib.Path, run: Run) -> bool:
    """Whether a file holds a head of this run."""
    try:
        return not _misfit(load_scores(path), run, "")
    except InputError:
        return False


def _no_head(run: Run, name: str | None, command: str) -> str:
    if name is not None:
        return f"{run.folder} has no head {name!r}: leave --head out, or name a file of the run"
    found = run.folder.glob("linear_probe*.npz")
    others = sorted(path.name for path in found if _fits(path, run))
    choice = f", or choose --head={others[0]}" if others else ""
    return f"{run.folder} has no head that names actions: make one with {command}{choice}"


def linear_logits(
    config: EncoderConfig,
    head: LinearHead,
    tokens: Float[Array, "BM N D"],
    present: Bool[Array, "B M"],
) -> Float[Array, "B classes"]:
    """Logits of a linear head, which reads the pooled features.

    Args:
      config: of the encoder.
      head: the probe.
      tokens: [B·M, N, D].
      present: [B, M].
    """
    return head_logits(head, features.pooled_tokens(tokens, present, config))


def _linear_tensors(head: LinearHead) -> dict[str, np.ndarray]:
    """One dense layer: the batch normalisation of the probe is multiplied in."""
    kernel, bias, mean, variance = (np.asarray(x, np.float64) for x in head)
    kernel = kernel / np.sqrt(variance + BATCH_NORM_EPSILON)[:, None]
    tensors = {"head.fc.weight": kernel.T, "head.fc.bias": bias - mean @ kernel}
    return {name: np.ascontiguousarray(x, np.float32) for name, x in tensors.items()}


def outputs(
    params: Any,
    head: Any,
    clip: Float[Array, "B M T V C"],
    present: Bool[Array, "B M"],
    *,
    run: Run,
    logits: Callable[[Any, Array, Array], Array] | None = None,
    hardware: Hardware | None = None,
) -> dict[str, jax.Array]:
    """Features, and logits if there is a head, of resized clips in the coordinates of the run.

    Args:
      params: of the encoder.
      head: `Head.params`, or None.
      clip: [B, M, T, V, C].
      present: [B, M].
      run: how the encoder reads a clip.
      logits: `Head.logits`; None without a head.
      hardware: see `features.pooled_features`.

    Returns:
      `features` [B, D] and, with a head, `logits` [B, classes], both float32.
    """
    c = run.config.model.encoder
    tokens = features.clip_tokens(params, clip, config=c, reading=run.reading, hardware=hardware)
    tokens = tokens.astype(jnp.float32)
    found = {"features": features.pooled_tokens(tokens, present, c)}
    return found if logits is None else found | {"logits": logits(head, tokens, present)}
