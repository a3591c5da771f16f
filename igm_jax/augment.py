"""Augmentations: pure functions of clips and random keys."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int, Key

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
    chosen = _some(key, clip, probability)
    return jnp.where(chosen, clip[..., partner, :] * sign.reshape(1, 1, 1, 1, -1), clip)


def random_time_shift(
    key: Key[jax.Array, ""], clip: Float[Array, "B M T V C"], share: float
) -> Float[jax.Array, "B M T V C"]:
    """Cuts T frames at a random place of each clip, which is mirrored in time beyond its ends.

    Args:
      key: random key.
      clip: [B, M, T, V, C].
      share: of T, the frames that are added at each end before the cut, below 1.

    References:
      AimCLR (Guo et al., AAAI 2022): a sixth.
    """
    clip = jnp.asarray(clip)
    frames = clip.shape[2]
    added = int(frames * share)
    padded = jnp.pad(clip, [(0, 0), (0, 0), (added, added), (0, 0), (0, 0)], mode="reflect")
    start = jax.random.randint(key, (len(clip), 1), 0, 2 * added + 1, jnp.int32)
    chosen = start + jnp.arange(frames, dtype=jnp.int32)[None]
    return jnp.take_along_axis(padded, chosen[:, None, :, None, None], axis=2)


def random_noise(
    key: Key[jax.Array, ""], clip: Float[Array, "B M T V C"], sigma: float, probability: float
) -> Float[jax.Array, "B M T V C"]:
    """Adds normal noise with the deviation `sigma` to all coordinates of some clips."""
    clip, wide = _wide(clip)
    k_chosen, k_noise = jax.random.split(key)
    noise = sigma * jax.random.normal(k_noise, clip.shape, wide.dtype)
    return jnp.where(_some(k_chosen, clip, probability), wide + noise, wide).astype(clip.dtype)


def random_blur(
    key: Key[jax.Array, ""],
    clip: Float[Array, "B M T V C"],
    sigmas: tuple[float, float],
    probability: float,
) -> Float[jax.Array, "B M T V C"]:
    """Smooths some clips in time, by normalised Gaussian weights over 15 frames.

    Args:
      key: random key.
      clip: [B, M, T, V, C], mirrored in time beyond its ends.
      sigmas: the deviation in frames is uniform between these two, both > 0.
      probability: of each clip to be smoothed.
    """
    clip, wide = _wide(clip)
    k_chosen, k_sigma = jax.random.split(key)
    sigma = jax.random.uniform(k_sigma, (len(clip), 1), wide.dtype, *sigmas)
    frames, reach = clip.shape[2], 7
    offsets = jnp.arange(-reach, reach + 1, dtype=wide.dtype)[None]
    weights = jax.nn.softmax(-jnp.square(offsets / sigma) / 2, axis=-1)
    padded = jnp.pad(wide, [(0, 0), (0, 0), (reach, reach), (0, 0), (0, 0)], mode="reflect")
    blurred = sum(
        (
            weights[:, k, None, None, None, None] * padded[:, :, k : k + frames]
            for k in range(2 * reach + 1)
        ),
        start=jnp.zeros_like(wide),
    )
    return jnp.where(_some(k_chosen, clip, probability), blurred, wide).astype(clip.dtype)


def random_flattening(
    key: Key[jax.Array, ""], clip: Float[Array, "B M T V C"], probability: float
) -> Float[jax.Array, "B M T V C"]:
    """Sets one random coordinate of some clips to zero, in all bodies and frames."""
    clip = jnp.asarray(clip)
    k_chosen, k_axis = jax.random.split(key)
    axis = jax.random.randint(k_axis, (len(clip), 1, 1, 1, 1), 0, clip.shape[-1], jnp.int32)
    flat = axis == jnp.arange(clip.shape[-1], dtype=jnp.int32).reshape(1, 1, 1, 1, -1)
    return jnp.where(flat & _some(k_chosen, clip, probability), 0, clip).astype(clip.dtype)


def extreme(
    key: Key[jax.Array, ""], clip: Float[Array, "B M T V C"], pairs: tuple[tuple[int, int], ...]
) -> Float[jax.Array, "B M T V C"]:
    """Shifts, shears, mirrors, rotates, adds noise, blurs and flattens, as strongly as AimCLR.

    Args:
      key: random key.
      clip: [B, M, T, V, C] in metres.
      pairs: (left, right) joints, see `random_mirror`.

    References:
      AimCLR (Guo et al., AAAI 2022). There, mirroring only exchanges joints, one axis turns by up
      to 30° and the others by 1°, and the weights of the blur are not normalised.
    """
    keys = jax.random.split(key, 7)
    clip = random_time_shift(keys[0], clip, 1 / 6)
    clip = random_shear(keys[1], clip, 0.5)
    clip = random_mirror(keys[2], clip, pairs, 0.5)
    clip = random_rotation(keys[3], clip, (np.pi / 6, np.pi / 6, np.pi / 6))
    clip = random_noise(keys[4], clip, 0.01, 0.5)
    clip = random_blur(keys[5], clip, (0.1, 2.0), 0.5)
    return random_flattening(keys[6], clip, 0.5)


class Mixture(NamedTuple):
    """Clips into which parts of other clips of the batch are pasted.

    Attributes:
      clip: [B, M, T, V, C].
      partner: [B], the clip that each one gets its parts from.
      pasted: [B, M, T, V], True where a joint comes from the partner.
    """

    clip: Float[jax.Array, "B M T V C"]
    partner: Int[jax.Array, " B"]
    pasted: Bool[jax.Array, "B M T V"]


def mix_clips(
    key: Key[jax.Array, ""],
    clip: Float[Array, "B M T V C"],
    present: Bool[Array, "B M"],
    parts: tuple[int, ...],
    counts: tuple[int, int],
    shares: tuple[float, float],
) -> Mixture:
    """Pastes some body parts of another clip into each clip, for a stretch of time.

    All clips have partners at one random distance in the batch. The stretch has the same place in
    both clips. Nothing is pasted into an absent body, or from one. A single clip stays as it is.

    Args:
      key: random key.
      clip: [B, M, T, V, C].
      present: [B, M], False for an absent body.
      parts: number of the body part of each joint, from 0 on (`Layout.body_parts`).
      counts: least and most parts that are pasted.
      shares: least and most frames that are pasted, as shares of T in (0, 1].

    References:
      Chen et al., Contrastive Learning from Spatio-Temporal Mixed Skeleton Sequences
      (SkeleMixCLR, 2022), which PCM³ and ActCLR follow.
    """
    clip, present = jnp.asarray(clip), jnp.asarray(present)
    k_shift, k_parts, k_count, k_length, k_start = jax.random.split(key, 5)
    b, _, t, _, _ = clip.shape
    index = jnp.arange(b, dtype=jnp.int32)
    partner = (index + jax.random.randint(k_shift, (), 1, max(b, 2), jnp.int32)) % b

    draw = jax.random.uniform(k_parts, (b, max(parts) + 1), jnp.float32)
    rank = jnp.argsort(jnp.argsort(draw, axis=1), axis=1).astype(jnp.int32)
    count = jax.random.randint(k_count, (b, 1), counts[0], counts[1] + 1, jnp.int32)
    joints = (rank < count)[:, np.asarray(parts)]

    least, most = (max(1, round(share * t)) for share in shares)
    length = jax.random.randint(k_length, (b, 1), least, most + 1, jnp.int32)
    start = jax.random.randint(k_start, (b, 1), 0, t - length + 1, jnp.int32)
    time = jnp.arange(t, dtype=jnp.int32)[None]
    frames = (time >= start) & (time < start + length)

    both = present & present[partner]
    pasted = both[:, :, None, None] & frames[:, None, :, None] & joints[:, None, None, :]
    return Mixture(jnp.where(pasted[..., None], clip[partner], clip), partner, pasted)


def _some(
    key: Key[jax.Array, ""], clip: Float[Array, "B M T V C"], probability: float
) -> Bool[jax.Array, "B 1 1 1 1"]:
    """Whether each clip is chosen; the draws are the same in 64-bit mode."""
    chance = jnp.asarray(probability, jnp.float32)
    return jax.random.bernoulli(key, chance, (clip.shape[0], 1, 1, 1, 1))


def _wide(clip: Float[Array, "..."]) -> tuple[Float[jax.Array, "..."], Float[jax.Array, "..."]]:
    """The clip, and the clip in float32 at least: half precision rounds metres to centimetres."""
    check_floating(clip=clip)
    return jnp.asarray(clip), float32(clip)


def _turned(
    matrix: Float[Array, "B C C"], clip: Float[Array, "B M T V C"]
) -> Float[jax.Array, "B M T V C"]:
    # Metres: the default precision of GPU and TPU would add an error of the size of the noise.
    return jnp.einsum("bij,bmtvj->bmtvi", matrix, clip, precision=EXACT)
