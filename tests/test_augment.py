"""Augmentations against slow definitions, with jit and without."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from igm_jax import augment

KEY = jax.random.key(5)


def test_rotation_matrix_against_scipy():
    angles = jax.random.uniform(KEY, (50, 3), minval=-3.0, maxval=3.0)
    got = np.asarray(jax.jit(augment.rotation_matrix)(angles))
    # Lower-case axes are fixed in space: first about x, then y, then z.
    expected = Rotation.from_euler("xyz", np.asarray(angles, np.float64)).as_matrix()
    np.testing.assert_allclose(got, expected, atol=1e-6)
    np.testing.assert_allclose(got @ got.swapaxes(1, 2), np.tile(np.eye(3), (50, 1, 1)), atol=1e-6)
    np.testing.assert_allclose(np.linalg.det(got), 1, atol=1e-6)


@pytest.mark.parametrize(("axis", "turned"), [(0, [1, -3, 2]), (1, [3, 2, -1]), (2, [-2, 1, 3])])
def test_quarter_turns_are_right_handed(axis, turned):
    angles = np.zeros(3, np.float32)
    angles[axis] = np.pi / 2
    rotation = augment.rotation_matrix(jnp.asarray(angles))
    np.testing.assert_allclose(rotation @ jnp.array([1.0, 2.0, 3.0]), turned, atol=1e-6)


def rotations(before, after):
    """The matrix that leads from each clip to its turned self, by least squares."""
    out = []
    for x, y in zip(np.asarray(before), np.asarray(after)):
        c = x.shape[-1]
        solution, *_ = np.linalg.lstsq(x.reshape(-1, c), y.reshape(-1, c), rcond=None)
        out.append(solution.T)
    return np.stack(out)


def test_one_rotation_turns_all_bodies_and_frames_of_a_clip():
    clip = jax.random.normal(KEY, (4, 2, 5, 6, 3))
    turned = jax.jit(augment.random_rotation, static_argnums=2)(KEY, clip, (0.3, 0.3, 0.3))
    matrices = rotations(clip, turned)
    expected = np.einsum("bij,bmtvj->bmtvi", matrices, np.asarray(clip))
    np.testing.assert_allclose(turned, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(matrices), 1, atol=1e-5)
    for i in range(4):
        for j in range(i):
            assert np.abs(matrices[i] - matrices[j]).max() > 1e-2  # but clips differ
    plain = augment.random_rotation(KEY, clip, (0.3, 0.3, 0.3))
    np.testing.assert_allclose(turned, plain, atol=1e-6)
    np.testing.assert_array_equal(augment.random_rotation(KEY, clip, (0.0, 0.0, 0.0)), clip)


def test_angles_fill_their_limits():
    clip = jnp.broadcast_to(jnp.eye(3), (3000, 1, 1, 3, 3))
    limits = (0.1, 0.7, 0.3)
    matrices = rotations(clip, augment.random_rotation(KEY, clip, limits))
    angles = Rotation.from_matrix(matrices).as_euler("xyz")
    np.testing.assert_allclose(np.abs(angles).max(axis=0), limits, rtol=0.01)
    np.testing.assert_allclose(angles.mean(axis=0), 0, atol=0.03)
    np.testing.assert_allclose(angles.std(axis=0), np.array(limits) / np.sqrt(3), rtol=0.05)
    np.testing.assert_allclose(np.corrcoef(angles.T), np.eye(3), atol=0.06)


def test_points_of_an_image_turn_as_a_plane_in_space():
    """About the vertical a person gets narrower, by the cosine; about z it turns in the image."""
    clip = jax.random.normal(KEY, (200, 1, 4, 6, 2))
    limits = (0.4, 1.0, 0.2)
    flat = jnp.concatenate([clip, jnp.zeros_like(clip[..., :1])], axis=-1)
    expected = augment.random_rotation(KEY, flat, limits)[..., :2]
    turned = augment.random_rotation(KEY, clip, limits)
    np.testing.assert_allclose(turned, expected, atol=1e-5)
    widths = np.linalg.norm(rotations(clip, turned)[:, :, 0], axis=1)
    assert 0.5 < widths.min() < 0.6 and 0.999 < widths.max() <= 1.001
    upright = augment.random_rotation(KEY, clip, (0.0, 1.0, 0.0))
    np.testing.assert_allclose(upright[..., 1], clip[..., 1], atol=1e-6)


# Mirroring


def test_mirror_is_its_own_inverse_and_exchanges_the_sides():
    clip = jax.random.normal(jax.random.key(0), (5, 2, 4, 6, 3))
    mirrored = augment.random_mirror(jax.random.key(1), clip, ((2, 3), (4, 5)), 1.0)
    for joint, partner in enumerate((0, 1, 3, 2, 5, 4)):
        np.testing.assert_array_equal(
            mirrored[..., joint, :], np.asarray(clip)[..., partner, :] * [-1, 1, 1]
        )
    again = augment.random_mirror(jax.random.key(2), mirrored, ((2, 3), (4, 5)), 1.0)
    np.testing.assert_array_equal(again, clip)


def test_share_of_the_clips_that_is_mirrored():
    """All of a clip or nothing of it."""
    clip = jnp.ones((2000, 2, 3, 2, 3))
    signs = np.asarray(augment.random_mirror(jax.random.key(0), clip, (), 0.25))[..., 0]
    assert (np.ptp(signs.reshape(2000, -1), axis=1) == 0).all()
    assert abs((signs[:, 0, 0, 0] < 0).mean() - 0.25) < 0.04


def test_shear_is_one_linear_map_a_clip():
    """Least squares finds it from the points: unit diagonal, the rest within the amplitude."""
    clip = jax.random.normal(jax.random.key(0), (6, 2, 5, 4, 3))
    sheared = augment.random_shear(jax.random.key(1), clip, 0.4)
    entries = []
    for before, after in zip(np.asarray(clip), np.asarray(sheared)):
        found, *_ = np.linalg.lstsq(before.reshape(-1, 3), after.reshape(-1, 3), rcond=None)
        np.testing.assert_allclose(before @ found, after, atol=1e-5)
        np.testing.assert_allclose(np.diag(found), 1, atol=1e-5)
        entries.append(found[~np.eye(3, dtype=bool)])
    assert 0.3 < np.abs(entries).max() < 0.4 and np.ptp(entries) > 0.6


def test_time_shift_cuts_one_stretch_of_the_clip_mirrored_at_its_ends():
    clip = jax.random.normal(KEY, (40, 2, 12, 3, 3))
    shifted = np.asarray(augment.random_time_shift(KEY, clip, 1 / 6))
    starts = set()
    for before, after in zip(np.asarray(clip), shifted):
        frames = [2, 1, *range(12), 10, 9]  # two at each end, the first and last not doubled
        hits = [s for s in range(5) if np.array_equal(before[:, frames[s : s + 12]], after)]
        assert len(hits) == 1
        starts.update(hits)
    assert starts == set(range(5))


def test_noise_and_blur_of_half_of_the_clips():
    clip = jax.random.normal(KEY, (200, 1, 16, 2, 3))
    noise = np.asarray(augment.random_noise(KEY, clip, 0.3, 0.5) - clip)
    chosen = np.abs(noise).max(axis=(1, 2, 3, 4)) > 0
    assert 0.35 < chosen.mean() < 0.65
    assert np.std(noise[chosen]) == pytest.approx(0.3, rel=0.05)

    blurred = np.asarray(augment.random_blur(KEY, clip, (1.5, 1.5), 0.5))
    weights = np.exp(-((np.arange(-7, 8) / 1.5) ** 2) / 2)
    padded = np.pad(np.asarray(clip), [(0, 0), (0, 0), (7, 7), (0, 0), (0, 0)], mode="reflect")
    expected = np.zeros(clip.shape)
    for t in range(16):
        window = padded[:, :, t : t + 15]
        expected[:, :, t] = np.einsum("k,bmkvc->bmvc", weights / weights.sum(), window)
    chosen = np.abs(blurred - clip).max(axis=(1, 2, 3, 4)) > 0
    assert 0.35 < chosen.mean() < 0.65
    np.testing.assert_allclose(blurred[chosen], expected[chosen], atol=1e-5)
    still = augment.random_blur(KEY, jnp.ones((4, 1, 16, 2, 3)), (0.1, 2.0), 1.0)
    np.testing.assert_allclose(still, 1, rtol=1e-6)  # the weights sum to one


def test_flattening_takes_one_coordinate():
    clip = jax.random.normal(KEY, (300, 2, 4, 2, 3))
    flat = np.asarray(augment.random_flattening(KEY, clip, 0.5) == 0).all(axis=(1, 2, 3))
    counts = np.bincount(flat.sum(axis=1), minlength=3)
    assert counts[2:].sum() == 0 and 0.4 < counts[1] / 300 < 0.6
    assert (flat.mean(axis=0) > 0.1).all()  # each of the three


def test_extreme_changes_every_clip_and_keeps_its_shape():
    clip = jax.random.normal(KEY, (6, 2, 12, 4, 3))
    changed = jax.jit(augment.extreme, static_argnums=2)(KEY, clip, ((0, 1),))
    assert changed.shape == clip.shape and jnp.isfinite(changed).all()
    assert (jnp.abs(changed - clip).max(axis=(1, 2, 3, 4)) > 0.1).all()
    flat = augment.extreme(KEY, clip[..., :2], ((0, 1),))  # also in the plane
    assert flat.shape == (6, 2, 12, 4, 2)


def test_mixed_clips_get_parts_of_their_partner_for_a_while():
    parts, rng = (0, 0, 1, 2, 3, 4), np.random.default_rng(0)
    clip = rng.normal(size=(200, 2, 10, 6, 3)).astype(np.float32)
    present = rng.random((200, 2)) < 0.7
    settings = {"parts": parts, "counts": (2, 3), "shares": (0.3, 0.6)}
    mixed, partner, pasted = map(np.asarray, augment.mix_clips(KEY, clip, present, **settings))
    distance = set((partner - np.arange(200)) % 200)
    assert len(distance) == 1 and 0 not in distance
    np.testing.assert_array_equal(mixed, np.where(pasted[..., None], clip[partner], clip))
    seen = {"parts": set(), "lengths": set(), "starts": set()}
    for i, j in enumerate(partner):
        for m in range(2):
            if not (present[i, m] and present[j, m]):
                assert not pasted[i, m].any()
                continue
            frames = np.flatnonzero(pasted[i, m].any(axis=1))
            joints = np.flatnonzero(pasted[i, m].any(axis=0))
            assert pasted[i, m][np.ix_(frames, joints)].all()
            assert (np.diff(frames) == 1).all()
            chosen = {parts[joint] for joint in joints}
            assert len(joints) == sum(part in chosen for part in parts)  # whole parts
            seen["parts"].add(len(chosen))
            seen["lengths"].add(len(frames))
            seen["starts"].add(frames[0])
    assert seen == {"parts": {2, 3}, "lengths": {3, 4, 5, 6}, "starts": set(range(8))}


def test_one_clip_cannot_be_mixed():
    clip = jax.random.normal(KEY, (1, 1, 8, 6, 3))
    mixture = augment.mix_clips(KEY, clip, np.ones((1, 1), bool), (0,) * 6, (2, 3), (0.5, 1.0))
    np.testing.assert_array_equal(mixture.clip, clip)
    assert mixture.partner.tolist() == [0]
