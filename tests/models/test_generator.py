"""The generator g: AdaLN, the condition, and what may influence the predicted noise."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from igm_jax.diffusion import time_embedding
from igm_jax.models import IGM, AdapterConfig, Condition, EncoderConfig, GeneratorConfig, IGMConfig
from igm_jax.models.generator import AdaLN, Generator, noise_of_clip

CONFIG = GeneratorConfig(width=16, depth=2, heads=2, mlp_width=32)
SIGNAL = jnp.array([0.99, 0.4, 1e-4])  # of the three clips of `made`


def shake(params, scale=0.2):
    """Zero-initialised layers hide what reaches the output: give every parameter a value."""
    keys = iter(jax.random.split(jax.random.key(9), len(jax.tree.leaves(params))))
    return jax.tree.map(lambda x: x + scale * jax.random.normal(next(keys), x.shape), params)


@pytest.fixture(scope="module")
def made():
    clip = jax.random.normal(jax.random.key(0), (3, 8, 5, 3))
    order = jnp.stack([jax.random.permutation(jax.random.key(i), 10) for i in range(3)])
    condition = Condition(
        pooled=jax.random.normal(jax.random.key(1), (3, 12)),
        visible=jax.random.normal(jax.random.key(2), (3, 4, 12)),
        order=order,
    )
    t = jnp.array([1, 500, 999])
    generator = Generator(CONFIG)
    params = shake(jax.jit(generator.init)(jax.random.key(3), clip, condition, t, SIGNAL))
    return generator, params, clip, condition, t


def test_adaln_formula(made):
    _, _, _, condition, _ = made
    h = jax.random.normal(jax.random.key(4), (3, 10, 16))
    time = jax.random.normal(jax.random.key(5), (3, 8))
    layer = AdaLN("float32")
    fresh = jax.jit(layer.init)(jax.random.key(6), h, condition, time)
    plain = np.asarray(h, np.float64)
    plain = (plain - plain.mean(-1, keepdims=True)) / np.sqrt(plain.var(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(layer.apply(fresh, h, condition, time), plain, atol=1e-5)

    params = shake(fresh)
    p = params["params"]
    out = np.asarray(layer.apply(params, h, condition, time))
    for b in range(3):
        ts, tb = np.split(np.asarray(time[b] @ p["time"]["kernel"] + p["time"]["bias"]), 2)
        for n in range(10):  # position n of `order`: visible ones first
            feature = condition.visible[b, n] if n < 4 else condition.pooled[b]
            zs, zb = np.split(
                np.asarray(feature @ p["condition"]["kernel"] + p["condition"]["bias"]), 2
            )
            np.testing.assert_allclose(out[b, n], zs * (ts * plain[b, n] + tb) + zb, atol=1e-4)


def test_fresh_generator_predicts_zero(made):
    generator, _, clip, condition, t = made
    fresh = jax.jit(generator.init)(jax.random.key(3), clip, condition, t, SIGNAL)
    assert not np.any(generator.apply(fresh, clip, condition, t, SIGNAL))


def test_order_is_bookkeeping(made):
    """Reordering the visible tokens with their features, or the hidden ones, changes nothing."""
    generator, params, clip, condition, t = made
    out = generator.apply(params, clip, condition, t, SIGNAL)
    shuffle = jnp.array([2, 0, 3, 1])
    tail = jnp.array([9, 8, 7, 6, 5, 4])
    moved = condition.replace(
        visible=condition.visible[:, shuffle],
        order=condition.order[:, jnp.concatenate([shuffle, tail])],
    )
    np.testing.assert_allclose(generator.apply(params, clip, moved, t, SIGNAL), out, atol=1e-4)
    wrong = condition.replace(order=condition.order[:, ::-1])
    assert np.abs(generator.apply(params, clip, wrong, t, SIGNAL) - out).max() > 1e-2


def test_pooled_condition_is_visible_tokens_that_all_equal_it(made):
    generator, params, clip, condition, t = made
    same = condition.replace(
        visible=jnp.broadcast_to(condition.pooled[:, None], condition.visible.shape)
    )
    np.testing.assert_allclose(
        generator.apply(params, clip, Condition(condition.pooled), t, SIGNAL),
        generator.apply(params, clip, same, t, SIGNAL),
        atol=1e-4,
    )


def test_dropped_condition_has_no_influence(made):
    generator, params, clip, condition, t = made
    dropped = jnp.array([True, False, True])

    def loss(c):
        return (generator.apply(params, clip, c, t, SIGNAL, dropped) ** 2).sum()

    sensitivity = jax.grad(loss, allow_int=True)(condition)
    for part in (sensitivity.pooled, sensitivity.visible):
        assert not np.any(part[0]) and not np.any(part[2]) and np.any(part[1])


def test_time_and_noise_matter_and_rows_are_independent(made):
    generator, params, clip, condition, t = made
    out = generator.apply(params, clip, condition, t, SIGNAL)
    assert np.abs(generator.apply(params, clip, condition, t[::-1], SIGNAL) - out)[0].max() > 1e-3
    sensitivity = jax.grad(
        lambda x: (generator.apply(params, x, condition, t, SIGNAL)[1] ** 2).sum()
    )(clip)
    assert not np.any(sensitivity[np.array([0, 2])]) and np.any(sensitivity[1])


def test_with_nothing_hidden_the_condition_is_pooled():
    encoder = EncoderConfig(frames=8, joints=5, width=16, depth=1, heads=2, mlp_width=32)
    tokens = jax.random.normal(jax.random.key(0), (2, 4, 16))
    order = jnp.stack([jnp.arange(10)] * 2)
    for condition in ("tokens", "pooled"):
        model = IGM(IGMConfig(encoder, AdapterConfig(), CONFIG, condition))
        seen = model.apply({}, tokens, order, method="condition")
        assert (seen.visible is None) == (condition == "pooled")
        assert model.apply({}, tokens, None, method="condition").visible is None


def test_noise_of_clip_is_the_best_linear_estimate():
    """By regression of the noise on what x̂ leaves in x_t, over many draws."""
    rng = np.random.default_rng(0)
    clip, noise, residual = rng.normal(size=(3, 200_000))
    for share, left_out in ((0.9, 0.2), (0.3, 0.2), (0.3, 1.5)):
        x = clip + np.sqrt(left_out) * residual
        x_t = np.sqrt(share) * x + np.sqrt(1 - share) * noise
        rest = x_t - np.sqrt(share) * clip
        best = (rest @ noise) / (rest @ rest) * rest
        tokens = [jnp.asarray(a, jnp.float32)[None, :, None] for a in (x_t, clip)]
        ours = noise_of_clip(*tokens, *(jnp.full((1, 1, 1), v) for v in (left_out, share)))
        np.testing.assert_allclose(ours[0, :, 0], best, atol=0.05)


def test_a_predicted_clip_becomes_noise(made):
    """Its variances belong to a number of the token, and t decides them."""
    generator, params, clip, condition, t = made
    by_clip = Generator(dataclasses.replace(CONFIG, predicts="clip"))
    fresh = jax.jit(by_clip.init)(jax.random.key(3), clip, condition, t, SIGNAL)
    signal = np.asarray(SIGNAL)[:, None, None, None]
    sigma = np.sqrt(1 - signal)
    # At first x̂ is zero, and 5 % of the variance are left out.
    expected = sigma * clip / (np.exp(-3) * signal + sigma**2)
    np.testing.assert_allclose(
        by_clip.apply(fresh, clip, condition, t, SIGNAL), expected, rtol=1e-4
    )

    layer = jax.tree.map(lambda x: x + 0.3, fresh["params"]["left_out"])
    all_params = {"params": params["params"] | {"left_out": layer}}
    ours = by_clip.apply(all_params, clip, condition, t, SIGNAL)
    plain = generator.apply(params, clip, condition, t, SIGNAL)
    dense = jax.tree.map(np.asarray, params["params"]["time"])
    time = np.asarray(time_embedding(t, 16)) @ dense["kernel"] + dense["bias"]
    time = time / (1 + np.exp(-time))
    log_variance = time @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])  # [B, frames · 3]
    variance = np.exp(np.clip(log_variance, -12, 3))
    for b in range(3):
        for frame in range(8):
            for c in range(3):
                a, sd = signal[b, 0, 0, 0], sigma[b, 0, 0, 0]
                rest = clip[b, frame, :, c] - np.sqrt(a) * plain[b, frame, :, c]
                expected = sd * rest / (variance[b, 3 * (frame % 4) + c] * a + sd**2)
                np.testing.assert_allclose(ours[b, frame, :, c], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("predicts", ["noise", "clip"])
def test_a_narrow_generator_passes_all_noise_only_beside_its_blocks(made, predicts):
    """A token of 12 numbers and a width of 4: the rank of a token's Jacobian."""
    _, _, clip, condition, t = made
    generator = Generator(dataclasses.replace(CONFIG, width=4, predicts=predicts))
    params = shake(jax.jit(generator.init)(jax.random.key(3), clip, condition, t, SIGNAL))
    one, t = jax.tree.map(lambda x: x[:1], (condition, t))

    def token(x):
        noisy = clip[:1].at[0, :4, 0].set(x)
        return generator.apply(params, noisy, one, t, SIGNAL[:1])[0, :4, 0]

    jacobian = jax.jacobian(token)(clip[0, :4, 0]).reshape(12, 12)
    rank = np.linalg.matrix_rank(np.asarray(jacobian), tol=1e-4)
    assert rank == 12 if predicts == "clip" else rank <= 4
