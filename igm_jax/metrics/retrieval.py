"""Retrieval by cosine: mean average precision, and recall among the nearest clips.

All functions return one value for each query, NaN where the gallery has no clip of its class. Take
the mean by `jnp.nanmean` or `bootstrap_interval`, and say how many queries it leaves out.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from igm_jax.arguments import Array
from igm_jax.errors import InputError
from igm_jax.losses import normalize
from igm_jax.metrics.arrays import CHUNK, check_count, check_in_range, check_labelled
from igm_jax.precision import dot, float32


class Retrieval(NamedTuple):
    """Scores of B queries; NaN where the gallery has no clip of the query's class.

    Attributes:
      average_precision: [B]; its mean is the mAP.
      recall: [B, number of ks]: 1 if a clip of the class is among the k nearest, or else 0.
    """

    average_precision: Float[jax.Array, " B"]
    recall: Float[jax.Array, "B _"]


def retrieval(
    queries: Float[Array, "B D"],
    query_labels: Int[Array, " B"],
    gallery: Float[Array, "Q D"],
    labels: Int[Array, " Q"],
    *,
    ks: tuple[int, ...] = (1, 5, 10),
) -> Retrieval:
    """Ranks a gallery by cosine to each query; clips of the query's class are the right ones.

    Average precision takes equal cosines together, as scikit-learn does: collapsed features get the
    share of the class. In recall, wrong clips of an equal cosine come first: these features get 0.

    Args:
      queries: [B, D].
      query_labels: [B], ≥ 0.
      gallery: [Q, D].
      labels: [Q] of the gallery, ≥ 0.
      ks: numbers of nearest clips, each in 1 … Q.

    Returns:
      The scores of each query.

    Raises:
      InputError: a k out of range, or a concrete label below 0.

    References:
      Manning et al., Introduction to Information Retrieval (2008), section 8.4, for average
      precision; Jégou et al., Product Quantization for Nearest Neighbor Search (TPAMI 2011), for
      recall@k.

    >>> scores = retrieval(jnp.array([[1.0, 0.1]]), jnp.array([3]), jnp.eye(2), jnp.array([5, 3]),
    ...                    ks=(1, 2))
    >>> scores.average_precision.tolist(), scores.recall.tolist()
    ([0.5], [[0.0, 1.0]])
    """
    if not queries.shape[0]:
        raise InputError("no queries: give at least one clip with a label")
    check_count("query_labels", query_labels, queries.shape[0], "queries")
    _check(gallery, labels, ks, gallery.shape[0])
    check_labelled("query_labels", query_labels)
    nobody = jnp.full(queries.shape[0], -1)
    return _rank(queries, query_labels, nobody, gallery, labels, ks)


def retrieval_within(
    features: Float[Array, "B D"],
    labels: Int[Array, " B"],
    *,
    ks: tuple[int, ...] = (1, 5, 10),
) -> Retrieval:
    """`retrieval` of each clip among all other clips of one set.

    A clip that is alone in its class gets NaN.

    Args:
      features: [B, D].
      labels: [B], ≥ 0.
      ks: numbers of nearest clips, each in 1 … B−1.

    Returns:
      The scores of each clip.

    Raises:
      InputError: a k out of range, or a concrete label below 0.

    >>> x = jnp.array([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    >>> retrieval_within(x, jnp.array([0, 0, 1]), ks=(1,)).recall[:, 0].tolist()
    [1.0, 1.0, nan]
    """
    _check(features, labels, ks, features.shape[0] - 1)
    return _rank(features, labels, jnp.arange(features.shape[0]), features, labels, ks)


def _check(gallery: Array, labels: Array, ks: tuple[int, ...], most: int) -> None:
    check_count("labels", labels, gallery.shape[0], "clips in the gallery")
    check_labelled("labels", labels)
    for k in ks:
        check_in_range("k", k, most, "clips to find")


@functools.partial(jax.jit, static_argnames="ks")
def _rank(
    queries: Array,
    query_labels: Array,
    own: Array,
    gallery: Array,
    labels: Array,
    ks: tuple[int, ...],
) -> Retrieval:
    """Scores of queries; `own` is the position of each in the gallery, −1 if it is not there."""
    gallery, labels = normalize(float32(gallery)), jnp.asarray(labels)
    score = functools.partial(_score_one, gallery=gallery, labels=labels, ks=ks)
    rows = (normalize(float32(queries)), jnp.asarray(query_labels), own)
    found = jax.lax.map(lambda row: score(*row), rows, batch_size=min(own.shape[0], CHUNK))
    return Retrieval(*found)


def _score_one(
    query: jax.Array,
    label: jax.Array,
    own: jax.Array,
    *,
    gallery: jax.Array,
    labels: jax.Array,
    ks: tuple[int, ...],
) -> tuple[jax.Array, jax.Array]:
    cosine = dot(gallery, query)
    cosine = jnp.where(jnp.isnan(cosine), -2, cosine)  # less similar than all
    is_own = jnp.arange(labels.shape[0]) == own
    right, wrong = (labels == label) & ~is_own, (labels != label) & ~is_own

    # Wrong ones that are at least as near as the nearest right one stand before it.
    nearest = jnp.where(right, cosine, -jnp.inf).max()
    before = (wrong & (cosine >= nearest)).sum()
    recall = (before < jnp.array(ks)).astype(cosine.dtype)

    unlike = jnp.where(is_own, jnp.inf, -cosine)
    unlike, hits = jax.lax.sort((unlike, right.astype(cosine.dtype)), num_keys=1)
    # Clips of equal cosine all get the precision at the last of them.
    position = jnp.arange(1, unlike.shape[0] + 1)
    is_last = jnp.append(unlike[1:] != unlike[:-1], True)
    end = jax.lax.cummin(jnp.where(is_last, position, position[-1]), reverse=True)
    precision = jnp.cumsum(hits)[end - 1] / end.astype(cosine.dtype)
    average = (precision * hits).sum() / jnp.maximum(hits.sum(), 1)
    nothing = jnp.asarray(jnp.nan, cosine.dtype)
    return jnp.where(right.any(), average, nothing), jnp.where(right.any(), recall, nothing)
