"""Compiled programs that generate clips: one step from noised clips, DDIM, and inpainting."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from igm_jax import diffusion, masking
from igm_jax.models import IGM, Condition, IGMConfig, apply
from igm_jax.reading import Reading
from igm_jax.training.config import ObjectiveConfig

# DDIM starts at the last step with this share of signal ᾱ, where noise is 99 % of the amplitude. At
# ᾱ = 1e-4, the end of a schedule, x̂0 has the error of g times 100. It would be clipped to noise of
# ±clean_clip, which the next steps take for a clip.
FIRST_SIGNAL = 0.02


@dataclasses.dataclass(frozen=True)
class Setting:
    """Everything that a compiled program depends on.

    `mask_ratio` is None if nothing is hidden from f, and `start` if DDIM starts from noise.
    """

    model: IGMConfig
    objective: ObjectiveConfig
    reading: Reading
    mask_ratio: float | None
    num_steps: int
    conditioned: bool
    start: int | None = None

    @property
    def alpha_bar(self) -> Float[jax.Array, " K"]:
        """The noise schedule of the run."""
        return diffusion.alpha_bar(self.objective.schedule, self.objective.diffusion_steps)

    @property
    def first_step(self) -> int:
        """The step at which DDIM starts."""
        if self.start is not None:
            return self.start
        with jax.ensure_compile_time_eval():
            return max(0, int((self.alpha_bar >= FIRST_SIGNAL).sum()) - 1)


@functools.partial(jax.jit, static_argnames="setting")
def one_step(
    params: Any,
    clip: Float[Array, "B M T V C"],
    index: Int[Array, " B"],
    seed: Int[Array, ""] | int,
    t: Int[Array, ""],
    *,
    setting: Setting,
) -> Float[Array, "B M T V C"]:
    """The clean clips that g predicts from noised ones."""
    k_order, _ = _keys(seed, index)
    rows, x_t, step = _noised(clip, index, seed, t, setting)
    predicted = _denoiser(params, rows, k_order, clip.shape[1], setting)(x_t, step)
    clean = diffusion.predict_clean(setting.alpha_bar, x_t, step, predicted)
    limit = setting.objective.clean_clip
    return _positions(jnp.clip(clean, -limit, limit), setting.reading).reshape(clip.shape)


@functools.partial(jax.jit, static_argnames="setting")
def noised(
    clip: Float[Array, "B M T V C"],
    index: Int[Array, " B"],
    seed: Int[Array, ""] | int,
    t: Int[Array, ""],
    *,
    setting: Setting,
) -> Float[Array, "B M T V C"]:
    """The noised clips that `one_step` reads, of the same seed."""
    _, x_t, _ = _noised(clip, index, seed, t, setting)
    return _positions(x_t, setting.reading).reshape(clip.shape)


def _noised(
    clip: jax.Array, index: jax.Array, seed: Any, t: jax.Array, setting: Setting
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Standardised rows of the clips, the same rows at step t, and t for each row."""
    rows = setting.reading(clip.reshape(-1, *clip.shape[2:]))
    _, k_noise = _keys(seed, index)
    noise = _noise(k_noise, (clip.shape[1], *rows.shape[1:]))
    step = jnp.full(rows.shape[:1], t)
    return rows, diffusion.add_noise(setting.alpha_bar, rows, step, noise), step


@functools.partial(jax.jit, static_argnames="setting")
def sample(
    params: Any,
    clip: Float[Array, "B M T V C"],
    index: Int[Array, " B"],
    seed: Int[Array, ""] | int,
    *,
    setting: Setting,
) -> Float[Array, "B M T V C"]:
    """Clips by DDIM; of `clip` only the features are read, if the setting is conditioned."""
    rows = setting.reading(clip.reshape(-1, *clip.shape[2:]))
    k_order, k_noise = _keys(seed, index)
    clean = diffusion.ddim_sample(
        _denoiser(params, rows, k_order, clip.shape[1], setting),
        setting.alpha_bar[: setting.first_step + 1],
        _noise(k_noise, (clip.shape[1], *rows.shape[1:])),
        num_steps=setting.num_steps,
        clip=setting.objective.clean_clip,
    )
    return _positions(clean, setting.reading).reshape(clip.shape)


@functools.partial(jax.jit, static_argnames="setting")
def inpaint(
    params: Any,
    guess: Float[Array, "B M T V C"],
    known: Bool[Array, "T V CS"],
    index: Int[Array, " B"],
    seed: Int[Array, ""] | int,
    *,
    setting: Setting,
) -> Float[Array, "B M T V C"]:
    """Clips by DDIM in which g always sees the known streams of `guess`, noised to its step.

    f reads the whole guess, also where it stands for what is hidden. A token may hold a whole pose,
    so a hidden joint has a part in every token: hiding those from f would leave it none. And zeros
    in place of the guess would be poses that f has never seen.

    DDIM starts from noise, or from the guess noised to step `setting.start`. The part of the sample
    that is known is never read, so its noise stays the same at all steps, as DDIM without fresh
    noise has it.
    """
    rows = setting.reading(guess.reshape(-1, *guess.shape[2:]))
    k_order, k_noise = _keys(seed, index)
    noise = _noise(k_noise, (guess.shape[1], *rows.shape[1:]))
    denoise = _denoiser(params, rows, k_order, guess.shape[1], setting)
    alpha_bar = setting.alpha_bar[: setting.first_step + 1]

    def beside_known(x: jax.Array, t: jax.Array) -> jax.Array:
        return denoise(jnp.where(known[None], diffusion.add_noise(alpha_bar, rows, t, noise), x), t)

    x_T = noise
    if setting.start is not None:
        x_T = diffusion.add_noise(alpha_bar, rows, jnp.full(len(rows), setting.start), noise)
    clean = diffusion.ddim_sample(
        beside_known,
        alpha_bar,
        x_T,
        num_steps=setting.num_steps,
        clip=setting.objective.clean_clip,
    )
    return _positions(clean, setting.reading).reshape(guess.shape)


def _keys(seed: Any, index: Int[Array, " B"]) -> tuple[jax.Array, jax.Array]:
    """Two random keys for each clip: of its mask and of its noise."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), index)
    of_purpose = jax.vmap(jax.random.fold_in, (0, None))
    return of_purpose(keys, 0), of_purpose(keys, 1)


def _noise(keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Noise of this shape for each key, its first axis joined with that of the keys."""
    noise = jax.vmap(lambda key: jax.random.normal(key, shape, jnp.float32))(keys)
    return noise.reshape(-1, *shape[1:])


def _denoiser(
    params: Any, rows: jax.Array, keys: jax.Array, bodies: int, setting: Setting
) -> Callable[[jax.Array, jax.Array], jax.Array]:
    """`(x_t, t) → ε` under the features of these rows, or under none."""
    model = IGM(setting.model)
    dropped = None
    if not setting.conditioned:
        width = setting.model.encoder.width
        condition = Condition(jnp.zeros((len(rows), width), jnp.float32))
        dropped = jnp.ones(len(rows), bool)
    else:
        order = keep = None
        if setting.mask_ratio is not None:
            num = setting.model.encoder.num_tokens
            order = jax.vmap(lambda key: masking.random_order(key, bodies, num))(keys)
            order = order.reshape(-1, num)
            keep = order[:, : masking.num_visible(num, setting.mask_ratio)]
        tokens = apply(model, params, rows, keep, method="encode")
        condition = apply(model, params, tokens, order, method="condition")
    alpha_bar = setting.alpha_bar

    def denoise(x_t: jax.Array, t: jax.Array) -> jax.Array:
        return apply(model, params, x_t, condition, t, alpha_bar[t], dropped, method="generate")

    return denoise


def _positions(rows: Float[Array, "R T V CS"], reading: Reading) -> Float[Array, "R T V C"]:
    """Joint positions of standardised streams, in the units of the data."""
    channels = rows.shape[-1] // len(reading.streams)
    start = reading.streams.index("joint") * channels
    part = slice(start, start + channels)
    mean, std = (
        jnp.asarray(x[part], jnp.float32).reshape(1, 1, 1, -1) for x in (reading.mean, reading.std)
    )
    return rows[..., part] * std + mean
