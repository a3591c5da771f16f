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
from igm_jax.data.pipeline import full_clips
from igm_jax.errors import InputError
from igm_jax.evaluation.features import clip_batches, extract_features
from igm_jax.evaluation.run import _encode_raw, init_encoder, load_run, newest_run
from igm_jax.skeleton import VIEWS


@pytest.fixture(scope="module")
def loaded(finished):
    return igm_jax.load_encoder(finished.folder)


@pytest.fixture(scope="module")
def expected(finished):
    """Features of all clips by way of the pipeline."""
    run = load_run(finished.folder)
    batches = clip_batches(
        finished.store, np.arange(80), frames=8, bodies=2, view="body", batch_size=40
    )
    return extract_features(run.config.model.encoder, run.params, run.inputs, batches)


def test_raw_clips_give_the_features_of_the_pipeline(finished, loaded, expected):
    """Of any length, with one body or two; view, resize and standardisation are inside."""
    encode, _ = loaded
    table = finished.store.clips
    order = np.lexsort((table["length"], table["bodies"]))
    chosen = [order[0], order[30], order[-1], order[-9]]
    assert sorted(table["bodies"][chosen]) == [1, 1, 2, 2]
    assert len(set(table["length"][chosen])) >= 3
    for i in chosen:
        frames = finished.store[int(i)].frames
        features = encode(frames[None])
        assert features.shape == (1, 16) and features.dtype == jnp.float32
        np.testing.assert_allclose(features[0], expected[i], atol=2e-5)
        if len(frames) == 1:
            np.testing.assert_allclose(encode(frames)[0], expected[i], atol=2e-5)


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_of_a_raw_clip_is_the_pipelines(finished, view):
    run = load_run(finished.folder)
    data = dataclasses.replace(run.config.data, view=view)
    run = dataclasses.replace(run, config=dataclasses.replace(run.config, data=data))
    two = int(finished.store.clips["bodies"].argmax())
    clip, present = full_clips(finished.store, np.array([two]), frames=8, bodies=2, view=view)
    expected = extract_features(run.config.model.encoder, run.params, run.inputs, [(clip, present)])
    frames = jnp.asarray(finished.store[two].frames)[None]
    np.testing.assert_allclose(
        _encode_raw(run, run.params, frames, jnp.asarray(present)), expected, atol=5e-5
    )


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
    np.testing.assert_allclose(encode(clips), expected[chosen], atol=2e-5)
    # What is there may be said instead of guessed.
    present = np.arange(2) < table["bodies"][chosen][:, None]
    np.testing.assert_array_equal(encode(clips, present), encode(clips))
    first_only = encode(clips, present & [True, False])
    single = np.asarray(encode(clips[:, :1]))
    np.testing.assert_allclose(first_only, single, atol=2e-5)
    assert np.abs(single - expected[chosen]).max() > 1e-2


def test_camera_does_not_matter_to_the_body_view(finished, loaded):
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
    with pytest.raises(InputError, match=r"clips have shape .* with V=6 \(tiny6\) and C=3"):
        encode(np.ones(shape))


def test_info_says_what_is_needed_to_use_it(finished, loaded):
    _, info = loaded
    assert info["layout"] == tiny.LAYOUT and info["config"] == finished.config
    numbers = {k: v for k, v in info.items() if k not in ("layout", "config")}
    assert numbers == {
        "frames": 8, "joints": 6, "channels": 3, "bodies": 2, "width": 16, "step": 10
    }  # fmt: skip


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
    assert len(run.inputs.mean) == len(run.inputs.std) == 3


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
