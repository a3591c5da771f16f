"""Evaluates features: choices use validation clips, and test clips are measured once."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from igm_jax import metrics, progress, run_folder
from igm_jax.data import SkeletonStore, protocols
from igm_jax.errors import InputError
from igm_jax.evaluation.linear_probe import (
    LinearHead,
    Probes,
    augmented_linear_probe,
    head_logits,
    linear_probe,
)
from igm_jax.evaluation.parts import (
    FeatureSet,
    Part,
    class_details,
    clip_lengths,
    each_tower,
    labelled,
    mean_columns,
    percent,
)
from igm_jax.evaluation.run import Run, init_encoder, open_store
from igm_jax.evaluation.scores import ProbeScores, checksums, save_scores
from igm_jax.features import augmented_batches, clip_batches, extract_features
from igm_jax.reading import Reading

# Number of frames of the raw-coordinate baseline, a common choice.
RAW_FRAMES = 32
# End of the name of whitened features.
WHITENED = ", whitened"


def feature_sets(run: Run, store: SkeletonStore, *, baselines: bool) -> list[FeatureSet]:
    """Features of the run, and optionally of baselines.

    With `run.whiten` the whitened features of the run come second. Baselines are the untrained
    encoder, the joint coordinates and, if the encoder has several towers, each tower alone.
    """
    everything, config = np.arange(len(store)), run.config
    raw_reading = dataclasses.replace(run.reading, frames=RAW_FRAMES)

    def feature_set(
        name: str,
        reading: Reading,
        extract: Callable[[Iterable[Any]], np.ndarray],
        trained: bool = False,
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

        batches = clip_batches(store, everything, reading)
        counted = progress.counted(batches, f"features, {name}", len(store), _clips_of)
        values = extract(counted)
        _check_finite(values, name, store)
        return FeatureSet(name, values, augmented, trained)

    def encoded(params: Any) -> Callable[[Iterable[Any]], np.ndarray]:
        return functools.partial(extract_features, config.model.encoder, params, run.reading)

    def raw(batches: Iterable[Any]) -> np.ndarray:
        return np.concatenate([clip.reshape(len(clip), -1) for clip, _ in batches])

    sets = [feature_set(f"pre-trained, {run.progress}", run.reading, encoded(run.params), True)]
    if run.whiten:
        sets.append(_whitened(sets[0], run, store))
    if baselines:
        init = jax.jit(functools.partial(init_encoder, config))
        untrained = init(jax.random.key(config.seed))
        sets += [
            feature_set("untrained encoder", run.reading, encoded(untrained)),
            feature_set(f"joint coordinates, {RAW_FRAMES} frames", raw_reading, raw),
        ]
        if config.model.encoder.towers > 1:
            sets += each_tower(sets[0], config.model.encoder, config.data.streams)
    return sets


def _whitened(features: FeatureSet, run: Run, store: SkeletonStore) -> FeatureSet:
    """Features whitened by those of the training clips; labels have no part in it."""
    training = protocols.split(store, run.config.data.protocol, "train")
    whitening = metrics.fit_whitening(features.values[training])

    def whitened(values: np.ndarray) -> np.ndarray:
        return np.asarray(metrics.whiten(whitening, values))

    def augmented(indices: np.ndarray, epoch: int) -> np.ndarray:
        assert features.augmented is not None
        return whitened(features.augmented(indices, epoch))

    return FeatureSet(features.name + WHITENED, whitened(features.values), augmented)


def _check_finite(values: np.ndarray, name: str, store: SkeletonStore) -> None:
    """Raises `InputError` for features that are not finite: all accuracies would be wrong."""
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        clip = str(store.clips["name"][bad[0]])
        raise InputError(
            f"{store.path}: the features ({name}) of {len(bad)} of {len(values)} clips, such as "
            f"{clip!r}, are not finite: the store is damaged, check it with "
            "experiments/inspect_data.py"
        )


def _clips_of(batch: tuple[np.ndarray, np.ndarray]) -> int:
    return len(batch[0])


def evaluate(
    run: Run,
    judge: Callable[[FeatureSet, Run, SkeletonStore], dict[str, Any]],
    *,
    baselines: bool,
    check: Callable[[Run, SkeletonStore], Any] = lambda run, store: None,
) -> list[dict[str, Any]]:
    """Applies `judge` to each feature set of the run; returns one table row for each.

    Args:
      run: the run.
      judge: `evaluate_linear`, `evaluate_knn`, or one of `igm_jax.evaluation.frozen`.
      baselines: see `feature_sets`.
      check: raises `InputError` for data that `judge` would refuse, before any feature is computed.

    Returns:
      The rows; if their accuracies need one, with the key `note` (see `protocols.note`).

    Raises:
      InputError: the data that the run was trained on is not found, or see `check`.
    """
    store = open_store(run)
    check(run, store)
    return judged_rows(judge, feature_sets(run, store, baselines=baselines), run, store)


def judged_rows(
    judge: Callable[[FeatureSet, Run, SkeletonStore], dict[str, Any]],
    sets: Sequence[FeatureSet],
    run: Run,
    store: SkeletonStore,
) -> list[dict[str, Any]]:
    """`evaluate` of features that are computed already."""
    note = protocols.note(store, run.config.data.protocol)
    return [judge(f, run, store) | ({"note": note} if note else {}) for f in sets]


def evaluate_linear(
    features: FeatureSet,
    run: Run,
    store: SkeletonStore,
    labels: str = run_folder.ALL_LABELS,
    augmented: bool = False,
    subset: int | None = None,
    save: bool = False,
) -> dict[str, Any]:
    """Linear probe: chooses the learning rate on validation clips, then trains on all clips.

    Args:
      features: of every clip.
      run: whose config says the protocol and how to probe.
      store: what the features were made of.
      labels: `"100%"`, or a key of `few_labels.SUBSETS`: that share of the clips trains the probe,
        drawn by `subset`. Rates are tried on those of them that lie in `fit`, and all validation
        clips judge them even then.
      augmented: train on new crops and rotations in each epoch, not on the whole clips. They are
        drawn as in pre-training; nothing is mirrored or sheared.
      subset: seed of the subset of the labels; None for the run's seed.
      save: write the head and the test scores into the run folder, if the features are those of
        the run's encoder.

    Returns:
      A table row: the rate, its validation accuracy, and on the test split the accuracy after the
      last epoch (the result), its 95 % interval over test clips, and the accuracy of the best epoch
      (which MAMP's script reports). `details` holds `parts.class_details`.
    """
    row, scores = fit_linear(features, run, store, labels, augmented, subset)
    if save and features.trained:
        save_scores(run.results(run_folder.probe_scores(labels, augmented, subset)), scores)
    return row


def fit_linear(
    features: FeatureSet,
    run: Run,
    store: SkeletonStore,
    labels: str = run_folder.ALL_LABELS,
    augmented: bool = False,
    subset: int | None = None,
) -> tuple[dict[str, Any], ProbeScores]:
    """`evaluate_linear` that also returns the trained head and its test scores."""
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
    val, test = (labelled(features, run, store, part) for part in ("val", "test"))

    def probe(part: str, judged: Part, rates: jax.Array) -> Probes:
        known = labelled(features, run, store, part, labels, subset)
        asked = (judged.features, judged.labels, rates)
        with progress.bar(f"epochs of the probe, {features.name}", config.epochs):
            report = progress.ticking()
            if new_crops is None:
                probes = linear_probe(
                    known.features, known.labels, *asked, **settings, report=report
                )
            else:
                new = functools.partial(new_crops, known.indices)
                probes = augmented_linear_probe(
                    new, known.labels, *asked, **settings, report=report
                )
            return jax.block_until_ready(probes)

    rates = jnp.asarray(config.learning_rates)
    tried = probe("fit", val, rates)
    validation = np.asarray(tried.accuracy)[:, -1]
    best = int(validation.argmax())
    # The temperature, too, is chosen by the probe that has not seen the validation clips.
    temperature = metrics.fit_temperature(head_logits(_head(tried, best), val.features), val.labels)
    final = probe("train", test, rates[best : best + 1])
    head = _head(final, 0)
    scores = np.asarray(head_logits(head, test.features))
    predicted = scores.argmax(axis=1)
    trained_on = labelled(features, run, store, "train", labels, subset).indices
    right = predicted == np.asarray(test.labels)
    epochs = np.append(np.asarray(final.accuracy)[0, :-1], right.mean())
    row = {
        "features": features.name,
        "learning_rate": config.learning_rates[best],
        "validation_linear": percent(validation[best]),
        **mean_columns("test_linear", right),
        "test_linear_best_epoch": percent(epochs.max()),
        "details": {"linear": class_details(predicted, test.labels, store.class_names, scores)},
    }
    return row, ProbeScores(
        head=head,
        temperature=temperature,
        class_names=np.asarray(store.class_names, np.str_),
        lengths=clip_lengths(store, trained_on),
        clips=np.asarray(store.clips["name"][test.indices], np.str_),
        labels=np.asarray(test.labels),
        scores=scores,
        step=run.step,
        protocol=run.config.data.protocol,
        streams="+".join(run.reading.streams),
        data=checksums(run.data),
    )


def _head(probes: Probes, number: int) -> LinearHead:
    return LinearHead(*(array[number] for array in probes.heads))


def evaluate_knn(
    features: FeatureSet, run: Run, store: SkeletonStore, ks: Sequence[int] = (1, 20)
) -> dict[str, Any]:
    """Cosine KNN from the training split to the test split, for each K or all clips if fewer.

    Returns:
      A table row: for each K the accuracies, and the 95 % interval of that on test clips.
      `details` holds `parts.class_details` of each K, and `top_5` from K = 5 on: the share of
      the test clips whose class is among the five with the most votes.
    """
    row: dict[str, Any] = {"features": features.name}
    details = {}
    for name, reference, queries in (("validation", "fit", "val"), ("test", "train", "test")):
        known = labelled(features, run, store, reference)
        asked = labelled(features, run, store, queries)
        for k in ks:
            ranks = metrics.knn_ranks(
                asked.features,
                known.features,
                known.labels,
                k=min(k, len(known.labels)),
                num_classes=len(store.class_names),
            )
            predicted = ranks.argmin(axis=1)
            right = np.asarray(predicted == asked.labels)
            if name == "test":
                row |= mean_columns(f"test_knn_{k}", right)
                found = class_details(predicted, asked.labels, store.class_names)
                if k >= 5 and len(store.class_names) > 5:  # so that five classes may have a vote
                    rank = jnp.take_along_axis(ranks, asked.labels[:, None], axis=1)
                    found["top_5"] = percent((rank < 5).mean())
                details[f"knn_{k}"] = found
            else:
                row[f"{name}_knn_{k}"] = percent(right.mean())
    return row | {"details": details}
