"""Intervals of 95 %: by bootstrap over test clips, and of a mean over episodes."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Shaped

from igm_jax.arguments import Array, check_at_least
from igm_jax.errors import InputError
from igm_jax.metrics.arrays import check_count, float64


def bootstrap_interval(
    *clips: Shaped[Array, "B ..."],
    statistic: Callable[..., float] = np.mean,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """Interval of a statistic of test clips: its quantiles when clips are drawn with replacement.

    It covers the choice of the test clips alone, not the seed of the training. Clips count as
    independent. Those of one person are not, so the interval is rather too narrow.

    Args:
      *clips: arrays with one entry for each clip, such as whether it is classified rightly. They
        are drawn together. Floats become float64.
      statistic: takes the drawn arrays.
      level: share of the draws within the interval, in (0, 1).
      draws: number of draws.
      seed: of the draws.

    Returns:
      `(low, high)`. If all clips have one value, both are that value.

    Raises:
      InputError: fewer than two clips, arrays of different lengths, or a level or number of draws
        out of range.

    References:
      Efron & Tibshirani, An Introduction to the Bootstrap (1993), the percentile interval.

    >>> low, high = bootstrap_interval(np.arange(100) < 80)
    >>> 0.70 < low < 0.8 < high < 0.90
    True
    """
    if not 0 < level < 1:
        raise InputError(f"level={level}: must lie between 0 and 1")
    check_at_least("draws", draws, 1)
    # Labels stay integers. A mean of half precision would be rounded.
    arrays = [float64(x) if jnp.issubdtype(x.dtype, jnp.floating) else np.asarray(x) for x in clips]
    if not arrays or len(arrays[0]) < 2:
        raise InputError("an interval needs at least 2 test clips")
    for x in arrays:
        check_count("entries of another array", x, len(arrays[0]), "clips")
    rng = np.random.default_rng(seed)
    values = np.empty(draws)
    for i in range(draws):
        drawn = rng.integers(len(arrays[0]), size=len(arrays[0]))
        values[i] = statistic(*(x[drawn] for x in arrays))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_and_interval(values: Float[Array, " E"]) -> tuple[float, float]:
    """Mean of episodes and half the width of its 95 % interval, 1.96 standard errors.

    Args:
      values: [E] one value for each episode, E ≥ 2.

    Returns:
      `(mean, half width)`: the interval is mean ± half width.

    Raises:
      InputError: fewer than two values.

    References:
      Vinyals et al., Matching Networks for One Shot Learning (NeurIPS 2016), and all who report
      few-shot accuracy over 600 episodes since.

    >>> mean, half = mean_and_interval(np.array([0.0, 1.0] * 50))
    >>> mean, round(half, 3)
    (0.5, 0.098)
    """
    if values.shape[0] < 2:
        raise InputError(f"{values.shape[0]} episode has no spread: give at least 2")
    values = float64(values)
    return float(values.mean()), float(1.96 * values.std(ddof=1) / len(values) ** 0.5)
