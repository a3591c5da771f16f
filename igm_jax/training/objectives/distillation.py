"""Contrast in each stream of a clip, and mutual distillation between the streams."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from igm_jax import losses
from igm_jax.models import StreamContrastive
from igm_jax.training.config_groups import ObjectiveConfig
from igm_jax.training.objectives.common import (
    ClipBatch,
    ObjectiveOutput,
    compared,
    two_views,
)


def mutual_distillation(
    params: Any,
    teacher: Any,
    queue: Float[Array, "Q E"],
    batch: ClipBatch,
    key: Key[Array, ""],
    *,
    model: StreamContrastive,
    config: ObjectiveConfig,
    **_: Any,
) -> tuple[Float[Array, ""], ObjectiveOutput]:
    """InfoNCE in each stream, and KL between similarities in one stream and in another.

    Each stream has an encoder, a teacher and an equal part of each row of the queue. So the entries
    of all streams belong to the same clips. The target is the teacher's distribution over the half
    of the queue that is nearest in its own stream. Arguments and result as those of
    `igm_objective`.

    References:
      CMD (Mao et al., ECCV 2022): Self-supervised 3D Action Representation Learning with
      Cross-modal Mutual Distillation.
    """
    z, query, positive = two_views(params, teacher, batch, key, model, config)
    positive = jax.lax.stop_gradient(positive)
    streams = model.config.encoder.towers
    of_query, of_positive, of_queue = (by_stream(x, streams) for x in (query, positive, queue))

    def info_nce(z: Array, positive: Array, negatives: Array) -> Array:
        return losses.info_nce_loss(z, positive, negatives, temperature=config.temperature)

    contrast = jax.vmap(info_nce)(of_query, of_positive, of_queue).sum(axis=0).mean()
    distillation = losses.mutual_distillation_loss(
        of_positive,
        of_query,
        of_queue,
        nearest=(len(queue) + 1) // 2,
        target_temperature=config.target_temperature,
        temperature=config.temperature,
    ).mean()
    loss, output = compared(contrast + distillation, z, query, positive, references=positive)
    parts = {"loss_contrast": contrast, "loss_distillation": distillation}
    return loss, output._replace(metrics=output.metrics | parts)


def by_stream(features: Float[Array, "B SE"], streams: int) -> Float[Array, "S B E"]:
    """Splits concatenated features into those of each stream."""
    return jnp.stack(jnp.split(features, streams, axis=-1))
