"""The optimiser step: pure, compiled once, the same on any number of devices."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from igm_jax import diffusion, parallel
from igm_jax.data import pipeline
from igm_jax.errors import InputError
from igm_jax.models import IGM, layers
from igm_jax.reading import Reading
from igm_jax.training.optimizer import make_optimizer
from igm_jax.training.program import build_program
from igm_jax.training.state import enqueue, init_state, taught
from igm_jax.training.step import idempotency_ramp, prepare_batch, train_step

CONFIG = tiny.config(
    {
        "data.rotation": (0.0, 0.0, 0.0),
        "objective.ema_decay": 0.75,
        "objective.mask_ratio": 0.25,
        "optimizer.learning_rate": 0.01,
        "train.epochs": 30,
    }
)
KEY = jax.random.key(11)


def batches(count, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        present = rng.random((8, 2)) < 0.7
        present[:, 0] |= ~present.any(axis=1)
        clip = rng.normal(size=(8, 2, 8, 6, 3)).astype(np.float32)
        yield {"clip": clip * present[..., None, None, None], "present": present}


class Runner:
    """A program and the way of its state, kept on the host: the step donates its input."""

    def __init__(self, config=CONFIG, devices=None):
        self.program = build_program(config, tiny.READING, num_clips=40, devices=devices)
        self.everywhere = parallel.replicated(self.program.mesh)
        self.initial = jax.device_get(self.program.init(jax.random.key(0)))

    def put(self, state, raw, key=KEY):
        """The three inputs of a step, where it wants them."""
        state = jax.device_put(state, self.program.shardings)
        key = jax.device_put(key, self.everywhere)
        return state, parallel.to_devices(self.program.mesh, raw), key

    def step(self, state, raw, key=KEY):
        return self.program.step(*self.put(state, raw, key))

    def follow(self, raws):
        """(state, metrics) after each step, on the host."""
        state, out = self.initial, []
        for raw in raws:
            state, metrics = jax.device_get(self.step(state, raw))
            out.append((state, metrics))
        return out


@pytest.fixture(scope="module")
def eight():
    runner = Runner()
    assert runner.program.mesh.size == 8
    return runner


@pytest.fixture(scope="module")
def one():
    return Runner(devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def three_steps(eight):
    return eight.follow(batches(3))


def close(a, b, **tolerance):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def without_key_biases(params):
    """A softmax does not see the bias of the keys: its gradient is rounding, which Adam scales up
    to steps like any other."""

    def blank(path, x):
        if "/".join(entry.key for entry in path[-3:]) == "attention/qkv/bias":
            return np.concatenate([x[:, :16], 0 * x[:, 16:32], x[:, 32:]], axis=1)
        return x

    return jax.tree_util.tree_map_with_path(blank, params)


def test_one_device_and_eight_agree(one, three_steps):
    for (a, metrics_a), (b, metrics_b) in zip(one.follow(batches(3)), three_steps, strict=True):
        close(metrics_a, metrics_b, rtol=1e-4, atol=1e-5)
        close(without_key_biases(a.params), without_key_biases(b.params), atol=2e-5)
        close(a.queue, b.queue, atol=2e-5)
        assert a.step == b.step
    assert np.abs(a.params["generator"]["out"]["kernel"]).max() > 1e-3  # it did go somewhere


class LinearIGM(IGM):
    """One matrix for f and one for g: operation by operation, the real ones take a minute."""

    def setup(self):
        self.f, self.g, self.projector = nn.Dense(16), nn.Dense(12), None

    def encode(self, clip, keep=None, aux=None, packed=None):
        patches = layers.patchify(clip, layers.Patch(4))
        if keep is not None:
            patches = jnp.take_along_axis(patches, keep[..., None], axis=1)
        tokens = jnp.tanh(self.f(patches))
        return tokens if aux is None else tokens + 0.1 * aux.noisy_feature[:, None]

    def generate(self, noisy_clip, condition, t, signal, dropped=None, packed=None):
        patches = layers.patchify(noisy_clip, layers.Patch(4))
        pooled = jnp.broadcast_to(condition.pooled[:, None], (*patches.shape[:2], 16))
        noise = self.g(jnp.concatenate([patches, pooled], axis=-1))
        return layers.unpatchify(noise, layers.Patch(4), 6)


def test_compiled_step_is_the_plain_function():
    """All of the step but the networks, with jit and without."""
    config = tiny.config({"objective.ema_decay": 0.5, "objective.entropy_weight": 0.1})
    model, schedule = LinearIGM(config.model), optax.constant_schedule(0.01)
    optimizer = make_optimizer(config.optimizer, schedule)
    state = init_state(jax.random.key(0), model=model, optimizer=optimizer, config=config)
    state = dataclasses.replace(state, step=jnp.int32(3))  # within the ramp
    (raw,) = batches(1)
    step = functools.partial(
        train_step,
        model=model,
        optimizer=optimizer,
        schedule=schedule,
        config=config,
        alpha_bar=diffusion.alpha_bar("inverse_cosine", 1000),
        reading=tiny.READING,
        steps_per_epoch=5,
    )
    inputs = state, jax.tree.map(jnp.asarray, raw), KEY
    plain, compiled = jax.device_get((step(*inputs), jax.jit(step)(*inputs)))
    close(plain, compiled, rtol=1e-4, atol=1e-5)
    assert np.abs(plain[0].params["g"]["kernel"] - state.params["g"]["kernel"]).max() > 1e-3


def test_steps_share_one_compilation(eight, three_steps):
    eight.step(three_steps[0][0], next(batches(1, seed=5)), jax.random.key(99))
    assert eight.program.step._cache_size() == 1


def test_step_uses_its_input_up(eight):
    state, raw, key = eight.put(eight.initial, *batches(1))
    eight.program.step(state, raw, key)
    assert all(x.is_deleted() for x in jax.tree.leaves(state))
    assert not raw["clip"].is_deleted()


def test_randomness_is_that_of_key_and_step_alone(eight, three_steps):
    (raw,) = batches(1)
    state = three_steps[1][0]
    loss = lambda s, key=KEY: float(eight.step(s, raw, key)[1]["loss_gen"])  # noqa: E731
    again = loss(state)
    assert loss(state) == again
    assert abs(loss(state, jax.random.key(12)) - again) > 1e-4
    later = dataclasses.replace(state, step=state.step + 1)
    assert abs(loss(later) - again) > 1e-4
    # Nothing else of the state is random: the same step from another state differs by that only.
    assert loss(dataclasses.replace(state, queue=eight.initial.queue)) == again


def test_teacher_is_the_moving_average_of_the_parameters(eight, three_steps):
    initial = eight.initial
    assert initial.teacher.keys() == initial.params.keys() - {"generator"}
    close(initial.teacher, taught(initial.params), atol=0)
    teacher = initial.teacher
    for state, _ in three_steps:
        teacher = jax.tree.map(lambda t, p: 0.75 * t + 0.25 * p, teacher, taught(state.params))
        close(state.teacher, teacher, atol=1e-6)
    moved = jax.tree.map(lambda t, p: np.abs(t - p).max(), state.teacher, taught(state.params))
    assert max(jax.tree.leaves(moved)) > 1e-3


def test_queue_holds_the_latest_targets(eight, three_steps):
    """16 rows, batches of 8: the first half at steps 0, 2, … and the second at 1, 3, …"""
    before = eight.initial.queue
    np.testing.assert_allclose(np.linalg.norm(before, axis=1), 1, atol=1e-5)
    for i, (state, _) in enumerate(three_steps):
        written = np.flatnonzero(np.any(state.queue != before, axis=1))
        assert written.tolist() == list(range(8 * (i % 2), 8 * (i % 2) + 8))
        np.testing.assert_allclose(np.linalg.norm(state.queue, axis=1), 1, atol=1e-5)
        before = state.queue


@pytest.mark.parametrize(("rows", "batch"), [(6, 2), (4, 4), (6, 1), (5, 3), (3, 5), (4, 8)])
def test_ring_buffer_against_a_list(rows, batch):
    queue, oldest_first = jnp.zeros((rows, 3)), [np.zeros(3)] * rows
    for step in range(2 * rows + 1):
        features = jax.random.normal(jax.random.key(step), (batch, 3))
        queue = jax.jit(enqueue)(queue, features, jnp.int32(step))
        oldest_first = [*oldest_first, *np.asarray(features)][-rows:]
        assert sorted(map(tuple, np.asarray(queue))) == sorted(map(tuple, oldest_first))


def test_ramp():
    config = tiny.config({"objective.start_epoch": 2, "objective.ramp_epochs": 4})
    ramp = [float(idempotency_ramp(jnp.int32(i), config, steps_per_epoch=5)) for i in range(40)]
    expected = [min(max((i - 10) / 20, 0), 1) for i in range(40)]
    np.testing.assert_allclose(ramp, expected, atol=1e-6)
    at_once = tiny.config({"objective.ramp_epochs": 0})
    assert float(idempotency_ramp(jnp.int32(1), at_once, steps_per_epoch=5)) == 1


def test_batch_is_turned_then_standardised():
    (raw,) = batches(1)
    raw = jax.tree.map(jnp.asarray, raw)
    still = prepare_batch(raw, KEY, config=CONFIG.data, reading=tiny.READING)
    mean, std = (np.array(x) for x in (tiny.READING.mean, tiny.READING.std))
    np.testing.assert_allclose(still.clip, (np.asarray(raw["clip"]) - mean) / std, atol=1e-5)
    assert still.rows.shape == (16, 8, 6, 3)
    turning = dataclasses.replace(CONFIG.data, rotation=(0.3, 0.3, 0.3))
    turned = prepare_batch(raw, KEY, config=turning, reading=tiny.READING)
    lengths = np.linalg.norm(np.asarray(turned.clip) * std + mean, axis=-1)
    np.testing.assert_allclose(lengths, np.linalg.norm(raw["clip"], axis=-1), atol=1e-4)
    assert np.abs(turned.clip - still.clip).max() > 0.1


def test_second_crop_is_augmented_by_itself():
    (raw,) = batches(1)
    raw = jax.tree.map(jnp.asarray, raw)
    config = dataclasses.replace(CONFIG.data, rotation=(0.3, 0.3, 0.3), mirror=0.5, shear=0.2)
    batch = prepare_batch(raw | {"other": raw["clip"]}, KEY, config=config, reading=tiny.READING)
    assert batch.other.shape == batch.clip.shape
    present = np.asarray(raw["present"])
    apart = np.abs(batch.other - batch.clip).max(axis=(2, 3, 4))
    assert (apart[present] > 0.05).all()
    assert prepare_batch(raw, KEY, config=config, reading=tiny.READING).other is None


def test_batch_that_the_devices_cannot_share_is_refused():
    with pytest.raises(InputError, match=r"batch_size=12 is not a multiple of the 8 devices"):
        build_program(
            tiny.config({"train.batch_size": 12, "objective.queue_size": 24}),
            tiny.READING,
            num_clips=40,
        )


def test_restore_target_is_the_state_to_be(eight):
    target = eight.program.restore_target
    facts = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
    assert facts(target) == facts(eight.initial)
    assert {x.sharding for x in jax.tree.leaves(target)} == {eight.everywhere}


def test_overfits_one_batch(one, tmp_path):
    """Eight clips, over and over, by the whole objective; predicting no noise at all costs 1."""
    store = tiny.write_store(tmp_path / "store")
    clip, present = pipeline.full_clips(store, np.arange(8), Reading(store.layout, "body", 8, 2))
    state, raw, key = one.put(one.initial, {"clip": clip, "present": present})
    losses_gen = []
    for _ in range(one.program.total_steps):
        state, metrics = one.program.step(state, raw, key)
        losses_gen.append(float(metrics["loss_gen"]))
    print(np.mean(losses_gen[:5]), np.mean(losses_gen[-30:]), metrics["cos_generated"])
    assert len(losses_gen) == 150
    assert abs(np.mean(losses_gen[:5]) - 1) < 0.1
    assert np.mean(losses_gen[-30:]) < 0.1
