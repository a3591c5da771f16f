"""Augmentations: pure functions of clips and random keys."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Key

from igm_jax.arguments import Array, check_floating
from igm_jax.precision import EXACT, float32


def rotation_matrix(angles: Float[Array, "*batch 3"]) -> Float[jax.Array, "*batch 3 3"]:
    """R_z R_y R_x for angles about the x, y and z axes, in radians."""
    (cx, cy, cz), (sx, sy, sz) = (jnp.unstack(f(angles), axis=-1) for f in (jnp.cos, jnp.sin))
    rows = [
        [cy * cz, sx * sy * cz - cx * sz, cx * sy * cz + sx * sz],
        [cy * sz, sx * sy * sz + cx * cz, cx * sy * sz - sx * cz],
        [-sy, sx * cy, cx * cy],
    ]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


def random_rotation(
    key: Key[jax.Array, ""], clip: Float[Array, "B M T V C"], max_angles: tuple[float, float, float]
) -> Float[jax.Array, "B M T V C"]:
    """Rotates each clip about the origin by one random rotation for all bodies and frames.

    Points of an image (C = 2) are rotated as if they lay in the plane z = 0, and projected back. So
    a rotation about the vertical makes a person narrower, as one who turns aside.

    Args:
      key: random key.
      clip: [B, M, T, V, C] with C = 3 or C = 2.
      max_angles: each angle is uniform in ± this many radians about x, y (up) and z.
    """
    clip, wide = _wide(clip)
    channels = clip.shape[-1]
    limit = jnp.asarray(max_angles, wide.dtype)
    angles = jax.random.uniform(key, (clip.shape[0], 3), wide.dtype, -1.0, 1.0) * limit[None]
    rotation = rotation_matrix(angles)[:, :channels, :channels]
    return _turned(rotation, wide).astype(clip.dtype)


def random_shear(
    key: Key[jax.Array, ""], clip: Float[Array, "B M T V C"], amplitude: float
) -> Float[jax.Array, "B M T V C"]:
    """Shears each clip, x ← (I + S) x, by one S with zero diagonal for all bodies and frames.

    Args:
      key: random key.
      clip: [B, M, T, V, C].
      amplitude: the other entries of S are uniform in ± this.

    References:
      Rao et al., Augmented Skeleton Based Contrastive Action Learning (2021), which SkeletonCLR and
      AimCLR follow with an amplitude of 0.5.
    """
    clip, wide = _wide(clip)
    channels = clip.shape[-1]
    shape = (clip.shape[0], channels, channels)
    off_diagonal = 1 - jnp.eye(channels, dtype=wide.dtype)[None]
    shear = jax.random.uniform(key, shape, wide.dtype, -amplitude, amplitude) * off_diagonal
    return (wide + _turned(shear, wide)).astype(clip.dtype)


def random_mirror(
    key: Key[jax.Array, ""],
    clip: Float[Array, "B M T V C"],
    pairs: tuple[tuple[int, int], ...],
    probability: float,
) -> Float[jax.Array, "B M T V C"]:
    """Mirrors some clips: x → −x in all bodies and frames, with left and right joints exchanged.

    Args:
      key: random key.
      clip: [B, M, T, V, C], x across the body or the image.
      pairs: (left, right) joints; the others keep their place.
      probability: of each clip to be mirrored.
    """
    clip = jnp.asarray(clip)
    partner = np.arange(clip.shape[-2])
    for left, right in pairs:
        partner[left], partner[right] = right, left
    sign = jnp.where(jnp.arange(clip.shape[-1]) == 0, -1, 1).astype(clip.dtype)
    chance = jnp.asarray(probability, jnp.float32)  # draws alike in 64-bit mode
    chosen = jax.random.bernoulli(key, chance, (clip.shape[0], 1, 1, 1, 1))
    return jnp.where(chosen, clip[..., partner, :] * sign.reshape(1, 1, 1, 1, -1), clip)


def _wide(clip: Float[Array, "..."]) -> tuple[Float[jax.Array, "..."], Float[jax.Array, "..."]]:
    """The clip, and the clip in float32 at least: half precision rounds metres to centimetres."""
    check_floating(clip=clip)
    return jnp.asarray(clip), float32(clip)


def _turned(
    matrix: Float[Array, "B C C"], clip: Float[Array, "B M T V C"]
) -> Float[jax.Array, "B M T V C"]:
    # Metres: the default precision of GPU and TPU would add an error of the size of the noise.
    return jnp.einsum("bij,bmtvj->bmtvi", matrix, clip, precision=EXACT)
