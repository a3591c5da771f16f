"""Evaluates features: choices use validation clips, and test clips are measured once."""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from igm_jax import metrics, run_folder
from igm_jax.data import SkeletonStore, protocols
from igm_jax.data.few_labels import few_labels
from igm_jax.errors import InputError
from igm_jax.evaluation.linear_probe import augmented_linear_probe, linear_probe
from igm_jax.evaluation.run import Run, init_encoder, open_store
from igm_jax.features import augmented_batches, clip_batches, extract_features
from igm_jax.reading import Reading

# Number of frames of the raw-coordinate baseline, a common choice.
RAW_FRAMES = 32


@dataclasses.dataclass(frozen=True)
class FeatureSet:
    """Features of every clip of a store, under a name.

    Attributes:
      name: name of the table row.
      values: [number of clips, D] float32, in the order of the store.
      augmented: positions of clips in the store, number of an epoch → features of these clips with
        the crops and rotations of that epoch; `evaluate_linear` needs it for its `augmented`.
    """

    name: str
    values: np.ndarray
    augmented: Callable[[np.ndarray, int], np.ndarray] | None = None


def feature_sets(run: Run, store: SkeletonStore, *, baselines: bool) -> list[FeatureSet]:
    """Features of the run, and optionally of the untrained encoder and the joint coordinates."""
    everything, config = np.arange(len(store)), run.config
    raw_reading = dataclasses.replace(run.reading, frames=RAW_FRAMES)

    def feature_set(
        name: str, reading: Reading, extract: Callable[[Iterable[Any]], np.ndarray]
    ) -> FeatureSet:
        def augmented(indices: np.ndarray, epoch: int) -> np.ndarray:
            data = config.data
            batches = augmented_batches(
                store,
                indices,
                reading,
                crop=data.augmentation.crop,
                min_crop_frames=data.min_crop_frames,
                rotation=data.augmentation.rotation,
                seed=(config.seed, epoch),
            )
            return extract(batches)

        return FeatureSet(name, extract(clip_batches(store, everything, reading)), augmented)

    def encoded(params: Any) -> Callable[[Iterable[Any]], np.ndarray]:
        return functools.partial(extract_features, config.model.encoder, params, run.reading)

    def raw(batches: Iterable[Any]) -> np.ndarray:
        return np.concatenate([clip.reshape(len(clip), -1) for clip, _ in batches])

    sets = [feature_set(f"pre-trained, {run.progress}", run.reading, encoded(run.params))]
    if baselines:
        init = jax.jit(functools.partial(init_encoder, config))
        untrained = init(jax.random.key(config.seed))
        sets += [
            feature_set("untrained encoder", run.reading, encoded(untrained)),
            feature_set(f"joint coordinates, {RAW_FRAMES} frames", raw_reading, raw),
        ]
    return sets


def evaluate(
    run: Run,
    judge: Callable[[FeatureSet, Run, SkeletonStore], dict[str, Any]],
    *,
    baselines: bool,
) -> list[dict[str, Any]]:
    """Applies `judge` to each feature set of the run; returns one table row for each.

    Args:
      run: the run.
      judge: `evaluate_linear` or `evaluate_knn`.
      baselines: see `feature_sets`.

    Returns:
      The rows; if validation accuracies need one, with the key `note` (see `protocols.note`).

    Raises:
      InputError: the data that the run was trained on is not found.
    """
    store = open_store(run)
    note = protocols.note(store, run.config.data.protocol)
    return [
        judge(features, run, store) | ({"note": note} if note else {})
        for features in feature_sets(run, store, baselines=baselines)
    ]


def evaluate_linear(
    features: FeatureSet,
    run: Run,
    store: SkeletonStore,
    labels: str = "all",
    augmented: bool = False,
    subset: int | None = None,
) -> dict[str, Any]:
    """Linear probe: chooses the learning rate on validation clips, then trains on all clips.

    Args:
      features: of every clip.
      run: whose config says the protocol and how to probe.
      store: what the features were made of.
      labels: `"all"`, or a key of `few_labels.SUBSETS`: that share of the clips trains the probe,
        drawn by `subset`. All validation clips have their say in the rate even then.
      augmented: train on new crops and rotations in each epoch, not on the whole clips. They are
        drawn as in pre-training; nothing is mirrored or sheared.
      subset: seed of the subset of the labels; None for the run's seed.

    Returns:
      A table row: the rate, its validation accuracy, and on the test split the accuracy after the
      last epoch (the result) and that of the best epoch (which MAMP's script reports).
    """
    if augmented and features.augmented is None:
        raise InputError(
            f"features {features.name!r} are those of whole clips alone: give `FeatureSet` its "
            "function `augmented`, or leave augmented=False"
        )
    new_crops = features.augmented if augmented else None
    config = run.config.probe
    settings = {
        "num_classes": len(store.class_names),
        "epochs": config.epochs,
        "batch_size": config.batch_size,
        "seed": run.config.seed,
    }

    def probe(part: str, judged: str, rates: jax.Array) -> np.ndarray:
        known = _part(features, run, store, part, labels, subset)
        asked = _part(features, run, store, judged)
        asked = (asked.features, asked.labels, rates)
        if new_crops is None:
            return np.asarray(linear_probe(known.features, known.labels, *asked, **settings))
        new = functools.partial(new_crops, known.indices)
        return np.asarray(augmented_linear_probe(new, known.labels, *asked, **settings))

    rates = jnp.asarray(config.learning_rates)
    validation = probe("fit", "val", rates)[:, -1]
    best = int(validation.argmax())
    (test,) = probe("train", "test", rates[best : best + 1])
    return {
        "features": features.name,
        "learning_rate": config.learning_rates[best],
        "validation_linear": _percent(validation[best]),
        "test_linear": _percent(test[-1]),
        "test_linear_best_epoch": _percent(test.max()),
    }


def evaluate_knn(
    features: FeatureSet, run: Run, store: SkeletonStore, ks: Sequence[int] = (1, 20)
) -> dict[str, Any]:
    """Cosine KNN from the training split to the test split, for each K or all clips if fewer."""
    row: dict[str, Any] = {"features": features.name}
    for name, reference, queries in (("validation", "fit", "val"), ("test", "train", "test")):
        known = _part(features, run, store, reference)
        asked = _part(features, run, store, queries)
        for k in ks:
            accuracy = metrics.knn_accuracy(
                asked.features,
                asked.labels,
                known.features,
                known.labels,
                k=min(k, len(known.labels)),
                num_classes=len(store.class_names),
            )
            row[f"{name}_knn_{k}"] = _percent(accuracy)
    return row


class _Part(NamedTuple):
    """The labelled clips of a part of the store."""

    indices: np.ndarray
    features: jax.Array
    labels: jax.Array


def _part(
    features: FeatureSet,
    run: Run,
    store: SkeletonStore,
    name: str,
    labels: str = "all",
    subset: int | None = None,
) -> _Part:
    chosen = protocols.split(store, run.config.data.protocol, name)
    if labels != "all":
        chosen = few_labels(store, chosen, labels, run.config.seed if subset is None else subset)
    label = store.clips["label"][chosen].astype(np.int32)
    chosen, label = chosen[label >= 0], label[label >= 0]
    if not len(chosen):
        raise InputError(
            f"{store.path}: no clip of part {name!r} of protocol "
            f"{run.config.data.protocol!r} has a label: features are judged by labels, add some"
        )
    return _Part(chosen, jnp.asarray(features.values[chosen]), jnp.asarray(label))


def _percent(accuracy: Any) -> float:
    return round(100 * float(accuracy), 2)


def heading(name: str) -> str:
    """Heading of the column that holds the values of this name.

    >>> [heading(name) for name in ("learning_rate", "test_linear", "test_knn_20")]
    ['learning rate', 'test %', 'test K=20 %']
    >>> heading("test_finetune")
    'test %'
    """
    name = re.sub(r"_knn_(\d+)$", r" K=\1 %", name)
    name = re.sub(r"_linear_best_epoch$", " %, best epoch", name)
    name = re.sub(r"_(linear|finetune)$", " %", name)
    return name.replace("_", " ")


def markdown_table(rows: Sequence[dict[str, Any]]) -> str:
    """Formats rows with the same keys as a Markdown table.

    >>> print(markdown_table([{"features": "joint coordinates", "test_knn_1": 69.6}]))
    | features          | test K=1 % |
    |-------------------|------------|
    | joint coordinates | 69.6       |
    """
    cells = [[heading(name) for name in rows[0]], *([str(v) for v in row.values()] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths)) + " |" for line in cells]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)


def save_rows(path: pathlib.Path, run: Run, rows: Sequence[dict[str, Any]]) -> None:
    """Writes rows as JSON into the run folder, with the step that they belong to.

    Raises:
      OSError: the file cannot be written; an older one is kept.
    """
    content = {
        "step": run.step,
        "total_steps": run.total_steps,
        "unfinished": run.unfinished,
        "protocol": run.config.data.protocol,
        "rows": list(rows),
    }
    run_folder.write_json(path, content)
