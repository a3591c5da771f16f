"""Test scores of classifiers: saved, read back, and summed over runs."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Shaped

from igm_jax import metrics, run_folder
from igm_jax.errors import InputError
from igm_jax.evaluation.linear_probe import LinearHead
from igm_jax.evaluation.parts import mean_columns


@dataclasses.dataclass(frozen=True)
class Scores:
    """Scores of the test clips.

    Attributes:
      class_names: [classes].
      clips: [n] names of the test clips.
      labels: [n] their classes.
      scores: [n, classes] their logits.
      step: the checkpoint of the pre-training run.
      protocol: how the data was split.
      streams: the streams that the encoder reads, such as `"joint"`.
      data: checksums of the store, as JSON.
    """

    class_names: Shaped[np.ndarray, " classes"]
    clips: Shaped[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]
    scores: Float[np.ndarray, "n classes"]
    step: int
    protocol: str
    streams: str
    data: str


@dataclasses.dataclass(frozen=True)
class ProbeScores(Scores):
    """The scores of a linear probe, and its head.

    Attributes:
      head: the probe that all labelled training clips trained.
      temperature: chosen on validation clips; logits / temperature are calibrated.
      lengths: frames of the shortest, the median and the longest training clip.
    """

    head: LinearHead
    temperature: float
    lengths: Int[np.ndarray, " 3"]


_TEXTS = ("protocol", "streams", "data")


def checksums(data: dict[str, str]) -> str:
    """Checksums of a store as text that is equal for equal stores."""
    return json.dumps(data, sort_keys=True)


def save_scores(path: pathlib.Path, found: ProbeScores) -> None:
    """Writes a head and its scores as a NumPy archive.

    Raises:
      OSError: the file cannot be written; an older one is kept.
    """
    fields = {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}
    arrays = {**fields.pop("head")._asdict(), **fields}
    run_folder.write_arrays(path, {name: np.asarray(value) for name, value in arrays.items()})


def load_scores(path: pathlib.Path) -> ProbeScores:
    """Reads what `save_scores` wrote.

    Raises:
      InputError: the file is missing, damaged, or lacks an array.
    """
    names = {f.name for f in dataclasses.fields(ProbeScores)} - {"head"} | {*LinearHead._fields}
    arrays = _arrays(path, names, "experiments/linear_probe.py")
    head = LinearHead(*(jnp.asarray(arrays.pop(name)) for name in LinearHead._fields))
    temperature = float(arrays.pop("temperature"))
    return ProbeScores(head=head, temperature=temperature, **arrays)


def save_finetuned(path: pathlib.Path, found: Scores) -> None:
    """Writes the scores of a fine-tuned classifier as .npz without pickle.

    Raises:
      OSError: the file cannot be written; an older one is kept.
    """
    arrays = {f.name: np.asarray(getattr(found, f.name)) for f in dataclasses.fields(found)}
    arrays |= {"logits": arrays.pop("scores"), "names": arrays.pop("clips")}
    run_folder.write_arrays(path, arrays)


def load_finetuned(path: pathlib.Path) -> Scores:
    """Reads what `save_finetuned` wrote.

    Raises:
      InputError: the file is missing, damaged, or lacks an array.
    """
    names = {f.name for f in dataclasses.fields(Scores)} - {"scores", "clips"}
    arrays = _arrays(path, names | {"logits", "names"}, "experiments/finetune.py")
    return Scores(scores=arrays.pop("logits"), clips=arrays.pop("names"), **arrays)


def _arrays(path: pathlib.Path, names: set[str], command: str) -> dict[str, Any]:
    """These arrays of an archive; texts and the step as Python has them."""
    arrays = dict(run_folder.read_arrays(path))
    missing = sorted(names - arrays.keys())
    if missing:
        raise InputError(f"{path} has no {missing[0]!r}: run {command} again")
    plain = {name: str(arrays[name]) for name in _TEXTS} | {"step": int(arrays["step"])}
    return {name: arrays[name] for name in names} | plain


def ensemble(
    runs: Mapping[str, Scores],
    weights: Sequence[float] | None = None,
    column: str = "test_linear",
) -> list[dict[str, Any]]:
    """Adds the softmax scores of runs, and judges each run and the sum.

    Args:
      runs: name of the row → scores; at least two.
      weights: one for each run; by default all are equal. Never choose them on test clips.
      column: name of the accuracy.

    Returns:
      A table row for each run and one for the sum, with the test accuracy and its interval.

    Raises:
      InputError: fewer than two runs, weights that do not fit, or runs whose data, split, classes
        or clips differ.
    """
    if len(runs) < 2:
        raise InputError(f"an ensemble needs at least 2 different runs, not {len(runs)}")
    weights = [1.0] * len(runs) if weights is None else list(weights)
    if len(weights) != len(runs) or min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        raise InputError(f"weights {weights}: give one for each of {len(runs)} runs, ≥ 0")
    first, *others = runs
    for other in others:
        _check_same(first, runs[first], other, runs[other])
    labels, rows, total = runs[first].labels, [], np.zeros_like(runs[first].scores, np.float64)
    for (name, run), weight in zip(runs.items(), weights):
        total += weight * metrics.calibrated_probabilities(run.scores)
        right = run.scores.argmax(axis=1) == labels
        rows.append({"scores": name, **mean_columns(column, right)})
    return [*rows, {"scores": "sum", **mean_columns(column, total.argmax(axis=1) == labels)}]


def _check_same(first: str, one: Scores, second: str, other: Scores) -> None:
    """Refuses runs whose test scores are not those of the same clips."""
    for what, same in (
        ("data", one.data == other.data),
        ("protocol", one.protocol == other.protocol),
        ("classes", np.array_equal(one.class_names, other.class_names)),
        ("test clips", np.array_equal(one.clips, other.clips)),
        ("labels", np.array_equal(one.labels, other.labels)),
    ):
        if not same:
            raise InputError(
                f"{second} has other {what} than {first}: add scores of one data set and split only"
            )
