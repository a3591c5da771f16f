"""Chooses the tokens that f sees: the first ones of a random permutation."""

import math

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


def visible_tokens(masking: str, grid: tuple[int, int], mask_ratio: float) -> int:
    """Number of visible tokens if single `"tokens"`, or `"joints_and_frames"`, are hidden."""
    if masking == "joints_and_frames":
        return math.prod(visible_grid(grid, mask_ratio))
    return num_visible(math.prod(grid), mask_ratio)


def visible_grid(grid: tuple[int, int], mask_ratio: float) -> tuple[int, int]:
    """Tokens in time, and at each time, that stay if whole joints and whole frames are hidden.

    Joints and frames are hidden in equal shares, and `mask_ratio` of the tokens in all. At least
    one of each stays.

    Args:
      grid: tokens in time, and tokens at each time.
      mask_ratio: share of the tokens that are hidden.

    References:
      SkeletonMAE (Wu et al., 2022, arXiv 2209.02399) hides 40 % of both, by memory: 64 % in all.
    """
    steps, groups = grid
    kept = num_visible(groups, mask_ratio if steps == 1 else 1 - math.sqrt(1 - mask_ratio))
    return num_visible(steps, max(0.0, 1 - (1 - mask_ratio) * groups / kept)), kept


def joints_and_frames_order(
    key: Key[Array, ""], rows: int, grid: tuple[int, int], visible: tuple[int, int]
) -> Int[Array, "R N"]:
    """A permutation of each row's tokens that puts those of hidden joints and frames last.

    Every row hides joints of its own in all frames, and all joints in frames of its own.

    Args:
      key: random key.
      rows: R.
      grid: tokens in time, and tokens at each time; their product is N.
      visible: tokens in time, and at each time, that stay; see `visible_grid`.
    """
    keys, tokens = jax.random.split(key), math.prod(grid)
    # Ranks below the number that stays: a random subset of that size.
    steps, groups = (
        random_order(k, rows, count) < kept for k, count, kept in zip(keys, grid, visible)
    )
    seen = steps[:, :, None] & groups[:, None, :]
    return jnp.argsort(~seen.reshape(rows, tokens), axis=-1, stable=True)


def motion_aware_order(
    key: Key[Array, ""], patches: Float[Array, "R N P"], grid: tuple[int, int], temperature: float
) -> Int[Array, "R N"]:
    """A random permutation that tends to put moving tokens last, where they are hidden.

    The motion of a token is its mean change since the token before it in time; the first one gets
    that of the second. Gumbel noise on log-probabilities and a sort draw without replacement.

    Args:
      key: random key.
      patches: [R, N, P] coordinates of the tokens, joints varying fastest.
      grid: tokens in time, and tokens at each time; their product is N.
      temperature: a higher one lets chance decide more.

    References:
      MAMP (Mao et al., ICCV 2023), eq. 5, and its released code for the motion of a token.
    """
    by_time = patches.reshape(len(patches), *grid, -1)
    wide = jnp.promote_types(patches.dtype, jnp.float32)
    change = jnp.abs(jnp.diff(by_time, axis=1)).astype(wide).mean(axis=-1)
    change = change if grid[0] > 1 else jnp.zeros(by_time.shape[:-1], wide)
    intensity = jnp.concatenate([change[:, :1], change], axis=1)[:, : grid[0]]
    intensity = intensity.reshape(patches.shape[:-1])
    share = intensity / jnp.maximum(intensity.max(axis=-1, keepdims=True), 1e-12)
    log_p = jax.nn.log_softmax(share / temperature, axis=-1)
    draw = jax.random.gumbel(key, log_p.shape, log_p.dtype)
    return jnp.argsort(log_p + draw, axis=-1)
