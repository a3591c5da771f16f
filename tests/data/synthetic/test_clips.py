import itertools
import time

import numpy as np
import pytest

from igm_jax.data import synthetic
from igm_jax.data.synthetic import clips as clips_module
from igm_jax.data.synthetic.actions import ACTIONS
from igm_jax.data.synthetic.body import CHANNELS, INDEX, Body, pose_joints
from igm_jax.data.synthetic.poses import reverse
from igm_jax.errors import InputError
from igm_jax.skeleton import NTU25, in_reference_frame, reference_frame

NUM_CLASSES = len(synthetic.CLASS_NAMES)
ROUND = NUM_CLASSES * synthetic.NUM_SUBJECTS * len(synthetic.CAMERAS)
TIMED_PAIRS = (
    ("pick up", "put down"),
    ("sit down", "stand up"),
    ("put on a hat", "take off a hat"),
)


@pytest.fixture(scope="module")
def clips():
    return list(synthetic.generate(ROUND, seed=0))


def takes(*class_names, count=2):
    labels = [synthetic.CLASS_NAMES.index(name) for name in class_names or synthetic.CLASS_NAMES]
    for label, n in itertools.product(labels, range(count)):
        yield synthetic.Take(len(synthetic.CAMERAS) * (label + n * NUM_CLASSES))


def resized(frames, length):
    at = np.linspace(0, len(frames) - 1, length)
    low = np.minimum(at.astype(int), len(frames) - 2)
    weight = (at - low)[:, None, None]
    return frames[low] * (1 - weight) + frames[low + 1] * weight


def viewed(clip, coordinates, length=32):
    actor = clip.frames[0]
    return resized(
        in_reference_frame(actor, *reference_frame(actor[0], NTU25, coordinates)), length
    )


def xsub_neighbour_accuracy(features, clips):
    subject, label = (np.array([getattr(c, k) for c in clips]) for k in ("subject", "label"))
    x, train = np.stack(features).reshape(len(clips), -1), subject % 2 == 1
    distance = (x[train] ** 2).sum(1) - 2 * x[~train] @ x[train].T
    return np.mean(label[train][distance.argmin(1)] == label[~train])


def test_same_seed_same_bits_and_other_seed_other_clips():
    one, again, other = (list(synthetic.generate(12, seed)) for seed in (3, 3, 4))
    assert one == again
    assert all(a.name == b.name for a, b in zip(one, other))
    assert not any(a == b for a, b in zip(one, other))


def test_a_clip_does_not_depend_on_how_many_are_asked_for_or_drawn_in_between():
    expected = list(synthetic.generate(90))[:60]
    first, second = synthetic.generate(60), iter(synthetic.generate(60, seed=1))
    mixed = []
    for clip in first:
        next(second)
        mixed.append(clip)
    assert mixed == expected


def test_clips_are_float32_metres_of_sane_length_in_front_of_the_camera(clips):
    for clip in clips:
        bodies = 2 if ACTIONS[synthetic.CLASS_NAMES[clip.label]][0].partner else 1
        assert clip.frames.dtype == np.float32 and np.isfinite(clip.frames).all()
        assert clip.frames.shape[::2] == (bodies, 25) and clip.frames.shape[3] == 3
        assert 40 <= clip.frames.shape[1] <= 150
        assert clip.frames[..., 2].min() > 0.3 and clip.frames[..., 2].max() < 6.5
    assert len({c.frames.shape[1] for c in clips}) > 40
    assert np.mean([len(c.frames) == 2 for c in clips]) < 0.15


def test_names_follow_ntu_and_are_unique(clips):
    assert len({c.name for c in clips}) == len(clips)
    for c in clips:
        assert c.name[:16] == f"S{c.setup:03d}C{c.camera:03d}P{c.subject:03d}R001"
        assert c.name[16:] == f"A{c.label + 1:03d}"


def test_one_round_holds_every_class_subject_and_camera_once(clips):
    seen = {(c.label, c.subject, c.camera) for c in clips}
    assert seen == set(itertools.product(range(NUM_CLASSES), range(1, 17), (1, 2, 3)))
    assert len(clips) == len(seen)
    for label in range(NUM_CLASSES):
        assert {c.setup for c in clips if c.label == label} == {1, 2, 3, 4}


@pytest.mark.parametrize("num_clips", [2 * 3 * NUM_CLASSES, 500, 2000])
def test_any_set_is_balanced_and_has_every_class_on_both_sides(num_clips):
    of = [synthetic.Take(i) for i in range(num_clips)]
    counts = np.bincount([t.label for t in of], minlength=NUM_CLASSES)
    assert np.ptp(counts) <= len(synthetic.CAMERAS)
    for side in (0, 1):
        assert len({t.label for t in of if t.subject % 2 == side}) == NUM_CLASSES
    assert len({t.subject for t in of}) == synthetic.NUM_SUBJECTS


def test_bones_keep_their_length_and_are_the_subjects_own():
    by_subject = {}
    for take in takes():
        world = synthetic.perform(take, seed=0)
        bones = np.stack(
            [np.linalg.norm(world[:, :, j] - world[:, :, p], axis=-1) for j, p in NTU25.bones]
        )
        np.testing.assert_allclose(bones, np.broadcast_to(bones[..., :1], bones.shape), atol=1e-9)
        by_subject.setdefault(take.subject, []).append(bones[:, 0, 0])
    lengths = [np.array(b) for b in by_subject.values() if len(b) > 1]
    assert len(lengths) > 8
    for of_one in lengths:
        np.testing.assert_allclose(of_one, of_one[:1].repeat(len(of_one), 0), atol=1e-9)
    assert np.ptp([b[0].sum() for b in lengths]) > 0.2


def test_left_and_right_are_alike_in_length():
    world = synthetic.perform(synthetic.Take(0), seed=0)[0, 0]
    bones = {j: np.linalg.norm(world[j] - world[p]) for j, p in NTU25.bones}
    for a, b in NTU25.pairs:
        assert bones[a] == pytest.approx(bones[b])


def test_nobody_sinks_into_the_floor_and_only_those_who_jump_leave_it():
    for take in takes():
        world = synthetic.perform(take, seed=0)
        lowest = world[..., 1].min(-1)
        name = synthetic.CLASS_NAMES[take.label]
        assert lowest.min() > -0.05, (take.name, name)
        assert (lowest.max() > 0.15) == (name == "jump"), (take.name, name)


def test_nobody_teleports():
    for take in takes():
        world = synthetic.perform(take, seed=0)
        speed = 30 * np.linalg.norm(np.diff(world, axis=1), axis=-1)
        assert speed.max() < 16, take.name  # m/s, the finger tips of a throw
        assert speed[:, :, [0, 3]].max() < 7, take.name  # landing


def test_planted_feet_do_not_slide():
    channels = np.zeros((90, len(CHANNELS)))
    channels[:, INDEX["l_up"]] = channels[:, INDEX["r_up"]] = -0.95
    progress = np.linspace(0, 3, 90)
    channels[:, INDEX["steps"]] = progress
    channels[:, INDEX["travel"]] = 1.3 * progress
    joints = pose_joints(channels, Body())
    for ankle, stance in ((14, progress % 1 > 0.52), (18, (progress + 0.5) % 1 > 0.52)):
        planted = stance[1:] & stance[:-1]
        step = np.linalg.norm(np.diff(joints[:, ankle], axis=0), axis=-1)
        assert step[planted].max() < 0.005
        assert step[~planted].max() > 0.05  # while the other ones do walk


def test_walking_goes_where_the_person_looks():
    for take in takes("walk", count=6):
        world = synthetic.perform(take, seed=0)[0]
        x = world[0, 16] - world[0, 12]  # left hip to right hip
        forward = np.cross((0.0, 1.0, 0.0), x / np.linalg.norm(x))
        assert (world[-1, 0] - world[0, 0]) @ forward > 0.6


@pytest.mark.parametrize(("name", "opposite"), TIMED_PAIRS)
def test_some_classes_differ_in_the_order_of_their_poses_alone(name, opposite):
    assert tuple(map(reverse, ACTIONS[name])) == ACTIONS[opposite]
    assert ACTIONS[name] != ACTIONS[opposite]


def test_cameras_see_one_performance_from_three_places():
    take = synthetic.Take(0)
    world = synthetic.perform(take, seed=0)
    seen = [synthetic.film(world, synthetic.Take(i), seed=0).reshape(-1, 3) for i in range(3)]
    angles = []
    for a, b in itertools.combinations(seen, 2):
        ca, cb = a - a.mean(0), b - b.mean(0)
        u, _, vt = np.linalg.svd(ca.T @ cb)
        rotation = u @ vt
        np.testing.assert_allclose(ca @ rotation, cb, atol=1e-9)
        assert np.linalg.det(rotation) == pytest.approx(1.0)
        assert np.abs(a.mean(0) - b.mean(0)).max() > 0.05
        angles.append(np.rad2deg(np.arccos((np.trace(rotation) - 1) / 2)))
    np.testing.assert_allclose(angles, (45, 90, 45), atol=9)


def test_each_camera_adds_its_own_noise_of_about_a_centimetre(clips):
    noise = []
    for i in range(3):
        take = synthetic.Take(i)
        noise.append(clips[i].frames - synthetic.film(synthetic.perform(take, 0), take, seed=0))
    for one in noise:
        assert 0.004 < np.median(np.abs(one)) < 0.012
        assert abs(np.median(one)) < 0.002
    a, b = (n[:, :, [0, 1, 2, 3, 20]].ravel() for n in noise[:2])  # joints that are never lost
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.1


def test_both_sides_of_the_subject_split_have_left_handers():
    raised = {0: set(), 1: set()}
    label = synthetic.CLASS_NAMES.index("drink")
    for subject in range(synthetic.NUM_SUBJECTS):
        performance = label + NUM_CLASSES * subject
        take = synthetic.Take(3 * performance)
        world = synthetic.perform(take, seed=0)[0]
        left, right = (np.linalg.norm(world[:, j] - world[:, 3], axis=-1).min() for j in (7, 11))
        raised[take.subject % 2].add("left" if left < right else "right")
    assert raised[0] == raised[1] == {"left", "right"}


def test_people_in_contact_are_of_one_side_of_the_subject_split(monkeypatch):
    met = []
    original = clips_module.perform_one_of

    def spy(motions, actor, partner, style, rng):
        met.append((actor.number, partner.number))
        return original(motions, actor, partner, style, rng)

    monkeypatch.setattr(clips_module, "perform_one_of", spy)
    for take in takes("shake hands", "push someone", count=16):
        synthetic.perform(take, seed=0)
    assert len(met) == 32
    assert all(a != b and (a - b) % 2 == 0 for a, b in met)


def test_hands_meet_in_a_handshake():
    for take in takes("shake hands", count=8):
        one, other = synthetic.perform(take, seed=0)
        gap = [np.linalg.norm(one[:, j] - other[:, j], axis=-1).min() for j in (7, 11)]
        assert min(gap) < 0.2
        assert np.linalg.norm(one[:, 0] - other[:, 0], axis=-1).min() > 0.5


def test_the_first_frame_does_not_tell_the_class(clips):
    # Whoever stands up has to sit first, and so on: those six classes are told apart by design.
    timed = {synthetic.CLASS_NAMES.index(name) for pair in TIMED_PAIRS for name in pair}
    rest = [c for c in clips if c.label not in timed]
    chance = 1 / (NUM_CLASSES - len(timed))
    for coordinates in ("centred", "body"):
        first = [viewed(c, coordinates)[:1] for c in rest]
        assert xsub_neighbour_accuracy(first, rest) < 2.5 * chance


def test_place_and_length_do_not_tell_the_class(clips):
    place = [c.frames[0, :, 0].mean(0) for c in clips]
    assert xsub_neighbour_accuracy(place, clips) < 3 / NUM_CLASSES
    length = [np.array([c.frames.shape[1]], np.float32) for c in clips]
    assert xsub_neighbour_accuracy(length, clips) < 3 / NUM_CLASSES


@pytest.mark.parametrize("coordinates", ["centred", "body"])
def test_raw_neighbours_do_neither_solve_nor_miss_it(clips, coordinates):
    accuracy = xsub_neighbour_accuracy([viewed(c, coordinates) for c in clips], clips)
    assert 0.35 < accuracy < 0.68


def test_generation_is_fast():
    start = time.process_time()
    assert sum(1 for _ in synthetic.generate(100, seed=5)) == 100
    assert time.process_time() - start < 5.0  # ten times what a slow core needs


@pytest.mark.parametrize(("num_clips", "seed"), [(0, 0), (-3, 0), (10, -1)])
def test_impossible_requests_are_refused_at_once(num_clips, seed):
    with pytest.raises(InputError, match=r"num_clips|seed"):
        synthetic.generate(num_clips, seed)
