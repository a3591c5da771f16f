import itertools
import json

import jax.numpy as jnp
import numpy as np
import pytest

from igm_jax.errors import InputError
from igm_jax.skeleton import (
    COCO17,
    COORDINATES,
    KINECT20,
    NTU25,
    STREAMS,
    Layout,
    bone_stream,
    from_reference_frame,
    in_reference_frame,
    motion_stream,
    moving_origin,
    reference_frame,
    select_stream,
)

LAYOUTS = pytest.mark.parametrize("layout", [NTU25, KINECT20], ids=lambda layout: layout.name)


def clips(layout, batch=(5, 2), frames=4, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal((1, -2, 3), size=(*batch, frames, layout.num_joints, 3)).astype(dtype)


def naive(clip, layout, coordinates):
    """One point at a time. `clip` is [T, V, 3]."""
    first, out = clip[0], np.empty_like(clip)
    o = np.zeros(3) if coordinates == "camera" else first[layout.origin]
    axes = np.eye(3)
    if coordinates in ("body", "posture"):
        hip, shoulder, left, right = (first[j] for j in layout.axes)
        y = (shoulder - hip) / np.linalg.norm(shoulder - hip)
        x = (right - left) - np.dot(right - left, y) * y
        x = x / np.linalg.norm(x)
        axes = [x, y, np.cross(x, y)]
    for t, v in itertools.product(range(len(clip)), range(layout.num_joints)):
        out[t, v] = [np.dot(clip[t, v] - o, axis) for axis in axes]
    return out


def random_rotation(seed=0):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


# Views


@LAYOUTS
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_coordinates_against_one_point_at_a_time(layout, coordinates):
    clip = clips(layout)
    seen = in_reference_frame(clip, *reference_frame(clip[..., 0, :, :], layout, coordinates))
    for b, m in np.ndindex(5, 2):
        np.testing.assert_allclose(seen[b, m], naive(clip[b, m], layout, coordinates), atol=1e-12)


@LAYOUTS
def test_body_frame_is_a_proper_rotation_along_the_body(layout):
    first = clips(layout)[..., 0, :, :]
    origin, rotation = reference_frame(first, layout, "body")
    np.testing.assert_allclose(
        rotation @ rotation.swapaxes(-1, -2), np.broadcast_to(np.eye(3), rotation.shape), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(rotation), 1)
    seen = in_reference_frame(first[..., None, :, :], origin, rotation)[..., 0, :, :]
    hip, shoulder, left, right = (seen[..., j, :] for j in layout.axes)
    spine, hips = shoulder - hip, right - left
    assert (spine[..., 1] > 0).all() and (hips[..., 0] > 0).all()
    np.testing.assert_allclose(spine[..., [0, 2]], 0, atol=1e-12)
    np.testing.assert_allclose(hips[..., 2], 0, atol=1e-12)
    np.testing.assert_allclose(seen[..., layout.origin, :], 0, atol=1e-12)


@LAYOUTS
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_coordinates_are_idempotent(layout, coordinates):
    clip = clips(layout)
    once = in_reference_frame(clip, *reference_frame(clip[..., 0, :, :], layout, coordinates))
    origin, rotation = reference_frame(once[..., 0, :, :], layout, coordinates)
    np.testing.assert_allclose(origin, 0, atol=1e-12)
    np.testing.assert_allclose(rotation, np.broadcast_to(np.eye(3), rotation.shape), atol=1e-12)
    np.testing.assert_allclose(in_reference_frame(once, origin, rotation), once, atol=1e-12)


@LAYOUTS
def test_body_coordinates_forget_where_the_camera_stood(layout):
    clip = clips(layout)
    moved = clip @ random_rotation().T + [3.0, 0.1, -2.0]
    a, b = (
        in_reference_frame(c, *reference_frame(c[..., 0, :, :], layout, "body"))
        for c in (clip, moved)
    )
    np.testing.assert_allclose(a, b, atol=1e-12)
    assert np.abs(clip - moved).max() > 0.1


@pytest.mark.parametrize("coordinates", COORDINATES)
def test_coordinates_keep_all_distances(coordinates):
    clip = clips(NTU25, batch=(3,))
    seen = in_reference_frame(clip, *reference_frame(clip[:, 0], NTU25, coordinates))
    steps = [np.linalg.norm(np.diff(c, axis=1), axis=-1) for c in (clip, seen)]
    np.testing.assert_allclose(*steps, atol=1e-12)


def whole_clip(clip, layout, coordinates):
    """Of clips [B, M, T, V, C]: all bodies in the frame of reference of the first."""
    origin, rotation = reference_frame(clip[:, 0, 0], layout, coordinates)
    origin = moving_origin(origin, clip[:, 0], layout, coordinates)
    return in_reference_frame(clip, origin[:, None], rotation[:, None])


@LAYOUTS
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_all_bodies_are_seen_from_the_first(layout, coordinates):
    clip = clips(layout)  # [5, 2, 4, V, 3]
    seen = whole_clip(clip, layout, coordinates)
    for b in range(5):
        alone = naive(clip[b, 0], layout, coordinates)
        apart = [naive(np.stack([clip[b, 0, 0], *x]), layout, coordinates)[1:] for x in clip[b]]
        path = alone[:, [layout.origin]] if coordinates == "posture" else 0
        np.testing.assert_allclose(seen[b], np.stack(apart) - path, atol=1e-12)


@LAYOUTS
def test_posture_forgets_where_the_first_body_walks(layout):
    clip = clips(layout)
    still = whole_clip(clip, layout, "posture")
    assert not still[:, 0, :, layout.origin].any()
    walk = np.random.default_rng(1).normal(size=(5, 1, 4, 1, 3))
    np.testing.assert_allclose(whole_clip(clip + walk, layout, "posture"), still, atol=1e-12)
    apart = np.linalg.norm(still[:, 1] - still[:, 0], axis=-1)
    np.testing.assert_allclose(apart, np.linalg.norm(clip[:, 1] - clip[:, 0], axis=-1), atol=1e-12)


@LAYOUTS
@pytest.mark.parametrize("coordinates", COORDINATES)
def test_jax_and_numpy_agree_and_keep_float32(layout, coordinates):
    clip = clips(layout, dtype=np.float32)
    here, there = (whole_clip(x, layout, coordinates) for x in (clip, jnp.asarray(clip)))
    assert isinstance(here, np.ndarray) and not isinstance(there, np.ndarray)
    assert here.dtype == there.dtype == np.float32
    np.testing.assert_allclose(here, there, atol=1e-5)


@pytest.mark.parametrize("collapse", [(0, 20), (12, 16)], ids=["spine", "hips"])
def test_body_without_axes_is_only_centred(collapse):
    first = clips(NTU25)[..., 0, :, :]
    a, b = collapse
    first[0, 0, a] = first[0, 0, b]
    _, rotation = reference_frame(first, NTU25, "body")
    assert np.isfinite(rotation).all()
    assert np.array_equal(rotation[0, 0], np.eye(3))
    assert not np.allclose(rotation[0, 1], np.eye(3))


def test_hips_along_the_spine_give_no_axes():
    first = clips(NTU25)[0, 0, 0]
    first[16] = first[12] + 2 * (first[20] - first[0])
    assert np.array_equal(reference_frame(first, NTU25, "body")[1], np.eye(3))


def test_coordinates_in_two_dimensions():
    layout = Layout("stick", ("a", "b"), (-1, 0), origin=1)
    clip = clips(layout)[..., :2]
    origin, rotation = reference_frame(clip[..., 0, :, :], layout, "centred")
    np.testing.assert_allclose(
        in_reference_frame(clip, origin, rotation), clip - clip[..., :1, 1:, :], atol=1e-12
    )
    with pytest.raises(InputError, match="need 3-D joints and a layout with axes; 'stick'"):
        reference_frame(clip[..., 0, :, :], layout, "body")


def test_posture_in_two_dimensions_forgets_place_and_distance():
    """Neither the path in the image nor the size of a body is left, and both can be put back."""
    clip = clips(NTU25)[:, 0, ..., :2]
    origin, rotation = reference_frame(clip[:, 0], NTU25, "posture")
    path = moving_origin(origin, clip, NTU25, "posture")
    seen = in_reference_frame(clip, path, rotation)
    for b in range(len(clip)):
        first = clip[b, 0]
        size = np.sqrt(np.mean([np.sum((p - first.mean(axis=0)) ** 2) for p in first]))
        for t in range(clip.shape[1]):
            expected = (clip[b, t] - clip[b, t, NTU25.origin]) / size
            np.testing.assert_allclose(seen[b, t], expected, atol=1e-12)
    np.testing.assert_allclose(from_reference_frame(seen, path, rotation), clip, atol=1e-12)
    far = 0.3 * clip + np.arange(4)[:, None, None]
    origin, rotation = reference_frame(far[:, 0], NTU25, "posture")
    path = moving_origin(origin, far, NTU25, "posture")
    np.testing.assert_allclose(in_reference_frame(far, path, rotation), seen, atol=1e-12)
    point = np.ones((25, 2))  # all joints in one place: nothing to divide by
    assert np.array_equal(reference_frame(point, NTU25, "posture")[1], np.eye(2))


def test_unknown_coordinates():
    with pytest.raises(
        InputError, match="coordinates='side' is unknown: choose one of camera, centred, bod"
    ):
        reference_frame(clips(NTU25)[..., 0, :, :], NTU25, "side")


# Streams


@LAYOUTS
def test_bones_against_a_loop(layout):
    clip = clips(layout)
    bones = bone_stream(clip, layout)
    for joint, parent in enumerate(layout.parents):
        expected = 0 if parent == -1 else clip[..., joint, :] - clip[..., parent, :]
        assert np.array_equal(
            bones[..., joint, :], np.broadcast_to(expected, bones[..., 0, :].shape)
        )


def test_a_root_may_be_its_own_parent():
    a, b = (Layout("x", ("a", "b"), parents) for parents in ((-1, 0), (0, 0)))
    clip = clips(a)
    assert np.array_equal(bone_stream(clip, a), bone_stream(clip, b))
    assert a.bones == b.bones == ((1, 0),)


def test_motion_against_a_loop():
    clip = clips(NTU25, frames=6)
    motion = motion_stream(clip)
    assert motion.shape == clip.shape
    for t in range(5):
        assert np.array_equal(motion[..., t, :, :], clip[..., t + 1, :, :] - clip[..., t, :, :])
    assert not motion[..., 5, :, :].any()


def test_streams_by_name_on_both_backends():
    clip = clips(NTU25, dtype=np.float32)
    expected = {"joint": clip, "bone": bone_stream(clip, NTU25), "motion": motion_stream(clip)}
    assert set(expected) == set(STREAMS)
    for name, stream in expected.items():
        assert np.array_equal(select_stream(clip, NTU25, name), stream)
        there = select_stream(jnp.asarray(clip), NTU25, name)
        assert not isinstance(there, np.ndarray)
        np.testing.assert_allclose(there, stream, atol=1e-6)
    with pytest.raises(InputError, match="stream='speed' is unknown"):
        select_stream(clip, NTU25, "speed")


# Layouts


@LAYOUTS
def test_built_in_layouts_are_one_tree_with_true_pairs(layout):
    roots = [j for j, p in enumerate(layout.parents) if p == -1]
    assert len(roots) == 1
    for joint in range(layout.num_joints):
        for _ in range(layout.num_joints):
            joint = layout.parents[joint] if joint not in roots else joint
        assert joint in roots
    for left, right in layout.pairs:
        assert layout.joints[left].replace("left", "right") == layout.joints[right]
        assert layout.joints[left].startswith("left")
    assert len(layout.pairs) == sum(name.startswith("left") for name in layout.joints)
    assert len(layout.bones) == layout.num_joints - 1
    assert [layout.joints[j] for j in layout.axes[2:]] == ["left hip", "right hip"]


def test_body_parts_are_the_trunk_and_four_limbs():
    """Of Kinect v2 those of PCM³: trunk 4, 3, 21, 2, 1; arms, legs; counted from 1."""
    part = np.array(NTU25.body_parts)
    groups = {frozenset((np.flatnonzero(part == k) + 1).tolist()) for k in range(5)}
    assert groups == {
        frozenset({4, 3, 21, 2, 1}),
        frozenset({5, 6, 7, 8, 22, 23}),
        frozenset({9, 10, 11, 12, 24, 25}),
        frozenset({13, 14, 15, 16}),
        frozenset({17, 18, 19, 20}),
    }
    assert part[0] == 0 and set(part) == set(range(5))
    assert KINECT20.body_parts == (0,) * 4 + (1,) * 4 + (2,) * 4 + (3,) * 4 + (4,) * 4
    # In COCO the hips hang on the shoulders: head, eye and ear of each side, arms, legs.
    assert COCO17.body_parts == (0, 1, 2, 1, 2, 3, 4, 3, 4, 3, 4, 5, 6, 5, 6, 5, 6)
    line = Layout("line", ("a", "b", "c"), parents=(-1, 0, 1))
    assert line.body_parts == (0, 0, 0)  # no pairs: one part


def test_layout_survives_its_dictionary():
    copy = Layout.from_dict(json.loads(json.dumps(NTU25.to_dict())))
    assert copy == NTU25 and hash(copy) == hash(NTU25)
    assert json.loads(json.dumps(NTU25.to_dict()))["joints"] == list(NTU25.joints)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"parents": (-1,)}, "2 joints but 1 parents"),
        ({"parents": (-1, 2)}, "joint index 2 is outside 0..1"),
        ({"parents": (-2, 0)}, "joint index -2"),
        ({"pairs": ((0, 5),)}, "joint index 5"),
        ({"origin": 2}, "joint index 2"),
        ({"origin": -1}, "joint index -1"),
        ({"axes": (0, 1, 0, 7)}, "joint index 7"),
    ],
)
def test_impossible_layouts_are_told(changes, told):
    with pytest.raises(InputError, match=f"layout 'x': .*{told}"):
        Layout(**{"name": "x", "joints": ("a", "b"), "parents": (-1, 0), **changes})
