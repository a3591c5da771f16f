"""Objectives that find positives among the features of other clips, in a queue."""

from typing import Any

import jax
from jaxtyping import Array, Float, Key

from igm_jax import losses
from igm_jax.models import Contrastive
from igm_jax.training.config_groups import ObjectiveConfig
from igm_jax.training.objectives.common import (
    ClipBatch,
    ObjectiveOutput,
    compared,
    two_views,
)


def positive_mining(
    params: Any,
    teacher: Any,
    queue: Float[Array, "Q E"],
    batch: ClipBatch,
    key: Key[Array, ""],
    *,
    model: Contrastive,
    config: ObjectiveConfig,
    ramp: Float[Array, ""],
    **_: Any,
) -> tuple[Float[Array, ""], ObjectiveOutput]:
    """KL between similarities of the teacher and of f to a queue, later with mined positives.

    The target is the distribution that the teacher sees from the other view. At `ramp` 1, its
    nearest entries of the queue count as positives. Arguments and result as those of
    `igm_objective`.

    References:
      CPM (Zhang et al., ECCV 2022, arXiv 2208.03497), Contrastive Positive Mining.
    """
    z, student, target = two_views(params, teacher, batch, key, model, config)
    target = jax.lax.stop_gradient(target)
    temperatures = {
        "target_temperature": config.target_temperature,
        "temperature": config.temperature,
    }
    pair = target, student, queue
    first = losses.distribution_idempotency_loss(*pair, **temperatures).mean()
    mined = losses.mined_similarity_loss(*pair, positives=config.mined_positives, **temperatures)
    loss = first + ramp * (mined.mean() - first)
    return compared(loss, z, student, target, references=target)
