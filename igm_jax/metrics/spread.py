"""How features spread: effective rank, cosines, alignment and uniformity.

All features are used by direction only (cosines), except in `effective_rank`. Functions of many
rows work through them in chunks, so memory grows with the rows, not with their pairs.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from igm_jax.arguments import Array, Scalar, check_same_shape
from igm_jax.errors import InputError
from igm_jax.losses import normalize
from igm_jax.metrics.arrays import CHUNK
from igm_jax.metrics.spectrum import spectrum_rank
from igm_jax.precision import dot, float32


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
    return spectrum_rank(jnp.linalg.svd(float32(features), compute_uv=False))


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
    unit = normalize(float32(features))
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
    check_same_shape("z", z, "z_hat", z_hat)
    return jnp.square(normalize(float32(z)) - normalize(float32(z_hat))).sum(axis=-1).mean()


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
    unit = normalize(float32(z))
    rows = _potentials(unit, jnp.square(unit).sum(axis=-1), jnp.asarray(t, unit.dtype))
    return jax.nn.logsumexp(rows) - jnp.log(float(b) * (b - 1))


@jax.jit
def _potentials(unit: jax.Array, length: jax.Array, t: jax.Array) -> jax.Array:
    """Logarithm of Σ_{j≠i} exp(−t ‖u_i − u_j‖²) for each row i."""
    b = unit.shape[0]

    def row(i: jax.Array) -> jax.Array:
        distance = length[i] + length - 2 * dot(unit, unit[i])
        return jax.nn.logsumexp(-t * distance, where=jnp.arange(b) != i)

    return jax.lax.map(row, jnp.arange(b), batch_size=min(b, CHUNK))


def _at_least_two(features: Array) -> int:
    if features.shape[0] < 2:
        raise InputError(f"{features.shape[0]} feature has no pairs: at least 2 are needed")
    return features.shape[0]
