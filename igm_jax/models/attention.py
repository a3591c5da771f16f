"""Full attention over the tokens of a clip, with a choice of the fastest computation."""

import functools
import logging
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# On CPU, attention over at least so many tokens runs head by head; benchmarks/attention.py measures
# both ways over the number of tokens.
BY_HEAD_FROM = 192

_log = logging.getLogger(__name__)


def attention(
    query: Float[Array, "B N H K"], key: Float[Array, "B N H K"], value: Float[Array, "B N H K"]
) -> Float[Array, "B N H K"]:
    """Computes softmax(q kᵀ / √K) v in every head.

    On CPU it uses `at_once`, or on one device `by_head` from `BY_HEAD_FROM` tokens on. Elsewhere
    it uses cuDNN's fused kernel for bfloat16 if that compiles, otherwise XLA.
    """
    if jax.default_backend() == "cpu":
        # With many devices, a loop over clips and heads would gather all clips on each device.
        alone = jax.device_count() == 1
        chosen = by_head if alone and query.shape[1] >= BY_HEAD_FROM else at_once
        return chosen(query, key, value)
    implementation = "cudnn" if _has_fused(query.shape, query.dtype) else None
    return jax.nn.dot_product_attention(query, key, value, implementation=implementation)


def at_once(
    query: Float[Array, "B N H K"], key: Float[Array, "B N H K"], value: Float[Array, "B N H K"]
) -> Float[Array, "B N H K"]:
    """Computes all heads together and keeps [B, H, N, N] weights for the backward pass."""
    # Heads in front of the tokens: half the time of jax.nn.dot_product_attention on CPU.
    query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
    logits = query @ key.swapaxes(-1, -2) / math.sqrt(query.shape[-1])
    weights = jax.nn.softmax(logits.astype(jnp.float32), axis=-1).astype(value.dtype)
    return (weights @ value).swapaxes(1, 2)


def by_head(
    query: Float[Array, "B N H K"], key: Float[Array, "B N H K"], value: Float[Array, "B N H K"]
) -> Float[Array, "B N H K"]:
    """Computes one head after another, because the [N, N] weights of one fit a cache.

    Derivatives compute the weights again, from the normaliser that the forward pass keeps. They
    are to be had in both directions, and of any order.

    References:
      Dao et al., FlashAttention (NeurIPS 2022), for the backward pass; without its blocks.
    """
    b, n, h, k = query.shape
    heads = tuple(x.swapaxes(1, 2).reshape(b * h, n, k) for x in (query, key, value))
    return jax.lax.map(lambda qkv: _head(*qkv), heads).reshape(b, h, n, k).swapaxes(1, 2)


@jax.custom_jvp
def _head(query: Array, key: Array, value: Array) -> Array:
    """A single head, three times [N, K] → [N, K]."""
    return _forward(query, key, value)[0]


def _forward(query: Array, key: Array, value: Array) -> tuple[Array, Array]:
    """Mixed values [N, K], and the logarithm of the softmax's normaliser [N, 1]."""
    logits = (query / math.sqrt(query.shape[-1]) @ key.T).astype(jnp.float32)
    top = logits.max(axis=-1, keepdims=True)
    weights = jnp.exp(logits - top)
    total = weights.sum(axis=-1, keepdims=True)
    # Divided behind the product: [N, K] instead of [N, N] numbers.
    mixed = ((weights.astype(value.dtype) @ value) / total).astype(value.dtype)
    return mixed, top + jnp.log(total)


@_head.defjvp
def _head_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    mixed, log_total = _forward(*primals)
    return mixed, _derivative(*primals, mixed, log_total, *tangents)


@functools.partial(jax.checkpoint, prevent_cse=False)  # in a loop: there is nothing to be shared
def _derivative(
    query: Array,
    key: Array,
    value: Array,
    mixed: Array,
    log_total: Array,
    d_query: Array,
    d_key: Array,
    d_value: Array,
) -> Array:
    """Change of the mixed values [N, K]; read backwards, it is the gradient of FlashAttention."""
    scale = 1 / math.sqrt(query.shape[-1])
    # All [N, N] matrices are [keys, queries] here: two of the products need no transposition then.
    weights = jnp.exp(scale * (key @ query.T).astype(jnp.float32) - log_total.T)
    by_logit = (scale * (key @ d_query.T + d_key @ query.T)).astype(jnp.float32)
    by_logit = (weights * by_logit).astype(value.dtype)
    # What the softmax subtracts: the mean change of the logits, times the mean of the values.
    mean = by_logit.astype(jnp.float32).sum(axis=0)[:, None] * mixed
    return by_logit.T @ value - mean.astype(value.dtype) + weights.astype(value.dtype).T @ d_value


@functools.cache
def _has_fused(shape: tuple[int, ...], dtype: jnp.dtype) -> bool:
    """Whether cuDNN's fused attention and its gradient compile for [B, N, H, K] of this kind.

    Its limits on sizes, cards and versions change between releases, so we try to compile it.
    """
    if dtype != jnp.bfloat16:
        return False
    heads = jax.ShapeDtypeStruct((1, *shape[1:]), dtype)
    fused = functools.partial(jax.nn.dot_product_attention, implementation="cudnn")
    gradient = jax.grad(lambda *qkv: fused(*qkv).astype(jnp.float32).sum(), argnums=(0, 1, 2))
    try:
        jax.jit(gradient).lower(heads, heads, heads).compile()
    except (RuntimeError, ValueError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        _log.warning("attention %s without cuDNN's fused kernel: %s", list(shape[1:]), reason)
        return False
    return True
