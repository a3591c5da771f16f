"""Head, pooling, optimiser, step and generated clips, against slow references."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from igm_jax import diffusion, parallel
from igm_jax.errors import InputError
from igm_jax.finetuning import program as programs
from igm_jax.finetuning.config import FinetuneConfig
from igm_jax.finetuning.generate import one_step_denoised
from igm_jax.finetuning.model import Classifier, joint_features
from igm_jax.finetuning.optimizer import layer_scales, layerwise_adamw
from igm_jax.finetuning.program import build_program
from igm_jax.finetuning.step import smoothed_cross_entropy
from igm_jax.models import IGM
from igm_jax.training.objectives import ClipBatch
from igm_jax.training.step import prepare_batch

KEY = jax.random.key(3)


def test_joint_features_against_loops():
    """Two bodies, three times, two joints; the second clip has one body."""
    tokens = np.random.default_rng(0).normal(size=(4, 6, 5)).astype(np.float32)
    present = np.array([[True, True], [True, False]])
    expected = np.zeros((2, 10))
    for clip in range(2):
        for joint in range(2):
            of_bodies = [
                np.mean([tokens[2 * clip + body, 2 * time + joint] for time in range(3)], axis=0)
                for body in range(2)
                if present[clip, body]
            ]
            expected[clip, 5 * joint : 5 * joint + 5] = np.mean(of_bodies, axis=0)
    np.testing.assert_allclose(
        joint_features(jnp.asarray(tokens), 3, 1, jnp.asarray(present)), expected, atol=1e-6
    )


def test_pooling_of_whole_poses_and_of_whole_paths():
    """A token with all joints, and tokens with all frames: one place is left of either axis."""
    tokens, present = jnp.arange(24.0).reshape(2, 6, 2), jnp.ones((2, 1), bool)
    poses = joint_features(tokens, 6, 1, present)
    np.testing.assert_allclose(poses, tokens.mean(axis=1))
    paths = joint_features(tokens, 1, 1, present)
    np.testing.assert_array_equal(paths, tokens.reshape(2, 12))


def test_stretches_stand_side_by_side():
    """Of five times and two joints: the means of the first three times, then of the last two."""
    tokens = np.random.default_rng(0).normal(size=(2, 10, 3)).astype(np.float32)
    times = tokens.reshape(2, 5, 6)
    expected = np.concatenate([times[:, :3].mean(axis=1), times[:, 3:].mean(axis=1)], axis=1)
    found = joint_features(jnp.asarray(tokens), 5, 2, jnp.ones((2, 1), bool))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_smoothed_cross_entropy_against_a_loop():
    logits = np.random.default_rng(0).normal(size=(3, 4))
    label = np.array([2, 0, 3])
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = [
        -sum((0.9 * (c == y) + 0.1 / 4) * row[c] for c in range(4)) for y, row in zip(label, log_p)
    ]
    loss = smoothed_cross_entropy(jnp.asarray(logits, jnp.float32), jnp.asarray(label), 0.1)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.fixture(scope="module")
def params(run):
    model = Classifier(run.config.model.encoder, 8, 3, 0.3, 0.3)
    c = model.encoder_config
    clip = jax.ShapeDtypeStruct((1, 2, c.frames, c.joints, c.channels), jnp.float32)
    present = jax.ShapeDtypeStruct((1, 2), bool)
    shapes = jax.eval_shape(lambda *x: model.init(KEY, *x, train=False), clip, present)
    return jax.tree.map(lambda x: jnp.ones(x.shape), shapes["params"])


def test_layer_scales(params):
    """Three blocks, decay ½: 1 for head and norm, ½, ¼, ⅛ downwards, 1⁄16 for the embeddings."""
    blocks = {"attention": {"kernel": jnp.ones((3, 4, 4))}}
    encoder = {"blocks": blocks, **{k: params["encoder"][k] for k in ("embed", "norm", "position")}}
    scales = layer_scales({"encoder": encoder, "head": params["head"]}, 3, 0.5)
    kernel = scales["encoder"]["blocks"]["attention"]["kernel"]
    assert kernel[:, 0, 0].tolist() == [0.125, 0.25, 0.5]
    ones = {"head": scales["head"], "norm": scales["encoder"]["norm"]}
    assert {float(x.max()) for x in jax.tree.leaves(ones)} == {1.0}
    bottom = [scales["encoder"][k] for k in ("embed", "position")]
    assert {float(x.max()) for x in jax.tree.leaves(bottom)} == {0.0625}


def test_layerwise_adamw_is_adamw_with_a_rate_for_each_layer(params, config):
    """One step against `optax.adamw` at the rate of each parameter, weight decay included."""
    grads = jax.tree.map(lambda x: 1e-3 * jnp.cos(jnp.arange(x.size)).reshape(x.shape), params)
    settings = config.optimizer(1e-3)
    optimizer = layerwise_adamw(settings, 1, 0.5)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    for part, layer, rate in (
        ("head", "hidden", 1e-3),
        ("encoder", "blocks", 5e-4),
        ("encoder", "embed", 2.5e-4),
    ):
        plain = optax.adamw(
            rate,
            *settings.betas,
            weight_decay=settings.weight_decay,
            mask=lambda p: jax.tree.map(lambda x: False, p),
        )
        p, g = params[part][layer], grads[part][layer]
        expected, _ = plain.update(g, plain.init(p), p)
        decays = jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", p)
        shrink = rate * settings.weight_decay
        decayed = jax.tree.map(lambda e, p, d, s=shrink: e - s * d * p, expected, p, decays)
        for a, b in zip(jax.tree.leaves(updates[part][layer]), jax.tree.leaves(decayed)):
            np.testing.assert_allclose(1e-3 * a, b, rtol=1e-4, atol=1e-9)


def test_one_step_denoised_against_its_formula(run):
    """g's noise is that of the condition on the pooled feature: nothing is hidden from f here."""
    objective = dataclasses.replace(run.config.objective, mask_ratio=0.0, clean_clip=1.5)
    model = IGM(run.config.model)
    params = tiny.random_params(model)
    clip = jax.random.normal(KEY, (2, 2, 8, 6, 3))
    batch = ClipBatch(clip, jnp.ones((2, 2), bool))
    made = one_step_denoised(params, batch, KEY, model=model, config=objective, share=0.5)
    rows, t = clip.reshape(4, 8, 6, 3), jnp.full(4, 500)
    noise = jax.random.normal(jax.random.split(KEY)[1], rows.shape)
    a = np.asarray(diffusion.alpha_bar("inverse_cosine", 1000))[500]
    x_t = np.sqrt(a) * rows + np.sqrt(1 - a) * noise
    tokens = model.apply({"params": params}, rows, method="encode")
    condition = model.apply({"params": params}, tokens, None, method="condition")
    predicted = model.apply(
        {"params": params}, x_t, condition, t, jnp.full(4, a), method="generate"
    )
    expected = np.clip((x_t - np.sqrt(1 - a) * predicted) / np.sqrt(a), -1.5, 1.5)
    np.testing.assert_allclose(made.reshape(expected.shape), expected, atol=2e-3)
    assert np.abs(made - clip).max() > 0.1


@pytest.fixture(scope="module")
def batch(store, run):
    rng = np.random.default_rng(0)
    clip = rng.normal(size=(8, 2, 8, 6, 3)).astype(np.float32)
    return {
        "clip": clip,
        "present": rng.random((8, 2)) < 2,
        "label": np.arange(8, dtype=np.int32) % 3,
    }


def stepped(program, batch, rate=1e-2):
    state = program.init(KEY, program.encoder)
    raw = parallel.to_devices(program.mesh, batch)
    return program.step(state, raw, np.float32(rate), KEY, program.parent)


@pytest.fixture(scope="module")
def one(run, config):
    return build_program(config, run, 3, devices=jax.devices()[:1])


def test_a_step_on_eight_devices_is_that_on_one(one, run, config, batch, monkeypatch):
    monkeypatch.setattr(parallel, "SMALL", 64)
    split = dataclasses.replace(config, parallel=parallel.ParallelConfig(fsdp=2))
    eight = build_program(split, run, 3)
    (a, m), (b, n) = stepped(one, batch), stepped(eight, batch)
    kernel = b.params["encoder"]["blocks"]["mlp"]["in"]["kernel"]
    assert not kernel.sharding.is_fully_replicated
    for name in m:
        np.testing.assert_allclose(m[name], n[name], rtol=1e-4, atol=1e-5)
    for x, y in zip(jax.tree.leaves(a.statistics), jax.tree.leaves(b.statistics)):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_start_and_layers_that_learn(one, run, config, batch):
    """From the parent's parameters or from others; a rate of 0 moves nothing."""
    kernel = lambda state: np.asarray(state.params["encoder"]["embed"]["kernel"])  # noqa: E731
    scratch = build_program(config, run, 3, scratch=True, devices=jax.devices()[:1])
    parent = np.asarray(run.params["embed"]["kernel"])
    np.testing.assert_array_equal(kernel(stepped(one, batch, rate=0.0)[0]), parent)
    assert np.abs(kernel(scratch.init(KEY, scratch.encoder)) - parent).max() > 0.01
    assert np.abs(kernel(stepped(one, batch)[0]) - parent).max() > 1e-4
    # The step donates its state and not the parent.
    np.testing.assert_array_equal(one.encoder["embed"]["kernel"], parent)


def test_generated_clips_train_with_their_weight(run, config, batch, monkeypatch):
    """The loss is the weighted mean over real clips and those that g makes of them."""
    model, objective = IGM(run.config.model), run.config.objective
    params = tiny.random_params(model)
    monkeypatch.setattr(programs, "_generator", lambda *_: (model, params))
    changes = {"generated": 0.5, "generated_weight": 3.0, "dropout": 0.0, "drop_path": 0.0}
    changed = dataclasses.replace(config, **changes)
    program = build_program(changed, run, 3, devices=jax.devices()[:1])
    state = program.init(KEY, program.encoder)
    variables = {"params": state.params, "batch_stats": state.statistics}
    variables = jax.tree.map(jnp.array, variables)  # the step donates its input
    k_augment, k_generate = jax.random.split(jax.random.fold_in(KEY, 0), 4)[:2]
    raw = {name: jnp.asarray(x) for name, x in batch.items()}
    real = prepare_batch(raw, k_augment, config=run.config.data, reading=run.reading)
    made = one_step_denoised(params, real, k_generate, model=model, config=objective, share=0.5)
    assert np.abs(made - real.clip).max() > 0.1
    classifier = Classifier(run.config.model.encoder, config.hidden, 3, 0.0, 0.0)
    logits, _ = classifier.apply(
        variables,
        jnp.concatenate([real.clip, made]),
        jnp.tile(batch["present"], (2, 1)),
        train=True,
        mutable=["batch_stats"],
    )
    loss = smoothed_cross_entropy(logits, jnp.tile(batch["label"], 2), 0.1)
    expected = (loss[:8].mean() + 3 * loss[8:].mean()) / 4
    assert float(stepped(program, batch)[1]["loss"]) == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"warmup_epochs": 100.0}, "--config.warmup_epochs=5"),
        ({"drop_path": 1.0}, r"drop_path=1.0: must be in \[0, 1\)"),
        ({"layer_decay": 0.0}, "layer_decay=0.0"),
        ({"hidden": 0}, "hidden=0: must be at least 1"),
        ({"learning_rates": (0.0,)}, "learning_rate=0.0"),
        ({"parallel": parallel.ParallelConfig(accumulate=2)}, "no micro-batches"),
    ],
)
def test_settings_that_do_not_fit(changes, told):
    with pytest.raises(InputError, match=told):
        FinetuneConfig(**changes)
