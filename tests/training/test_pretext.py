"""Displacement prediction and colorization against slow references, and their limits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from objective_world import KEY, PRESENT, noise_of, patch, pool, rows_of, unit, world

from igm_jax.errors import InputError
from igm_jax.models import Encoder
from igm_jax.training.objectives.colorization import order_colours
from igm_jax.training.objectives.displacement import (
    direction_classes,
    displacements,
    magnitude_classes,
)

HERE = np.flatnonzero(np.asarray(PRESENT).reshape(-1))


def seen(key):
    """Tokens that f sees in each row: six of twelve."""
    k_keep, k_noise = jax.random.split(key)
    return np.argsort(np.asarray(jax.random.uniform(k_keep, (8, 12))), axis=1)[:, :6], k_noise


def test_displacement_prediction_against_a_slow_reference():
    w, rows = world("displacement_prediction"), rows_of(world("displacement_prediction").clip)
    keep, k_noise = seen(KEY)
    tokens = w.tokens(w.params, rows + noise_of(k_noise), keep)
    head = jax.tree.map(np.float64, w.params["decoder"]["out"])
    logits = (tokens @ head["kernel"] + head["bias"]).reshape(8, 6, 4, 3, 42)  # 27 + 15 classes
    direction, magnitude = [], []
    for r in HERE:
        for i, token in enumerate(keep[r]):
            span, joint = divmod(int(token), 6)
            for frame in range(4):
                for k, interval in enumerate((1, 5, 10)):
                    t = 4 * span + frame
                    d = rows[r, max(t - interval, 0), joint] - rows[r, t, joint]
                    which = sum(
                        3**axis * (0 if u < 0 else 1 if u == 0 else 2) for axis, u in enumerate(d)
                    )
                    length = np.linalg.norm(d)
                    size = 0 if length == 0 else min(int(length / 0.4) + 1, 14)
                    x = logits[r, i, frame, k]
                    direction.append(np.log(np.exp(x[:27]).sum()) - x[which])
                    magnitude.append(np.log(np.exp(x[27:]).sum()) - x[27 + size])
    loss, output = w.run()
    np.testing.assert_allclose(output.metrics["loss_direction"], np.mean(direction), rtol=1e-4)
    np.testing.assert_allclose(output.metrics["loss_magnitude"], np.mean(magnitude), rtol=1e-4)
    np.testing.assert_allclose(loss, np.mean(direction) + np.mean(magnitude), rtol=1e-4)
    np.testing.assert_allclose(output.features, pool(tokens), atol=1e-5)
    np.testing.assert_allclose(output.references, unit(pool(tokens)), atol=1e-5)


def test_classes_of_a_body_that_does_not_move_and_of_one_in_the_plane():
    still = displacements(jnp.ones((1, 12, 2, 3)))
    assert still.shape == (1, 12, 2, 3, 3)
    assert set(np.asarray(direction_classes(still)).ravel()) == {13}  # 1 + 3 + 9
    assert not np.any(magnitude_classes(still, 0.1))
    line = displacements(jnp.arange(12.0).reshape(1, 12, 1, 1))[0, :, 0, :, 0]
    np.testing.assert_array_equal(line[0], [0, 0, 0])
    np.testing.assert_array_equal(line[3], [-1, -3, -3])  # the first frame stands for those before
    np.testing.assert_array_equal(line[11], [-1, -5, -10])
    plane = direction_classes(jnp.array([[-1.0, 1.0], [1.0, 1.0], [0.0, -1.0]]))
    np.testing.assert_array_equal(plane, [6, 8, 1])


def test_colorization_against_a_slow_reference():
    w = world("colorization")
    keep, k_noise = seen(KEY)
    rows = rows_of(w.clip) + noise_of(k_noise)
    tokens = w.tokens(w.params, rows, keep)
    p = jax.tree.map(np.float64, w.params["decoder"])
    gelu = lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))  # noqa: E731
    errors = []
    for r in HERE:
        code = tokens[r].mean(axis=0) @ p["code"]["kernel"] + p["code"]["bias"]
        for i, token in enumerate(patch(rows)[r]):
            h = gelu(token @ p["token"]["kernel"] + p["token"]["bias"] + code)
            h = gelu(h @ p["hidden"]["kernel"] + p["hidden"]["bias"])
            out = h @ p["out"]["kernel"] + p["out"]["bias"]
            time, place = i // 6, (i % 6) / 5
            red, blue = max(0, 1 - 2 * place), max(0, 2 * place - 1)
            target = [1 - time, 0, time, red, 1 - red - blue, blue]
            errors.append((out - target) ** 2)
    loss, output = w.run()
    np.testing.assert_allclose(loss, np.mean(errors), rtol=1e-4)
    np.testing.assert_allclose(output.features, pool(tokens), atol=1e-5)


def test_f_without_positions_reads_a_set():
    """Tokens in another order are the same tokens in another order, and none has a position."""
    config = tiny.config(tiny.changes_for("colorization")).model.encoder
    encoder, clip = Encoder(config), jax.random.normal(KEY, (2, 8, 6, 3))
    params = encoder.init(KEY, clip)
    assert "position" not in params["params"]
    order = jnp.array([[3, 0, 11, 5], [7, 6, 1, 2]])
    some = encoder.apply(params, clip, order)
    np.testing.assert_allclose(
        encoder.apply(params, clip, order[:, ::-1]), some[:, ::-1], atol=1e-5
    )
    reversed_joints = encoder.apply(params, clip[:, :, ::-1])
    whole = encoder.apply(params, clip).reshape(2, 2, 6, -1)[:, :, ::-1].reshape(2, 12, -1)
    np.testing.assert_allclose(reversed_joints, whole, atol=1e-5)


def test_colours_of_whole_poses_show_time_alone():
    np.testing.assert_array_equal(order_colours(3, 1), np.eye(3))
    assert order_colours(3, 2).shape == (6, 6)
    np.testing.assert_array_equal(order_colours(2, 2)[2], [0, 0, 1, 1, 0, 0])


@pytest.mark.parametrize("name", ["displacement_prediction", "colorization"])
def test_all_parameters_but_the_projector_learn(name):
    gradients = world(name).gradient("params")
    for path, g in jax.tree_util.tree_leaves_with_path(gradients):
        assert np.any(g), path


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"objective.name": "colorization"}, r"needs model\.encoder\.positions=False"),
        (
            {
                **tiny.changes_for("colorization"),
                "model.encoder.patch_frames": 8,
            },
            "needs more than one token in time",
        ),
        (
            {"objective.name": "displacement_prediction", "data.streams": ("joint", "motion")},
            r"needs data\.streams=\('joint',\)",
        ),
    ],
)
def test_what_cannot_be_predicted_is_refused(changes, told):
    with pytest.raises(InputError, match=told):
        tiny.config(changes)
