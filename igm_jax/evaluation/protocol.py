"""How features are judged: choose on validation clips, look at the test clips once."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from igm_jax import metrics
from igm_jax.data import SkeletonStore, open_dataset, protocols
from igm_jax.data.few_labels import few_labels
from igm_jax.errors import InputError
from igm_jax.evaluation.features import clip_batches, extract_features
from igm_jax.evaluation.linear_probe import linear_probe
from igm_jax.evaluation.run import Run, init_encoder

# Frames of the raw-coordinate baselines; the figure that is usual for them.
RAW_FRAMES = 32


@dataclasses.dataclass(frozen=True)
class FeatureSet:
    """Features of every clip of a store, under a name.

    Attributes:
      name: what the row of a table is called.
      values: [number of clips, D] float32, in the order of the store.
    """

    name: str
    values: np.ndarray


def feature_sets(run: Run, store: SkeletonStore, *, baselines: bool) -> list[FeatureSet]:
    """The run's features, and if wanted those of the same encoder untrained and the raw joints."""
    everything = np.arange(len(store))

    def clips(frames: int) -> Iterable[tuple[np.ndarray, np.ndarray]]:
        return clip_batches(
            store,
            everything,
            frames=frames,
            bodies=run.config.data.bodies,
            view=run.config.data.view,
        )

    encoder = run.config.model.encoder

    def encoded(params: Any) -> np.ndarray:
        return extract_features(encoder, params, run.inputs, clips(encoder.frames))

    sets = [FeatureSet(f"pre-trained, step {run.step}", encoded(run.params))]
    if baselines:
        init = jax.jit(functools.partial(init_encoder, run.config))
        untrained = init(jax.random.key(run.config.seed))
        raw = np.concatenate([clip.reshape(len(clip), -1) for clip, _ in clips(RAW_FRAMES)])
        sets += [
            FeatureSet("untrained encoder", encoded(untrained)),
            FeatureSet(f"raw coordinates, {RAW_FRAMES} frames", raw),
        ]
    return sets


def evaluate(
    run: Run,
    judge: Callable[[FeatureSet, Run, SkeletonStore], dict[str, Any]],
    *,
    baselines: bool,
) -> list[dict[str, Any]]:
    """One table row of `judge` for each of the run's feature sets.

    Args:
      run: the run.
      judge: `evaluate_linear` or `evaluate_knn`.
      baselines: see `feature_sets`.

    Raises:
      InputError: the data that the run was trained on is not where its config says.
    """
    store = open_dataset(run.config.data.dataset, run.config.data.path)
    if store.meta["sha256"] != run.data:
        raise InputError(f"{store.path} is not the data that {run.folder} was trained on")
    return [
        judge(features, run, store) for features in feature_sets(run, store, baselines=baselines)
    ]


def evaluate_linear(
    features: FeatureSet, run: Run, store: SkeletonStore, labels: str = "all"
) -> dict[str, Any]:
    """Linear probe: the learning rate that is best on validation clips, then trained on all.

    Args:
      features: of every clip.
      run: whose config says the protocol and how to probe.
      store: what the features were made of.
      labels: `"all"`, or a key of `few_labels.SUBSETS`: that share of the clips trains the probe,
        drawn by the run's seed. All validation clips have their say in the rate even then.

    Returns:
      A table row: the rate, its validation accuracy, and on the test split the accuracy after the
      last epoch (the result) and that of the best epoch (which MAMP's script reports).
    """
    config = run.config.probe
    data, few = _parts(features, run, store), _parts(features, run, store, labels)
    probe = functools.partial(
        linear_probe,
        num_classes=len(store.class_names),
        epochs=config.epochs,
        batch_size=config.batch_size,
        seed=run.config.seed,
    )
    rates = jnp.asarray(config.learning_rates)
    validation = np.asarray(probe(*few("fit"), *data("val"), rates))[:, -1]
    best = int(validation.argmax())
    test = np.asarray(probe(*few("train"), *data("test"), rates[best : best + 1]))[0]
    return {
        "features": features.name,
        "learning rate": config.learning_rates[best],
        "validation %": _percent(validation[best]),
        "test %": _percent(test[-1]),
        "test %, best epoch": _percent(test.max()),
    }


def evaluate_knn(
    features: FeatureSet, run: Run, store: SkeletonStore, ks: Sequence[int] = (1, 20)
) -> dict[str, Any]:
    """Cosine KNN from the training split to the test split, for each K or all clips if fewer."""
    data = _parts(features, run, store)
    row: dict[str, Any] = {"features": features.name}
    for name, reference, queries in (("validation", "fit", "val"), ("test", "train", "test")):
        known = data(reference)
        for k in ks:
            accuracy = metrics.knn_accuracy(
                *data(queries), *known, k=min(k, len(known[1])), num_classes=len(store.class_names)
            )
            row[f"{name} K={k} %"] = _percent(accuracy)
    return row


def _parts(
    features: FeatureSet, run: Run, store: SkeletonStore, labels: str = "all"
) -> Callable[[str], tuple[jax.Array, jax.Array]]:
    def part(name: str) -> tuple[jax.Array, jax.Array]:
        chosen = protocols.split(store, run.config.data.protocol, name)
        if labels != "all":
            chosen = few_labels(store, chosen, labels, run.config.seed)
        label = store.clips["label"][chosen].astype(np.int32)
        chosen, label = chosen[label >= 0], label[label >= 0]
        if not len(chosen):
            raise InputError(
                f"{store.path}: no clip of part {name!r} of protocol "
                f"{run.config.data.protocol!r} has a label: features are judged by labels, add some"
            )
        return jnp.asarray(features.values[chosen]), jnp.asarray(label)

    return part


def _percent(accuracy: Any) -> float:
    return round(100 * float(accuracy), 2)


def markdown_table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows with the same keys as a Markdown table.

    >>> print(markdown_table([{"features": "raw", "test %": 69.6}]))
    | features | test % |
    |----------|--------|
    | raw      | 69.6   |
    """
    cells = [list(rows[0]), *([str(v) for v in row.values()] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths)) + " |" for line in cells]
    lines.insert(1, "|" + "|".join("-" * (w + 2) for w in widths) + "|")
    return "\n".join(lines)


def save_rows(path: pathlib.Path, run: Run, rows: Sequence[dict[str, Any]]) -> None:
    """Writes a table as JSON into the run folder, with the step it belongs to."""
    content = {"step": run.step, "protocol": run.config.data.protocol, "rows": list(rows)}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
