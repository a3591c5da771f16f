"""Protocols on frozen features that train nothing by gradient descent.

Each returns a table row, as `judge.evaluate_knn` does. Numbers are percent.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from igm_jax import losses, metrics
from igm_jax.data import SkeletonStore
from igm_jax.errors import InputError
from igm_jax.evaluation.parts import (
    FeatureSet,
    class_details,
    labelled,
    labelled_clips,
    mean_columns,
    percent,
)
from igm_jax.evaluation.run import Run

FEW_SHOT_QUERIES = 15  # of each class, the published choice


def evaluate_ridge(features: FeatureSet, run: Run, store: SkeletonStore) -> dict[str, Any]:
    """Linear probe in closed form, from the training split to the test split.

    Leave-one-out on the fitted clips chooses the penalty, so neither validation nor test clips
    have a part in it.

    Returns:
      A table row: penalty, validation accuracy, test accuracy and its 95 % interval, and `details`.
    """
    fit, val, train, test = (
        labelled(features, run, store, part) for part in ("fit", "val", "train", "test")
    )
    classes = len(store.class_names)
    validation = metrics.ridge_accuracy(
        val.features, val.labels, fit.features, fit.labels, num_classes=classes
    )
    probe = metrics.fit_ridge(train.features, train.labels, num_classes=classes)
    scores = metrics.ridge_scores(probe, test.features)
    predicted = np.asarray(scores.argmax(axis=1))
    return {
        "features": features.name,
        "penalty": float(f"{float(probe.penalty):.3g}"),
        "validation_ridge": percent(validation),
        **mean_columns("test_ridge", predicted == np.asarray(test.labels)),
        "details": {"ridge": class_details(predicted, test.labels, store.class_names, scores)},
    }


def evaluate_retrieval(
    features: FeatureSet, run: Run, store: SkeletonStore, ks: tuple[int, ...] = (1, 5, 10)
) -> dict[str, Any]:
    """Retrieves clips of the class of each test clip, by cosine.

    Returns:
      A table row: mAP with its 95 % interval, and recall among the k nearest (or all if fewer),
      from the test clips to the training clips (`test_…`) and to the other test clips
      (`within_…`). `details` holds how many test clips have no clip of their class to find; they
      are left out. Where that is all of them, the values are None.

    Raises:
      InputError: no test clip has a clip of its class to find in either.
    """
    known, asked = (labelled(features, run, store, part) for part in ("train", "test"))
    there = tuple(min(k, len(known.labels)) for k in ks)
    found = metrics.retrieval(asked.features, asked.labels, known.features, known.labels, ks=there)
    halves: dict[str, metrics.Retrieval | None] = {"test": found, "within": None}
    if len(asked.labels) > 1:
        others = tuple(min(k, len(asked.labels) - 1) for k in ks)
        halves["within"] = metrics.retrieval_within(asked.features, asked.labels, ks=others)
    row: dict[str, Any] = {"features": features.name}
    left_out = {}
    for name, scores in halves.items():
        precision = np.full(len(asked.labels), np.nan)
        if scores is not None:
            precision = np.asarray(scores.average_precision)
        valid = np.isfinite(precision)
        left_out[name] = int((~valid).sum())
        if scores is None or not valid.any():
            row |= {f"{name}_map": None, f"{name}_map_interval": None}
            row |= {f"{name}_recall_{k}": None for k in ks}
            continue
        recall = np.asarray(scores.recall)[valid]
        row |= mean_columns(f"{name}_map", precision[valid])
        row |= {f"{name}_recall_{k}": percent(r.mean()) for k, r in zip(ks, recall.T)}
    if row["test_map"] is None and row["within_map"] is None:
        raise InputError(f"{store.path}: no test clip has another clip of its class to retrieve")
    return row | {"details": {"left_out": left_out}}


def evaluate_few_shot(
    features: FeatureSet,
    run: Run,
    store: SkeletonStore,
    ways: int = 5,
    shots: Sequence[int] = (1, 5),
    queries: int | None = None,
    episodes: int = 600,
) -> dict[str, Any]:
    """Classifies test clips by K labelled test clips in each of N classes, over many episodes.

    The run's seed draws the episodes, so all features of a run see the same ones. Nothing is
    trained. The encoder may have seen other clips of these classes, without labels.

    Args:
      features: of every clip.
      run: whose config says the protocol and the seed.
      store: what the features were made of.
      ways: N.
      shots: values of K.
      queries: clips of each class to classify; by default 15, or fewer if the smallest class of the
        test split has fewer clips left.
      episodes: their number.

    Returns:
      A table row: queries, and for each K the mean accuracy of prototypes and of the nearest
      neighbour with its 95 % interval over episodes.

    Raises:
      InputError: the test split has too few classes, or too few clips in a class.
    """
    test = labelled(features, run, store, "test")
    drawn_for = few_shot_episodes(run, store, ways, shots, queries, episodes)
    queries = drawn_for[shots[0]].shape[-1] - shots[0]
    row: dict[str, Any] = {"features": features.name, "queries": queries}
    for k, drawn in drawn_for.items():
        for method in ("prototype", "knn"):
            accuracy = metrics.few_shot_accuracy(test.features, drawn, shots=k, method=method)
            mean, half = metrics.mean_and_interval(accuracy)
            name = f"test_{k}_shot_{method}"
            row[name] = percent(mean)
            row[f"{name}_interval"] = [percent(mean - half), percent(mean + half)]
    return row


def few_shot_episodes(
    run: Run,
    store: SkeletonStore,
    ways: int = 5,
    shots: Sequence[int] = (1, 5),
    queries: int | None = None,
    episodes: int = 600,
) -> dict[int, Int[np.ndarray, "E ways _"]]:
    """Draws the episodes of `evaluate_few_shot`, which has the arguments.

    Returns:
      For each K, positions among the labelled test clips; see `metrics.draw_episodes`.

    Raises:
      InputError: the test split has too few classes, or too few clips in a class.
    """
    labels = store.clips["label"][labelled_clips(run, store, "test")]
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2:
        raise InputError("the test clips have one class, so there are no few-shot episodes of them")
    if ways > len(classes):
        raise InputError(
            f"--ways={ways}: the test clips have {len(classes)} classes: give few_shot.py "
            f"--ways={len(classes)} or fewer"
        )
    smallest = int(counts.min())
    if queries is None:
        queries = max(1, min(FEW_SHOT_QUERIES, smallest - max(shots)))
    if smallest < max(shots) + queries:
        raise InputError(
            f"class {store.class_names[classes[counts.argmin()]]!r} has {smallest} test clips, and "
            f"{max(shots)} shots with {queries} queries need {max(shots) + queries}: give "
            "few_shot.py smaller --shots or --queries"
        )
    return {
        k: metrics.draw_episodes(
            labels, ways=ways, shots=k, queries=queries, episodes=episodes, seed=run.config.seed
        )
        for k in shots
    }


@functools.partial(jax.jit, static_argnames="clusters")
def _clusters(key: jax.Array, features: jax.Array, clusters: int) -> jax.Array:
    return metrics.kmeans(key, losses.normalize(features), clusters)


def evaluate_kmeans(features: FeatureSet, run: Run, store: SkeletonStore) -> dict[str, Any]:
    """Clusters the test clips without labels, and compares clusters with classes.

    K-means of unit features, with as many clusters as the test clips have classes.

    Returns:
      A table row: adjusted Rand index and normalised mutual information, times 100.
    """
    test = labelled(features, run, store, "test")
    clusters = len(np.unique(np.asarray(test.labels)))
    key = jax.random.key(run.config.seed)
    found = _clusters(key, jnp.asarray(test.features), clusters)
    return {
        "features": features.name,
        "test_ari": percent(metrics.adjusted_rand_index(test.labels, found)),
        "test_nmi": percent(metrics.normalized_mutual_information(test.labels, found)),
    }
