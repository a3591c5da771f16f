"""Quality of generated clips, against real ones: distributions of features, bones and jerk.

Judge against held-out real clips, and give the same figures for real clips against real clips: a
share of every figure is due to the number of clips, or to the sensor.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from igm_jax.arguments import Array, Scalar, check_floating, check_positive
from igm_jax.errors import InputError
from igm_jax.metrics.arrays import check_in_range, float64, over_distances
from igm_jax.precision import float32, root
from igm_jax.skeleton import Layout


def frechet_distance(real: Float[Array, "n D"], generated: Float[Array, "m D"]) -> float:
    """Fréchet distance ‖μ₁ − μ₂‖² + Tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½) of two Gaussians, fitted to features.

    It is computed on the host in float64. It falls with the number of clips, so compare sets of
    equal size.

    Args:
      real: [n, D] features with n ≥ 2.
      generated: [m, D] with m ≥ 2; n and m may be below D.

    Returns:
      ≥ 0, in squared units of the features; 0 for equal sets.

    Raises:
      InputError: a single clip, different D, or features that are not finite.

    References:
      Heusel et al., GANs Trained by a Two Time-Scale Update Rule (NeurIPS 2017), equation 6.

    >>> round(frechet_distance(np.array([[0.0], [2.0]]), np.array([[3.0], [5.0]])), 6)
    9.0
    """
    _check_sets(real, generated, least=2)
    real, generated = float64(real), float64(generated)
    if not (np.isfinite(real).all() and np.isfinite(generated).all()):
        raise InputError("features are not finite: leave out clips that were not generated well")
    shift = np.square(real.mean(axis=0) - generated.mean(axis=0)).sum()
    # Σ = RᵀR with the triangular R of centred, scaled features. Tr (Σ₁Σ₂)^½ is the sum of singular
    # values of R₁R₂ᵀ: the root of a product that is no longer symmetric is not needed.
    first, second = _root_of_covariance(real), _root_of_covariance(generated)
    spread = np.square(first).sum() + np.square(second).sum()
    return float(max(shift + spread - 2 * np.linalg.norm(first @ second.T, "nuc"), 0))  # rounding


def _root_of_covariance(x: np.ndarray) -> np.ndarray:
    centred = (x - x.mean(axis=0)) / (len(x) - 1) ** 0.5
    return np.asarray(np.linalg.qr(centred, mode="r"))


def manifold_precision_recall(
    real: Float[Array, "n D"], generated: Float[Array, "m D"], *, k: int = 3
) -> tuple[Float[jax.Array, ""], Float[jax.Array, ""]]:
    """Share of generated clips that look real (precision), and of real ones reached (recall).

    The manifold of a set is the union of balls around its features. The radius of each is the
    distance to its k-th nearest feature of the same set; a feature on the edge lies inside.

    Args:
      real: [n, D].
      generated: [m, D]; choose m = n, since more clips make the manifold of a set larger.
      k: in 1 … min(n, m) − 1; the published choice is 3.

    Returns:
      `(precision, recall)`, each in [0, 1].

    Raises:
      InputError: k out of range, or different D.

    References:
      Kynkäänniemi et al., Improved Precision and Recall Metric for Assessing Generative Models
      (NeurIPS 2019).

    >>> real = jnp.array([[0.0], [1.0], [2.0], [3.0]])
    >>> precision, recall = manifold_precision_recall(real, real[:2], k=1)
    >>> float(precision), float(recall)
    (1.0, 0.75)
    """
    _check_sets(real, generated, least=1)
    check_in_range("k", k, min(real.shape[0], generated.shape[0]) - 1, "other clips in a set")
    return _share_inside(generated, real, k), _share_inside(real, generated, k)


@functools.partial(jax.jit, static_argnames="k")
def _share_inside(rows: Array, manifold: Array, k: int) -> jax.Array:
    # The nearest of all is the feature itself, at a distance of zero.
    radius = over_distances(lambda d: -jax.lax.top_k(-d, k + 1)[0][k], manifold, manifold)
    inside = over_distances(lambda d: (d <= radius).any(), rows, manifold)
    return inside.astype(radius.dtype).mean()


def diversity(features: Float[Array, "B D"]) -> Float[jax.Array, ""]:
    """Mean Euclidean distance over all pairs i ≠ j of features.

    Generated clips should have that of real clips, neither less nor more.

    Args:
      features: [B, D] with B ≥ 2.

    Returns:
      Scalar ≥ 0, in units of the features; 0 if all clips are one.

    Raises:
      InputError: a single clip.

    References:
      Guo et al., Action2Motion (ACM MM 2020), which draws 200 pairs; here all pairs are taken.

    >>> round(float(diversity(jnp.array([[0.0], [1.0], [2.0]]))), 4)
    1.3333
    """
    count = features.shape[0]
    if count < 2:
        raise InputError(f"{count} clip has no pairs: at least 2 are needed")
    rows = over_distances(_sum_of_roots, features, features)
    return rows.sum() / (float(count) * (count - 1))


def bone_lengths(
    clip: Float[Array, "*batch V C"], layout: Layout
) -> Float[jax.Array, "*batch bones"]:
    """Length of each bone, in the order of `layout.bones`.

    Args:
      clip: joint coordinates of present bodies, in metres and not standardised.
      layout: whose V joints these are.

    Returns:
      Lengths in the units of the clip.

    Raises:
      InputError: a layout of another number of joints, or without bones; integers.

    >>> layout = Layout("two", ("a", "b"), (-1, 0))
    >>> bone_lengths(jnp.array([[0.0, 0.0], [3.0, 4.0]]), layout).tolist()
    [5.0]
    """
    check_floating(clip=clip)
    if clip.shape[-2] != layout.num_joints:
        raise InputError(
            f"clips have {clip.shape[-2]} joints, but layout {layout.name!r} {layout.num_joints}"
        )
    if not layout.bones:
        raise InputError(f"layout {layout.name!r} has no bones: give its joints parents")
    joints, parents = np.array(layout.bones).T
    clip = float32(clip)
    return root(jnp.square(clip[..., joints, :] - clip[..., parents, :]).sum(axis=-1))


def bone_length_error(
    generated: Float[Array, "*batch T V C"],
    reference: Float[Array, "*batch _ V C"],
    layout: Layout,
) -> Float[jax.Array, "*batch"]:
    """Mean deviation in % of bone lengths from those of a real clip of the same person.

    The length of a real bone is its mean over the frames. A bone without length does not count.

    Args:
      generated: [..., T, V, C] clips, in metres.
      reference: [..., any T, V, C] the real clip that each was generated from.
      layout: of the joints.

    Returns:
      [...] the error of each clip, ≥ 0; NaN where the reference has no length at all.

    Raises:
      InputError: see `bone_lengths`.

    >>> layout = Layout("two", ("a", "b"), (-1, 0))
    >>> clip = jnp.array([[[0.0, 0.0], [1.0, 0.0]]])
    >>> round(float(bone_length_error(1.1 * clip, clip, layout)), 3)
    10.0
    """
    length = bone_lengths(reference, layout).mean(axis=-2)
    deviation = jnp.abs(bone_lengths(generated, layout) - length[..., None, :]).mean(axis=-2)
    return 100 * _mean_share(deviation, length)


def bone_length_variation(
    clip: Float[Array, "*batch T V C"], layout: Layout
) -> Float[jax.Array, "*batch"]:
    """Standard deviation of bone lengths over the frames in % of their mean, averaged over bones.

    It needs no reference, so it serves unconditional clips. Bones of a rigid skeleton have 0; those
    of a depth sensor have several %.

    Args:
      clip: [..., T, V, C], in metres.
      layout: of the joints.

    Returns:
      [...] the variation of each clip, ≥ 0; NaN where no bone has a length.

    Raises:
      InputError: see `bone_lengths`.

    >>> layout = Layout("two", ("a", "b"), (-1, 0))
    >>> clip = jnp.array([[[0.0, 0.0], [0.9, 0.0]], [[0.0, 0.0], [1.1, 0.0]]])
    >>> round(float(bone_length_variation(clip, layout)), 3)
    10.0
    """
    lengths = bone_lengths(clip, layout)
    mean = lengths.mean(axis=-2)
    variance = jnp.square(lengths - mean[..., None, :]).mean(axis=-2)
    return 100 * _mean_share(root(variance), mean)


def mean_jerk(
    clip: Float[Array, "*batch T V C"], frames_per_second: Scalar = 1
) -> Float[jax.Array, "*batch"]:
    """Mean length of the third derivative of joint positions: how much the clip shakes.

    Args:
      clip: [..., T, V, C] with T ≥ 4.
      frames_per_second: of the clip; 1 gives units per frame³. A clip that was resized in time has
        another rate than the recording.

    Returns:
      [...] the jerk of each clip, in units of the clip per second³; 0 for constant acceleration.

    Raises:
      InputError: fewer than four frames, or a rate that is not above 0.

    References:
      Flash & Hogan, The Coordination of Arm Movements (J. Neuroscience 1985).

    >>> clip = jnp.arange(6.0)[:, None, None] ** 3
    >>> float(mean_jerk(clip)), float(mean_jerk(clip, frames_per_second=2))
    (6.0, 48.0)
    """
    check_positive("frames_per_second", frames_per_second)
    if clip.shape[-3] < 4:
        raise InputError(f"{clip.shape[-3]} frames have no jerk: at least 4 are needed")
    third = jnp.diff(float32(clip), n=3, axis=-3)
    return root(jnp.square(third).sum(axis=-1)).mean(axis=(-1, -2)) * frames_per_second**3


def _mean_share(part: jax.Array, whole: jax.Array) -> jax.Array:
    """Mean of part / whole over the bones whose whole is not zero."""
    counts = whole > 0
    share = jnp.where(counts, part / jnp.where(counts, whole, 1), 0).sum(axis=-1)
    number = counts.sum(axis=-1).astype(part.dtype)
    return jnp.where(number > 0, share / jnp.maximum(number, 1), jnp.nan)


def _sum_of_roots(square: jax.Array) -> jax.Array:
    return root(square).sum()


def _check_sets(real: Array, generated: Array, least: int) -> None:
    if real.shape[1] != generated.shape[1]:
        raise InputError(
            f"real features have {real.shape[1]} dimensions and generated ones "
            f"{generated.shape[1]}: take both from one encoder"
        )
    if min(real.shape[0], generated.shape[0]) < least:
        raise InputError(
            f"{real.shape[0]} real and {generated.shape[0]} generated clips: "
            f"give at least {least} of each"
        )
