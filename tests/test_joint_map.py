"""Which joint of one layout becomes which of another."""

import itertools
import json

import numpy as np
import pytest

from igm_jax.errors import InputError
from igm_jax.joint_map import (
    STAND_INS,
    SYNONYMS,
    JointMap,
    canonical,
    description_lines,
    map_joints,
)
from igm_jax.skeleton import COCO17, KINECT20, MHAD20, NTU25, Layout

LAYOUTS = (NTU25, KINECT20, MHAD20, COCO17)


def ids(layout):
    """A clip [1, V, 3] in which joint i is at (i, 10 i, −i)."""
    return np.arange(layout.num_joints)[None, :, None] * np.array([1.0, 10.0, -1.0])


@pytest.mark.parametrize(("source", "target"), [*itertools.permutations(LAYOUTS, 2)])
def test_every_joint_is_the_same_joint_or_a_mean_of_named_ones(source, target):
    """Against the names alone: weights are those that the description says, and sum to 1."""
    joint_map = map_joints(source, target)
    told = joint_map.description()
    assert told["mapped"].keys() | told["averaged"].keys() == set(target.joints)
    mapped = joint_map(ids(source))
    read = set()
    for joint, at in zip(target.joints, mapped[0]):
        if joint in told["mapped"]:
            assert canonical(joint) == canonical(told["mapped"][joint])
            expected = [told["mapped"][joint]]
        else:
            expected = told["averaged"][joint]
            names = {canonical(name) for name in source.joints}
            assert canonical(joint) not in names
        read |= set(expected)
        places = ids(source)[0, [source.joints.index(name) for name in expected]]
        assert (at >= places.min(axis=0) - 1e-9).all() and (at <= places.max(axis=0) + 1e-9).all()
        if joint in told["mapped"]:
            np.testing.assert_array_equal(at, places[0])
    assert read | set(told["not_read"]) == set(source.joints)
    np.testing.assert_allclose(np.sum(joint_map.weights, axis=1), 1)


def test_kinects_are_permutations_of_each_other():
    there, back = map_joints(KINECT20, MHAD20), map_joints(MHAD20, KINECT20)
    clip = np.random.default_rng(0).normal(size=(2, 5, 20, 3)).astype(np.float32)
    np.testing.assert_array_equal(back(there(clip)), clip)
    assert there(clip).dtype == np.float32
    assert map_joints(KINECT20, KINECT20) is None


def test_missing_joints_are_means_of_what_stands_for_them():
    told = map_joints(COCO17, NTU25).description()["averaged"]
    assert told["base of spine"] == ["left hip", "right hip"]
    assert told["head"] == ["left ear", "right ear"]
    assert told["left hand tip"] == ["left wrist"]  # by bones, over the hand
    clip = map_joints(COCO17, NTU25)(ids(COCO17))[0, :, 0]
    at = dict(zip(NTU25.joints, clip))
    shoulders, hips, ears = 5.5, 11.5, 3.5
    assert at["mid spine"] == pytest.approx((hips + shoulders) / 2)
    assert at["neck"] == pytest.approx((shoulders + ears) / 2)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("RShoulder", "right shoulder"),
        ("MidHip", "hip centre"),
        ("left_foot_index", "left foot"),
        ("WristLeft", "left wrist"),
        ("HandTipRight", "right hand tip"),
        ("hip_center", "hip centre"),
        ("RightForeArm", "right elbow"),
        ("Tail", "tail"),
    ],
)
def test_names_of_other_tools(name, found):
    assert canonical(name) == found


def test_tables_name_joints_by_their_canonical_names_and_none_twice():
    others = [name for names in SYNONYMS.values() for name in names]
    assert len(set(others) | SYNONYMS.keys()) == len(others) + len(SYNONYMS)
    assert all(canonical(name) == name for name in SYNONYMS)
    used = {part for name, means in STAND_INS.items() for mean in means for part in (name, *mean)}
    assert {part.replace("right", "left") for part in used} <= SYNONYMS.keys()


def test_unknown_joints_follow_the_bones_and_a_joint_apart_is_the_mean_of_all():
    source = Layout("two", ("left knee", "left ankle"), (-1, 0))
    target = Layout(
        "tail", ("left knee", "tail", "tail tip", "left ankle", "ball"), (-1, 0, 1, 0, -1)
    )
    told = map_joints(source, target).description()
    assert told["averaged"] == {
        "tail": ["left knee"],
        "tail tip": ["left knee"],
        "ball": ["left knee", "left ankle"],
    }
    lines = description_lines(told)
    assert lines[0] == "joints two → tail: 2 mapped by name, 3 averaged, 0 not read"
    assert lines[-1] == "  ball: mean of left knee, left ankle"


def test_layouts_without_a_common_joint_are_refused():
    numbers = Layout("numbers", ("j0", "j1", "j2", "j3"), (-1, 0, 1, 2))
    with pytest.raises(
        InputError, match=r"'numbers' \(j0, j1, j2, …\) and 'kinect20' .* in common"
    ):
        map_joints(numbers, KINECT20)


def test_survives_json():
    joint_map = map_joints(COCO17, KINECT20)
    again = JointMap.from_dict(json.loads(json.dumps(joint_map.to_dict())))
    assert again == joint_map and hash(again) == hash(joint_map)
    json.dumps(joint_map.description())
