"""Spectrum of features: eigenvalues of their covariance, effective rank and coding length."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from igm_jax import losses
from igm_jax.arguments import Array, Scalar
from igm_jax.errors import InputError
from igm_jax.losses import theory
from igm_jax.precision import float32


class CodingLength(NamedTuple):
    """The coding length L of features, and its first terms: L = first + second − residual.

    Attributes:
      total: L, in nats for all features together.
      first: term 1 of the series; constant for unit features.
      second: term 2, ≤ 0: minus the repulsion of the spectral contrastive loss, up to a factor.
      residual: R ≤ 0, what the spectral contrastive loss leaves out.
      radius: λ‖ZᵀZ‖₂; the series converges only where it is below 1.
    """

    total: Float[jax.Array, ""]
    first: Float[jax.Array, ""]
    second: Float[jax.Array, ""]
    residual: Float[jax.Array, ""]
    radius: Float[jax.Array, ""]


def covariance_spectrum(features: Float[Array, "B D"]) -> Float[jax.Array, "_"]:
    """Eigenvalues of the covariance of features, largest first.

    Args:
      features: [B, D] with B ≥ 2.

    Returns:
      [min(B, D)]; all further ones are zero. Their sum is the total variance.

    Raises:
      InputError: a single feature.

    References:
      Jing et al., Understanding Dimensional Collapse in Contrastive Self-supervised Learning
      (ICLR 2022), which plots them on a logarithmic scale.

    >>> covariance_spectrum(jnp.array([[1.0, 5.0], [-1.0, 5.0]])).round(4).tolist()
    [2.0, 0.0]
    """
    if features.shape[0] < 2:
        raise InputError(f"{features.shape[0]} feature has no covariance: at least 2 are needed")
    x = float32(features)
    # Not the eigenvalues of the covariance: rounding of the largest would cover the small ones.
    singular = jnp.linalg.svd(x - x.mean(axis=0, keepdims=True), compute_uv=False)
    return jnp.square(singular) / (features.shape[0] - 1)


def spectrum_rank(spectrum: Float[Array, " n"]) -> Float[jax.Array, ""]:
    """Exponential of the entropy of a spectrum that is normalised to sum 1.

    Of `covariance_spectrum` it is the effective rank of the covariance. `effective_rank` takes the
    features' singular values instead, not centred and not squared, and is larger.

    Args:
      spectrum: [n], ≥ 0.

    Returns:
      Scalar in [1, n]; 0 if all are zero.

    References:
      Roy & Vetterli, The Effective Rank (EUSIPCO 2007).

    >>> round(float(spectrum_rank(jnp.array([2.0, 2.0, 0.0]))), 4)
    2.0
    """
    spectrum = float32(spectrum)
    total = spectrum.sum()
    share = spectrum / jnp.where(total == 0, 1, total)
    return jnp.where(total == 0, 0, jnp.exp(jax.scipy.special.entr(share).sum()))


def coding_length_parts(features: Float[Array, "B D"], distortion: Scalar) -> CodingLength:
    """Splits the coding length of features, as given, into two terms and the residual R.

    Give unit features (`losses.normalize`), as the theory does. Divide by B for values per clip.

    Args:
      features: [B, D].
      distortion: ε > 0.

    Returns:
      L, its first two terms, R, and whether the series converges.

    References:
      IGM (ECCV 2024, arXiv 2410.20349), theoretical analysis; see `losses.coding_length`.

    >>> parts = coding_length_parts(jnp.eye(2), distortion=2.0)
    >>> round(float(parts.first), 4), round(float(parts.second), 4), round(float(parts.radius), 4)
    (1.0, -0.125, 0.25)
    """
    first, second = losses.coding_length_series(features, distortion, order=2)
    return CodingLength(
        total=losses.coding_length(features, distortion),
        first=first,
        second=second,
        residual=losses.coding_length_residual(features, distortion),
        radius=theory.scaled_spectrum(features, distortion).max(),
    )
