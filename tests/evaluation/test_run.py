"""Reading a run back: which run, which checkpoint, and that raw clips give the same features."""

import dataclasses
import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

import igm_jax
from igm_jax import features
from igm_jax.data.pipeline import full_clips
from igm_jax.data.resize import resize_clips
from igm_jax.errors import InputError
from igm_jax.evaluation.judge import feature_sets
from igm_jax.evaluation.run import init_encoder, load_run
from igm_jax.features import clip_batches, extract_features
from igm_jax.reading import Reading
from igm_jax.run_folder import newest_run
from igm_jax.skeleton import COORDINATES
from igm_jax.training import loop


@pytest.fixture(scope="module")
def loaded(finished):
    return igm_jax.load_encoder(finished.folder)


@pytest.fixture(scope="module")
def expected(finished):
    """Features of all clips by way of the pipeline."""
    run = load_run(finished.folder)
    batches = clip_batches(finished.store, np.arange(80), run.reading, batch_size=40)
    return extract_features(run.config.model.encoder, run.params, run.reading, batches)


def test_raw_clips_give_the_features_of_the_pipeline(finished, loaded, expected):
    """Of any length, with one body or two; coordinates, resize and standardisation are inside."""
    encode, _ = loaded
    table = finished.store.clips
    order = np.lexsort((table["length"], table["bodies"]))
    chosen = [order[0], order[30], order[-1], order[-9]]
    assert sorted(table["bodies"][chosen]) == [1, 1, 2, 2]
    assert len(set(table["length"][chosen])) >= 3
    for i in chosen:
        frames = finished.store[int(i)].frames
        ours = encode(frames[None])
        assert ours.shape == (1, 16) and ours.dtype == jnp.float32
        np.testing.assert_allclose(ours[0], expected[i], atol=1e-5)
        if len(frames) == 1:
            np.testing.assert_allclose(encode(frames)[0], expected[i], atol=1e-5)


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("bodies", [1, 2])
def test_clips_outside_a_store_are_read_as_those_inside(finished, coordinates, bodies):
    """Bit for bit, in every coordinates, of one body and of two; the encoder then sees the same."""
    table = finished.store.clips
    reading = Reading(tiny.LAYOUT, coordinates, 8, bodies)
    for i in (int(table["bodies"].argmax()), int(table["bodies"].argmin())):
        clip, present = full_clips(finished.store, np.array([i]), reading)
        frames = finished.store[i].frames[None]
        there = np.ones(frames.shape[:2], bool)
        ours = resize_clips(frames, there, reading)
        np.testing.assert_array_equal(ours[0], clip)
        np.testing.assert_array_equal(ours[1], present)


def test_encode_reads_as_many_bodies_as_the_run(finished, tmp_path, capsys):
    """Of a run that reads one body, clips of two give what KNN and the probes judge."""
    folder = tmp_path / "one-body"
    changes = {"data.bodies": 1, "objective.feature_weight": 0, "objective.distribution_weight": 0}
    changes |= {"train.epochs": 1, "optimizer.warmup_epochs": 0.5}
    store = finished.store
    loop.pretrain(tiny.config(changes), store, folder, devices=jax.devices()[:1])
    assert ": 40 clips, reads 1 of up to 2 bodies, 5 steps of 8" in capsys.readouterr().err
    encode, info = igm_jax.load_encoder(folder)
    (judged,) = feature_sets(load_run(folder), store, baselines=False)
    assert info["bodies"] == 1
    table = store.clips
    for i in (int(table["bodies"].argmax()), int(table["bodies"].argmin())):
        np.testing.assert_allclose(encode(store[i].frames[None])[0], judged.values[i], atol=1e-5)
    # A body in the second place is the first one there.
    two = store[int(table["bodies"].argmax())].frames[None].copy()
    second = encode(two[:, 1:])
    np.testing.assert_array_equal(encode(two, np.array([[False, True]])), second)
    two[:, 0] = 0
    np.testing.assert_array_equal(encode(two), second)


def test_twenty_lengths_and_few_batch_sizes_are_compiled(loaded):
    encode, _ = loaded
    traced = []
    true = features.Encoder
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "Encoder", lambda c, h: traced.append(c) or true(c, h))
        features._jitted.cache_clear()
        rng = np.random.default_rng(0)
        for length in range(1, 21):
            encode(rng.normal(size=(1, length, 6, 3)))
        assert len(traced) == 1
        for count in range(1, 34):
            encode(rng.normal(size=(count, 9, 6, 3)))
        assert len(traced) == 7  # 1, 2, 4 … 64
    features._jitted.cache_clear()


def test_many_clips_go_through_in_batches(loaded):
    encode, _ = loaded
    clips = np.random.default_rng(0).normal(size=(130, 5, 6, 3))
    np.testing.assert_allclose(encode(clips)[::129], encode(clips[::129]), atol=1e-5)
    assert encode(clips[:0]).shape == (0, 16)


def test_number_types_do_not_matter(loaded):
    encode, _ = loaded
    clips = np.random.default_rng(0).integers(-3, 4, size=(2, 7, 6, 3))
    expected = encode(clips)
    for same in (clips.astype(np.float64), clips.astype(np.float16), jnp.asarray(clips)):
        np.testing.assert_array_equal(encode(same), expected)
    np.testing.assert_array_equal(encode(clips.astype(jnp.bfloat16)), expected)


@pytest.mark.parametrize(
    ("clips", "told"),
    [
        (np.full((2, 8, 6, 3), np.nan), r"clip 0 holds NaN or infinity \(2 of 2 clips do\)"),
        (np.full((2, 8, 6, 3), 1e300), "clip 0 holds NaN or infinity"),
        (np.arange(2)[:, None, None, None] * np.ones((2, 8, 6, 3)), "clip 0 shows nobody"),
        (np.ones((2, 8, 6, 3), complex), "of type complex128"),
        (np.full((2, 8, 6, 3), "1"), "of type <U1"),
        (np.ma.masked_equal(np.arange(288).reshape(2, 8, 6, 3), 150), "clip 1 holds NaN"),
        ([np.ones((8, 6, 3)), np.ones((9, 6, 3))], "encode clips of different lengths one after"),
    ],
)
def test_clips_that_hold_no_coordinates_are_refused(loaded, clips, told):
    encode, _ = loaded
    with pytest.raises(InputError, match=told):
        encode(clips)


def test_present_that_does_not_fit_and_tracing_are_refused(loaded):
    encode, _ = loaded
    for present, told in (
        (np.ones(2, bool), r"present has shape \[2\] .* has to be \[2, 1\] of True and False"),
        ([[1.0], [np.nan]], "type float64"),
        ([[1], [1, 0]], r"give one row \[M\] for each clip"),
    ):
        with pytest.raises(InputError, match=told):
            encode(np.ones((2, 8, 6, 3)), present)
    with pytest.raises(InputError, match="cannot be traced"):
        jax.jit(encode)(jnp.ones((2, 8, 6, 3)))


def test_run_says_how_far_it_got(finished):
    last, best = (load_run(finished.folder, which) for which in ("last", "best"))
    assert (last.progress, last.unfinished) == ("step 10", False)
    assert (best.progress, best.unfinished) == ("step 5 of 10", False)
    stopped = dataclasses.replace(best, reached=5)
    assert (stopped.progress, stopped.unfinished) == ("step 5 of 10, unfinished", True)
    assert dataclasses.replace(best, total_steps=None).progress == "step 5"  # of an older version


def test_number_of_bodies_of_the_store_is_saved(finished, tmp_path, capsys):
    """A run that leaves them to the store is read back without it."""
    changes = {"data.bodies": 0, "objective.feature_weight": 0, "objective.distribution_weight": 0}
    changes |= {"train.epochs": 1, "optimizer.warmup_epochs": 0.5}
    config = tiny.config(changes)
    loop.pretrain(config, finished.store, tmp_path / "run", devices=jax.devices()[:1])
    assert load_run(tmp_path / "run").config.data.bodies == 2
    assert "bodies" not in capsys.readouterr().err  # all are read


def test_clips_of_one_batch_do_not_meet(finished, loaded, expected):
    encode, _ = loaded
    table = finished.store.clips
    length = int(np.bincount(table["length"]).argmax())
    chosen = np.flatnonzero(table["length"] == length)
    clips = np.zeros((len(chosen), 2, length, 6, 3), np.float32)
    for row, i in enumerate(chosen):
        frames = finished.store[int(i)].frames
        clips[row, : len(frames)] = frames  # the second body of others is zero: it is absent
    assert len(chosen) > 3 and len(set(table["bodies"][chosen])) == 2
    np.testing.assert_allclose(encode(clips), expected[chosen], atol=1e-5)
    # What is there may be said instead of guessed.
    present = np.arange(2) < table["bodies"][chosen][:, None]
    np.testing.assert_array_equal(encode(clips, present), encode(clips))
    first_only = encode(clips, present & [True, False])
    single = np.asarray(encode(clips[:, :1]))
    np.testing.assert_allclose(first_only, single, atol=1e-5)
    assert np.abs(single - expected[chosen]).max() > 1e-2


def test_camera_does_not_matter_to_body_coordinates(finished, loaded):
    """The run was trained on it, so that the encoder itself must not see place or heading."""
    encode, _ = loaded
    frames = finished.store[1].frames
    turn = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]], np.float32)
    np.testing.assert_allclose(encode(frames @ turn.T + 5), encode(frames), atol=2e-4)


@pytest.mark.parametrize(
    "shape", [(8, 6, 3), (2, 8, 5, 3), (2, 8, 6, 2), (2, 0, 6, 3), (1, 1, 2, 8, 6, 3), (6,)]
)
def test_clips_of_another_shape_are_refused(loaded, shape):
    encode, _ = loaded
    with pytest.raises(InputError, match=r"clips have shape .* with V=6 \(tiny6\) and C=3") as told:
        encode(np.ones(shape))
    assert f"clips have shape {list(shape)};" in str(told.value)


def test_info_says_what_is_needed_to_use_it(finished, loaded):
    _, info = loaded
    assert info["layout"] == tiny.LAYOUT and info["config"] == finished.config
    numbers = {k: v for k, v in info.items() if k not in ("layout", "config")}
    assert numbers == {
        "frames": 8,
        "joints": 6,
        "channels": 3,
        "bodies": 2,
        "width": 16,
        "step": 10,
        "total_steps": 10,
    }


def test_checkpoints_by_name_and_number(finished):
    last, best, five = (load_run(finished.folder, which) for which in ("last", "best", 5))
    assert (last.step, best.step, five.step) == (10, 5, 5)
    jax.tree.map(np.testing.assert_array_equal, best.params, five.params)
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), last.params, best.params)
    assert max(jax.tree.leaves(moved)) > 1e-3
    assert igm_jax.load_encoder(finished.folder, "best")[1]["step"] == 5


def test_encoder_is_read_without_what_only_training_needs(finished):
    run = load_run(finished.folder)
    untrained = jax.eval_shape(functools.partial(init_encoder, run.config), jax.random.key(0))
    assert jax.tree.structure(run.params) == jax.tree.structure(untrained)
    assert "aux" not in run.params
    assert len(run.reading.mean) == len(run.reading.std) == 3


def test_run_that_does_not_exist_names_those_that_do(finished, tmp_path):
    with pytest.raises(InputError, match=r"runs/tine' does not exist: '.*runs' holds tiny$"):
        load_run(finished.folder.parent / "tine")
    with pytest.raises(InputError, match=r"nothing/here' does not exist$"):
        load_run(tmp_path / "nothing" / "here")


def test_checkpoint_that_does_not_exist_names_those_that_do(finished, tmp_path):
    with pytest.raises(InputError, match=r"has no checkpoint 7: it has \[5, 10\]"):
        load_run(finished.folder, 7)
    with pytest.raises(InputError, match="has no checkpoints: is it the folder of a run"):
        load_run(tmp_path)


def test_newest_run_is_the_one_written_to_last(tmp_path):
    with pytest.raises(InputError, match=r"no run under .*pretrain.py, or give --run"):
        newest_run(tmp_path)
    with pytest.raises(InputError, match="no run under"):
        newest_run(tmp_path / "nowhere")
    for i, name in enumerate(("b", "c", "a")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").touch()
        os.utime(tmp_path / name / "metrics.jsonl", (1000 + i, 1000 + i))
    (tmp_path / "no-run").mkdir()
    assert newest_run(tmp_path) == tmp_path / "a"
    os.utime(tmp_path / "c" / "metrics.jsonl", (2000, 2000))
    assert newest_run(str(tmp_path)) == tmp_path / "c"
