"""Full attention over the tokens of a clip, with a choice of the fastest computation."""

import functools
import logging
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import SingleDeviceSharding
from jaxtyping import Array, Float

from igm_jax import precision
from igm_jax.models.hardware import Hardware

# On CPU, attention over at least this many tokens runs head by head; benchmarks/attention.py
# measures both ways over the number of tokens.
BY_HEAD_FROM = 192

# cuDNN's fused kernel and its gradient need a multiple of this many tokens.
FUSED_TOKENS = 2

MIXED = "attention.mixed"  # name of the mixed values, for the policies of jax.checkpoint

# Three times [B, N, H, K], and the number of tokens of each row that count or None → [B, N, H, K]
Kernel = Callable[[Array, Array, Array, Array | None], Array]

_log = logging.getLogger(__name__)


def attention(
    query: Float[Array, "B N H K"],
    key: Float[Array, "B N H K"],
    value: Float[Array, "B N H K"],
    hardware: Hardware,
) -> Float[Array, "B N H K"]:
    """Computes softmax(q kᵀ / √K) v in every head, in the fastest way for the hardware.

    A GPU uses cuDNN's fused kernel for bfloat16 if it takes these sizes. A CPU that computes whole
    rows goes `by_head` from `BY_HEAD_FROM` tokens on. All else is computed `at_once`.
    """
    shape, on_cpu = query.shape, hardware.platform == "cpu"
    if on_cpu and hardware.whole and shape[1] >= BY_HEAD_FROM:
        # Where the compiler splits rows over devices, a loop over clips would gather all on each.
        return by_head(query, key, value)
    if hardware.platform == "gpu" and _has_fused(shape[1:], query.dtype, hardware):
        return padded(fused, query, key, value, FUSED_TOKENS)
    mixed = at_once(query, key, value)
    return mixed if on_cpu else checkpoint_name(mixed, MIXED)


def fused(query: Array, key: Array, value: Array, tokens: Array | None) -> Array:
    """CuDNN's fused kernel, as a `Kernel`; it keeps no weights for the backward pass."""
    return jax.nn.dot_product_attention(
        query,
        key,
        value,
        query_seq_lengths=tokens,
        key_value_seq_lengths=tokens,
        implementation="cudnn",
    )


def padded(
    kernel: Kernel,
    query: Float[Array, "B N H K"],
    key: Float[Array, "B N H K"],
    value: Float[Array, "B N H K"],
    multiple: int,
) -> Float[Array, "B N H K"]:
    """Calls a kernel that takes only multiples of some number of tokens.

    Other lengths get zeros behind the last token, which the kernel is told to leave out.

    Args:
      kernel: see `Kernel`.
      query: [B, N, H, K].
      key: [B, N, H, K].
      value: [B, N, H, K].
      multiple: lengths that the kernel takes.
    """
    rows, length = query.shape[:2]
    more = -length % multiple
    if not more:
        return kernel(query, key, value, None)
    behind = ((0, 0), (0, more), (0, 0), (0, 0))
    q, k, v = (jnp.pad(x, behind) for x in (query, key, value))
    return kernel(q, k, v, jnp.full((rows,), length, jnp.int32))[:, :length]


def at_once(
    query: Float[Array, "B N H K"], key: Float[Array, "B N H K"], value: Float[Array, "B N H K"]
) -> Float[Array, "B N H K"]:
    """Computes all heads together and keeps [B, H, N, N] weights for the backward pass."""
    product = functools.partial(jnp.matmul, precision=precision.of(query.dtype))
    # Heads in front of the tokens: half the time of jax.nn.dot_product_attention on CPU.
    query, key, value = (x.swapaxes(1, 2) for x in (query, key, value))
    logits = product(query, key.swapaxes(-1, -2), preferred_element_type=jnp.float32)
    weights = jax.nn.softmax(logits / math.sqrt(query.shape[-1]), axis=-1).astype(value.dtype)
    return product(weights, value).swapaxes(1, 2)


def by_head(
    query: Float[Array, "B N H K"], key: Float[Array, "B N H K"], value: Float[Array, "B N H K"]
) -> Float[Array, "B N H K"]:
    """Computes one head after another, because the [N, N] weights of one fit a cache.

    Derivatives compute the weights again, from the normaliser that the forward pass keeps. Forward
    and reverse mode work, to any order.

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
    # Divide after the product: [N, K] instead of [N, N] numbers.
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
def _has_fused(shape: tuple[int, int, int], dtype: jnp.dtype, hardware: Hardware) -> bool:
    """Whether cuDNN's fused attention and its gradient take [N, H, K]; the choice is logged once.

    Its limits on sizes, cards and versions change between releases, so we try to compile it for
    the device, or only to lower it if there is none.
    """
    if dtype != jnp.bfloat16:
        return False
    place = None if hardware.device is None else SingleDeviceSharding(hardware.device)
    heads = jax.ShapeDtypeStruct((1, *shape), dtype, sharding=place)

    def total(q: Array, k: Array, v: Array) -> Array:
        return padded(fused, q, k, v, FUSED_TOKENS).astype(jnp.float32).sum()

    trial = jax.jit(jax.grad(total, argnums=(0, 1, 2)))
    try:
        if place is None:
            trial.trace(heads, heads, heads).lower(lowering_platforms=("cuda",))
        else:
            trial.lower(heads, heads, heads).compile()
    except (RuntimeError, ValueError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        _log.warning("attention %s without cuDNN's fused kernel: %s", list(shape), reason)
        return False
    more = -shape[0] % FUSED_TOKENS
    _log.info("attention %s by cuDNN's fused kernel, with %d tokens of padding", list(shape), more)
    return True
