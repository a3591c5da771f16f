"""Baselines that predict hidden tokens: masked autoencoding and motion prediction."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from igm_jax import losses, masking, skeleton
from igm_jax.models import MaskedAutoencoder, apply, layers, pool
from igm_jax.training.config_groups import ObjectiveConfig
from igm_jax.training.objectives.common import ClipBatch, ObjectiveOutput, masked_mean, noisy


def masked_autoencoding(
    params: Any,
    teacher: Any,
    queue: Float[Array, "Q E"],
    batch: ClipBatch,
    key: Key[Array, ""],
    *,
    model: MaskedAutoencoder,
    config: ObjectiveConfig,
    **_: Any,
) -> tuple[Float[Array, ""], ObjectiveOutput]:
    """Mean squared error of the coordinates of the hidden tokens.

    `config.masking` says if single tokens are hidden, or whole joints and frames. Arguments and
    result as those of `igm_objective`; `teacher` and `queue` are not read.

    References:
      SkeletonMAE (Wu et al., 2022, arXiv 2209.02399): reconstruction of masked joints and frames.
    """
    k_order, k_input = jax.random.split(key)
    rows, encoder = len(batch.rows), model.config.encoder
    if config.masking == "joints_and_frames":
        kept = masking.visible_grid(encoder.grid, config.mask_ratio)
        order = masking.joints_and_frames_order(k_order, rows, encoder.grid, kept)
    else:
        order = masking.random_order(k_order, rows, encoder.num_tokens)
    visible = masking.visible_tokens(config.masking, encoder.grid, config.mask_ratio)
    target = layers.patchify(batch.rows, encoder.patch)
    return _predict_hidden(params, batch, order, visible, target, k_input, model, config)


def motion_prediction(
    params: Any,
    teacher: Any,
    queue: Float[Array, "Q E"],
    batch: ClipBatch,
    key: Key[Array, ""],
    *,
    model: MaskedAutoencoder,
    config: ObjectiveConfig,
    **_: Any,
) -> tuple[Float[Array, ""], ObjectiveOutput]:
    """Mean squared error of the motion of the hidden tokens, mostly moving ones.

    Targets are frame-to-frame differences, standardised for each token. Tokens are hidden
    with probability growing with their motion. Arguments and result as those of `igm_objective`;
    `teacher` and `queue` are not read.

    References:
      MAMP (Mao et al., ICCV 2023, arXiv 2308.07092): masked motion prediction, motion-aware
      masking.
    """
    k_order, k_input = jax.random.split(key)
    encoder = model.config.encoder
    patches = layers.patchify(batch.rows, encoder.patch)
    order = masking.motion_aware_order(k_order, patches, encoder.grid, config.motion_temperature)
    motion = layers.patchify(skeleton.motion_stream(batch.rows), encoder.patch)
    # MAMP's code: the variance of P - 1, and a constant, so that a joint that does not move has a
    # target of zero, not of amplified noise.
    centred = motion - motion.mean(axis=-1, keepdims=True)
    count = max(motion.shape[-1] - 1, 1)
    variance = jnp.square(centred).sum(axis=-1, keepdims=True) / count
    target = centred * jax.lax.rsqrt(variance + 1e-6)
    visible = masking.num_visible(encoder.num_tokens, config.mask_ratio)
    return _predict_hidden(params, batch, order, visible, target, k_input, model, config)


def _predict_hidden(
    params: Any,
    batch: ClipBatch,
    order: Int[Array, "R N"],
    visible: int,
    target: Float[Array, "R N P"],
    key: Key[Array, ""],
    model: MaskedAutoencoder,
    config: ObjectiveConfig,
) -> tuple[Float[Array, ""], ObjectiveOutput]:
    keep, packed = order[:, :visible], batch.packed
    read = noisy(batch.rows, key, config)
    tokens = apply(model, params, read, keep, None, packed, method="encode")
    predicted = apply(model, params, tokens, order, packed, method="decode")
    hidden = jnp.take_along_axis(target, order[:, visible:, None], axis=1)
    error = jnp.square(predicted[:, visible:] - hidden).mean(axis=(1, 2))
    loss = masked_mean(error, batch.present.reshape(-1))
    z = jax.lax.stop_gradient(pool(tokens, batch.present))
    return loss, ObjectiveOutput({"loss": loss}, z, losses.normalize(z))
