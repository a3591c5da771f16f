"""Contrast that learns from extreme augmentations by the similarities of a mild copy."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from igm_jax import losses
from igm_jax.models import Contrastive, apply, pool
from igm_jax.training.config_groups import ObjectiveConfig
from igm_jax.training.objectives.common import (
    ClipBatch,
    ObjectiveOutput,
    compared,
    fold_bodies,
    two_views,
    view_input,
)

_ATTENTION = 0.7  # features that stand out more are dropped [AimCLR]


def extreme_contrast(
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
    """InfoNCE of a mild copy, whose similarities two extreme copies must share.

    The second extreme copy has the features of the first without those that stand out. At `ramp` 1,
    entries of the queue that are nearest to any of the three are positives too. Arguments and
    result as those of `igm_objective`.

    References:
      AimCLR (Guo et al., AAAI 2022): extreme augmentations, energy-based attention-guided drop,
      distributional divergence minimisation and nearest neighbours mining.
    """
    k_mild, k_extreme = jax.random.split(key)
    z, query, positive = two_views(params, teacher, batch, k_mild, model, config)
    positive = jax.lax.stop_gradient(positive)

    noisy, keep = view_input(fold_bodies(batch.extreme), k_extreme, model, config)
    tokens = apply(model, params, noisy, keep, None, batch.packed, method="encode")
    dropped = energy_drop(tokens, batch.present.reshape(-1), _joints_of(tokens, keep, model))

    def log_p(features: Float[Array, "B E"]) -> Float[Array, "B N"]:
        return losses.positive_log_probabilities(
            features, positive, queue, temperature=config.temperature
        )

    def projected(tokens: Float[Array, "BM n D"]) -> Float[Array, "B E"]:
        z = pool(tokens, batch.present)
        return losses.normalize(apply(model, params, z, method="project"))

    mild, extreme = log_p(query), [log_p(projected(x)) for x in (tokens, dropped)]
    first = -mild[:, 0].mean()
    mined = _mined([mild, *extreme], config.mined_positives)
    second = (-(mild * mined).sum(axis=-1) / mined.sum(axis=-1)).mean()
    contrast = first + ramp * (second - first)
    target = jax.lax.stop_gradient(jnp.exp(mild))
    divergence = -sum((target * x).sum(axis=-1).mean() for x in extreme) / 2
    loss, output = compared(contrast + divergence, z, query, positive, references=positive)
    parts = {"loss_contrast": contrast, "loss_divergence": divergence}
    return loss, output._replace(metrics=output.metrics | parts)


def energy_drop(
    tokens: Float[Array, "R n D"],
    present: Bool[Array, " R"],
    joints: Bool[Array, "R n G"],
) -> Float[Array, "R n D"]:
    """Sets the features that stand out to zero: first those of whole joints, then single ones.

    Attention is the sigmoid of SimAM's energy, the squared distance from the mean over the tokens
    in variances. What is left is scaled up by the share that stays in the batch. The choice itself
    has no gradient.

    Args:
      tokens: [R, n, D] features of the tokens that f saw.
      present: [R], False for rows that do not count.
      joints: [R, n, G], which of the G groups of joints each token shows.

    References:
      AimCLR (Guo et al., AAAI 2022); Yang et al., SimAM (ICML 2021).
    """
    h = jax.lax.stop_gradient(tokens)
    square = jnp.square(h - h.mean(axis=1, keepdims=True))
    variance = square.sum(axis=1, keepdims=True) / max(h.shape[1] - 1, 1)
    attention = jax.nn.sigmoid(square / (4 * (variance + 1e-4)) + 0.5)

    by_token = attention.mean(axis=-1, keepdims=True) * joints
    count = jnp.maximum(joints.sum(axis=1), 1)
    loud = by_token.sum(axis=1) / count >= _ATTENTION
    quiet = ~(joints & loud[:, None]).any(axis=-1, keepdims=True)
    for kept in (jnp.broadcast_to(quiet, h.shape), attention < _ATTENTION):
        counted = kept & present[:, None, None]
        share = counted.sum() / jnp.maximum(present.sum() * h[0].size, 1)
        tokens = jnp.where(kept, tokens, 0) / jnp.maximum(share, 1e-6)
    return tokens


def _joints_of(
    tokens: Float[Array, "R n D"], keep: Int[Array, "R n"] | None, model: Contrastive
) -> Bool[Array, "R n G"]:
    """Which group of joints each token shows, as one of G flags."""
    groups = model.config.encoder.grid[1]
    if keep is None:
        keep = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape[:2])
    return jax.nn.one_hot(keep % groups, groups, dtype=bool)


def _mined(views: list[Float[Array, "B N"]], count: int) -> Float[Array, "B N"]:
    """1 for the positive and for the `count` entries of the queue nearest to each view, else 0."""
    chosen = jnp.zeros_like(views[0][:, 1:], dtype=bool)
    for log_p in views:
        queue = jax.lax.stop_gradient(log_p[:, 1:])
        chosen |= queue >= jax.lax.top_k(queue, count)[0][:, -1:]
    own = jnp.ones_like(chosen[:, :1])
    return jnp.concatenate([own, chosen], axis=1).astype(views[0].dtype)
