"""Noise schedules, forward noising, the prediction of x from the noise, and DDIM sampling.

A schedule is an array ᾱ of K values, ᾱ_t the share of signal left after step t = 0 … K−1:
x_t = √ᾱ_t x + √(1−ᾱ_t) ε. JAX silently clamps an index outside an array. Here a concrete step
outside 0 … K−1 raises an error, and a traced one makes its example NaN.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Key, Real

from igm_jax.arguments import Array, Scalar, check_choice, check_floating, concrete
from igm_jax.errors import InputError
from igm_jax.precision import root

SCHEDULES = ("linear", "cosine", "inverse_cosine")


def alpha_bar(name: str, num_steps: int) -> Float[jax.Array, " K"]:
    """Share of signal ᾱ_t after each of K steps, clipped to [1e-4, 0.9999].

    Index t = 0 … K−1 stands for time τ = (t+1)/K: ᾱ_0 has seen one step of noise, ᾱ_{K−1} all.

    - `"linear"`: Π (1 − β), β from 1e-4 to 0.02 at K = 1000; at other K the ends are scaled by
      1000/K (and β kept below 0.999), so that the total noise stays about the same.
    - `"cosine"`: c(τ) = f(τ)/f(0), f(τ) = cos²((τ + 0.008)/1.008 · π/2).
    - `"inverse_cosine"`: 2(1 − τ) − c(τ), the cosine mirrored at the straight line: fast, slow,
      fast.

    Args:
      name: one of `SCHEDULES`.
      num_steps: K ≥ 1.

    Returns:
      [K] float32, computed in float64; decreasing, and constant only where clipped.

    References:
      Ho et al. (NeurIPS 2020); Nichol & Dhariwal (ICML 2021); MacDiff (ECCV 2024, arXiv
      2409.10473) for the inverse cosine.

    >>> alpha_bar("cosine", 4).round(3).tolist()
    [0.847..., 0.49..., 0.144..., 0.0...]
    """
    check_choice("schedule", name, SCHEDULES)
    if num_steps < 1:
        raise InputError(f"num_steps={num_steps}: a schedule needs at least one step")
    if name == "linear":
        scale = 1000 / num_steps
        betas = np.linspace(1e-4 * scale, 0.02 * scale, num_steps)
        values = np.cumprod(1 - np.minimum(betas, 0.999))
    else:
        time = np.arange(1, num_steps + 1) / num_steps
        values = np.cos((time + 0.008) / 1.008 * np.pi / 2) ** 2
        values = values / np.cos(0.008 / 1.008 * np.pi / 2) ** 2
        if name == "inverse_cosine":
            values = 2 * (1 - time) - values
    return jnp.asarray(np.clip(values, 1e-4, 0.9999), jnp.float32)


def add_noise(
    alpha_bar: Float[Array, " K"],
    x: Float[Array, "*shape"],
    t: Int[Array, "*batch"],
    noise: Float[Array, "*shape"],
) -> Float[jax.Array, "*shape"]:
    """Noises x to step t: x_t = √ᾱ_t x + √(1−ᾱ_t) ε.

    Args:
      alpha_bar: [K] schedule.
      x: [B, ...] clean.
      t: [B] steps in 0 … K−1. It may have the shape of any number of leading axes of x; a scalar
        holds for all of x.
      noise: [B, ...] ε.

    Returns:
      [B, ...], of the dtype that x and noise have together; computed in float32 at least.

    Raises:
      InputError: shapes differ, x or noise is of integers, or a concrete step is outside 0 … K−1.

    >>> add_noise(jnp.array([0.64]), jnp.ones((1, 2)), jnp.array([0]), -jnp.ones((1, 2))).round(3)
    Array([[0.2, 0.2]], dtype=float32)
    """
    signal, sigma, x, noise, dtype = _at_step(alpha_bar, t, x, noise)
    return (signal * x + sigma * noise).astype(dtype)


def predict_clean(
    alpha_bar: Float[Array, " K"],
    x_t: Float[Array, "*shape"],
    t: Int[Array, "*batch"],
    predicted_noise: Float[Array, "*shape"],
) -> Float[jax.Array, "*shape"]:
    """Predicts x from x_t and the noise: x̂ = (x_t − √(1−ᾱ_t) ε) / √ᾱ_t.

    Arguments as in `add_noise`. The division amplifies an error of the prediction, up to 100 times
    at ᾱ = 1e-4: clip the result to the range of the data if it feeds another network.
    """
    signal, sigma, x_t, predicted_noise, dtype = _at_step(alpha_bar, t, x_t, predicted_noise)
    return ((x_t - sigma * predicted_noise) / signal).astype(dtype)


def ddim_sample(
    denoise: Callable[
        [Float[jax.Array, "B *example"], Int[jax.Array, " B"]], Float[jax.Array, "B *example"]
    ],
    alpha_bar: Float[Array, " K"],
    x_T: Float[Array, "B *example"],
    *,
    num_steps: int,
    eta: Scalar = 0.0,
    key: Key[jax.Array, ""] | None = None,
    clip: Scalar | None = None,
) -> Float[jax.Array, "B *example"]:
    """Samples x_0 from x_T through `num_steps` evenly spaced steps of the schedule.

    eta = 0 is deterministic; eta = 1 over all K steps is ancestral DDPM sampling with the posterior
    variance.

    Args:
      denoise: `(x_t [B, ...], t [B]) → ε [B, ...]`; traced once.
      alpha_bar: [K] schedule.
      x_T: [B, ...] noise of unit variance, taken to be at step K−1.
      num_steps: in 1 … K.
      eta: share of fresh noise, in [0, 1].
      key: random key; needed if eta > 0, and where eta is traced.
      clip: if given, every prediction of x_0 is clipped to ±clip (and ε made to agree).

    Returns:
      [B, ...], the last prediction of x_0.

    Raises:
      InputError: num_steps or eta out of range, no key where one is needed, or a denoiser that
        changes the shape.

    References:
      Song et al., DDIM (ICLR 2021).
    """
    check_floating(x_T=x_T)
    x_T, alpha_bar = jnp.asarray(x_T), jnp.asarray(alpha_bar)
    k, known_eta = alpha_bar.shape[0], concrete(eta)
    if not 1 <= num_steps <= k:
        raise InputError(f"num_steps={num_steps} is outside 1..{k}, the steps of the schedule")
    if known_eta is not None and not 0 <= known_eta <= 1:
        raise InputError(f"eta={known_eta} is outside 0..1")
    random = known_eta is None or known_eta > 0
    if random and key is None:
        told = "a traced eta" if known_eta is None else f"eta={known_eta}"
        raise InputError(f"{told} draws noise: give a random key, or eta=0")
    steps = np.linspace(k - 1, 0, num_steps).round().astype(np.int32)
    now = alpha_bar[steps]
    after = jnp.append(now[1:], 1.0)  # the last step goes to the clean sample itself

    def body(x, inputs):
        t, now, after = inputs
        noise = denoise(x, jnp.full(x.shape[:1], t)).astype(x.dtype)
        if noise.shape != x.shape:
            raise InputError(f"denoise maps {x.shape} to {noise.shape}: the shape must stay")
        clean = (x - jnp.sqrt(1 - now) * noise) / jnp.sqrt(now)
        if clip is not None:
            clean = jnp.clip(clean, -clip, clip)
            noise = (x - jnp.sqrt(now) * clean) / jnp.sqrt(1 - now)
        # after − now is exact for neighbours, 1 − now/after would not be.
        spread = jnp.sqrt((1 - after) / (1 - now) * (after - now) / after)
        rest = 1 - after - (eta * spread) ** 2
        x = jnp.sqrt(after) * clean + root(rest) * noise
        if random:
            assert key is not None  # checked above
            draw = jax.random.normal(jax.random.fold_in(key, t), x.shape, x.dtype)
            x = x + eta * spread * draw
        return x.astype(x_T.dtype), None

    return jax.lax.scan(body, x_T, (steps, now, after))[0]


def time_embedding(
    t: Real[Array, "*batch"], width: int, max_period: float = 10000.0
) -> Float[jax.Array, "*batch D"]:
    """Cosines, then sines, of t at frequencies from 1 down to nearly 1/max_period.

    Args:
      t: [...] steps, not scaled.
      width: D, even.
      max_period: the slowest frequency is max_period^(2/D − 1).

    Returns:
      [..., D] float32.

    >>> time_embedding(jnp.array([0, 5]), 4).shape
    (2, 4)
    """
    if width < 2 or width % 2:
        raise InputError(f"width={width}: a time embedding needs an even width of at least 2")
    half = width // 2
    frequencies = (max_period ** (-np.arange(half) / half)).astype(np.float32)
    angles = t.astype(jnp.float32)[..., None] * frequencies.reshape([1] * t.ndim + [-1])
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def _at_step(
    alpha_bar: Float[Array, " K"], t: Int[Array, "*batch"], x: Array, other: Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jnp.dtype]:
    """√ᾱ_t and √(1−ᾱ_t), shaped to multiply x; x and `other` in float32 at least; their dtype."""
    if x.shape != other.shape or t.shape != x.shape[: t.ndim]:
        raise InputError(
            f"shapes {x.shape} and {other.shape} must be equal, and t {t.shape} their first axes"
        )
    check_floating(x=x, noise=other)
    k, known = alpha_bar.shape[0], concrete(t)
    if known is not None and known.size and not (0 <= known.min() and known.max() < k):
        raise InputError(f"diffusion steps {known.min()}..{known.max()} are outside 0..{k - 1}")
    share = (
        jnp.asarray(alpha_bar)
        .at[t]
        .get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
    )
    share = share.reshape(*t.shape, *[1] * (x.ndim - t.ndim))
    x, other = jnp.asarray(x), jnp.asarray(other)
    dtype = jnp.promote_types(x.dtype, other.dtype)
    wide = jnp.promote_types(dtype, jnp.float32)
    return jnp.sqrt(share), jnp.sqrt(1 - share), x.astype(wide), other.astype(wide), dtype
