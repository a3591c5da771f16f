"""Measures of features: spread, alignment, and accuracy of simple classifiers.

All features are used by direction only (cosines), except in `effective_rank`. Functions of many
rows work through them in chunks, so memory grows with the rows, not with their pairs.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from igm_jax.arguments import check_positive, concrete
from igm_jax.errors import InputError
from igm_jax.losses import Scalar, normalize
from igm_jax.precision import EXACT

Array = jax.Array | np.ndarray

_CHUNK = 1024  # rows at a time: 64 MB of similarities to 16k others


def effective_rank(features: Float[Array, "B D"]) -> Float[jax.Array, ""]:
    """Exponential of the entropy of the singular values, which are normalised to sum 1.

    Features are neither centred nor normalised, so a shared mean counts as one strong direction.
    This shows a collapse.

    Args:
      features: [B, D].

    Returns:
      Scalar in [1, min(B, D)]; 0 if all features are zero.

    References:
      Roy & Vetterli, The Effective Rank (EUSIPCO 2007).

    >>> round(float(effective_rank(jnp.eye(3))), 4)
    3.0
    """
    # Not the roots of the Gram matrix's eigenvalues: their zeros would come out as 3e-4 each.
    singular = jnp.linalg.svd(_float32(features), compute_uv=False)
    total = singular.sum()
    share = singular / jnp.where(total == 0, 1, total)
    return jnp.where(total == 0, 0, jnp.exp(jax.scipy.special.entr(share).sum()))


def mean_pairwise_cosine(features: Float[Array, "B D"]) -> Float[jax.Array, ""]:
    """Mean cosine over all pairs i ≠ j; 1 is complete collapse.

    Args:
      features: [B, D] with B ≥ 2.

    Returns:
      Scalar in [−1/(B−1), 1].

    >>> float(mean_pairwise_cosine(jnp.eye(2)))
    0.0
    """
    b = _at_least_two(features)
    unit = normalize(_float32(features))
    # Σ_{i≠j} u_iᵀu_j = ‖Σ u_i‖² − Σ ‖u_i‖²: B·D instead of B²·D operations.
    return (jnp.square(unit.sum(axis=0)).sum() - jnp.square(unit).sum()) / (b * (b - 1))


def alignment(z: Float[Array, "B D"], z_hat: Float[Array, "B D"]) -> Float[jax.Array, ""]:
    """Mean squared distance of positives on the unit sphere, E ‖u − û‖²; 0 is best.

    Args:
      z: [B, D].
      z_hat: [B, D] their positives.

    Returns:
      Scalar in [0, 4].

    References:
      Wang & Isola, Understanding Contrastive Representation Learning (ICML 2020).

    >>> float(alignment(jnp.eye(2), -jnp.eye(2)))
    4.0
    """
    if z.shape != z_hat.shape:
        raise InputError(f"z {z.shape} and z_hat {z_hat.shape} must have one shape")
    return jnp.square(normalize(_float32(z)) - normalize(_float32(z_hat))).sum(axis=-1).mean()


def uniformity(z: Float[Array, "B D"], t: Scalar = 2) -> Float[jax.Array, ""]:
    """Gaussian potential log E_{i≠j} exp(−t ‖u_i − u_j‖²) on the sphere; lower is more uniform.

    Args:
      z: [B, D] with B ≥ 2.
      t: sharpness of the kernel.

    Returns:
      Scalar in [−4t, 0].

    References:
      Wang & Isola, Understanding Contrastive Representation Learning (ICML 2020).

    >>> float(uniformity(jnp.ones((3, 2))).round(4))
    0.0
    """
    b = _at_least_two(z)
    unit = normalize(_float32(z))
    length = jnp.square(unit).sum(axis=-1)

    def row(i):
        distance = length[i] + length - 2 * _dot(unit, unit[i])
        return jax.nn.logsumexp(-t * distance, where=jnp.arange(b) != i)

    rows = jax.lax.map(row, jnp.arange(b), batch_size=min(b, _CHUNK))
    return jax.nn.logsumexp(rows) - jnp.log(float(b) * (b - 1))


def top_k_accuracy(
    logits: Float[Array, "B _"], labels: Int[Array, " B"], k: int
) -> Float[jax.Array, ""]:
    """Share of the rows whose label is among the k largest logits.

    Among equal logits the lower class counts as larger; a row with a NaN counts as wrong.

    Args:
      logits: [B, classes].
      labels: [B] in 0 … classes−1.
      k: in 1 … classes.

    Returns:
      Scalar in [0, 1].

    >>> float(top_k_accuracy(jnp.array([[0.1, 0.9], [0.8, 0.2]]), jnp.array([1, 1]), k=1))
    0.5
    """
    _check_choice("k", k, logits.shape[-1], "classes")
    _, top = jax.lax.top_k(logits, k)
    hit = (top == labels[:, None]).any(axis=-1)
    return (hit & ~jnp.isnan(logits).any(axis=-1)).astype(jnp.float32).mean()


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
    _check_choice("k", k, references.shape[0], "references")
    if labels.shape[0] != references.shape[0]:
        raise InputError(f"{references.shape[0]} references but {labels.shape[0]} labels")
    if temperature is not None:
        check_positive("temperature", temperature)
    known = concrete(labels)
    if known is not None and (known.min() < 0 or known.max() >= num_classes):
        raise InputError(f"labels {known.min()}..{known.max()} are outside 0..{num_classes - 1}")
    references = normalize(_float32(references))
    labels = jnp.asarray(labels)

    def predict(query):
        cosine, nearest = jax.lax.top_k(_dot(references, query), k)
        votes = jax.nn.one_hot(labels[nearest], num_classes)
        if temperature is not None:
            # Relative to the nearest, whose weight is 1: exp(1 / temperature) may overflow.
            return jnp.argmax(_dot(votes.T, jnp.exp((cosine - cosine[0]) / temperature)))
        count = votes.sum(axis=0)
        closeness = _dot(votes.T, cosine)
        return jnp.argmax(jnp.where(count == count.max(), closeness, -jnp.inf))

    units = normalize(_float32(queries))
    return jax.lax.map(predict, units, batch_size=min(units.shape[0], _CHUNK))


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
    if query_labels.shape[0] != queries.shape[0]:
        raise InputError(f"{queries.shape[0]} queries but {query_labels.shape[0]} query_labels")
    predicted = knn_predict(
        queries, references, labels, k=k, num_classes=num_classes, temperature=temperature
    )
    return (predicted == query_labels).astype(jnp.float32).mean()


def _dot(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    # The default on GPU and TPU has 8 to 11 bits, too few to tell neighbours apart.
    return jnp.matmul(matrix, vector, precision=EXACT)


def _float32(x: Array) -> jax.Array:
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _at_least_two(features: Array) -> int:
    if features.shape[0] < 2:
        raise InputError(f"{features.shape[0]} feature has no pairs: at least 2 are needed")
    return features.shape[0]


def _check_choice(name: str, value: int, limit: int, what: str) -> None:
    if not 1 <= value <= limit:
        raise InputError(f"{name}={value} is outside 1..{limit}, the number of {what}")
