"""Quality of generation against SciPy, loops and clips with known answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
import tiny

from igm_jax import metrics
from igm_jax.errors import InputError
from igm_jax.skeleton import KINECT20, Layout

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(30, 4)).astype(np.float32)
FAKE = (0.7 * RNG.normal(size=(25, 4)) + 0.5).astype(np.float32)
CLIP = RNG.normal(size=(2, 8, 6, 3)).astype(np.float32)
DOT = Layout("dot", ("a",), (-1,))
BONES = tiny.LAYOUT.bones


# Fréchet distance.


def naive_frechet(a, b):
    a, b = np.float64(a), np.float64(b)
    first, second = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(first @ second).real
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root)


def test_frechet_distance_equals_scipy():
    for array in (np.asarray, jnp.asarray):
        got = metrics.frechet_distance(array(REAL), array(FAKE))
        assert got == pytest.approx(naive_frechet(REAL, FAKE), rel=1e-6)


def test_frechet_distance_of_a_shift_and_of_scaling():
    assert metrics.frechet_distance(REAL, REAL) < 1e-9
    assert metrics.frechet_distance(REAL, REAL + 2) == pytest.approx(16, rel=1e-5)
    variance = np.float64(REAL).var(axis=0, ddof=1).sum()
    centred = REAL - REAL.mean(axis=0)
    assert metrics.frechet_distance(centred, 3 * centred) == pytest.approx(4 * variance, rel=1e-4)


def test_frechet_distance_of_fewer_clips_than_dimensions():
    """Singular covariances, of which a matrix root is not accurate: here the digits are kept."""
    wide = RNG.normal(size=(5, 40))
    assert metrics.frechet_distance(wide, wide) < 1e-9
    assert metrics.frechet_distance(wide, wide[::-1]) < 1e-9
    flat = metrics.frechet_distance(np.zeros((3, 2)), np.zeros((4, 2)))
    assert flat == 0


# Precision and recall.


def naive_share_inside(rows, manifold, k):
    distance = lambda a, b: np.linalg.norm(np.float64(a) - np.float64(b))  # noqa: E731
    radius = [
        sorted(distance(a, b) for j, b in enumerate(manifold) if j != i)[k - 1]
        for i, a in enumerate(manifold)
    ]
    return np.mean([any(distance(row, m) <= r for m, r in zip(manifold, radius)) for row in rows])


@pytest.mark.parametrize("k", [1, 3, 24])
def test_precision_and_recall_equal_loops(k):
    precision, recall = jax.jit(metrics.manifold_precision_recall, static_argnames="k")(
        REAL, FAKE, k=k
    )
    np.testing.assert_allclose(precision, naive_share_inside(FAKE, REAL, k), rtol=1e-6)
    np.testing.assert_allclose(recall, naive_share_inside(REAL, FAKE, k), rtol=1e-6)
    if k == 3:
        assert 0 < recall < precision < 1


def test_precision_and_recall_of_extremes():
    assert metrics.manifold_precision_recall(REAL, REAL) == (1, 1)
    assert metrics.manifold_precision_recall(REAL, REAL + 100) == (0, 0)
    one_clip = np.tile(REAL[:1], (30, 1))  # collapsed: all real, and nothing covered
    precision, recall = metrics.manifold_precision_recall(REAL, one_clip)
    assert precision == 1 and recall == pytest.approx(1 / 30)


def test_precision_in_chunks():
    real, fake = (RNG.normal(size=(150, 2)).astype(np.float32) for _ in range(2))
    precision, _ = metrics.manifold_precision_recall(real, fake, k=2)
    np.testing.assert_allclose(precision, naive_share_inside(fake, real, 2), rtol=1e-6)


def test_diversity_equals_loops():
    pairs = [np.linalg.norm(REAL[i] - REAL[j]) for i in range(30) for j in range(i)]
    np.testing.assert_allclose(metrics.diversity(REAL), np.mean(pairs), rtol=1e-5)
    assert metrics.diversity(np.tile(REAL[:1], (5, 1))) == 0
    assert jnp.isfinite(jax.grad(metrics.diversity)(jnp.ones((3, 2)))).all()


# Bones.


def naive_length(frame, bone):
    return np.linalg.norm(np.float64(frame[bone[0]]) - frame[bone[1]])


def test_bone_lengths_equal_loops():
    got = metrics.bone_lengths(CLIP, tiny.LAYOUT)
    assert got.shape == (2, 8, len(BONES))
    wanted = [[[naive_length(f, bone) for bone in BONES] for f in clip] for clip in CLIP]
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_bone_length_error_equals_loops():
    reference = RNG.normal(size=(2, 5, 6, 3)).astype(np.float32)  # of another number of frames
    wanted = []
    for clip, real in zip(CLIP, reference):
        errors = []
        for bone in BONES:
            length = np.mean([naive_length(f, bone) for f in real])
            errors += [abs(naive_length(f, bone) - length) / length for f in clip]
        wanted.append(100 * np.mean(errors))
    got = jax.jit(metrics.bone_length_error, static_argnums=2)(CLIP, reference, tiny.LAYOUT)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_bone_length_variation_equals_loops():
    wanted = []
    for clip in CLIP:
        lengths = np.array([[naive_length(f, bone) for bone in BONES] for f in clip])
        wanted.append(100 * np.mean(lengths.std(axis=0) / lengths.mean(axis=0)))
    got = jax.jit(metrics.bone_length_variation, static_argnums=1)(CLIP, tiny.LAYOUT)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_a_rigid_body_that_moves_has_no_error():
    rotation, _ = np.linalg.qr(RNG.normal(size=(3, 3)))
    pose = RNG.normal(size=(20, 3))
    moving = np.float32(
        np.stack([pose @ np.linalg.matrix_power(rotation, t) + t for t in range(9)])
    )
    still = np.float32(np.tile(pose, (3, 1, 1)))
    assert metrics.bone_length_error(moving, still, KINECT20) < 1e-3
    assert metrics.bone_length_variation(moving, KINECT20) < 1e-3
    grown = metrics.bone_length_error(0.9 * still, still, KINECT20)
    assert grown == pytest.approx(10, rel=1e-4)


def test_bones_without_length_do_not_count():
    clip = CLIP.copy()
    clip[:, :, BONES[0][0]] = clip[:, :, BONES[0][1]]
    others = [i for i, bone in enumerate(BONES) if BONES[0] != bone]
    lengths = np.asarray(metrics.bone_lengths(clip, tiny.LAYOUT))
    assert (lengths[..., 0] == 0).all()
    wanted = 100 * (lengths.std(axis=1) / lengths.mean(axis=1).clip(1e-9))[:, others].mean(axis=1)
    np.testing.assert_allclose(metrics.bone_length_variation(clip, tiny.LAYOUT), wanted, rtol=1e-4)
    absent = np.zeros_like(CLIP)
    assert jnp.isnan(metrics.bone_length_variation(absent, tiny.LAYOUT)).all()
    assert jnp.isnan(metrics.bone_length_error(CLIP, absent, tiny.LAYOUT)).all()
    missing = metrics.bone_length_error(absent, CLIP, tiny.LAYOUT)
    np.testing.assert_allclose(missing, 100, rtol=1e-5)


# Jerk.


def test_jerk_equals_loops():
    wanted = []
    for clip in np.float64(CLIP):
        third = [clip[t + 3] - 3 * clip[t + 2] + 3 * clip[t + 1] - clip[t] for t in range(5)]
        wanted.append(np.mean(np.linalg.norm(third, axis=-1)) * 30**3)
    got = jax.jit(metrics.mean_jerk)(CLIP, 30.0)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)


def test_constant_acceleration_has_no_jerk():
    time = np.arange(7, dtype=np.float32)[:, None, None]
    clip = time**2 * np.ones((1, 4, 3), np.float32) + time
    np.testing.assert_allclose(metrics.mean_jerk(clip), 0, atol=1e-4)
    assert metrics.mean_jerk(np.ones((4, 2, 3), np.float32)) == 0


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.frechet_distance(REAL[:1], FAKE), "1 real and 25 generated clips: give"),
        (lambda: metrics.frechet_distance(REAL, FAKE[:, :2]), "4 dimensions and generated ones 2"),
        (lambda: metrics.frechet_distance(REAL, FAKE * np.nan), "features are not finite"),
        (lambda: metrics.manifold_precision_recall(REAL, FAKE, k=25), r"k=25 is outside 1\.\.24"),
        (lambda: metrics.manifold_precision_recall(REAL, FAKE, k=0), "k=0"),
        (lambda: metrics.manifold_precision_recall(REAL, FAKE[:1], k=1), r"outside 1\.\.0"),
        (lambda: metrics.diversity(REAL[:1]), "1 clip has no pairs"),
        (
            lambda: metrics.bone_lengths(CLIP, KINECT20),
            "6 joints, but layout 'kinect20' 20",
        ),
        (
            lambda: metrics.bone_lengths(CLIP[:, :, :1], DOT),
            "has no bones",
        ),
        (lambda: metrics.bone_lengths(np.int32(CLIP), tiny.LAYOUT), "clip is of type int32"),
        (lambda: metrics.mean_jerk(CLIP[:, :3]), "3 frames have no jerk"),
        (lambda: metrics.mean_jerk(CLIP, 0), "frames_per_second=0"),
    ],
)
def test_bad_input_is_refused_in_one_line(unchecked_shapes, call, message):
    with pytest.raises(InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
