"""Features of many clips: batches and absent bodies leave no trace in them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from igm_jax import features
from igm_jax.data import pipeline
from igm_jax.features import clip_batches, extract_features
from igm_jax.models import IGM, Encoder

CONFIG = tiny.config().model.encoder
READING = dataclasses.replace(tiny.READING, coordinates="centred")


@pytest.fixture(scope="module")
def params():
    return tiny.random_params(IGM(tiny.config().model))["encoder"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tiny.write_store(tmp_path_factory.mktemp("features") / "store")


def test_against_one_body_at_a_time(params, store):
    """Standardised, encoded with nothing hidden, averaged over tokens, then over the bodies."""
    indices = np.array([3, 4, 6, 50])
    got = extract_features(
        CONFIG, params, READING, clip_batches(store, indices, READING, batch_size=4)
    )
    clip, present = pipeline.full_clips(store, indices, READING)
    assert present.sum() in (5, 6, 7)  # some clips have two bodies, some have not
    mean, std = (np.array(x) for x in (tiny.READING.mean, tiny.READING.std))
    encode = jax.jit(Encoder(CONFIG).apply)
    clip = ((clip - mean) / std).astype(np.float32)
    for i in range(4):
        bodies = [
            np.asarray(encode({"params": params}, jnp.asarray(body)[None]))[0].mean(axis=0)
            for body in clip[i][present[i]]
        ]
        np.testing.assert_allclose(got[i], np.mean(bodies, axis=0), atol=1e-5)


def test_stretches_stand_side_by_side(params, store):
    """One clip has one body, the other two: of each the means of its first and its last frames."""
    indices = np.array([3, 4])
    config = dataclasses.replace(CONFIG, stretches=2)
    batches = lambda: clip_batches(store, indices, READING)  # noqa: E731
    got = extract_features(config, params, READING, batches())
    clip, present = next(batches())
    rows = tiny.READING(jnp.asarray(clip[present]))
    tokens = np.asarray(jax.jit(Encoder(CONFIG).apply)({"params": params}, rows))
    halves = np.concatenate([tokens[:, :6].mean(axis=1), tokens[:, 6:].mean(axis=1)], axis=-1)
    assert present.sum() == 3 and got.shape == (2, 32)
    first = present[0].sum()
    expected = [halves[:first].mean(axis=0), halves[first:].mean(axis=0)]
    np.testing.assert_allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize("batch_size", [7, 10, 30])
def test_size_of_the_batches_does_not_matter(params, store, batch_size):
    """7 leaves a short last batch, which is padded; 30 is more than there are clips."""
    indices = np.random.default_rng(0).permutation(80)[:20]
    values = extract_features(
        CONFIG, params, READING, clip_batches(store, indices, READING, batch_size=batch_size)
    )
    assert values.shape == (20, 16) and values.dtype == np.float32
    alone = extract_features(
        CONFIG, params, READING, clip_batches(store, indices[:3], READING, batch_size=1)
    )
    np.testing.assert_allclose(values[:3], alone, atol=1e-5)
    again = extract_features(
        CONFIG, params, READING, clip_batches(store, indices[::-1], READING, batch_size=4)
    )
    np.testing.assert_allclose(values, again[::-1], atol=1e-5)


def test_absent_bodies_are_not_encoded(params, store, monkeypatch):
    sizes = []

    def jitted(config, reading, mesh):
        def encode(params, clip, present):
            assert present.all()
            sizes.append(clip.shape[:2])
            return np.tile(clip.mean(axis=(1, 2, 3)), (1, CONFIG.width))[:, : CONFIG.width]

        return encode

    monkeypatch.setattr(features, "_jitted", jitted)
    indices = np.arange(40)
    batches = clip_batches(store, indices, READING, batch_size=8)
    got = extract_features(CONFIG, params, READING, batches)
    clip, present = pipeline.full_clips(store, indices, READING)
    assert 40 < present.sum() < 80
    assert sizes == [(8, 1)] * -(-present.sum() // 8)
    expected = [c[p].mean(axis=(0, 1, 2)) for c, p in zip(clip, present)]
    np.testing.assert_allclose(got[:, :3], expected, atol=1e-5)


def test_a_clip_without_bodies_has_zero_features(params):
    clip = np.ones((3, 2, 8, 6, 3), np.float32)
    present = np.array([[True, False], [False, False], [False, True]])
    got = extract_features(CONFIG, params, READING, [(clip, present)])
    assert (got[1] == 0).all() and (got[[0, 2]] != 0).any()
    np.testing.assert_allclose(got[0], got[2], atol=1e-6)
    assert extract_features(CONFIG, params, READING, []).shape == (0, CONFIG.width)
