"""The encoder f: its size, its inputs, and what may influence its output."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from igm_jax.errors import InputError
from igm_jax.models import AuxTokens, Encoder, EncoderConfig, blocks, layers, pool, stretch_means

SMALL = EncoderConfig(frames=8, joints=5, width=16, depth=2, heads=2, mlp_width=32)


@pytest.fixture(scope="module")
def small():
    clip = jax.random.normal(jax.random.key(0), (3, 8, 5, 3))
    t = jnp.array([3, 4, 5])
    aux = AuxTokens(jax.random.normal(jax.random.key(1), (3, 16)), t, t)
    encoder = Encoder(SMALL)
    params = jax.jit(encoder.init)(jax.random.key(2), clip, aux=aux)
    return encoder, params, clip, aux


def count(params):
    return sum(x.size for x in jax.tree.leaves(params))


def test_ntu_size_is_the_published_one():
    clip = jnp.zeros((1, 120, 25, 3))
    params = jax.eval_shape(Encoder(EncoderConfig()).init, jax.random.key(0), clip)["params"]
    assert count(params) == 6_336_000  # MAMP's backbone
    assert count(params["blocks"]) == 8 * 789_760


def test_any_size_of_clip():
    sizes = ((12, 7, 2, 3, 1), (4, 1, 1, 4, 0), (6, 17, 3, 1, 0), (8, 6, 3, 4, 2))
    for frames, joints, channels, *patch in sizes:
        config = EncoderConfig(frames, joints, channels, *patch, width=8, depth=1, heads=2)
        encoder, clip = Encoder(config), jnp.ones((2, frames, joints, channels))
        tokens = jax.jit(encoder.apply)(jax.jit(encoder.init)(jax.random.key(0), clip), clip)
        assert tokens.shape == (2, config.num_tokens, 8)
        assert config.num_tokens == frames // patch[0] * joints // (patch[1] or joints)
        assert config.num_tokens * config.patch_numbers == clip[0].size


def test_refuses_what_does_not_fit(small):
    encoder, params, clip, _ = small
    with pytest.raises(
        InputError, match=r"encoder\.frames=10 is not a multiple of model\.encoder\.patch_frames=4"
    ):
        EncoderConfig(frames=10)
    with pytest.raises(
        InputError, match=r"encoder\.width=10 is not a multiple of model\.encoder\.heads=4"
    ):
        EncoderConfig(width=10, heads=4)
    with pytest.raises(InputError, match=r"\[8, 4, 3\].*\[8, 5, 3\]"):
        encoder.apply(params, clip[:, :, :4])


def test_patchify_orders_joints_fastest_and_inverts():
    clip = np.arange(2 * 6 * 4 * 3, dtype=np.float32).reshape(2, 6, 4, 3)
    patches = np.asarray(layers.patchify(jnp.asarray(clip), layers.Patch(3)))
    for step in range(2):
        for joint in range(4):
            expected = clip[:, 3 * step : 3 * step + 3, joint].reshape(2, -1)
            np.testing.assert_array_equal(patches[:, step * 4 + joint], expected)
    np.testing.assert_array_equal(layers.unpatchify(jnp.asarray(patches), layers.Patch(3), 4), clip)


@pytest.mark.parametrize(("joints", "in_token"), [(2, 2), (4, 4), (0, 4)])
def test_a_patch_holds_neighbouring_joints_or_all(joints, in_token):
    clip = np.arange(2 * 6 * 4 * 3, dtype=np.float32).reshape(2, 6, 4, 3)
    patch = layers.Patch(3, joints)
    patches = np.asarray(layers.patchify(jnp.asarray(clip), patch))
    groups = 4 // in_token
    assert patches.shape == (2, 2 * groups, 3 * in_token * 3)
    for step in range(2):
        for group in range(groups):
            of = slice(group * in_token, (group + 1) * in_token)
            expected = clip[:, 3 * step : 3 * step + 3, of].reshape(2, -1)
            np.testing.assert_array_equal(patches[:, step * groups + group], expected)
    np.testing.assert_array_equal(layers.unpatchify(jnp.asarray(patches), patch, 4), clip)


def test_hidden_tokens_do_not_reach_f(small):
    """The gradient of every output with respect to the hidden part of the clip is exactly zero."""
    encoder, params, clip, _ = small
    keep = jnp.array([[0, 7], [3, 1], [9, 4]])
    sensitivity = jax.grad(lambda x: (encoder.apply(params, x, keep) ** 2).sum())(clip)
    touched = np.abs(layers.patchify(sensitivity, layers.Patch(4))).sum(axis=-1) > 0
    for row in range(3):
        assert set(np.flatnonzero(touched[row])) == set(np.asarray(keep[row]))


def test_hidden_poses_do_not_reach_f(small):
    config, clip = dataclasses.replace(SMALL, patch_joints=0), small[2]
    encoder = Encoder(config)
    params = jax.jit(encoder.init)(jax.random.key(0), clip)
    keep = jnp.array([[0], [1], [1]])
    sensitivity = jax.grad(lambda x: (encoder.apply(params, x, keep) ** 2).sum())(clip)
    touched = np.abs(sensitivity).reshape(3, 2, -1).max(axis=-1) > 0
    np.testing.assert_array_equal(touched, [[True, False], [False, True], [False, True]])


def test_keeping_all_tokens_is_not_masking(small):
    encoder, params, clip, _ = small
    order = jnp.stack([jax.random.permutation(jax.random.key(i), 10) for i in range(3)])
    kept = encoder.apply(params, clip, order)
    everything = encoder.apply(params, clip)
    np.testing.assert_allclose(
        kept, jnp.take_along_axis(everything, order[..., None], axis=1), atol=2e-6
    )


def test_clips_do_not_influence_each_other(small):
    encoder, params, clip, _ = small
    sensitivity = jax.grad(lambda x: encoder.apply(params, x)[1].sum() ** 2)(clip)
    assert not np.any(sensitivity[np.array([0, 2])]) and np.any(sensitivity[1])


def test_aux_tokens_inform_but_are_not_returned(small):
    encoder, params, clip, aux = small
    plain, informed = encoder.apply(params, clip), encoder.apply(params, clip, aux=aux)
    assert plain.shape == informed.shape
    assert np.abs(plain - informed).max() > 1e-4
    later = dataclasses.replace(aux, clip_t=aux.clip_t + 400)
    assert np.abs(encoder.apply(params, clip, aux=later) - informed).max() > 1e-5
    later = dataclasses.replace(aux, feature_t=aux.feature_t + 400)
    assert np.abs(encoder.apply(params, clip, aux=later) - informed).max() > 1e-5


def test_remat_changes_nothing_but_memory(small):
    encoder, params, clip, _ = small
    frugal = Encoder(dataclasses.replace(SMALL, remat=True))
    loss = lambda m: lambda p: (m.apply(p, clip) ** 2).sum()  # noqa: E731
    text = [str(jax.make_jaxpr(jax.grad(loss(m)))(params)) for m in (encoder, frugal)]
    assert ("checkpoint" in text[1] or "remat" in text[1]) and "remat" not in text[0]
    a, b = (jax.grad(loss(m))(params) for m in (encoder, frugal))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5), a, b)


def test_bfloat16_computes_near_float32_and_keeps_float32_parameters(small):
    _, params, clip, _ = small
    half = Encoder(dataclasses.replace(SMALL, dtype="bfloat16"))
    fresh = jax.jit(half.init)(jax.random.key(0), clip)
    assert {x.dtype for x in jax.tree.leaves(fresh)} == {jnp.dtype("float32")}
    out = half.apply(params, clip)
    assert out.dtype == jnp.float32
    error = np.abs(out - Encoder(SMALL).apply(params, clip)).max()
    assert 1e-5 < error < 0.1


def test_pool_ignores_the_absent():
    rows = jnp.array([[1.0, 2.0], [100.0, 100.0], [3.0, 4.0], [5.0, 6.0], [9.0, 9.0], [9.0, 9.0]])
    present = jnp.array([[True, False], [True, True], [False, False]])
    np.testing.assert_allclose(pool(rows[:, None], present), [[1, 2], [4, 5], [0, 0]])
    sensitivity = jax.grad(lambda r: pool(r[:, None], present).sum())(rows)
    np.testing.assert_allclose(sensitivity[:, 0], [1, 0, 0.5, 0.5, 0, 0])


def test_stretches_of_unequal_length_and_one_of_all():
    tokens = jnp.arange(10.0).reshape(1, 10, 1)  # five steps of two joints
    np.testing.assert_allclose(stretch_means(tokens, 5, 3), [[1.5, 5.5, 8.5]])
    many = jax.random.normal(jax.random.key(0), (3, 10, 7))
    np.testing.assert_array_equal(stretch_means(many, 5, 1), many.mean(axis=1))


def test_block_is_the_transformer_of_the_books(small):
    """One block and the final norm against a plain NumPy forward pass in float64."""
    config = dataclasses.replace(SMALL, depth=1)
    encoder, clip = Encoder(config), small[2]
    params = jax.jit(encoder.init)(jax.random.key(5), clip)
    # Fresh biases are zero and scales one: move them, or their use would go untested.
    params = jax.tree.map(
        lambda x: x + 0.1 * jax.random.normal(jax.random.key(x.size), x.shape), params
    )
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)["params"]
    block = jax.tree.map(lambda x: x[0], p["blocks"])

    def norm(x, w):
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * w[
            "scale"
        ] + w["bias"]

    def dense(x, w):
        return x @ w["kernel"] + w["bias"]

    def gelu(x):  # the tanh form, which flax uses by default
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    x = np.zeros((3, 10, 16))
    for b in range(3):
        for n in range(10):
            step, joint = divmod(n, 5)
            patch = np.asarray(clip, np.float64)[b, 4 * step : 4 * step + 4, joint].reshape(-1)
            position = p["position"]["temporal"][step] + p["position"]["spatial"][joint]
            x[b, n] = dense(patch, p["embed"]) + position
    qkv = dense(norm(x, block["norm1"]), block["attention"]["qkv"])
    mixed = np.zeros_like(x)
    for b in range(3):
        for head in range(2):
            q, k, v = (qkv[b, :, i * 16 + head * 8 : i * 16 + head * 8 + 8] for i in range(3))
            weights = np.exp(q @ k.T / np.sqrt(8))
            mixed[b, :, head * 8 : head * 8 + 8] = weights / weights.sum(-1, keepdims=True) @ v
    x = x + dense(mixed, block["attention"]["out"])
    x = x + dense(gelu(dense(norm(x, block["norm2"]), block["mlp"]["in"])), block["mlp"]["out"])
    np.testing.assert_allclose(encoder.apply(params, clip), norm(x, p["norm"]), atol=2e-5)


def test_drop_path_of_a_rate_of_zero_is_the_same_function(small):
    encoder, params, clip, _ = small
    plain = encoder.apply(params, clip)
    first = Encoder(dataclasses.replace(SMALL, depth=1))  # its one block has rate 0
    one = jax.tree.map(lambda x: x, params)
    one["params"]["blocks"] = jax.tree.map(lambda x: x[:1], params["params"]["blocks"])
    rngs = {"drop_path": jax.random.key(0)}
    np.testing.assert_allclose(
        first.apply(one, clip, drop_path=0.9, rngs=rngs), first.apply(one, clip), atol=1e-6
    )
    dropped = encoder.apply(params, clip, drop_path=0.5, rngs=rngs)
    again = encoder.apply(params, clip, drop_path=0.5, rngs=rngs)
    np.testing.assert_array_equal(dropped, again)
    assert jnp.abs(dropped - plain).max() > 1e-3


def test_drop_path_drops_whole_rows_and_keeps_the_mean():
    branch = jax.random.normal(jax.random.key(0), (4000, 2, 3)) + 1
    out = blocks.drop_path(jax.random.key(1), branch, 0.25)
    gone = (out == 0).all(axis=(1, 2))
    assert gone.mean() == pytest.approx(0.25, abs=0.03)
    np.testing.assert_allclose(out[~gone], branch[~gone] / 0.75, rtol=1e-6)
    assert float(out.mean()) == pytest.approx(float(branch.mean()), abs=0.05)
