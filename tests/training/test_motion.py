"""Contrast of clips with their motion: a slow reference, its limits, and who gets a gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from objective_world import KEY, PRESENT, World, noise_of, pool, rows_of, unit, world

from igm_jax.errors import InputError
from igm_jax.training.objectives.motion import motion_of

HERE = np.flatnonzero(np.asarray(PRESENT).reshape(-1))


def slow_motion(rows):
    out = np.zeros(rows.shape)
    for r, row in enumerate(np.float64(rows)):
        for t in range(7):
            out[r, t] = row[t + 1] - row[t]
        out[r] /= np.sqrt((out[r] ** 2).mean())
    return out


def slow_gru(cell, x, steps):
    """States of a GRU that gets the same input in every step."""
    sigmoid = lambda a: 1 / (1 + np.exp(-a))  # noqa: E731
    affine = lambda name, a: a @ cell[name]["kernel"] + cell[name].get("bias", 0)  # noqa: E731
    h, states = np.zeros(len(x)), []
    for _ in range(steps):
        reset = sigmoid(affine("ir", x) + affine("hr", h))
        update = sigmoid(affine("iz", x) + affine("hz", h))
        new = np.tanh(affine("in", x) + reset * affine("hn", h))
        h = (1 - update) * new + update * h
        states.append(h)
    return np.stack(states)


def test_motion_contrast_against_a_slow_reference():
    w = world("motion_contrast")
    k_clip, k_motion = jax.random.split(KEY)
    k_keep, k_noise = jax.random.split(k_clip)
    keep = np.argsort(np.asarray(jax.random.uniform(k_keep, (8, 12))), axis=1)[:, :6]
    tokens = w.tokens(w.params, rows_of(w.clip) + noise_of(k_noise), keep)
    query = unit(pool(tokens))
    motion = slow_motion(rows_of(w.clip)).reshape(w.clip.shape).astype(np.float32)
    _, positive = w.read(w.teacher, motion, k_motion)
    queue, contrast = np.asarray(w.queue, np.float64), []
    for q, k in zip(query, positive):
        scores = np.exp(np.array([q @ k, *(queue @ q)]) / 0.2)
        contrast.append(-np.log(scores[0] / scores.sum()))

    p, errors = jax.tree.map(np.float64, w.params["decoder"]), []
    for r in HERE:
        code = tokens[r].mean(axis=0) @ p["code"]["kernel"] + p["code"]["bias"]
        frames = np.float64(rows_of(w.clip)[r]).reshape(8, 18)
        for direction, target in zip(p["direction"], (frames, frames[::-1])):
            states = slow_gru(p["gru"], code + direction, 8)
            out = states @ p["out"]["kernel"] + p["out"]["bias"]
            errors.append(((out - target) ** 2).mean())
    loss, output = w.run()
    np.testing.assert_allclose(output.metrics["loss_contrast"], np.mean(contrast), rtol=1e-4)
    np.testing.assert_allclose(
        output.metrics["loss_reconstruction"], 2 * np.mean(errors), rtol=1e-4
    )
    np.testing.assert_allclose(loss, np.mean(contrast) + 2 * np.mean(errors), rtol=1e-4)
    np.testing.assert_allclose(output.features, pool(tokens), atol=1e-5)
    np.testing.assert_allclose(output.references, positive, atol=1e-5)


def test_what_motion_contrast_pulls():
    """The contrast pulls f, the reconstruction pulls f and the decoder; the teacher is constant."""
    w = world("motion_contrast")
    part = lambda name: lambda _, output: output.metrics[name]  # noqa: E731
    by_contrast = w.gradient("params", part("loss_contrast"))
    by_error = w.gradient("params", part("loss_reconstruction"))
    for gradient in (by_contrast, by_error):
        assert np.any(gradient["encoder"]["embed"]["kernel"])
    assert not any(np.any(g) for g in jax.tree.leaves(by_contrast["decoder"]))
    assert all(np.any(g) for g in jax.tree.leaves(by_error["decoder"]))
    assert not any(np.any(g) for g in jax.tree.leaves(w.gradient("teacher")))


def test_limits_of_motion_contrast():
    _, output = world("motion_contrast").run(queue=jnp.zeros((0, 16)))
    np.testing.assert_allclose(output.metrics["loss_contrast"], 0, atol=1e-6)
    hot = World("motion_contrast", {"objective.temperature": 1e6})
    np.testing.assert_allclose(hot.run()[1].metrics["loss_contrast"], np.log(17), rtol=1e-4)
    still = motion_of(jnp.ones((2, 8, 6, 3)))
    np.testing.assert_array_equal(still, 0)  # a clip without motion gives no NaN
    moving = motion_of(jax.random.normal(KEY, (2, 8, 6, 3)))
    np.testing.assert_allclose(jnp.square(moving).mean(axis=(1, 2, 3)), 1, rtol=1e-5)


def test_motion_of_motion_is_refused():
    changes = {**tiny.changes_for("motion_contrast"), "data.streams": ("joint", "motion")}
    with pytest.raises(InputError, match=r"needs data\.streams=\('joint',\)"):
        tiny.config(changes)
    with pytest.raises(InputError, match=r"needs a teacher"):
        tiny.config({"objective.name": "motion_contrast"})
