"""Contrast of a clip with its own motion, and reconstruction of the clip from its feature."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from igm_jax import losses, skeleton
from igm_jax.models import SequenceAutoencoder, apply, pool
from igm_jax.training.config_groups import ObjectiveConfig
from igm_jax.training.objectives.common import (
    ClipBatch,
    ObjectiveOutput,
    compared,
    masked_mean,
    read_view,
    view_input,
)


def motion_contrast(
    params: Any,
    teacher: Any,
    queue: Float[Array, "Q E"],
    batch: ClipBatch,
    key: Key[Array, ""],
    *,
    model: SequenceAutoencoder,
    config: ObjectiveConfig,
    **_: Any,
) -> tuple[Float[Array, ""], ObjectiveOutput]:
    """InfoNCE between a clip and its motion, and squared error of the clip decoded from one vector.

    The teacher reads the motion. The decoder gets the mean token of each body and returns its
    frames in the order of time and against it. Arguments and result as those of `igm_objective`.

    References:
      CRRL (Wang et al., TIP 2022): contrastive motion learning, sequence reconstruction.
    """
    k_clip, k_motion = jax.random.split(key)
    noisy, keep = view_input(batch.rows, k_clip, model, config)
    tokens = apply(model, params, noisy, keep, None, batch.packed, method="encode")
    z = pool(tokens, batch.present)
    query = losses.normalize(apply(model, params, z, method="project"))
    positive = read_view(teacher, motion_of(batch.rows), batch, k_motion, model, config)[1]
    positive = jax.lax.stop_gradient(positive)
    temperature = config.temperature
    contrast = losses.info_nce_loss(query, positive, queue, temperature=temperature).mean()

    decoded = apply(model, params, tokens.mean(axis=1), batch.packed, method="decode")
    frames = batch.rows.reshape(*batch.rows.shape[:2], -1)
    target = jnp.stack([frames, frames[:, ::-1]], axis=1)
    error = jnp.square(decoded - target).mean(axis=(2, 3)).sum(axis=1)
    reconstruction = masked_mean(error, batch.present.reshape(-1))

    loss, output = compared(contrast + reconstruction, z, query, positive, references=positive)
    parts = {"loss_contrast": contrast, "loss_reconstruction": reconstruction}
    return loss, output._replace(metrics=output.metrics | parts)


def motion_of(rows: Float[Array, "R T V C"]) -> Float[Array, "R T V C"]:
    """Differences between frames, divided by their root mean square in each row.

    Motion then has the scale of standardised coordinates. It is a constant for the gradient.
    """
    motion = skeleton.motion_stream(jax.lax.stop_gradient(rows))
    square = jnp.square(motion).mean(axis=(1, 2, 3), keepdims=True)
    return motion * jax.lax.rsqrt(jnp.maximum(square, 1e-12))
