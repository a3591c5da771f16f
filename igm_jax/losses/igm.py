"""The losses of IGM: generation, and idempotency of features and of similarities.

They return one value for each example. Mean, masks and weights are left to the caller.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from igm_jax.arguments import Array, Scalar, check_floating, check_positive, check_same_shape
from igm_jax.precision import dot, float32


def normalize(z: Float[Array, "*batch D"]) -> Float[jax.Array, "*batch D"]:
    """Scales vectors to unit length; a zero vector stays zero and gets a zero gradient.

    Args:
      z: [..., D].

    Returns:
      [..., D], of the same dtype.

    Raises:
      InputError: integers.

    >>> normalize(jnp.array([[3.0, 4.0], [0.0, 0.0]])).round(3).tolist()
    [[0.6..., 0.8...], [0.0, 0.0]]
    """
    check_floating(z=z)
    z = jnp.asarray(z)  # JAX may narrow NumPy's float64, and with it the smallest number
    # Dividing by the largest entry first avoids overflow and underflow of the squares. The result
    # does not depend on that scale, so its gradient may be cut.
    scale = jax.lax.stop_gradient(jnp.abs(z).max(axis=-1, keepdims=True))
    is_zero = scale < jnp.finfo(z.dtype).tiny  # False for NaN, which must not be hidden as a zero
    scaled = z / jnp.where(is_zero, 1, scale)
    # The square root must not get a zero: where() hides its value, not its gradient.
    square = jnp.where(is_zero, 1, jnp.square(scaled).sum(axis=-1, keepdims=True))
    return jnp.where(is_zero, 0, scaled / jnp.sqrt(square))


def noise_prediction_loss(
    predicted_noise: Float[Array, "B *example"], noise: Float[Array, "B *example"]
) -> Float[jax.Array, " B"]:
    """L_gen: mean squared error of g's noise prediction, ‖g(x_t, h(z), t) − ε‖² per entry.

    Args:
      predicted_noise: [B, ...].
      noise: [B, ...], the ε that made x_t.

    Returns:
      [B], the mean over all axes but the first.

    References:
      IGM (ECCV 2024, arXiv 2410.20349), the generative loss; Ho et al., DDPM (NeurIPS 2020).

    >>> noise_prediction_loss(jnp.array([[1.0, 3.0], [0.0, 0.0]]), jnp.zeros((2, 2))).tolist()
    [5.0, 0.0]
    """
    check_same_shape("predicted_noise", predicted_noise, "noise", noise)
    error = float32(predicted_noise) - float32(noise)
    return jnp.square(error).mean(axis=tuple(range(1, error.ndim)))


def feature_idempotency_loss(
    z: Float[Array, "B D"], z_hat: Float[Array, "B D"]
) -> Float[jax.Array, " B"]:
    """L_ide_feat: minus the cosine of two features, −f(x)ᵀ f(x̂) on unit features.

    Both arguments get a gradient. Apply `stop_gradient` to one of them to use it as a target.

    Args:
      z: [B, D] features of the clips; any length, zero included (gives 0).
      z_hat: [B, D] features of what was generated from them.

    Returns:
      [B], in [−1, 1].

    References:
      IGM (ECCV 2024, arXiv 2410.20349), idempotency on the feature level.

    >>> feature_idempotency_loss(jnp.array([[2.0, 0.0]]), jnp.array([[3.0, 0.0]])).tolist()
    [-1.0]
    """
    check_same_shape("z", z, "z_hat", z_hat)
    unit, unit_hat = normalize(float32(z)), normalize(float32(z_hat))
    return -(unit * unit_hat).sum(axis=-1)


def similarity_distribution(
    z: Float[Array, "B D"], references: Float[Array, "Q D"], temperature: Scalar
) -> Float[jax.Array, "B Q"]:
    """P(z), the softmax over references of cos(z, reference) / temperature.

    Args:
      z: [B, D], any length.
      references: [Q, D], any length.
      temperature: > 0.

    Returns:
      [B, Q]; rows sum to one.

    References:
      IGM (ECCV 2024, arXiv 2410.20349), P(x) = f(x)ᵀ f(X), here as a distribution.

    >>> similarity_distribution(jnp.eye(2), jnp.ones((4, 2)), 0.1)[0].tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    return jnp.exp(_log_similarity(z, references, "temperature", temperature))


def distribution_idempotency_loss(
    z: Float[Array, "B D"],
    z_hat: Float[Array, "B D"],
    references: Float[Array, "Q D"],
    *,
    target_temperature: Scalar = 0.05,
    temperature: Scalar = 0.1,
) -> Float[jax.Array, " B"]:
    """L_ide_dist: KL(P(z) ‖ P(ẑ)) of the similarities to a set of reference features.

    Only `z_hat` gets a gradient: P(z) is the target, and the references are constants.

    Args:
      z: [B, D] features of the clips.
      z_hat: [B, D] features of what was generated from them.
      references: [Q, D] features of other clips.
      target_temperature: of P(z), > 0; a lower one than `temperature` sharpens the target.
      temperature: of P(ẑ), > 0.

    Returns:
      [B], ≥ 0 up to rounding.

    References:
      IGM (ECCV 2024, arXiv 2410.20349), idempotency on the distribution level. KL, the direction
      and the two temperatures are not published: see ActCLR (CVPR 2023) by the same first author.

    >>> z, references = jnp.array([[1.0, 2.0]]), jnp.eye(2)
    >>> loss = distribution_idempotency_loss(z, 3 * z, references, target_temperature=0.1)
    >>> loss.round(6).tolist()
    [0.0]
    """
    check_same_shape("z", z, "z_hat", z_hat)
    references = jax.lax.stop_gradient(references)
    # Both in log space: at these temperatures probabilities underflow, their logarithms do not.
    target = _log_similarity(z, references, "target_temperature", target_temperature)
    target = jax.lax.stop_gradient(target)
    log_p = _log_similarity(z_hat, references, "temperature", temperature)
    return (jnp.exp(target) * (target - log_p)).sum(axis=-1)


def _log_similarity(
    z: Float[Array, "B D"], references: Float[Array, "Q D"], name: str, temperature: Scalar
) -> Float[jax.Array, "B Q"]:
    check_positive(name, temperature)
    cosine = dot(normalize(float32(z)), normalize(float32(references)).T)
    return jax.nn.log_softmax(cosine / temperature, axis=-1)
