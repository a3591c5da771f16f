"""Losses that compare a feature with its positive and with negatives."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from igm_jax.arguments import Array, Scalar, check_positive, check_same_shape
from igm_jax.errors import InputError
from igm_jax.losses.igm import normalize
from igm_jax.precision import dot, float32


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
    check_same_shape("z", z, "positive", positive)
    check_positive("temperature", temperature)
    z, positive, negatives = (normalize(float32(x)) for x in (z, positive, negatives))
    own = (z * positive).sum(axis=-1, keepdims=True)
    logits = jnp.concatenate([own, dot(z, negatives.T)], axis=-1) / temperature
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
    check_same_shape("z", z, "z_hat", z_hat)
    b = z.shape[0]
    if b < 2:
        raise InputError(f"spectral_contrastive_loss has no negative pairs in a batch of {b}")
    similarity = dot(float32(z), float32(z_hat).T)
    negatives = jnp.where(jnp.eye(b, dtype=bool), 0, jnp.square(similarity))
    return -2 * jnp.diagonal(similarity).mean() + negatives.sum() / (b * (b - 1))
