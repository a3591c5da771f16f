"""Nearest neighbours by cosine: the class of a query, and the accuracy."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from igm_jax.arguments import Array, Scalar, check_positive
from igm_jax.losses import normalize
from igm_jax.metrics.arrays import CHUNK, check_count, check_in_range, check_labels
from igm_jax.precision import dot, float32


def knn_predict(
    queries: Float[Array, "B D"],
    references: Float[Array, "Q D"],
    labels: Int[Array, " Q"],
    *,
    k: int,
    num_classes: int,
    temperature: Scalar | None = None,
) -> Int[jax.Array, " B"]:
    """Predicts the class of each query by a vote of its k nearest references, by cosine.

    Every neighbour has one vote, and of classes with equal votes the one with the larger summed
    cosine wins; k = 1 is the nearest neighbour. With a temperature, votes weigh
    exp(cosine / temperature) instead.

    Args:
      queries: [B, D].
      references: [Q, D].
      labels: [Q] classes of the references, in 0 … num_classes−1.
      k: in 1 … Q.
      num_classes: number of classes.
      temperature: > 0, or None for equal votes.

    Returns:
      [B] classes.

    Raises:
      InputError: k or temperature out of range, or a concrete label that is no class.

    References:
      Wu et al., Unsupervised Feature Learning via Non-Parametric Instance Discrimination
      (CVPR 2018), for the weighted vote.

    >>> queries = jnp.array([[1.0, 0.1]])
    >>> knn_predict(queries, jnp.eye(2), jnp.array([7, 3]), k=1, num_classes=8).tolist()
    [7]
    """
    ranks = knn_ranks(
        queries, references, labels, k=k, num_classes=num_classes, temperature=temperature
    )
    return jnp.argmin(ranks, axis=-1)


def knn_ranks(
    queries: Float[Array, "B D"],
    references: Float[Array, "Q D"],
    labels: Int[Array, " Q"],
    *,
    k: int,
    num_classes: int,
    temperature: Scalar | None = None,
) -> Int[jax.Array, "B classes"]:
    """Ranks the classes by the vote of `knn_predict`; the label is in the top 5 if its rank is < 5.

    The arguments are those of `knn_predict`.

    Returns:
      [B, classes] ranks from 0; a class without a vote has the rank `num_classes`.

    >>> queries = jnp.array([[1.0, 0.1]])
    >>> knn_ranks(queries, jnp.eye(2), jnp.array([2, 0]), k=2, num_classes=3).tolist()
    [[1, 3, 0]]
    """
    check_in_range("k", k, references.shape[0], "references")
    check_count("labels", labels, references.shape[0], "references")
    if temperature is not None:
        check_positive("temperature", temperature)
    check_labels("labels", labels, num_classes)
    return _ranks(queries, references, labels, temperature, k=k, num_classes=num_classes)


@functools.partial(jax.jit, static_argnames=("k", "num_classes"))
def _ranks(
    queries: jax.Array,
    references: jax.Array,
    labels: jax.Array,
    temperature: jax.Array | None,
    *,
    k: int,
    num_classes: int,
) -> jax.Array:
    references = normalize(float32(references))

    def rank(query: jax.Array) -> jax.Array:
        cosine, nearest = jax.lax.top_k(dot(references, query), k)
        votes = jax.nn.one_hot(labels[nearest], num_classes)
        if temperature is not None:
            # Relative to the nearest, whose weight is 1: exp(1 / temperature) may overflow.
            weight = dot(votes.T, jnp.exp((cosine - cosine[0]) / temperature))
        else:
            weight = votes.sum(axis=0)
        voted = votes.any(axis=0)
        order = jnp.lexsort((-dot(votes.T, cosine), jnp.where(voted, -weight, jnp.inf)))
        return jnp.where(voted, jnp.argsort(order), num_classes)

    units = normalize(float32(queries))
    return jax.lax.map(rank, units, batch_size=min(units.shape[0], CHUNK))


def knn_accuracy(
    queries: Float[Array, "B D"],
    query_labels: Int[Array, " B"],
    references: Float[Array, "Q D"],
    labels: Int[Array, " Q"],
    *,
    k: int,
    num_classes: int,
    temperature: Scalar | None = None,
) -> Float[jax.Array, ""]:
    """Share of queries for which `knn_predict` returns the right label.

    >>> x, y = jnp.eye(2), jnp.array([0, 1])
    >>> float(knn_accuracy(x, y, x, y, k=1, num_classes=2))
    1.0
    """
    check_count("query_labels", query_labels, queries.shape[0], "queries")
    check_labels("query_labels", query_labels, num_classes)
    predicted = knn_predict(
        queries, references, labels, k=k, num_classes=num_classes, temperature=temperature
    )
    return (predicted == query_labels).astype(jnp.float32).mean()
