"""The baselines' objectives against slow references, and what may influence what in them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from objective_world import (
    BASELINES,
    KEY,
    PRESENT,
    World,
    changes_for,
    noise_of,
    patch,
    pool,
    rows_of,
    unit,
    world,
)

from igm_jax import masking
from igm_jax.models import IGM, Contrastive
from igm_jax.training.objectives import OBJECTIVES, ClipBatch, build_model
from igm_jax.training.program import build_program

READ_THE_QUEUE = {
    "momentum_contrast", "motion_contrast", "positive_mining", "extreme_contrast",
    "actionlet_contrast", "mutual_distillation", "masked_contrast",
}  # fmt: skip
# Of these the loss grows while real features replace the random directions in the queue.
GROW_AT_FIRST = READ_THE_QUEUE - {"positive_mining"}


@pytest.mark.parametrize("name", ["masked_autoencoding", "joints_and_frames", "motion_prediction"])
def test_masked_prediction_against_a_slow_reference(name):
    whole = name == "joints_and_frames"
    changes = {"objective.masking": name, "objective.mask_ratio": 0.64}
    w = World("masked_autoencoding", changes) if whole else world(name)
    visible = 4 if whole else 6  # of 2 x 6 tokens: one frame and four joints
    rows = rows_of(w.clip)
    k_order, k_input = jax.random.split(KEY)
    if whole:
        order = np.asarray(masking.joints_and_frames_order(k_order, 8, (2, 6), (1, 4)))
        target = patch(rows)
    elif name == "masked_autoencoding":
        order, target = np.asarray(masking.random_order(k_order, 8, 12)), patch(rows)
    else:
        motion = np.zeros_like(rows)
        motion[:, :-1] = rows[:, 1:] - rows[:, :-1]
        motion = patch(motion)
        order = masking.motion_aware_order(k_order, jnp.asarray(patch(rows)), (2, 6), 0.75)
        order = np.asarray(order)
        target = (motion - motion.mean(-1, keepdims=True)) / motion.std(-1, ddof=1, keepdims=True)
    tokens = w.tokens(w.params, rows + noise_of(k_input), order[:, :visible])
    predicted = np.asarray(
        w.apply({"params": w.params}, jnp.asarray(tokens, jnp.float32), order, method="decode")
    )
    errors = []
    for r in np.flatnonzero(np.asarray(PRESENT).reshape(-1)):
        hidden = range(visible, 12)
        errors.append([(predicted[r, i] - target[r, order[r, i]]) ** 2 for i in hidden])
    loss, output = w.run()
    np.testing.assert_allclose(loss, np.mean(errors), rtol=1e-4)
    np.testing.assert_allclose(output.features, pool(tokens), atol=1e-5)
    np.testing.assert_allclose(output.references, unit(pool(tokens)), atol=1e-5)


def test_moving_tokens_are_hidden_more_often():
    """Against the law it is meant to follow: the first to be drawn has probability ∝ 1 / p."""
    place = jnp.asarray([[7.0, 7.0], [7.0, 3.0]])  # of two joints, in the first token of each
    change = jnp.asarray([[[0.1, -0.1], [0.0, 0.0]], [[0.3, 0.3], [-0.6, 0.6]]])
    later = place[None] + jnp.cumsum(change, axis=0)
    patches = jnp.concatenate([place[None], later]).reshape(1, 6, 2)
    keys = jax.random.split(jax.random.key(0), 4000)
    order = jax.vmap(lambda k: masking.motion_aware_order(k, patches, (3, 2), 0.5)[0])(keys)
    last = np.bincount(np.asarray(order[:, -1]), minlength=6) / 4000
    # The first token of a joint moves as its second one.
    p = np.exp(np.array([1 / 6, 0, 1 / 6, 0, 1 / 2, 1]) / 0.5)
    np.testing.assert_allclose(last, p / p.sum(), atol=0.03)  # the tail holds the largest


def test_a_single_token_in_time_is_hidden_by_chance():
    patches = jnp.asarray([[[0.0], [5.0], [-9.0]]])
    keys = jax.random.split(jax.random.key(0), 4000)
    order = jax.vmap(lambda k: masking.motion_aware_order(k, patches, (1, 3), 0.5)[0])(keys)
    np.testing.assert_allclose(np.bincount(np.asarray(order[:, -1])) / 4000, 1 / 3, atol=0.03)


@pytest.mark.parametrize("name", ["spectral_contrastive", "coding_rate", "momentum_contrast"])
def test_contrast_against_a_slow_reference(name):
    w = world(name)
    k_one, k_other = jax.random.split(KEY)
    z, one = w.read(w.params, w.clip, k_one)
    _, other = w.read(w.teacher if name == "momentum_contrast" else w.params, w.other, k_other)
    if name == "spectral_contrastive":
        a, b = 3**0.5 * one, 3**0.5 * other
        attraction = np.mean([a[i] @ b[i] for i in range(4)])
        repulsion = np.mean([(a[i] @ b[j]) ** 2 for i in range(4) for j in range(4) if i != j])
        expected, references = -2 * attraction + repulsion, one
    elif name == "coding_rate":
        log_det = lambda x: np.linalg.slogdet(  # noqa: E731
            np.eye(16) + 16 / (len(x) * 0.5**2) * x.T @ x
        )[1]
        pairs = [log_det(np.stack(pair)) for pair in zip(one, other)]
        expected = np.mean(pairs) / 2 - log_det(np.concatenate([one, other])) / 2
        references = one
    else:
        queue, terms = np.asarray(w.queue, np.float64), []
        for q, k in zip(one, other):
            scores = np.exp(np.array([q @ k, *(queue @ q)]) / 0.2)
            terms.append(-np.log(scores[0] / scores.sum()))
        expected, references = np.mean(terms), other
    loss, output = w.run()
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    np.testing.assert_allclose(output.metrics["cos_views"], (one * other).sum(-1).mean(), atol=1e-5)
    np.testing.assert_allclose(output.features, z, atol=1e-5)
    np.testing.assert_allclose(output.references, references, atol=1e-5)


@pytest.mark.parametrize("name", BASELINES)
def test_absent_bodies_influence_nothing(name):
    w = world(name)
    absent = ~np.asarray(PRESENT)
    gradient = np.asarray(w.gradient("clip"))
    assert not gradient[absent].any()
    assert np.any(gradient[~absent], axis=(1, 2, 3)).all()


def test_only_a_part_of_the_tokens_reaches_the_features():
    """Half of the twelve, each four frames of one joint."""
    for name in BASELINES:
        gradient = world(name).gradient("clip", lambda _, output: output.features.sum())
        assert not np.any(gradient), "features are handed out as constants"
    w = world("masked_autoencoding")
    order = np.asarray(masking.random_order(jax.random.split(KEY)[0], 8, 12))
    hidden = patch(np.zeros((8, 8, 6, 3)))
    hidden[np.arange(8)[:, None], order[:, 6:]] = 5.0
    spans = hidden.reshape(8, 2, 6, 4, 3).swapaxes(2, 3).reshape(4, 2, 8, 6, 3)
    before, after = w.run()[1], w.run(clip=w.clip + spans)[1]
    np.testing.assert_array_equal(before.features, after.features)
    assert abs(before.metrics["loss"] - after.metrics["loss"]) > 0.1  # yet they are the target


@pytest.mark.parametrize("name", BASELINES)
def test_who_reads_teacher_and_queue(name):
    w = world(name)
    changes = {"teacher": tiny.random_params(w.model, 5), "queue": w.queue[:, ::-1]}
    for part, other in changes.items():
        changed = abs(w.run(**{part: other})[0] - w.run()[0]) > 1e-4
        assert changed == (name in READ_THE_QUEUE), part
    assert not any(np.any(x) for x in jax.tree.leaves(w.gradient("teacher")))


@pytest.mark.parametrize("name", BASELINES)
def test_baseline_learns_through_the_shared_step(name):
    """The same step as IGM's, on one device; the loss of one batch goes down."""
    changes = {**changes_for(name), "objective.input_noise": 0.0, "objective.mining_start": 1.0}
    changes |= {"optimizer.learning_rate": 0.01, "optimizer.clip_norm": 10.0, "train.epochs": 20}
    config = tiny.config(changes)
    program = build_program(config, tiny.reading_for(config), 40, jax.devices()[:1])
    state, key = program.init(jax.random.key(0)), jax.random.key(1)
    rng = np.random.default_rng(0)
    clip = rng.normal(size=(8, 2, 8, 6, 3)).astype(np.float32)
    raw = {
        "clip": clip,
        "other": clip + 0.1 * rng.normal(size=clip.shape).astype(np.float32),
        "present": np.ones((8, 2), bool),
    }

    def kernel(encoder):
        return jax.device_get(encoder.get("towers", encoder)["embed"]["kernel"])

    before, values = kernel(state.params["encoder"]), []
    # Streams agree best where all clips have one feature, so their KL grows as features spread.
    part = "loss_contrast" if name == "mutual_distillation" else "loss"
    for _ in range(60):
        state, metrics = program.step(state, raw, key)
        values.append(float(metrics[part]))
    start = 10 if name in GROW_AT_FIRST else 0
    assert np.mean(values[-10:]) < np.mean(values[start : start + 10]) - 0.05, values
    assert np.abs(kernel(state.params["encoder"]) - before).max() > 1e-3
    assert ("decoder" in state.params) != issubclass(OBJECTIVES[name].model, Contrastive)
    assert set(state.teacher) == {"encoder"}


def test_every_objective_has_its_model():
    assert isinstance(build_model("igm", tiny.config().model), IGM)
    for name in BASELINES:
        assert not isinstance(world(name).model, IGM)


@pytest.mark.parametrize("name", ["igm", "masked_autoencoding", "motion_prediction"])
def test_a_token_of_two_joints_is_that_of_one_with_twice_the_channels(name):
    """The loss of f, h and g or decoder, of which nothing but the cutting knows of joints."""
    clip = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2, 8, 6, 3)), jnp.float32)
    values, params = [], None
    for sizes in ({"patch_joints": 2}, {"joints": 3, "channels": 6}):
        changes = {f"model.encoder.{k}": v for k, v in sizes.items()}
        config = tiny.config({**changes, "objective.name": name, "objective.condition_drop": 0.0})
        assert config.model.encoder.num_tokens == 6
        model, e = build_model(name, config.model), config.model.encoder
        params = params or tiny.random_params(model)
        batch = ClipBatch(clip.reshape(4, 2, 8, e.joints, e.channels), PRESENT)
        objective = functools.partial(
            OBJECTIVES[name].loss,
            model=model,
            config=config.objective,
            alpha_bar=jnp.linspace(0.99, 0.5, 1000),
            ramp=jnp.float32(1),
        )
        values.append(jax.jit(objective)(params, params, jnp.eye(16), batch, KEY)[0])
    np.testing.assert_allclose(*values, rtol=1e-5)
    assert abs(values[0]) > 0.1
