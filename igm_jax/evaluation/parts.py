"""Shared parts of all protocols: named features, labelled parts of a store, columns of results."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Shaped

from igm_jax import metrics
from igm_jax.data import SkeletonStore, protocols
from igm_jax.data.few_labels import few_labels_of_every_class
from igm_jax.errors import InputError
from igm_jax.evaluation.run import Run
from igm_jax.models import EncoderConfig
from igm_jax.run_folder import ALL_LABELS


@dataclasses.dataclass(frozen=True)
class FeatureSet:
    """Features of every clip of a store, under a name.

    Attributes:
      name: name of the table row.
      values: [number of clips, D] float32, in the order of the store.
      augmented: positions of clips in the store, number of an epoch → features of these clips with
        the crops and rotations of that epoch; `judge.evaluate_linear` needs it for `augmented`.
      trained: whether they come from the encoder of the run as a whole, and not from a baseline.
    """

    name: str
    values: np.ndarray
    augmented: Callable[[np.ndarray, int], np.ndarray] | None = None
    trained: bool = False


class Part(NamedTuple):
    """The labelled clips of a part of the store.

    Attributes:
      indices: [n] positions in the store.
      features: [n, D].
      labels: [n] classes.
    """

    indices: np.ndarray
    features: jax.Array
    labels: jax.Array


def each_tower(
    features: FeatureSet, encoder: EncoderConfig, streams: Sequence[str]
) -> list[FeatureSet]:
    """The features of each tower of an encoder, under the name of the stream that it reads.

    Args:
      features: those of all towers side by side.
      encoder: with one tower for each stream.
      streams: their names.
    """

    def only(tower: int, values: np.ndarray) -> np.ndarray:
        parts = values.reshape(len(values), encoder.stretches, encoder.towers, -1)
        return np.ascontiguousarray(parts[:, :, tower].reshape(len(values), -1))

    def augmented(tower: int, indices: np.ndarray, epoch: int) -> np.ndarray:
        assert features.augmented is not None
        return only(tower, features.augmented(indices, epoch))

    return [
        FeatureSet(
            f"{stream} alone",
            only(tower, features.values),
            features.augmented and functools.partial(augmented, tower),
        )
        for tower, stream in enumerate(streams)
    ]


def labelled(
    features: FeatureSet,
    run: Run,
    store: SkeletonStore,
    name: str,
    labels: str = ALL_LABELS,
    subset: int | None = None,
) -> Part:
    """Features and labels of the clips of `labelled_clips`.

    Args:
      features: of every clip.
      run: whose config says the protocol.
      store: what the features were made of.
      name: one of `protocols.PARTS`.
      labels: `"100%"`, or a key of `few_labels.SUBSETS`.
      subset: seed of that share; None for the run's seed.

    Raises:
      InputError: see `labelled_clips`.
    """
    chosen = labelled_clips(run, store, name, labels, subset)
    label = store.clips["label"][chosen].astype(np.int32)
    return Part(chosen, jnp.asarray(features.values[chosen]), jnp.asarray(label))


def check_labels(
    run: Run,
    store: SkeletonStore,
    names: Sequence[str] = protocols.PARTS,
    labels: str = ALL_LABELS,
    subset: int | None = None,
) -> None:
    """Raises `InputError` if one of these parts has no clip to train or to judge with.

    Args:
      run: whose config says the protocol.
      store: its data.
      names: of the parts.
      labels: the share of `fit` and `train` that is used; see `labelled`.
      subset: seed of that share.
    """
    for name in names:
        labelled_clips(run, store, name, labels if name in ("fit", "train") else ALL_LABELS, subset)


def labelled_clips(
    run: Run, store: SkeletonStore, name: str, labels: str = ALL_LABELS, subset: int | None = None
) -> Int[np.ndarray, " n"]:
    """Positions of the clips of a part that have a label; arguments as in `labelled`.

    Raises:
      InputError: no clip of this part has a label, or the share has no clip of a class.
    """
    protocol = run.config.data.protocol
    if labels == ALL_LABELS:
        chosen = protocols.split(store, protocol, name)
    else:
        seed = run.config.seed if subset is None else subset
        chosen = few_labels_of_every_class(store, protocol, name, labels, seed)
    chosen = chosen[store.clips["label"][chosen] >= 0]
    if not len(chosen):
        raise InputError(
            f"{store.path}: no clip of part {name!r} of protocol {protocol!r} has a label: "
            "features are judged by labels, add some"
        )
    return chosen


def clip_lengths(store: SkeletonStore, indices: Int[np.ndarray, " n"]) -> Int[np.ndarray, " 3"]:
    """Frames of the shortest, the median and the longest of these clips."""
    length = store.clips["length"][indices]
    return np.array([length.min(), np.median(length), length.max()], np.int64)


def percent(share: Any) -> float:
    """A share in [0, 1] as percent with two digits."""
    return round(100 * float(share), 2)


def mean_columns(name: str, values: Shaped[Any, " n"]) -> dict[str, Any]:
    """Mean of one value for each test clip, in percent, and its 95 % interval.

    Args:
      name: of the first column; the second is `<name>_interval`.
      values: [n] shares in [0, 1], or whether each clip is right.

    Returns:
      The two columns. The interval is `[low, high]` by `metrics.bootstrap_interval`, and None for
      fewer than two clips.
    """
    values = np.asarray(values, np.float64)
    interval = None
    if len(values) > 1:
        interval = [percent(bound) for bound in metrics.bootstrap_interval(values)]
    return {name: percent(values.mean()), f"{name}_interval": interval}


def class_details(
    predicted: Int[Any, " n"],
    labels: Int[Any, " n"],
    class_names: Sequence[str],
    scores: Float[Any, "n classes"] | None = None,
) -> dict[str, Any]:
    """Details of a classifier on test clips that are saved, but not printed.

    Args:
      predicted: [n] classes.
      labels: [n] classes.
      class_names: of all classes.
      scores: [n, classes]; with them, and more than five classes, the details have `top_5`.

    Returns:
      `balanced_accuracy` and `top_5` in percent, `class_names`, `class_accuracy` in percent (None
      for a class without test clips), and `confusion`: for each label, the clips of each
      predicted class.
    """
    confusion = metrics.confusion_matrix(
        np.asarray(predicted), np.asarray(labels), len(class_names)
    )
    details: dict[str, Any] = {"balanced_accuracy": percent(metrics.balanced_accuracy(confusion))}
    if scores is not None and len(class_names) > 5:
        details["top_5"] = percent(metrics.top_k_accuracy(scores, labels, k=5))
    return details | {
        "class_names": list(class_names),
        "class_accuracy": [
            None if np.isnan(share) else percent(share)
            for share in metrics.class_accuracy(confusion)
        ],
        "confusion": confusion.tolist(),
    }
