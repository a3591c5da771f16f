"""The losses of IGM and the theory behind them, as pure functions of arrays.

L_gen and the two idempotency losses return one value for each example. Mean, masks and weights
are left to the caller. The contrastive and coding-length functions return scalars.
Everything is computed in at least float32.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from igm_jax.arguments import check_floating, check_positive
from igm_jax.errors import InputError
from igm_jax.precision import EXACT

Array = jax.Array | np.ndarray
Scalar = float | int | Float[Array, ""]


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
    _check_same_shape("predicted_noise", predicted_noise, "noise", noise)
    error = _full_precision(predicted_noise) - _full_precision(noise)
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
    _check_same_shape("z", z, "z_hat", z_hat)
    unit, unit_hat = normalize(_full_precision(z)), normalize(_full_precision(z_hat))
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
    _check_same_shape("z", z, "z_hat", z_hat)
    references = jax.lax.stop_gradient(references)
    # Both in log space: at these temperatures probabilities underflow, their logarithms do not.
    target = _log_similarity(z, references, "target_temperature", target_temperature)
    target = jax.lax.stop_gradient(target)
    log_p = _log_similarity(z_hat, references, "temperature", temperature)
    return (jnp.exp(target) * (target - log_p)).sum(axis=-1)


def info_nce_loss(
    z: Float[Array, "B D"],
    positive: Float[Array, "B D"],
    negatives: Float[Array, "Q D"],
    *,
    temperature: Scalar = 0.1,
) -> Float[jax.Array, " B"]:
    """InfoNCE: −log of the positive's share in the softmax over cosines to positive and negatives.

    All arguments get a gradient. Apply `stop_gradient` to those that are targets.

    Args:
      z: [B, D] features.
      positive: [B, D], one for each.
      negatives: [Q, D], common to all.
      temperature: > 0.

    Returns:
      [B], ≥ 0.

    References:
      van den Oord et al., Contrastive Predictive Coding (2018); He et al., MoCo (CVPR 2020).

    >>> z = jnp.array([[1.0, 0.0]])
    >>> round(float(info_nce_loss(z, z, z, temperature=0.1)[0]), 4)  # two alike: log 2
    0.6931
    """
    _check_same_shape("z", z, "positive", positive)
    check_positive("temperature", temperature)
    z, positive, negatives = (normalize(_full_precision(x)) for x in (z, positive, negatives))
    own = (z * positive).sum(axis=-1, keepdims=True)
    logits = jnp.concatenate([own, _inner(z, negatives)], axis=-1) / temperature
    return -jax.nn.log_softmax(logits, axis=-1)[:, 0]


def spectral_contrastive_loss(
    z: Float[Array, "B D"], z_hat: Float[Array, "B D"]
) -> Float[jax.Array, ""]:
    """Spectral contrastive loss −2 E_i[z_iᵀ ẑ_i] + E_{i≠j}[(z_iᵀ ẑ_j)²], not normalised.

    Over all positive pairs of a data set it is ‖A − FFᵀ‖²_F + const, A the normalised adjacency of
    the pairs and F the features, each row times the root of its probability.

    Args:
      z: [B, D] with B ≥ 2.
      z_hat: [B, D] their positives.

    Returns:
      Scalar.

    References:
      HaoChen et al., Provable Guarantees for Self-Supervised Deep Learning with Spectral
      Contrastive Loss (NeurIPS 2021).

    >>> float(spectral_contrastive_loss(jnp.eye(3), jnp.eye(3)))
    -2.0
    """
    _check_same_shape("z", z, "z_hat", z_hat)
    b = z.shape[0]
    if b < 2:
        raise InputError(f"spectral_contrastive_loss has no negative pairs in a batch of {b}")
    similarity = _inner(_full_precision(z), _full_precision(z_hat))
    negatives = jnp.where(jnp.eye(b, dtype=bool), 0, jnp.square(similarity))
    return -2 * jnp.diagonal(similarity).mean() + negatives.sum() / (b * (b - 1))


def coding_length(z: Float[Array, "B D"], distortion: Scalar) -> Float[jax.Array, ""]:
    """Coding length L = μ log det(I + λ zᵀz), μ = (B+D)/2, λ = D/(B ε²), not normalised.

    It is the number of nats that code the B vectors up to the distortion ε. It is an entropy, large
    when features spread over many directions.

    Args:
      z: [B, D].
      distortion: ε > 0.

    Returns:
      Scalar ≥ 0.

    References:
      IGM (ECCV 2024, arXiv 2410.20349), theoretical analysis; Ma et al., Segmentation of
      Multivariate Mixed Data via Lossy Data Coding and Compression (TPAMI 2007).

    >>> round(float(coding_length(jnp.eye(2), distortion=1.0)), 4)  # 2 log 4
    2.7726
    """
    mu, x = _scaled_spectrum(z, distortion)
    return mu * jnp.log1p(x).sum()


def coding_length_series(
    z: Float[Array, "B D"], distortion: Scalar, order: int
) -> Float[jax.Array, "_"]:
    """Taylor terms of the coding length: Tr(μ (−1)^{n−1}/n (λ zᵀz)^n) for n = 1 … order.

    Term 1 is constant for unit features, term 2 is minus the repulsion of the spectral contrastive
    loss up to a factor. The sum converges to `coding_length` only while λ‖zᵀz‖₂ < 1.

    Args:
      z: [B, D].
      distortion: ε > 0.
      order: number of terms, ≥ 1.

    Returns:
      [order], signed, μ included.

    References:
      IGM (ECCV 2024, arXiv 2410.20349), theoretical analysis.

    >>> coding_length_series(jnp.eye(2), distortion=2.0, order=2).round(4).tolist()
    [1.0, -0.125]
    """
    if order < 1:
        raise InputError(f"order={order}: a series needs at least one term")
    mu, x = _scaled_spectrum(z, distortion)
    n = np.arange(1, order + 1)
    weight = jnp.asarray(mu * np.where(n % 2 == 1, 1, -1) / n, x.dtype)
    return weight * (x[None, :] ** jnp.asarray(n, x.dtype)[:, None]).sum(axis=-1)


def coding_length_residual(z: Float[Array, "B D"], distortion: Scalar) -> Float[jax.Array, ""]:
    """Residual R = −(L − term 1 − term 2), which the spectral contrastive loss leaves out.

    Args:
      z: [B, D].
      distortion: ε > 0.

    Returns:
      Scalar ≤ 0, of the order of (λ‖zᵀz‖₂)³ when that is small.

    References:
      IGM (ECCV 2024, arXiv 2410.20349), theoretical analysis.

    >>> z = jnp.eye(2)
    >>> rest = coding_length(z, 2.0) - coding_length_series(z, 2.0, order=2).sum()
    >>> bool(jnp.isclose(coding_length_residual(z, 2.0), -rest, rtol=1e-4))
    True
    """
    mu, x = _scaled_spectrum(z, distortion)
    return -mu * _log1p_beyond_second_order(x).sum()


def _log1p_beyond_second_order(x: Float[Array, "*batch"]) -> Float[jax.Array, "*batch"]:
    """log(1 + x) − x + x²/2 for x ≥ 0, without the cancellation that leaves no digit below 1e-2."""
    # With u = x / (2 + x): log(1 + x) = 2 atanh(u) = 2 (u + u³/3 + u⁵/5 + …), and
    # 2u − x + x²/2 = x³ / (2 (2 + x)). Nothing but positive terms is left; u² ≤ 1/9 where x ≤ 1.
    small = jnp.minimum(x, 1)
    u = small / (2 + small)
    tail = jnp.zeros_like(u)
    for n in range(31, 1, -2):  # 9⁻¹⁵: below the rounding of float64
        tail = tail * u**2 + 1 / n
    series = small**3 / (2 * (2 + small)) + 2 * u**3 * tail
    return jnp.where(x < 1, series, jnp.log1p(x) - x + x**2 / 2)


def _scaled_spectrum(
    z: Float[Array, "B D"], distortion: Scalar
) -> tuple[float, Float[jax.Array, "_"]]:
    """μ = (B+D)/2 and the eigenvalues of λ zᵀz that can differ from zero.

    Eigenvalues, rather than a Cholesky factor of I + λ zᵀz, because that factor is NaN in float32
    for collapsed features and a small ε, where the pivots' rounding exceeds 1. Only functions
    Σ g(eigenvalue) are formed, whose gradient is V g'(Λ) Vᵀ: finite for repeated eigenvalues.
    """
    check_positive("distortion", distortion)
    b, d = z.shape
    z = _full_precision(z)
    # zᵀz and zzᵀ have the same spectrum up to zeros (Sylvester): take the smaller one.
    gram = _inner(z, z) if b < d else _inner(z.T, z.T)
    spectrum = jnp.linalg.eigvalsh(d / (b * distortion**2) * gram)
    return (b + d) / 2, jnp.maximum(spectrum, 0)  # rounding makes zeros negative


def _log_similarity(
    z: Float[Array, "B D"], references: Float[Array, "Q D"], name: str, temperature: Scalar
) -> Float[jax.Array, "B Q"]:
    check_positive(name, temperature)
    cosine = _inner(normalize(_full_precision(z)), normalize(_full_precision(references)))
    return jax.nn.log_softmax(cosine / temperature, axis=-1)


def _inner(a: Float[Array, "B D"], b: Float[Array, "Q D"]) -> Float[jax.Array, "B Q"]:
    # The default on GPU and TPU has 8 to 11 bits: a cosine error of 1e-3 that 1/temperature blows
    # up, and a Gram matrix that is not positive.
    return jnp.matmul(a, b.T, precision=EXACT)


def _full_precision(x: Float[Array, "*shape"]) -> Float[jax.Array, "*shape"]:
    x = jnp.asarray(x)
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _check_same_shape(name: str, x: Array, other_name: str, other: Array) -> None:
    # Otherwise [1, D] would be broadcast silently.
    if x.shape != other.shape:
        raise InputError(f"{name} {x.shape} and {other_name} {other.shape} must have one shape")
