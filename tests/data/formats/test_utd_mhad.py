import numpy as np
import pytest
import scipy.io
import scipy.sparse
from clip_samples import UTD_MHAD

from igm_jax.data.formats import utd_mhad
from igm_jax.data.pipeline import full_clips
from igm_jax.data.protocols import split
from igm_jax.data.store import BadClip, Clip
from igm_jax.errors import InputError
from igm_jax.reading import Reading
from igm_jax.skeleton import KINECT20, MHAD20, in_reference_frame, reference_frame

FRAMES = np.random.default_rng(0).normal(size=(5, 20, 3)).astype(np.float32)
SKELETON = FRAMES.transpose(1, 2, 0).astype(np.float64)


def put(folder, name="a8_s3_t1_skeleton", content=None, key="d_skel", skeleton=SKELETON):
    folder.mkdir(exist_ok=True)
    file = folder / f"{name}.mat"
    if content is None:
        scipy.io.savemat(file, {key: skeleton}, do_compression=True)
    else:
        file.write_bytes(content)
    return file


# Files made by hand


def test_one_clip(tmp_path):
    put(tmp_path / "Skeleton")
    expected = Clip("a8_s3_t1", FRAMES[None], label=7, subject=3, camera=1)
    (clip,) = utd_mhad.read(tmp_path)
    assert clip == expected and clip.frames.dtype == np.float32
    assert list(utd_mhad.read(tmp_path / "Skeleton")) == [expected]
    assert utd_mhad.CLASS_NAMES[7] == "draw x" and len(utd_mhad.CLASS_NAMES) == 27


def test_order_is_that_of_action_subject_and_trial(tmp_path):
    names = ["a1_s1_t1", "a1_s1_t2", "a1_s2_t1", "a2_s1_t1", "a10_s1_t1", "a27_s8_t4"]
    for name in reversed(names):
        put(tmp_path, f"{name}_skeleton")
    assert [clip.name for clip in utd_mhad.read(tmp_path)] == names


def test_one_frame_and_whole_numbers(tmp_path):
    """MATLAB drops a last axis of length 1, and stores whole numbers as integers."""
    put(tmp_path, skeleton=np.arange(60, dtype=np.uint8).reshape(20, 3))
    (clip,) = utd_mhad.read(tmp_path)
    assert np.array_equal(clip.frames, np.arange(60, dtype=np.float32).reshape(1, 1, 20, 3))
    assert clip.frames.dtype == np.float32


BAD = {
    "empty": ({"content": b""}, "is damaged, or no MATLAB file"),
    "text": ({"content": b"20 joints, 3 coordinates\n" * 20}, "is damaged, or no MATLAB file"),
    "hdf": ({"content": b" " * 124 + b"\x00\x02IM" + b"\x00" * 99}, "is damaged, .*v7.3"),
    "key": ({"key": "d_iner"}, "has no variable d_skel"),
    "joints": ({"skeleton": SKELETON[:19]}, r"has shape \[19, 3, 5\], not \[20, 3, T\]"),
    "turned": ({"skeleton": FRAMES}, r"has shape \[5, 20, 3\], not"),
    "planar": ({"skeleton": SKELETON[:, :2]}, r"has shape \[20, 2, 5\], not"),
    "flat": ({"skeleton": SKELETON[:, 0]}, r"has shape \[20, 5\], not"),
    "4-D": ({"skeleton": SKELETON[..., None].repeat(2, axis=3)}, r"shape \[20, 3, 5, 2\], not"),
    "nothing": ({"skeleton": np.zeros((0, 0))}, r"has shape \[0, 0\], not"),
    "complex": ({"skeleton": SKELETON * 1j}, "holds complex128, not real"),
    "words": ({"skeleton": "twenty joints"}, "holds <U13, not real"),
    "struct": ({"skeleton": {"x": SKELETON}}, "not real"),
    "cell": ({"skeleton": SKELETON.astype(object)}, "holds object, not real"),
    "sparse": ({"skeleton": scipy.sparse.csc_array(SKELETON[..., 0])}, "holds object, not real"),
    "action 28": ({"name": "a28_s1_t1_skeleton"}, "action 28 is not 1 to 27"),
    "action 0": ({"name": "a0_s1_t1_skeleton"}, "name is not aA_sS_tT_skeleton.mat"),
    "zeros": ({"name": "a01_s01_t01_skeleton"}, "name is not aA_sS_tT_skeleton.mat"),
    "other": ({"name": "a1_s1_t1_inertial"}, "name is not aA_sS_tT_skeleton.mat"),
}


@pytest.mark.parametrize(("changes", "reason"), BAD.values(), ids=BAD)
def test_damaged_file_is_named(changes, reason, tmp_path, write):
    put(tmp_path / "raw", **changes)
    (bad,) = utd_mhad.read(tmp_path / "raw")
    assert isinstance(bad, BadClip)
    name = changes.get("name", "a8_s3_t1_skeleton")
    with pytest.raises(InputError, match=rf"'{name}\.mat': .*{reason}"):
        write(utd_mhad.read(tmp_path / "raw"), layout=MHAD20, class_names=utd_mhad.CLASS_NAMES)


@pytest.mark.parametrize("compressed", [True, False])
def test_a_file_cut_short_anywhere_is_bad(compressed, tmp_path):
    file = tmp_path / "a8_s3_t1_skeleton.mat"
    scipy.io.savemat(file, {"d_skel": SKELETON}, do_compression=compressed)
    content = file.read_bytes()
    for size in {*range(0, len(content), 31), 128, len(content) - 1}:
        file.write_bytes(content[:size])
        (bad,) = utd_mhad.read(tmp_path)
        assert isinstance(bad, BadClip), size
        assert "is damaged" in bad.reason or (size, bad.reason) == (128, "has no variable d_skel")


def test_a_changed_byte_of_compressed_data_is_bad_or_harmless(tmp_path):
    """The files are compressed, and so carry a checksum."""
    content = put(tmp_path).read_bytes()
    for i in range(128, len(content), 17):
        changed = bytearray(content)
        changed[i] ^= 0xFF
        put(tmp_path, content=bytes(changed))
        (clip,) = utd_mhad.read(tmp_path)
        assert isinstance(clip, BadClip) or np.array_equal(clip.frames[0], FRAMES), i


@pytest.mark.parametrize(
    ("skeleton", "reason"),
    [
        (np.zeros((20, 3, 0)), "has no frame"),
        (SKELETON * np.nan, "shows nobody"),
        (np.full((20, 3, 2), 1e300), "has inf for joint 'head'"),
    ],
)
def test_what_the_store_refuses_is_named(skeleton, reason, tmp_path, write):
    put(tmp_path / "raw", skeleton=skeleton)
    with pytest.raises(InputError, match=f"'a8_s3_t1': .*{reason}"):
        write(utd_mhad.read(tmp_path / "raw"), layout=MHAD20, class_names=utd_mhad.CLASS_NAMES)


def test_missing_folder_or_files_say_how_to_get_them(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError, match=f"{folder}: no .*download .*prepare_data.py"):
            utd_mhad.read(folder)


# The layout


def test_layout_is_that_of_nw_ucla_in_another_order():
    at = [MHAD20.joints.index(joint) for joint in KINECT20.joints]
    assert sorted(at) == list(range(20))

    def named(layout):
        name = layout.joints.__getitem__
        return (
            {(name(j), name(p)) for j, p in layout.bones},
            {(name(left), name(right)) for left, right in layout.pairs},
            [name(j) for j in (layout.origin, *layout.axes)],
        )

    assert named(MHAD20) == named(KINECT20)
    clip = np.random.default_rng(1).normal(size=(4, 20, 3))
    seen = in_reference_frame(clip, *reference_frame(clip[0], MHAD20, "body"))
    turned = clip[:, at]
    expected = in_reference_frame(turned, *reference_frame(turned[0], KINECT20, "body"))
    np.testing.assert_allclose(seen[:, at], expected, atol=1e-12)


# The real thing


def test_the_real_thing(utd):
    assert len(utd) == 861
    facts = utd.summary()
    assert (facts["classes"], facts["subjects"], facts["cameras"]) == (27, 8, 1)
    assert facts["length"] == (41, 67, 125)
    assert facts["max_bodies"] == 1
    assert len(split(utd, "xsub", "train")) == 431
    assert len(split(utd, "xsub", "test")) == 430
    clip = utd[700]
    raw = scipy.io.loadmat(UTD_MHAD / "Skeleton" / f"{clip.name}_skeleton.mat")["d_skel"]
    assert np.array_equal(clip.frames[0], np.moveaxis(raw, 2, 0).astype(np.float32))
    assert clip.name.startswith(f"a{clip.label + 1}_s{clip.subject}_t")


def in_body_coordinates(store, indices, frames=32):
    return full_clips(store, indices, Reading(store.layout, "body", frames, 1))[0][:, 0]


def right_hand(store, action):
    """[clips, T, (x, y)] of the right hand in the body frame."""
    chosen = np.flatnonzero(store.clips["label"] == utd_mhad.CLASS_NAMES.index(action))
    return in_body_coordinates(store, chosen)[:, :, MHAD20.joints.index("right hand"), :2]


def test_people_stand_upright_and_face_the_sensor(utd):
    first = np.asarray(utd.frames)[utd.clips["offset"]]
    rotation = reference_frame(first, MHAD20, "body")[1]
    np.testing.assert_allclose(np.linalg.det(rotation), 1, atol=1e-5)
    # Rows are the body's axes in camera coordinates: x to the right, y up, z to the back.
    assert (np.diagonal(rotation, axis1=1, axis2=2) > 0.85).all()


def test_toes_point_to_the_same_side_as_in_nw_ucla(utd, ucla):
    for store in (utd, ucla):
        joint = store.layout.joints.index
        clips = in_body_coordinates(store, np.arange(len(store)), frames=2)
        for side in ("left", "right"):
            toes = clips[..., joint(f"{side} foot"), 2] - clips[..., joint(f"{side} ankle"), 2]
            assert (toes < 0).mean() > 0.8 and np.median(toes) < -0.02  # metres


def stroke(xy):
    """How far to the right the raised hand goes between the thirds of its stroke."""
    high = xy[xy[:, 1] > xy[:, 1].min() + 0.5 * np.ptp(xy[:, 1])]
    third = len(high) // 3
    return high[-third:, 0].mean() - high[:third, 0].mean()


def turn(xy):
    """The area that the raised hand goes round, positive from the right (x) to up (y)."""
    high = xy[xy[:, 1] > xy[:, 1].min() + 0.3 * np.ptp(xy[:, 1])]
    x, y = (high - high.mean(axis=0)).T
    return (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2


@pytest.mark.parametrize(
    ("action", "measure", "sign"),
    [
        ("swipe left", stroke, -1),
        ("swipe right", stroke, 1),
        ("draw circle (clockwise)", turn, -1),
        ("draw circle (counter clockwise)", turn, 1),
    ],
)
def test_body_coordinates_are_no_mirror_image(action, measure, sign, utd):
    """Directions in the names of actions are those of who acts, with the right hand."""
    values = np.array([measure(xy) for xy in right_hand(utd, action)])
    assert (sign * values > 0).mean() > 0.9 and abs(np.median(values)) > 0.1
