"""The augmentation graph of the theory: pairs of positives, singular values and the bound's terms.

The graph has n clips as nodes. The n × n matrix `joint` holds the probability that a pair of
positives consists of clips i and j: it is symmetric and sums to 1. A matrix of n clips takes 4n²
bytes, 9 MB for 1500 clips.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from igm_jax.arguments import Array, check_at_least, concrete
from igm_jax.errors import InputError
from igm_jax.metrics.arrays import check_count, check_labelled, over_distances
from igm_jax.precision import dot, float32, root


def positive_pairs(
    generated: Float[Array, "m D"], clips: Float[Array, "n D"], origins: Int[Array, " m"]
) -> Int[jax.Array, "m 2"]:
    """Pairs each generated clip's origin with the real clip that the generated one is nearest to.

    A generated clip is no node of the graph. It stands for the real clip that looks most like it,
    which is its own origin unless the generator has left it. Use a descriptor that was not trained,
    such as coordinates: features of the encoder would measure the encoder.

    Args:
      generated: [m, D] descriptors of generated positives.
      clips: [n, D] descriptors of the n clips.
      origins: [m] the clip in 0 … n−1 that each was generated from.

    Returns:
      [m, 2] (origin, nearest clip); among equal distances the lower clip.

    Raises:
      InputError: an origin out of range, or different lengths.

    >>> x = jnp.array([[0.0], [1.0]])
    >>> positive_pairs(jnp.array([[0.1], [0.9]]), x, jnp.array([0, 0])).tolist()
    [[0, 0], [0, 1]]
    """
    check_count("origins", origins, generated.shape[0], "generated clips")
    _check_nodes("origins", origins, clips.shape[0])
    nearest = over_distances(jnp.argmin, generated, clips)
    return jnp.stack([jnp.asarray(origins, nearest.dtype), nearest], axis=1)


def pair_distribution(pairs: Int[Array, "m 2"], num_clips: int) -> Float[jax.Array, "n n"]:
    """Probability of each pair of clips, from pairs of positives that were drawn.

    Args:
      pairs: [m, 2] positions of clips in 0 … num_clips−1, in any order within a pair.
      num_clips: n.

    Returns:
      `joint` [n, n], symmetric, with sum 1.

    Raises:
      InputError: no pairs, or a position out of range.

    References:
      HaoChen et al., Provable Guarantees for Self-Supervised Deep Learning with Spectral
      Contrastive Loss (NeurIPS 2021), the population augmentation graph.

    >>> pair_distribution(jnp.array([[0, 0], [0, 1]]), 2).tolist()
    [[0.5, 0.25], [0.25, 0.0]]
    """
    if not pairs.shape[0]:
        raise InputError("no pairs of positives: the graph needs at least one")
    _check_nodes("pairs", pairs, num_clips)
    pairs = jnp.asarray(pairs)
    counts = jnp.zeros((num_clips, num_clips), jnp.float32).at[pairs[:, 0], pairs[:, 1]].add(1.0)
    return (counts + counts.T) / (2 * pairs.shape[0])


def overlap_distribution(posterior: Float[Array, "m n"]) -> Float[jax.Array, "n n"]:
    """Probability of each pair of clips that may both be the origin of one generated clip.

    Two independent draws from the posterior of a generated clip are a pair of positives. It needs
    fewer generated clips than counting pairs, and is positive semi-definite.

    Args:
      posterior: [m, n] for each generated (or noisy) clip the probability of its n possible
        origins; rows sum to 1.

    Returns:
      `joint` [n, n], symmetric, with sum 1.

    References:
      HaoChen et al. (NeurIPS 2021): w(x, x') = E over natural clips of their augmentations'
      probabilities, here with the two kinds of clips exchanged.

    >>> overlap_distribution(jnp.array([[1.0, 0.0], [0.5, 0.5]])).tolist()
    [[0.625, 0.125], [0.125, 0.125]]
    """
    posterior = float32(posterior)
    return dot(posterior.T, posterior) / posterior.shape[0]


def normalized_adjacency(joint: Float[Array, "n n"]) -> Float[jax.Array, "n n"]:
    """A = D^(−1/2) · joint · D^(−1/2), D the row sums; a clip without pairs has zeros.

    Args:
      joint: see `pair_distribution`.

    Returns:
      [n, n] symmetric, with singular values in [0, 1]; the largest is 1.

    References:
      HaoChen et al. (NeurIPS 2021), section 3; IGM (ECCV 2024), theoretical analysis.

    >>> normalized_adjacency(jnp.array([[0.25, 0.25], [0.25, 0.25]])).round(4).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """
    joint = float32(joint)
    degree = root(joint.sum(axis=1))
    scale = jnp.where(degree > 0, 1 / jnp.where(degree > 0, degree, 1), 0)
    return scale[:, None] * joint * scale[None]


def singular_values(adjacency: Float[Array, "n n"]) -> Float[jax.Array, " n"]:
    """Singular values of a symmetric matrix, largest first: absolute values of its eigenvalues.

    Args:
      adjacency: [n, n] symmetric, of `normalized_adjacency`.

    Returns:
      [n], ≥ 0.

    >>> singular_values(jnp.array([[0.0, 2.0], [2.0, 0.0]])).tolist()
    [2.0, 2.0]
    """
    return jnp.sort(jnp.abs(jnp.linalg.eigvalsh(float32(adjacency))), descending=True)


def tail_sum(values: Float[Array, " n"], d: int) -> Float[jax.Array, ""]:
    """Σ_{i>d} λ_i², the part of a graph that no features of d dimensions represent.

    Args:
      values: [n] singular values, largest first.
      d: dimensions of the features, ≥ 0.

    Returns:
      Scalar ≥ 0; 0 where d ≥ n.

    Raises:
      InputError: d below 0.

    References:
      IGM (ECCV 2024), the first term of the bound P_e ≤ c₁ Σ_{i>d} λ_i² + c₂ α.

    >>> float(tail_sum(jnp.array([1.0, 0.5, 0.5]), 1))
    0.5
    """
    check_at_least("d", d, 0)
    return jnp.square(float32(values)[d:]).sum()


def cluster_impurity(joint: Float[Array, "n n"], labels: Int[Array, " n"]) -> Float[jax.Array, ""]:
    """α, the probability that the two clips of a positive pair belong to different classes.

    Args:
      joint: see `pair_distribution`.
      labels: [n], ≥ 0.

    Returns:
      Scalar in [0, 1]; 0 if positives never leave their class.

    Raises:
      InputError: a concrete label below 0: leave these clips out of the graph.

    References:
      IGM (ECCV 2024), the second term of the bound; HaoChen et al. (NeurIPS 2021), assumption 3.5,
      whose α bounds this probability from above by 2α.

    >>> float(cluster_impurity(jnp.array([[0.5, 0.125], [0.125, 0.25]]), jnp.array([0, 1])))
    0.25
    """
    check_count("labels", labels, joint.shape[0], "clips in the graph")
    check_labelled("labels", labels)
    labels, joint = jnp.asarray(labels), float32(joint)
    return jnp.where(labels[:, None] != labels[None], joint, 0).sum()


def factorization_error(
    joint: Float[Array, "n n"], features: Float[Array, "n D"], *, rescale: bool = False
) -> Float[jax.Array, ""]:
    """‖A − FFᵀ‖²_F, A the normalised adjacency and F the features times √(row sum of joint).

    It is the spectral contrastive loss over all pairs, plus ‖A‖²_F. The best features of D
    dimensions reach `tail_sum(singular_values(A), D)` if A is positive semi-definite, and not less
    otherwise. Divide by ‖A‖²_F (`tail_sum(…, 0)`) for a share.

    Args:
      joint: see `pair_distribution`.
      features: [n, D] of the clips; their scale counts.
      rescale: multiply all features by the one factor that makes the error smallest. Unit features
        have no scale of their own.

    Returns:
      Scalar ≥ 0.

    References:
      HaoChen et al. (NeurIPS 2021), lemma 3.2; IGM (ECCV 2024), theoretical analysis, with F
      transposed.

    >>> float(factorization_error(jnp.eye(2) / 2, 2**0.5 * jnp.eye(2)).round(4))
    0.0
    """
    check_count("features", features, joint.shape[0], "clips in the graph")
    joint = float32(joint)
    adjacency = normalized_adjacency(joint)
    weighted = root(joint.sum(axis=1))[:, None] * float32(features)
    product = dot(weighted, weighted.T)
    if rescale:
        square = jnp.square(product).sum()
        factor = (adjacency * product).sum() / jnp.where(square > 0, square, 1)
        product = jnp.maximum(factor, 0) * product
    return jnp.square(adjacency - product).sum()


def _check_nodes(name: str, positions: Array, count: int) -> None:
    known = concrete(positions)
    if known is not None and known.size and (known.min() < 0 or known.max() >= count):
        raise InputError(
            f"{name} {known.min()}..{known.max()} are outside 0..{count - 1}, the clips"
        )
