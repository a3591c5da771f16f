"""Attention: every way to compute it is the plain formula, in value and gradient."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from igm_jax.models import Hardware, attention


def qkv(tokens, dtype="float32", seed=0):
    return tuple(
        jax.random.normal(k, (2, tokens, 3, 4), dtype)
        for k in jax.random.split(jax.random.key(seed), 3)
    )


def plain(query, key, value, cotangent):
    """Head by head in float64: the mixed values, and the gradients of Σ cotangent · mixed."""
    q, k, v, g = (np.asarray(x, np.float64) for x in (query, key, value, cotangent))
    mixed, dq, dk, dv = (np.zeros_like(q) for _ in range(4))
    for b in range(q.shape[0]):
        for h in range(q.shape[2]):
            e = np.exp(q[b, :, h] @ k[b, :, h].T / 2)
            p = e / e.sum(axis=1, keepdims=True)
            mixed[b, :, h] = p @ v[b, :, h]
            dv[b, :, h] = p.T @ g[b, :, h]
            dp = g[b, :, h] @ v[b, :, h].T
            ds = p * (dp - (dp * p).sum(axis=1, keepdims=True)) / 2
            dq[b, :, h], dk[b, :, h] = ds @ k[b, :, h], ds.T @ q[b, :, h]
    return mixed, (dq, dk, dv)


@pytest.mark.parametrize("way", [attention.at_once, attention.by_head])
@pytest.mark.parametrize("tokens", [1, 5, 17])
def test_value_and_gradient(way, tokens):
    inputs, cotangent = qkv(tokens), qkv(tokens, seed=1)[0]
    mixed, pull = jax.vjp(jax.jit(way), *inputs)
    expected, gradients = plain(*inputs, cotangent)
    np.testing.assert_allclose(mixed, expected, atol=1e-5)
    for ours, theirs in zip(pull(cotangent), gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_bfloat16_stays_bfloat16_and_near():
    inputs = qkv(9, "bfloat16")
    for way in (attention.at_once, attention.by_head):
        mixed = way(*inputs)
        assert mixed.dtype == jnp.bfloat16
        expected, _ = plain(*inputs, inputs[0])
        np.testing.assert_allclose(mixed.astype(jnp.float32), expected, atol=0.05)


def loops(function, *inputs):
    # A function of its own: what was traced before is not looked up.
    text = str(jax.make_jaxpr(lambda *x: function(*x))(*inputs))
    return "scan[" in text or "while[" in text


CPU, GPU = Hardware("cpu"), Hardware("gpu")


def chosen(hardware):
    return lambda *qkv: attention.attention(*qkv, hardware)


def test_cpu_goes_head_by_head_from_the_threshold_on(monkeypatch):
    monkeypatch.setattr(attention, "BY_HEAD_FROM", 10)
    assert not loops(chosen(CPU), *qkv(9))
    assert loops(chosen(CPU), *qkv(10))


def test_no_loop_where_the_compiler_splits_rows_over_devices(monkeypatch):
    monkeypatch.setattr(attention, "BY_HEAD_FROM", 10)
    assert not loops(chosen(Hardware("cpu", whole=False)), *qkv(10))


def test_by_head_keeps_no_weights_for_the_backward_pass():
    """Between the passes no array of [heads, N, N] exists; at once there is."""

    def weights_kept(way):
        _, pull = jax.vjp(way, *qkv(40))
        return any(x.shape[-2:] == (40, 40) for x in jax.tree.leaves(pull))

    assert weights_kept(attention.at_once) and not weights_kept(attention.by_head)


class Fused:
    """Stands for cuDNN's kernel: takes even lengths alone, and fills what is masked with NaN."""

    def __init__(self, monkeypatch):
        self.calls = []
        monkeypatch.setattr(jax.nn, "dot_product_attention", self)
        attention._has_fused.cache_clear()

    def __call__(
        self,
        query,
        key,
        value,
        query_seq_lengths=None,
        key_value_seq_lengths=None,
        implementation=None,
    ):
        assert implementation == "cudnn" and query.shape[1] % 2 == 0
        self.calls.append(query.shape[1])
        if query_seq_lengths is None:
            return attention.at_once(query, key, value)
        counts = jnp.arange(query.shape[1])[None, :] < key_value_seq_lengths[:, None]
        logits = jnp.einsum("bnhk,bmhk->bhnm", query, key) / query.shape[-1] ** 0.5
        weights = jax.nn.softmax(jnp.where(counts[:, None, None], logits, -jnp.inf), axis=-1)
        mixed = jnp.einsum("bhnm,bmhk->bnhk", weights.astype(value.dtype), value)
        return jnp.where(counts[:, :, None, None], mixed, jnp.nan)


@pytest.fixture
def stand_in(monkeypatch):
    yield Fused(monkeypatch)
    attention._has_fused.cache_clear()


def test_gpu_uses_the_fused_kernel_for_bfloat16_where_it_lowers(stand_in):
    chosen(GPU)(*qkv(6))
    assert not stand_in.calls  # float32: cuDNN has none, and it is not tried
    chosen(GPU)(*qkv(6, "bfloat16"))
    assert stand_in.calls == [6, 6]  # once tried, and then used
    chosen(GPU)(*qkv(6, "bfloat16"))
    assert stand_in.calls == [6, 6, 6]  # the trial is remembered
    chosen(Hardware("tpu"))(*qkv(6, "bfloat16"))
    assert len(stand_in.calls) == 3


@pytest.mark.parametrize("tokens", [1, 6, 75])
def test_padded_tokens_change_nothing(stand_in, tokens):
    """Values and gradients, of the path that a GPU takes."""
    inputs, cotangent = qkv(tokens), qkv(tokens, seed=1)[0]
    mixed, pull = jax.vjp(lambda *x: attention.padded(attention.fused, *x, 2), *inputs)
    expected, gradients = plain(*inputs, cotangent)
    np.testing.assert_allclose(mixed, expected, atol=1e-5)
    for ours, theirs in zip(pull(cotangent), gradients, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert stand_in.calls == [tokens + tokens % 2]


def test_the_choice_is_logged_once(stand_in, caplog):
    with caplog.at_level(logging.INFO, logger=attention.__name__):
        for _ in range(2):
            chosen(GPU)(*qkv(75, "bfloat16"))
    (record,) = caplog.records
    assert "[75, 3, 4]" in record.getMessage() and "1 tokens of padding" in record.getMessage()


def test_without_the_fused_kernel_one_line_says_so(caplog):
    """Here cuDNN is really asked for and really absent."""
    attention._has_fused.cache_clear()
    with caplog.at_level(logging.WARNING, logger=attention.__name__):
        for _ in range(2):
            assert not attention._has_fused((6, 3, 8), jnp.dtype("bfloat16"), Hardware.here())
    (record,) = caplog.records
    assert "\n" not in record.getMessage() and "[6, 3, 8]" in record.getMessage()
