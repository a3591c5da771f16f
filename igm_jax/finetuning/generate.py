"""Clips that g makes in one step from noise, as augmentation (MacDiff's use of its generator)."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from igm_jax import diffusion, masking
from igm_jax.models import IGM
from igm_jax.training.config_groups import ObjectiveConfig
from igm_jax.training.objectives import ClipBatch


def one_step_denoised(
    params: Any,
    batch: ClipBatch,
    key: Key[Array, ""],
    *,
    model: IGM,
    config: ObjectiveConfig,
    share: float,
) -> Float[Array, "B M T V C"]:
    """Noises each clip to step share · K, and lets g predict the clean clip in one step.

    g reads the condition that f makes of the real clip, with as many tokens hidden as in
    pre-training. No gradient passes.

    Args:
      params: of f and g, as pre-training left them.
      batch: standardised clips.
      key: random key.
      model: the model of the pre-training run.
      config: objective of the pre-training run: schedule, K, mask ratio, limit of x̂0.
      share: of K, in (0, 1).
    """
    k_order, k_noise = jax.random.split(key)
    rows, tokens = batch.rows, model.config.encoder.num_tokens
    alpha_bar = diffusion.alpha_bar(config.schedule, config.diffusion_steps)
    t = jnp.full(len(rows), min(round(share * len(alpha_bar)), len(alpha_bar) - 1), jnp.int32)
    order, keep = masking.random_subset(k_order, len(rows), tokens, config.mask_ratio)

    def apply(method: str, *arguments: Any) -> Any:
        return model.apply({"params": params}, *arguments, method=method)

    condition = apply("condition", apply("encode", rows, keep), order)
    x_t = diffusion.add_noise(alpha_bar, rows, t, jax.random.normal(k_noise, rows.shape))
    noise = apply("generate", x_t, condition, t, alpha_bar[t])
    clean = diffusion.predict_clean(alpha_bar, x_t, t, noise)
    clean = jnp.clip(clean, -config.clean_clip, config.clean_clip).reshape(batch.clip.shape)
    return jax.lax.stop_gradient(clean)
