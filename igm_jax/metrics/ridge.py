"""A linear probe in closed form: ridge regression on classes, cheap enough to run during training.

One singular value decomposition serves all penalties, and the leave-one-out error of each.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from igm_jax.arguments import Array, check_positive
from igm_jax.errors import InputError
from igm_jax.metrics.arrays import check_count, check_labels
from igm_jax.precision import dot, float32

PENALTIES = tuple(10.0**power for power in range(-6, 2))  # float32 tells 1e-6 of a sum apart


class RidgeProbe(NamedTuple):
    """A fitted probe of `fit_ridge`.

    Attributes:
      weights: [D, classes].
      bias: [classes].
      penalty: the one that was chosen.
      errors: [number of penalties] mean squared error of each, by which it was chosen.
    """

    weights: Float[jax.Array, "D classes"]
    bias: Float[jax.Array, " classes"]
    penalty: Float[jax.Array, ""]
    errors: Float[jax.Array, " L"]


def fit_ridge(
    features: Float[Array, "B D"],
    labels: Int[Array, " B"],
    *,
    num_classes: int,
    penalties: tuple[float, ...] = PENALTIES,
    validation: tuple[Float[Array, "Q D"], Int[Array, " Q"]] | None = None,
) -> RidgeProbe:
    """Fits one-hot classes by least squares, and chooses the penalty on clips that it did not fit.

    Minimises ‖Y − XW − b‖² + penalty · ‖X − mean‖² ‖W‖², with an unpenalised bias b. The factor
    ‖X − mean‖² makes penalties independent of scale and number of the features. It has no gradient.

    Args:
      features: [B, D] with B ≥ 2, at any scale; D may exceed B.
      labels: [B] in 0 … num_classes−1; a class without clips is predicted last.
      num_classes: number of classes.
      penalties: > 0; the one with the smallest squared error is chosen, the first of equal ones.
      validation: features and labels that choose the penalty; None leaves out each clip in turn,
        which needs no other clips and no other fit.

    Returns:
      The probe, fitted to all B features.

    Raises:
      InputError: fewer than two clips, a concrete label that is no class, or a penalty that is
        not above 0.

    References:
      Hoerl & Kennard, Ridge Regression (1970); Golub et al., Generalized Cross-Validation (1979),
      for the leave-one-out error (y − ŷ) / (1 − h) with the leverage h of a clip.

    >>> probe = fit_ridge(jnp.array([[0.0], [0.1], [1.0], [0.9]]), jnp.array([0, 0, 1, 1]),
    ...                   num_classes=2)
    >>> ridge_scores(probe, jnp.array([[0.2], [0.8]])).argmax(axis=1).tolist()
    [0, 1]
    """
    if features.shape[0] < 2:
        raise InputError(f"{features.shape[0]} clip cannot be left out: give at least 2")
    if not penalties:
        raise InputError("penalties is empty: give at least one")
    for penalty in penalties:
        check_positive("penalty", penalty)
    check_count("labels", labels, features.shape[0], "features")
    check_labels("labels", labels, num_classes)
    if validation is not None:
        check_count("validation labels", validation[1], validation[0].shape[0], "features")
        check_labels("validation labels", validation[1], num_classes)
        validation = float32(validation[0]), jnp.asarray(validation[1])
    grid = jnp.asarray(penalties, jnp.float32)
    return _fit(float32(features), jnp.asarray(labels), grid, validation, num_classes=num_classes)


def ridge_scores(probe: RidgeProbe, features: Float[Array, "B D"]) -> Float[jax.Array, "B classes"]:
    """Scores of each class, near 1 for the right one and near 0 for others; no probabilities.

    `fit_temperature` on validation clips turns them into logits of probabilities.
    """
    return dot(float32(features), probe.weights) + probe.bias[None]


def ridge_accuracy(
    queries: Float[Array, "B D"],
    query_labels: Int[Array, " B"],
    features: Float[Array, "Q D"],
    labels: Int[Array, " Q"],
    *,
    num_classes: int,
    penalties: tuple[float, ...] = PENALTIES,
) -> Float[jax.Array, ""]:
    """Share of queries that `fit_ridge` to the features classifies rightly; see there.

    The arguments are those of `knn_accuracy`, beside which it is used. Leave-one-out chooses the
    penalty, so the queries have no part in the choice.

    >>> x, y = jnp.array([[0.0], [0.1], [1.0], [0.9]]), jnp.array([0, 0, 1, 1])
    >>> float(ridge_accuracy(x, y, x, y, num_classes=2))
    1.0
    """
    check_count("query_labels", query_labels, queries.shape[0], "queries")
    check_labels("query_labels", query_labels, num_classes)
    probe = fit_ridge(features, labels, num_classes=num_classes, penalties=penalties)
    predicted = jnp.argmax(ridge_scores(probe, queries), axis=-1)
    return (predicted == jnp.asarray(query_labels)).astype(jnp.float32).mean()


@functools.partial(jax.jit, static_argnames="num_classes")
def _fit(
    features: jax.Array,
    labels: jax.Array,
    penalties: jax.Array,
    validation: tuple[jax.Array, jax.Array] | None,
    *,
    num_classes: int,
) -> RidgeProbe:
    # No gradient: that of the decomposition is infinite where singular values are equal.
    features = jax.lax.stop_gradient(features)
    mean, targets = features.mean(axis=0), jax.nn.one_hot(labels, num_classes, dtype=features.dtype)
    share = targets.mean(axis=0)
    left, singular, right = jnp.linalg.svd(features - mean[None], full_matrices=False)
    square = jnp.square(singular)
    total = square.sum()
    ridges = penalties.astype(square.dtype) * jnp.where(total > 0, total, 1)
    projected = dot(left.T, targets - share[None])

    def error(ridge: jax.Array) -> jax.Array:
        if validation is None:
            kept = square / (square + ridge)
            fitted = dot(left, kept[:, None] * projected) + share[None]
            leverage = dot(jnp.square(left), kept) + 1 / features.shape[0]  # 1 / B: of the bias
            return jnp.square((targets - fitted) / (1 - leverage)[:, None]).mean()
        asked, truth = validation
        scores = dot(asked - mean[None], weights(ridge)) + share[None]
        wanted = jax.nn.one_hot(truth, num_classes, dtype=scores.dtype)
        return jnp.square(wanted - scores).mean()

    def weights(ridge: jax.Array) -> jax.Array:
        return dot(right.T, (singular / (square + ridge))[:, None] * projected)

    errors = jax.lax.map(error, ridges)
    best = jnp.argmin(errors)
    chosen = weights(ridges[best])
    return RidgeProbe(chosen, share - dot(mean, chosen), penalties[best], errors)
