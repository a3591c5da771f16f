"""Chooses the tokens that f sees: the first ones of a random permutation."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key


def random_order(key: Key[Array, ""], batch: int, num_tokens: int) -> Int[Array, "B N"]:
    """An independent random permutation of 0 … N−1 for each row; its head is a random subset."""
    draw = jax.random.uniform(key, (batch, num_tokens), jnp.float32)  # in 64-bit mode too
    return jnp.argsort(draw, axis=-1)


def num_visible(num_tokens: int, mask_ratio: float) -> int:
    """Number of visible tokens when `mask_ratio` of N are hidden; at least one."""
    return max(1, round(num_tokens * (1 - mask_ratio)))


def random_subset(
    key: Key[Array, ""], rows: int, num_tokens: int, mask_ratio: float
) -> tuple[Int[Array, "R N"] | None, Int[Array, "R n"] | None]:
    """A permutation of each row's tokens and its visible head; None, None if nothing is hidden."""
    if mask_ratio == 0:
        return None, None
    order = random_order(key, rows, num_tokens)
    return order, order[:, : num_visible(num_tokens, mask_ratio)]


def motion_aware_order(
    key: Key[Array, ""], motion: Float[Array, "R N P"], temperature: float
) -> Int[Array, "R N"]:
    """A random permutation that tends to put moving tokens last, where they are hidden.

    Gumbel noise on log-probabilities and a sort draw without replacement (MAMP, eq. 5).
    """
    wide = jnp.promote_types(motion.dtype, jnp.float32)
    intensity = jnp.abs(motion).astype(wide).mean(axis=-1)
    share = intensity / jnp.maximum(intensity.max(axis=-1, keepdims=True), 1e-12)
    log_p = jax.nn.log_softmax(share / temperature, axis=-1)
    draw = jax.random.gumbel(key, log_p.shape, log_p.dtype)
    return jnp.argsort(log_p + draw, axis=-1)
