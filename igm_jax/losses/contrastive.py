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
    log_p = positive_log_probabilities(z, positive, negatives, temperature=temperature)
    return -log_p[:, 0]


def positive_log_probabilities(
    z: Float[Array, "B D"],
    positive: Float[Array, "B D"],
    negatives: Float[Array, "Q D"],
    *,
    temperature: Scalar = 0.1,
) -> Float[jax.Array, "B N"]:
    """Log-softmax over the cosines to the positive, which comes first, and to the negatives.

    Args:
      z: [B, D] features.
      positive: [B, D], one for each.
      negatives: [Q, D], common to all; Q may be 0.
      temperature: > 0.

    Returns:
      [B, 1 + Q].

    >>> z = jnp.array([[1.0, 0.0]])
    >>> log_p = positive_log_probabilities(z, z, -z, temperature=1e6)
    >>> jnp.exp(log_p).round(3).tolist()
    [[0.5, 0.5]]
    """
    check_same_shape("z", z, "positive", positive)
    check_positive("temperature", temperature)
    z, positive, negatives = (normalize(float32(x)) for x in (z, positive, negatives))
    own = (z * positive).sum(axis=-1, keepdims=True)
    logits = jnp.concatenate([own, dot(z, negatives.T)], axis=-1) / temperature
    return jax.nn.log_softmax(logits, axis=-1)


def mined_similarity_loss(
    z: Float[Array, "B D"],
    z_hat: Float[Array, "B D"],
    references: Float[Array, "Q D"],
    *,
    positives: int,
    target_temperature: Scalar = 0.05,
    temperature: Scalar = 0.1,
) -> Float[jax.Array, " B"]:
    """KL(P'(z) ‖ P(ẑ)), where P'(z) holds the nearest references to be positives of the clip.

    P'(z) is `similarity_distribution` with the cosines of the nearest references raised to the
    largest one. With one positive it is `distribution_idempotency_loss`. Only `z_hat` gets a
    gradient.

    Args:
      z: [B, D] features that make the target.
      z_hat: [B, D] features of other views of the same clips.
      references: [Q, D] features of other clips.
      positives: number of nearest references, from 1 to Q. References as near as the last of them
        are positives too.
      target_temperature: of P'(z), > 0.
      temperature: of P(ẑ), > 0.

    Returns:
      [B], ≥ 0 up to rounding.

    Raises:
      InputError: `positives` is not in 1 … Q, or a temperature is not positive.

    References:
      CPM (Zhang et al., ECCV 2022, arXiv 2208.03497), positive-enhanced learning. No code is
      public, and the form of the loss was not checked against the paper.

    >>> z, references = jnp.array([[1.0, 0.0]]), jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    >>> loss = mined_similarity_loss(z, jnp.array([[1.0, 1.0]]), references, positives=2)
    >>> round(float(loss[0]), 4)  # two of three are positives, and ẑ has the same cosine to both
    0.0
    """
    check_same_shape("z", z, "z_hat", z_hat)
    check_positive("target_temperature", target_temperature)
    check_positive("temperature", temperature)
    if not 1 <= positives <= references.shape[0]:
        raise InputError(
            f"positives={positives}: must be from 1 to {references.shape[0]}, the references"
        )
    z, z_hat, references = (normalize(float32(x)) for x in (z, z_hat, references))
    references = jax.lax.stop_gradient(references)
    cosine = jax.lax.stop_gradient(dot(z, references.T))
    nearest = jax.lax.top_k(cosine, positives)[0]
    raised = jnp.where(cosine >= nearest[:, -1:], nearest[:, :1], cosine)
    target = jax.nn.log_softmax(raised / target_temperature, axis=-1)
    log_p = jax.nn.log_softmax(dot(z_hat, references.T) / temperature, axis=-1)
    return (jnp.exp(target) * (target - log_p)).sum(axis=-1)


def mutual_distillation_loss(
    targets: Float[Array, "S B D"],
    features: Float[Array, "S B D"],
    references: Float[Array, "S Q D"],
    *,
    nearest: int,
    target_temperature: Scalar = 0.05,
    temperature: Scalar = 0.1,
) -> Float[jax.Array, " B"]:
    """Sum over ordered pairs of streams a ≠ b of KL(P_a ‖ P_b), which teaches b what a knows.

    P_a is the softmax of the cosines between the target and the references in stream a. It is
    restricted to the references that are nearest to the target there. P_b is the softmax of the
    cosines between the feature and the same references, in stream b. Only `features` get a
    gradient.

    Args:
      targets: [S, B, D] features of B clips in S streams, those that make the targets.
      features: [S, B, D] features of other views of the same clips.
      references: [S, Q, D] features of other clips, the same ones in all streams.
      nearest: number of nearest references, from 0 to Q.
      target_temperature: of P_a, > 0.
      temperature: of P_b, > 0.

    Returns:
      [B], ≥ 0 up to rounding; 0 for one stream.

    Raises:
      InputError: `nearest` is not in 0 … Q, or a temperature is not positive.

    References:
      CMD (Mao et al., ECCV 2022).

    >>> z, references = jnp.ones((2, 1, 2)), jnp.stack([jnp.eye(2), -jnp.eye(2)])
    >>> mutual_distillation_loss(z, z, references, nearest=2).tolist()
    [0.0]
    """
    check_same_shape("targets", targets, "features", features)
    check_positive("target_temperature", target_temperature)
    check_positive("temperature", temperature)
    if not 0 <= nearest <= references.shape[1]:
        raise InputError(
            f"nearest={nearest}: must be from 0 to {references.shape[1]}, the references"
        )
    targets, features, references = (normalize(float32(x)) for x in (targets, features, references))
    references = jax.lax.stop_gradient(references)

    @jax.vmap
    def target(z: jax.Array, references: jax.Array) -> tuple[jax.Array, jax.Array]:
        cosine, index = jax.lax.top_k(jax.lax.stop_gradient(dot(z, references.T)), nearest)
        return jax.nn.log_softmax(cosine / target_temperature, axis=-1), index

    def divergence(log_p: jax.Array, index: jax.Array, cosine: jax.Array) -> jax.Array:
        chosen = jnp.take_along_axis(cosine, index, axis=-1) / temperature
        return (jnp.exp(log_p) * (log_p - jax.nn.log_softmax(chosen, axis=-1))).sum(axis=-1)

    log_p, index = target(targets, references)
    cosine = jax.vmap(lambda z, references: dot(z, references.T))(features, references)
    of_pairs = jax.vmap(jax.vmap(divergence, (None, None, 0)), (0, 0, None))(log_p, index, cosine)
    others = ~jnp.eye(len(targets), dtype=bool)[..., None]
    return jnp.where(others, of_pairs, 0).sum(axis=(0, 1))


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
