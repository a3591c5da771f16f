import copy
import dataclasses

import ntu_reference
import numpy as np
import pytest

from igm_jax.data.formats import ntu_cleaning
from igm_jax.data.formats.ntu_cleaning import DEFAULT_STEPS, STEPS, clean
from igm_jax.data.formats.ntu_text import parse, record
from igm_jax.errors import InputError

# The oracle: every rule again, with loops over a dict {body: {frame: [25][3]}} in order of bodies.


def tracks_of(recording):
    tracks = {}
    for frame, body, joints in zip(recording.frame, recording.body, recording.joints):
        tracks.setdefault(int(body), {})[int(frame)] = joints.tolist()
    return tracks


def short(tracks):
    if len(tracks) == 1:
        return tracks
    return {body: track for body, track in tracks.items() if not len(track) <= 11}


def furniture(tracks):
    tracks = dict(tracks)
    for body, track in list(tracks.items()):
        flat = 0
        for joints in track.values():
            x, y, _ = zip(*joints)
            flat += max(x) - min(x) > 0.8 * (max(y) - min(y))
        if len(tracks) > 1 and flat / len(track) >= 0.69754:
            del tracks[body]
    return tracks


def motion(tracks):
    def moved(rows):
        points = [point for joints in rows for point in joints]
        total = 0.0
        for values in zip(*points):
            mean = sum(values) / len(values)
            total += sum((value - mean) ** 2 for value in values) / len(values)
        return total

    def amount(body):
        rows = list(tracks[body].values())
        upright = [joints for joints in rows if not ntu_reference.flat(joints)]
        return -min(moved(rows), moved(upright) if upright else moved(rows))

    return {body: tracks[body] for body in sorted(tracks, key=amount)}


def merge(tracks):
    actors, hulls = {}, []
    for body, track in tracks.items():
        start, end = min(track), min(track) + len(track) - 1
        track = dict(zip(range(start, end + 1), track.values()))
        if not actors:
            actors[body], hulls = track, [[start, end], [0, 0]]
            continue
        for i, hull in enumerate(hulls):
            if min(hull[1], end) - max(hull[0], start) <= 0:
                hull[:] = [min(hull[0], start), max(hull[1], end)]
                name = list(actors)[i] if i < len(actors) else body
                actors[name] = actors.get(name, {}) | track
                break
    return {body: dict(sorted(actor.items())) for body, actor in actors.items()}


def empty(tracks):
    frames = sorted({frame for track in tracks.values() for frame in track})
    return {b: {frames.index(f): joints for f, joints in t.items()} for b, t in tracks.items()}


def centred(tracks):
    actor = next(iter(tracks.values()))
    origin = np.array(actor[min(actor)][1], np.float32)
    return {
        body: {frame: (np.array(j, np.float32) - origin).tolist() for frame, j in track.items()}
        for body, track in tracks.items()
    }


ORACLE = {
    "drop_short_bodies": short,
    "drop_furniture": furniture,
    "sort_by_motion": motion,
    "merge_tracks": merge,
    "drop_empty_frames": empty,
    "centre": centred,
}


def person(rng, lying=False):
    """25 joints of somebody who stands (or lies), somewhere before the camera."""
    size = [0.9, 0.25, 0.3] if lying else [0.3, 0.9, 0.25]
    return rng.uniform(-1, 1, (25, 3)) * size + rng.uniform(-1, 1, 3) + [0, 0, 3]


def crowd(seed):
    """Up to six bodies that come and go, stand or lie, or change from one to the other."""
    rng = np.random.default_rng(seed)
    bodies, num_frames = rng.integers(1, 7), int(rng.integers(15, 60))
    frames = np.empty((bodies, num_frames, 25, 3))
    seen = np.zeros((bodies, num_frames), bool)
    for m in range(bodies):
        start, length = rng.integers(num_frames), rng.integers(1, num_frames)
        seen[m, start : start + length] = rng.random(len(seen[m, start : start + length])) < 0.9
        lying = rng.random() < rng.choice([0.0, 0.5, 0.7, 1.0])
        for t in range(num_frames):
            frames[m, t] = person(rng, lying=rng.random() < 0.7 if lying else False)
        frames[m] += rng.normal(0, rng.uniform(0, 1), (num_frames, 1, 3))
    order = rng.permutation(bodies)
    recording = record(frames, seen)
    return dataclasses.replace(recording, body=100 + order[recording.body - recording.body.min()])


@pytest.mark.parametrize("name", ORACLE)
def test_rule_is_what_loops_say(name):
    changed = 0
    for seed in range(60):
        recording = crowd(seed)
        if not len(recording):
            continue
        expected = ORACLE[name](tracks_of(recording))
        result = STEPS[name](recording)
        got = tracks_of(result)
        assert got == expected
        assert len(result) == sum(map(len, expected.values()))  # no frame twice
        assert list(got) == list(expected)  # the order of bodies too
        assert all(list(track) == sorted(track) for track in got.values())
        changed += got != tracks_of(recording) or list(got) != list(tracks_of(recording))
    assert changed > 10


def hard(seed):
    """One to four bodies that overlap, some nearly flat, some short, with gaps and empty frames."""
    rng = np.random.default_rng(seed)
    bodies, num_frames = rng.integers(1, 5), int(rng.integers(16, 60))
    frames = np.empty((bodies, num_frames, 25, 3))
    seen = np.zeros((bodies, num_frames), bool)
    for m in range(bodies):
        length = rng.integers(6, 16) if rng.random() < 0.25 else rng.integers(12, num_frames + 1)
        start = rng.integers(max(num_frames - length, 0) + 1)
        seen[m, start : start + length] = rng.random(len(seen[m, start : start + length])) < 0.95
        flat = rng.choice([0.0, 0.1, 0.6, 0.75, 1.0])
        for t in range(num_frames):
            frames[m, t] = person(rng, lying=rng.random() < flat)
        frames[m] += rng.normal(0, rng.uniform(0, 0.5), (num_frames, 1, 3))
    seen[:, rng.random(num_frames) < 0.1] = False
    return record(frames, seen)


def test_all_rules_together_are_the_published_ones():
    """Independent reference: the published scripts as plain loops, on 400 recordings."""
    counts = {None: 0, 1: 0, 2: 0}
    for seed in range(400):
        recording = hard(seed)
        rows = [[] for _ in range(recording.num_frames)]
        for frame, body, joints in zip(recording.frame, recording.body, recording.joints):
            rows[frame].append((int(body), joints.tolist()))
        actors = ntu_reference.published(rows)
        counts[actors and 1 + bool(actors[1])] += 1
        if actors is None:
            with pytest.raises(InputError, match="no usable body"):
                clean(recording)
            continue
        expected = np.array([ntu_reference.held(actor) for actor in actors if actor])
        found = clean(recording)
        assert found.shape == expected.shape, seed
        assert np.allclose(found, expected, rtol=0, atol=1e-6), seed
    assert counts[1] > 50 and counts[2] > 100


def standing(num_frames=20, bodies=1, seed=0):
    rng = np.random.default_rng(seed)
    still = np.stack([person(rng) for _ in range(bodies)])[:, None]
    return (still + rng.normal(0, 0.01, (bodies, num_frames, 25, 3))).astype(np.float32)


@pytest.mark.parametrize(("count", "kept"), [(11, False), (12, True)])
def test_eleven_frames_are_too_few(count, kept):
    seen = np.ones((2, 20), bool)
    seen[1, count:] = False
    result = ntu_cleaning.drop_short_bodies(record(standing(bodies=2), seen))
    assert (len(result.bodies) == 2) is kept


def widths(*x_ranges):
    """Two bodies 1 high: one thin, and one of these widths in its frames."""
    frames = np.zeros((2, len(x_ranges), 25, 3), np.float32)
    frames[:, :, 1, 1] = 1.0
    frames[1, :, 2, 0] = x_ranges
    return record(frames)


@pytest.mark.parametrize(("num_flat", "kept"), [(6975, True), (6976, False)])
def test_share_of_flat_frames_that_makes_furniture(num_flat, kept):
    result = ntu_cleaning.drop_furniture(widths(*[0.81] * num_flat, *[0.8] * (10_000 - num_flat)))
    assert (len(result.bodies) == 2) is kept


def test_width_that_makes_a_frame_flat():
    wide = np.float32(0.8)
    assert len(ntu_cleaning.drop_furniture(widths(wide)).bodies) == 2
    assert len(ntu_cleaning.drop_furniture(widths(np.nextafter(wide, np.float32(1)))).bodies) == 1


def test_the_last_body_is_never_furniture():
    lying = record(standing(bodies=3)[..., [1, 0, 2]])
    (rows,) = ntu_cleaning.drop_furniture(lying).bodies
    assert len(rows) == 20
    assert np.array_equal(clean(lying, ["drop_furniture"])[0], lying.joints[lying.bodies[2]])
    alone = record(standing()[..., [1, 0, 2]])
    assert len(ntu_cleaning.drop_furniture(alone)) == 20


@pytest.mark.parametrize(
    ("spans", "actors"),
    [
        ([(0, 20), (20, 40)], 1),
        ([(0, 21), (20, 40)], 1),  # one frame in common, as published
        ([(0, 22), (20, 40)], 2),
        ([(0, 40), (0, 20), (20, 40)], 2),
        ([(0, 40), (0, 40), (0, 40)], 2),
        ([(0, 15), (25, 40), (16, 24)], 2),  # in the gap is within the span
    ],
)
def test_who_is_whom(spans, actors):
    seen = np.zeros((len(spans), 40), bool)
    for row, (start, stop) in zip(seen, spans):
        row[start:stop] = True
    recording = record(standing(40, len(spans)), seen)
    recording = recording.take(np.argsort(recording.body, kind="stable"))  # bodies in this order
    result = ntu_cleaning.merge_tracks(recording)
    assert len(result.bodies) == actors


def test_a_person_who_was_lost_is_one_body_again():
    frames = standing(40)
    whole = record(frames)
    again = dataclasses.replace(whole, body=whole.body + (whole.frame >= 17) * 5)
    assert len(again.bodies) == 2
    assert np.array_equal(clean(again), frames - frames[0, 0, 1])


def test_lost_tracking_is_held_and_empty_frames_go():
    frames = standing(30, 2)
    frames[0] += np.linspace(0, 1, 30)[:, None, None].astype(np.float32)  # the actor
    seen = np.ones((2, 30), bool)
    seen[1, :4] = seen[1, 10:13] = False
    seen[:, 20:22] = False
    raw, cleaned = frames, clean(record(frames, seen))
    expected = (frames - frames[0, 0, 1]).copy()[:, np.r_[0:20, 22:30]]
    # As published, the frames of a body follow one another: its gap is found at the end.
    shown = np.r_[4:10, 13:28]
    expected[1] = expected[1, np.r_[[4] * 4, shown, [27] * 3]]
    assert np.array_equal(cleaned, expected)
    # Without the step that joins tracks, who is lost stays where he was seen last.
    frames = (frames - frames[0, 0, 1])[:, np.r_[0:20, 22:30]]
    frames[1, :4], frames[1, 10:13] = frames[1, 4], frames[1, 9]
    steps = [step for step in DEFAULT_STEPS if step != "merge_tracks"]
    assert np.array_equal(clean(record(raw, seen), steps), frames)


def test_steps_can_be_left_out_by_name():
    frames = standing(30, 2)
    frames[0] += np.linspace(0, 1, 30)[:, None, None].astype(np.float32)
    seen = np.ones((2, 30), bool)
    seen[1, 8:] = seen[0, 12:15] = False
    recording = record(frames, seen)

    def without(*names):
        return clean(recording, [step for step in DEFAULT_STEPS if step not in names])

    assert clean(recording).shape == (1, 27, 25, 3)
    assert without("drop_empty_frames").shape == (1, 30, 25, 3)
    assert without("drop_short_bodies").shape == (2, 27, 25, 3)
    assert without("drop_short_bodies", "hold_lost_bodies").shape == (1, 27, 25, 3)
    assert np.array_equal(without("centre")[0], frames[0][seen[0]])
    assert clean(record(standing(bodies=3)), ["centre"]).shape == (2, 20, 25, 3)
    with pytest.raises(InputError, match="none is there in all frames"):
        clean(recording, ["drop_short_bodies"])
    with pytest.raises(InputError, match="step 'center' is unknown: choose from drop_empty"):
        clean(recording, ["center"])


def test_why_nothing_is_left():
    with pytest.raises(InputError, match="none in any of 3 frames"):
        clean(parse(b"3\n0\n0\n0\n"))
    with pytest.raises(InputError, match="none is left after drop_short_bodies"):
        clean(record(standing(11, bodies=2)))
    assert clean(record(standing(11))).shape == (1, 11, 25, 3)  # alone, it stays


def test_recording_is_left_as_it_was():
    recording = crowd(5)
    before = copy.deepcopy(recording)
    clean(recording)
    for name, value in vars(before).items():
        assert np.array_equal(getattr(recording, name), value), name
