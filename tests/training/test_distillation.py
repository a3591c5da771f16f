"""Mutual distillation of streams: a slow reference, its limits, and who gets a gradient."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from objective_world import KEY, World, world

from igm_jax.errors import InputError
from igm_jax.evaluation.parts import FeatureSet, each_tower
from igm_jax.features import pooled_features
from igm_jax.finetuning.optimizer import layer_scales
from igm_jax.models import Contrastive, Encoder, StreamContrastive


def log_softmax(x):
    return x - np.log(np.exp(x - x.max()).sum()) - x.max()


def by_stream(x):
    """Three lists of unit features."""
    parts = np.split(np.asarray(x, np.float64), 3, axis=-1)
    return [part / np.linalg.norm(part, axis=-1, keepdims=True) for part in parts]


def test_mutual_distillation_against_a_slow_reference():
    w = world("mutual_distillation")
    k_one, k_other = jax.random.split(KEY)
    z, one = w.read(w.params, w.clip, k_one)
    _, other = w.read(w.teacher, w.other, k_other)
    query, positive, queue = by_stream(one), by_stream(other), by_stream(w.queue)
    contrast = distillation = 0
    for i in range(4):
        for a in range(3):
            k = positive[a][i]
            scores = np.array([query[a][i] @ k, *(queue[a] @ query[a][i])]) / 0.2
            contrast -= log_softmax(scores)[0] / 4
            nearest = np.argsort(-queue[a] @ k)[:8]  # the half of sixteen
            target = log_softmax(queue[a][nearest] @ k / 0.05)
            for b in {0, 1, 2} - {a}:
                seen = log_softmax(queue[b][nearest] @ query[b][i] / 0.2)
                distillation += (np.exp(target) * (target - seen)).sum() / 4
    loss, output = w.run()
    np.testing.assert_allclose(output.metrics["loss_contrast"], contrast, rtol=1e-4)
    np.testing.assert_allclose(output.metrics["loss_distillation"], distillation, rtol=1e-4)
    np.testing.assert_allclose(loss, contrast + distillation, rtol=1e-4)
    np.testing.assert_allclose(output.features, z, atol=1e-5)
    np.testing.assert_allclose(output.references, other, atol=1e-5)


def test_what_mutual_distillation_pulls():
    """Every stream, by its own view; the other view, the teacher and the queue are constants."""
    w = world("mutual_distillation")
    distillation = lambda _, output: output.metrics["loss_distillation"]  # noqa: E731
    for constant in ("other", "teacher"):
        assert not any(np.any(g) for g in jax.tree.leaves(w.gradient(constant))), constant
    assert not np.any(w.gradient("queue", distillation))
    for of in (distillation, lambda loss, _: loss):
        kernels = w.gradient("params", of)["encoder"]["towers"]["embed"]["kernel"]
        assert np.any(kernels, axis=(1, 2)).all() and len(kernels) == 3


def test_limits_of_mutual_distillation():
    values = world("mutual_distillation").run(queue=jnp.zeros((0, 48)))[1].metrics
    np.testing.assert_allclose(values["loss"], 0, atol=1e-6)
    changes = {"objective.temperature": 1e6, "objective.target_temperature": 1e6}
    hot = World("mutual_distillation", changes).run()[1].metrics
    np.testing.assert_allclose(hot["loss_contrast"], 3 * np.log(17), rtol=1e-4)
    np.testing.assert_allclose(hot["loss_distillation"], 0, atol=1e-5)


def test_towers_are_encoders_side_by_side():
    """Each reads its own stream with its own parameters, in training and in evaluation."""
    w = world("mutual_distillation")
    config = w.config.model.encoder
    rows = jax.random.normal(KEY, (2, 8, 6, 9))
    keep = jnp.array([[0, 7, 3], [11, 2, 4]])
    params = w.params["encoder"]
    tokens = Encoder(config).apply({"params": params}, rows, keep)
    assert tokens.shape == (2, 3, 48)
    for i in range(3):
        one = jax.tree.map(lambda x, i=i: x[i], params["towers"])
        part = rows[..., 3 * i : 3 * i + 3]
        alone = Encoder(config.tower).apply({"params": one}, part, keep)
        np.testing.assert_allclose(tokens[..., 16 * i : 16 * i + 16], alone, atol=1e-5)
    fresh = Encoder(config).init(KEY, rows)["params"]["towers"]["embed"]["kernel"]
    assert np.abs(fresh[0] - fresh[1]).max() > 0.1  # they start apart
    clip = jax.random.normal(KEY, (2, 1, 8, 6, 3))
    reading, present = tiny.reading_for(w.config), jnp.ones((2, 1), bool)
    features = pooled_features(params, clip, present, config=config, reading=reading)
    assert features.shape == (2, config.feature_width) == (2, 48)


def test_projectors_of_streams_do_not_see_each_other():
    config = dataclasses.replace(world("mutual_distillation").config.model, projector_width=16)
    model, z = StreamContrastive(config), jax.random.normal(KEY, (5, 48))
    params = tiny.random_params(model)
    projected = model.apply({"params": params}, z, method="project")
    one = dataclasses.replace(config, encoder=config.encoder.tower)
    for i in range(3):
        projector = jax.tree.map(lambda x, i=i: x[i], params["projector"])
        part = z[:, 16 * i : 16 * i + 16]
        alone = Contrastive(one).apply({"params": {"projector": projector}}, part, method="project")
        np.testing.assert_allclose(projected[:, 16 * i : 16 * i + 16], alone, atol=1e-5)


def test_streams_are_judged_together_and_alone():
    """Stretches of time vary slower than towers: two stretches of three towers of four numbers."""
    config = dataclasses.replace(
        world("mutual_distillation").config.model.encoder, width=4, stretches=2
    )
    number = np.arange(24, dtype=np.float32)
    values = np.stack([number, -number])
    whole = FeatureSet("whole", values, lambda indices, epoch: values[indices] + epoch, True)
    sets = each_tower(whole, config, ("joint", "motion", "bone"))
    assert [s.name for s in sets] == ["joint alone", "motion alone", "bone alone"]
    assert not any(s.trained for s in sets)
    np.testing.assert_array_equal(sets[1].values[0], [4, 5, 6, 7, 16, 17, 18, 19])
    np.testing.assert_array_equal(sets[1].augmented(np.array([1]), 3)[0], 3 - sets[1].values[0])


def test_layers_of_towers_are_fine_tuned_at_the_rates_of_one_encoder():
    params = {"encoder": world("mutual_distillation").params["encoder"]}
    scales = layer_scales(params, 1, 0.5)["encoder"]["towers"]
    for path, scale in jax.tree_util.tree_leaves_with_path(scales):
        expected = {"norm": 1, "blocks": 0.5}.get(path[0].key, 0.25)
        assert np.all(np.asarray(scale) == expected), path
    shapes = jax.tree.map(
        lambda x, s: (x * s).shape == x.shape, params["encoder"]["towers"], scales
    )
    assert all(jax.tree.leaves(shapes))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"objective.ema_decay": 0.0}, r"needs a teacher \(objective\.ema_decay above 0\)"),
        ({"data.crops": 1}, r"needs data\.crops=2"),
        (
            {"model.encoder.towers": 1},
            r"needs model\.encoder\.towers of the number of data\.streams",
        ),
        (
            {"model.encoder.towers": 2},
            r"model\.encoder\.towers=2: must be at least 1, and divide model\.encoder\.channels=9",
        ),
        (
            {"data.streams": ("joint",), "model.encoder.channels": 3, "model.encoder.towers": 1},
            r"needs two of data\.streams or more",
        ),
        ({"objective.name": "momentum_contrast"}, r"needs model\.encoder\.towers=1"),
    ],
)
def test_a_missing_setting_of_mutual_distillation_is_told(changes, told):
    with pytest.raises(InputError, match=told):
        tiny.config({**tiny.changes_for("mutual_distillation"), **changes})
