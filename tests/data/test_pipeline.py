import itertools
import json

import numpy as np
import pytest
from clip_samples import random_clips

from igm_jax.data import pipeline, resize
from igm_jax.data.store import Clip
from igm_jax.errors import InputError
from igm_jax.reading import Reading
from igm_jax.skeleton import COORDINATES, KINECT20, bone_stream, reference_frame

DEFAULTS = dict(batch_size=6, min_crop_frames=4, seed=3)


def batches(
    store, indices=None, count=None, *, frames=8, bodies=2, coordinates="camera", **changes
):
    indices = np.arange(len(store)) if indices is None else indices
    reading = Reading(store.layout, coordinates, frames, bodies)
    stream = iter(pipeline.train_batches(store, indices, reading, **{**DEFAULTS, **changes}))
    return stream if count is None else list(itertools.islice(stream, count))


def same(a, b):
    assert a.keys() == b.keys()
    return all(np.array_equal(a[key], b[key]) for key in a)


def seen_in(clip, layout, coordinates):
    frames = clip.frames.astype(np.float64)
    origin, rotation = reference_frame(frames[0, 0], layout, coordinates)
    if coordinates == "posture":
        origin = frames[:1, :, [layout.origin]]
    return (frames - origin) @ rotation.T


def naive_gather(clip, start, stop, frames, bodies, layout, coordinates):
    """One joint coordinate at a time, in float64."""
    whole = seen_in(clip, layout, coordinates)
    length, joints, channels = stop - start, *whole.shape[2:]
    out = np.zeros((bodies, frames, joints, channels))
    at = [(i + 0.5) * length / frames - 0.5 for i in range(frames)]
    for m, v, c in itertools.product(
        range(min(bodies, len(whole))), range(joints), range(channels)
    ):
        out[m, :, v, c] = np.interp(at, range(length), whole[m, start:stop, v, c])
    return out


def clocks(lengths):
    """Clips that show the number of the frame in every coordinate."""
    for i, length in enumerate(lengths):
        frame = np.broadcast_to(np.arange(length)[None, :, None, None], (1, length, 20, 3))
        yield Clip(f"clock{i:03d}", frame.astype(np.float32))


# Gathering


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("bodies", [1, 2, 4])
def test_gather_against_one_joint_at_a_time(coordinates, bodies, write):
    store = write(random_clips(40, seed=1))
    rng = np.random.default_rng(2)
    indices = rng.permutation(40)  # more tracks than one block
    length = store.clips["length"][indices]
    start = rng.integers(0, length)
    stop = rng.integers(start + 1, length + 1)
    clip, present = pipeline.gather(
        store, indices, start, stop, Reading(store.layout, coordinates, 11, bodies)
    )
    assert clip.shape == (40, bodies, 11, 20, 3)
    assert (clip.dtype, present.dtype) == (np.float32, bool)
    for k, i in enumerate(indices):
        expected = naive_gather(store[i], start[k], stop[k], 11, bodies, store.layout, coordinates)
        np.testing.assert_allclose(clip[k], expected, atol=3e-6)
        assert present[k].tolist() == [m < len(store[i].frames) for m in range(bodies)]


def test_absent_bodies_are_zero_and_marked(write):
    store = write(random_clips(20))
    clip, present = pipeline.full_clips(store, np.arange(20), Reading(store.layout, "body", 9, 5))
    assert np.array_equal(present.sum(axis=1), store.clips["bodies"])
    assert not clip[~present].any()
    assert clip[present].any(axis=(1, 2, 3)).all()


def test_without_resizing_frames_come_as_they_are(write):
    store = write(random_clips(10))
    for i, clip in enumerate(store):
        bodies, length = clip.frames.shape[:2]
        ours, _ = pipeline.full_clips(
            store, np.array([i]), Reading(store.layout, "camera", length, bodies)
        )
        assert np.array_equal(ours[0], clip.frames)


@pytest.mark.parametrize("coordinates", COORDINATES)
def test_crop_keeps_the_frame_of_reference(coordinates, write):
    store = write(random_clips(10, max_length=20))
    i = np.array([int(store.clips["length"].argmax())])
    length = store.clips["length"][i].astype(np.int64)
    whole, _ = pipeline.full_clips(store, i, Reading(store.layout, coordinates, int(length[0]), 1))
    part, _ = pipeline.gather(
        store, i, np.array([3]), np.array([9]), Reading(store.layout, coordinates, 6, 1)
    )
    np.testing.assert_allclose(part, whole[:, :, 3:9], atol=1e-6)


def test_a_clip_does_not_depend_on_its_batch(write):
    store = write(random_clips(40))
    together, _ = pipeline.full_clips(store, np.arange(40), Reading(store.layout, "body", 7, 2))
    alone = [
        pipeline.full_clips(store, np.array([i]), Reading(store.layout, "body", 7, 2))[0][0]
        for i in range(40)
    ]
    assert np.array_equal(together, np.stack(alone))


def test_crop_outside_the_clip_is_an_error(write):
    store = write(clocks([10, 10]))
    for start, stop in ((-1, 5), (3, 11), (4, 4), (5, 3)):
        with pytest.raises(ValueError, match="crop is empty or leaves its clip"):
            pipeline.gather(
                store,
                np.array([0, 1]),
                np.array([0, start]),
                np.array([10, stop]),
                Reading(store.layout, "camera", 4, 1),
            )


def test_unknown_coordinates(write):
    store = write(clocks([10]))
    with pytest.raises(InputError, match="coordinates='side' is unknown"):
        pipeline.full_clips(store, np.array([0]), Reading(store.layout, "side", 4, 1))


def test_frame_positions_are_centred_and_inside():
    for length, frames in itertools.product((1, 2, 7, 30), (1, 2, 7, 64)):
        (at,) = resize.frame_positions(np.array([length]), frames)
        expected = [(i + 0.5) * length / frames - 0.5 for i in range(frames)]
        np.testing.assert_allclose(at, [min(max(e, 0), length - 1) for e in expected], atol=1e-12)
        np.testing.assert_allclose(at, length - 1 - at[::-1], atol=1e-12)  # time reversed


# Statistics


@pytest.mark.parametrize("coordinates", COORDINATES)
def test_statistics_against_all_values_at_once(coordinates, write):
    """Of present bodies only, joints and bones side by side."""
    store = write(random_clips(30))
    indices = np.random.default_rng(0).permutation(30)[:20]
    reading = Reading(store.layout, coordinates, 7, 2, ("joint", "bone"))
    clip, present = pipeline.full_clips(store, indices, reading)
    assert present.any() and not present.all()
    joint = clip[present].reshape(-1, *clip.shape[-2:]).astype(np.float64)
    points = np.concatenate([joint, bone_stream(joint, store.layout)], axis=-1).reshape(-1, 6)
    mean, std = pipeline.statistics(store, indices, reading)
    assert mean.dtype == std.dtype == np.float64
    np.testing.assert_allclose(mean, points.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(std, points.std(axis=0), atol=1e-6)


def test_statistics_of_more_clips_are_those_of_a_sample(write):
    store = write(random_clips(30))
    indices = np.random.default_rng(0).permutation(30)[:20]
    reading = Reading(store.layout, "body", 7, 2)
    whole = pipeline.statistics(store, indices, reading)
    chosen = pipeline.statistics(store, pipeline.sample(indices, 6), reading)
    assert np.array_equal(whole, pipeline.statistics(store, indices, reading, most=20))
    assert np.array_equal(chosen, pipeline.statistics(store, indices, reading, most=6))
    assert not np.array_equal(whole, chosen)


def test_sample_is_spread_evenly_and_in_step_with_nothing():
    indices = np.arange(100, 700)
    assert pipeline.sample(indices, 600) is indices
    chosen = pipeline.sample(indices, 200)
    assert np.array_equal((chosen - 100) // 3, np.arange(200))  # one of every three
    assert np.bincount(chosen % 3).min() > 40
    assert np.array_equal(chosen, pipeline.sample(indices, 200))
    uneven = pipeline.sample(np.arange(10), 4)
    assert len(set(uneven.tolist())) == 4 and np.all(np.diff(uneven) > 0)


def test_statistics_of_nothing(write):
    with pytest.raises(InputError, match="no clips"):
        pipeline.statistics(
            write(clocks([3])),
            np.array([], np.int64),
            Reading(KINECT20, "camera", 3, 1),
        )


# Training batches


def test_batch_holds_what_it_says(write):
    store = write(random_clips(20))
    (batch,) = batches(store, np.arange(5, 20), 1, crop=(1.0, 1.0), coordinates="body")
    assert {key: (value.shape, value.dtype.name) for key, value in batch.items()} == {
        "clip": ((6, 2, 8, 20, 3), "float32"),
        "present": ((6, 2), "bool"),
        "index": ((6,), "int32"),
    }
    assert batch["index"].min() >= 5
    clip, present = pipeline.full_clips(store, batch["index"], Reading(store.layout, "body", 8, 2))
    assert np.array_equal(batch["clip"], clip)
    assert np.array_equal(batch["present"], present)


def test_crops_are_of_the_asked_size_and_reach_every_place(write):
    store = write(clocks([40] * 10 + [6] * 10))
    seen = batches(store, count=100, frames=2, crop=(0.25, 0.75), min_crop_frames=8)
    index = np.concatenate([b["index"] for b in seen])
    first, last = np.concatenate([b["clip"][:, 0, :, 0, 0] for b in seen]).T
    size = 2 * (last - first)  # two samples, at a quarter and three quarters of the crop
    start = first - size / 4 + 0.5
    long = index < 10
    assert set(size[long]) == set(range(10, 31))
    assert start[long].min() == 0 and (start + size)[long].max() == 40
    assert set(size[~long]) == {6.0}  # a clip shorter than the least crop is taken whole
    np.testing.assert_allclose(size[long].mean(), 20, atol=1)
    np.testing.assert_allclose((start + size / 2)[long].mean(), 20, atol=1)


def test_second_crop_is_drawn_by_itself(write):
    """Both are crops of the same clips; which, differs from clip to clip."""
    store = write(clocks([40] * 8))
    (batch,) = batches(
        store, count=1, frames=5, bodies=1, batch_size=8, min_crop_frames=3, crops=2, seed=0
    )
    assert set(batch) == {"clip", "other", "present", "index"}
    assert batch["clip"].shape == batch["other"].shape
    apart = np.abs(batch["clip"] - batch["other"]).max(axis=(1, 2, 3, 4))
    assert (apart > 0).sum() >= 7


def test_least_crop(write):
    store = write(clocks([40] * 10))
    seen = batches(store, count=50, frames=2, crop=(0.1, 0.5), min_crop_frames=16)
    size = np.concatenate([2 * (b["clip"][:, 0, 1, 0, 0] - b["clip"][:, 0, 0, 0, 0]) for b in seen])
    assert (size.min(), size.max()) == (16, 20)


@pytest.mark.parametrize("kind", ["mixed", "session"])
def test_every_epoch_is_a_new_permutation(kind, write):
    store = write(random_clips(30))
    chosen = np.arange(0, 30, 2)
    order = np.concatenate(
        [b["index"] for b in batches(store, chosen, 10, batches=kind)]
    )  # 4 epochs of 15
    epochs = order.reshape(4, 15)
    assert (np.sort(epochs, axis=1) == chosen).all()
    assert len({tuple(epoch) for epoch in epochs}) == 4


@pytest.mark.parametrize("kind", ["mixed", "session"])
def test_seed_decides_everything(kind, write):
    store = write(random_clips(30))
    a, again, other = (batches(store, count=3, seed=seed, batches=kind) for seed in (0, 0, 1))
    assert all(map(same, a, again))
    assert not np.array_equal(a[0]["index"], other[0]["index"])


@pytest.mark.parametrize(
    ("stop", "kind"), [(1, "mixed"), (7, "mixed"), (13, "mixed"), (7, "session")]
)
def test_resumed_stream_is_the_same_bit_for_bit(stop, kind, write):
    store = write(random_clips(30))  # 5 batches an epoch
    stream = batches(store, batches=kind)
    for _ in range(stop):
        next(stream)
    state = json.dumps(stream.get_state())
    expected = [next(stream) for _ in range(9)]
    resumed = batches(store, batches=kind)
    resumed.set_state(json.loads(state))
    assert all(map(same, expected, [next(resumed) for _ in range(9)]))


@pytest.mark.parametrize("crops", [1, 2])
def test_whoever_reads_a_row_reads_the_same(crops, write):
    """The stream does not know how many processes share it, nor does the state of its iterator."""
    store = write(clocks([1000] * 12))
    whole = batches(store, crops=crops)
    parts = [np.array([0, 3]), np.array([1, 2, 4, 5])]
    streams = [batches(store, crops=crops, rows=rows) for rows in parts]
    for _ in range(5):
        expected = next(whole)
        for rows, stream in zip(parts, streams):
            batch = next(stream)
            assert np.array_equal(batch.pop("index"), expected["index"])
            assert batch.keys() == expected.keys() - {"index"}
            assert all(np.array_equal(batch[key], expected[key][rows]) for key in batch)
            assert stream.get_state() == whole.get_state()
    one, another = streams[0], batches(store, crops=crops, rows=parts[1])
    another.set_state(one.get_state())
    assert same(next(another), next(streams[1]))


def test_stream_travels_to_another_process_by_the_path_of_its_store(write):
    import pickle

    store = write(random_clips(30))
    dataset = pipeline.train_batches(
        store, np.arange(30), Reading(store.layout, "camera", 8, 2), **DEFAULTS
    )
    copy = iter(pickle.loads(pickle.dumps(dataset)))
    assert same(next(copy), next(iter(dataset)))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"batches": "sorted"}, "batches='sorted' is unknown: choose one of mixed, session"),
        ({"batch_size": 31}, "batch_size 31 does not fit 30 training clips: choose 1 to 30"),
        ({"batch_size": 0}, "batch_size 0 does not fit"),
        ({"crop": (0.0, 1.0)}, "no range of shares"),
        ({"crop": (0.9, 0.5)}, "no range of shares"),
        ({"crop": (0.5, 1.5)}, "no range of shares"),
    ],
)
def test_impossible_streams_are_told(changes, told, write):
    store = write(random_clips(30))
    with pytest.raises(InputError, match=told):
        batches(store, **changes)
