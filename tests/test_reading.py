"""How f reads a clip: streams and statistics."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import tiny

from igm_jax.reading import Reading
from igm_jax.skeleton import bone_stream, motion_stream

STREAMS = ("joint", "bone", "motion")
MEAN, STD = tuple(0.1 * i for i in range(9)), tuple(0.5 + 0.1 * i for i in range(9))
READING = Reading(tiny.LAYOUT, "body", 5, 1, STREAMS, MEAN, STD)


def test_streams_stand_side_by_side_and_are_standardised():
    clip = np.random.default_rng(0).normal(size=(2, 3, 5, 6, 3)).astype(np.float32)
    expected = [clip, bone_stream(clip, tiny.LAYOUT), motion_stream(clip)]
    expected = (np.concatenate(expected, axis=-1) - np.array(MEAN)) / np.array(STD)
    seen = jax.jit(READING)(jnp.asarray(clip))
    assert seen.shape == (2, 3, 5, 6, 9) and seen.dtype == jnp.float32
    np.testing.assert_allclose(seen, expected, atol=1e-5)


def test_survives_json():
    again = Reading.from_dict(json.loads(json.dumps(READING.to_dict())))
    assert again == READING and hash(again) == hash(READING)


def test_constant_coordinates_stay_zero():
    reading = Reading(tiny.LAYOUT, "body", 5, 1).standardised(np.ones(3), np.array([2.0, 0, 1]))
    assert reading.mean == (1.0, 1.0, 1.0) and reading.std == (2.0, 1.0, 1.0)
    assert not reading(jnp.ones((1, 6, 3))).any()


def test_a_posture_in_the_plane_is_in_body_sizes():
    plane = Reading(tiny.LAYOUT, "posture", 5, 1, ("joint", "motion"), (0.0,) * 4, (1.0,) * 4)
    space = Reading(tiny.LAYOUT, "posture", 5, 1, ("joint",), (0.0,) * 3, (1.0,) * 3)
    assert plane.units("pixels") == "body sizes" and space.units("metres") == "metres"
    assert dataclasses.replace(plane, coordinates="centred").units("pixels") == "pixels"
