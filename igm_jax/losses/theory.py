"""The theory behind the losses: the coding length, its Taylor series and its residual.

All functions return scalars of a whole batch of features.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from igm_jax.arguments import Array, Scalar, check_positive
from igm_jax.errors import InputError
from igm_jax.precision import dot, float32


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
    mu, x = sum(z.shape) / 2, scaled_spectrum(z, distortion)
    return mu * jnp.log1p(x).sum()


def coding_rate_reduction(z: Float[Array, "G K D"], distortion: Scalar) -> Float[jax.Array, ""]:
    """Rate reduction ΔR: the coding rate of all features minus the mean coding rate of the groups.

    The coding rate ½ log det(I + D/(m ε²) zᵀz) of m features is their coding length divided by
    m + D. ΔR is large if groups are narrow and different groups point to different directions.
    Use unit features, because ΔR grows with their length.

    Args:
      z: [G, K, D], G groups of K features each.
      distortion: ε > 0.

    Returns:
      Scalar ≥ 0 up to rounding; 0 for a single group.

    References:
      Yu et al., Learning Diverse and Discriminative Representations via the Principle of Maximal
      Coding Rate Reduction (NeurIPS 2020).

    >>> two_groups = jnp.array([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]])
    >>> round(float(coding_rate_reduction(two_groups, 1.0)), 4)  # log 2 − ½ log 3
    0.1438
    """
    groups, size, d = z.shape
    everything = coding_length(z.reshape(-1, d), distortion) / (groups * size + d)
    by_group = jax.vmap(lambda group: coding_length(group, distortion))(z) / (size + d)
    return everything - by_group.mean()


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
    mu, x = sum(z.shape) / 2, scaled_spectrum(z, distortion)
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
    mu, x = sum(z.shape) / 2, scaled_spectrum(z, distortion)
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


def scaled_spectrum(z: Float[Array, "B D"], distortion: Scalar) -> Float[jax.Array, "_"]:
    """The eigenvalues of λ zᵀz that can differ from zero, smallest first; λ = D/(B ε²).

    Eigenvalues, rather than a Cholesky factor of I + λ zᵀz, because that factor is NaN in float32
    for collapsed features and a small ε, where the pivots' rounding exceeds 1. The losses form only
    functions Σ g(eigenvalue), whose gradient is V g'(Λ) Vᵀ: finite for repeated eigenvalues.

    Args:
      z: [B, D].
      distortion: ε > 0.

    Returns:
      [min(B, D)], ≥ 0.

    >>> scaled_spectrum(jnp.array([[3.0, 0.0], [0.0, 1.0]]), distortion=1.0).tolist()
    [1.0, 9.0]
    """
    check_positive("distortion", distortion)
    b, d = z.shape
    z = float32(z)
    # zᵀz and zzᵀ have the same spectrum up to zeros (Sylvester): take the smaller one.
    gram = dot(z, z.T) if b < d else dot(z.T, z)
    spectrum = jnp.linalg.eigvalsh(d / (b * distortion**2) * gram)
    return jnp.maximum(spectrum, 0)  # rounding makes zeros negative
