"""Contrast by actionlets: the joints and frames in which a clip differs from a static one."""

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
    read_view,
    similarity_loss,
)

# Mean activation from which a body part belongs to the actionlet: 1e-8 of the distance that the
# released code averages over a batch of 128 clips [ActCLR].
_FULL = 1e-8 * 128
_SHARPNESS = 0.1  # temperature of the weights of pasted and kept joints [ActCLR]


def actionlet_contrast(
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
    """InfoNCE of two views; at `ramp` 1, KL of similarities of views that keep the actionlet.

    The teacher makes the targets, from clips without noise and with nothing hidden. Only the stage
    that `ramp` chooses is computed, and the metrics of the other one are 0. Arguments and result as
    those of `igm_objective`.

    References:
      ActCLR (Lin et al., CVPR 2023): Actionlet-Dependent Contrastive Learning.
    """
    k_clip, *k_views = jax.random.split(key, 4)
    teacher = jax.lax.stop_gradient(teacher)
    tokens = _tokens(teacher, fold_bodies(batch.other), batch, model)
    positive = _unit(teacher, pool(tokens, batch.present), model)

    def read(
        rows: Float[Array, "R T V C"], key: Key[Array, ""]
    ) -> tuple[Float[Array, "B D"], Float[Array, "B E"]]:
        return read_view(params, rows, batch, key, model, config)

    def first() -> tuple[Array, ...]:
        z, query = read(batch.rows, k_clip)
        contrast = losses.info_nce_loss(query, positive, queue, temperature=config.temperature)
        loss = contrast.mean()
        none = jnp.zeros((), loss.dtype)
        return loss, z, query, positive, loss, none, none

    def second() -> tuple[Array, ...]:
        views, target, share = _views(teacher, tokens, positive, batch, model)
        seen = [read(rows, key) for (rows, _), key in zip(views, k_views)]
        terms = [
            similarity_loss(wanted, query, queue, config)
            for (_, wanted), (_, query) in zip(views, seen)
        ]
        similarity = jnp.stack(terms).sum()
        # Negatives are made as the positive is, or f learns to tell the two kinds apart.
        return similarity, *seen[0], target, jnp.zeros((), similarity.dtype), similarity, share

    # A sum weighted by `ramp` would compute both stages in each step.
    loss, z, query, references, *parts = jax.lax.cond(ramp > 0, second, first)
    loss, output = compared(loss, z, query, positive, references=references)
    names = ("loss_contrast", "loss_similarity", "actionlet_share")
    return loss, output._replace(metrics=output.metrics | dict(zip(names, parts)))


def _views(
    teacher: Any,
    tokens: Float[Array, "R N D"],
    positive: Float[Array, "B E"],
    batch: ClipBatch,
    model: Contrastive,
) -> tuple[
    list[tuple[Float[Array, "R T V C"], Float[Array, "B E"]]],
    Float[Array, "B E"],
    Float[Array, ""],
]:
    """Three views with the target of each, the plain target, and the share of the actionlets.

    The first view is extremely augmented outside of the actionlet, the second has parts of another
    clip outside of it, and the third has them anywhere and a mixture of two targets. `tokens` are
    those of the other copies as the teacher reads them, and `positive` their unit features.
    """
    static = _static_feature(teacher, batch, model)
    own = _actionlets_of(teacher, _tokens(teacher, batch.rows, batch, model), static, batch, model)
    focus = _actionlets_of(teacher, tokens, static, batch, model)
    focused = pool_actionlet(tokens, focus, batch.present, model.config.encoder.grid)
    target = losses.normalize(positive + _unit(teacher, focused, model))

    # [BM, steps, V] → [BM, T, V]
    mask = jnp.repeat(own, batch.rows.shape[1] // own.shape[1], axis=1)
    clip, extreme, mixed = batch.rows, fold_bodies(batch.extreme), fold_bodies(batch.mixed.clip)

    def outside(rows: Float[Array, "R T V C"]) -> Float[Array, "R T V C"]:
        return clip * mask[..., None] + rows * (1 - mask[..., None])

    by_parts = mixed_by_actionlets(target, mask, batch)
    views = [(outside(extreme), target), (outside(mixed), target), (mixed, by_parts)]
    return views, target, _share(mask.reshape(batch.present.shape + mask.shape[1:]), batch)


def actionlets(
    tokens: Float[Array, "R N D"],
    gradient: Float[Array, "R D"],
    parts: Int[Array, " V"],
    grid: tuple[int, int],
) -> Float[Array, "R S V"]:
    """Share in [0, 1] by which each joint belongs to the actionlet, at each token in time.

    The activation of a token is the mean over channels of feature times gradient, where that is
    positive. A body part gets the mean activation of its joints, and belongs to the actionlet as a
    whole where that is not nearly zero.

    Args:
      tokens: [R, N, D] features of all tokens, joints varying fastest.
      gradient: [R, D] of the distance from the static clip, with respect to each token.
      parts: [V] body part of each joint.
      grid: tokens in time, and tokens at each time, which divide V.

    References:
      ActCLR (CVPR 2023), after Grad-CAM (Selvaraju et al., ICCV 2017).
    """
    steps, groups = grid
    activation = jax.nn.relu((tokens * gradient[:, None]).mean(axis=-1))
    by_joint = jnp.repeat(activation.reshape(-1, steps, groups), len(parts) // groups, axis=2)
    same = (parts[:, None] == parts[None]).astype(tokens.dtype)
    same = same / same.sum(axis=1, keepdims=True)
    by_part = (by_joint[:, :, None] * same[None, None]).sum(axis=-1)
    return jnp.clip(by_part / _FULL, 0, 1)


def pool_actionlet(
    tokens: Float[Array, "R N D"],
    actionlet: Float[Array, "R S V"],
    present: Bool[Array, "B M"],
    grid: tuple[int, int],
) -> Float[Array, "B D"]:
    """Mean of the tokens of each clip, weighted by the actionlet; the plain mean if it is empty.

    Args:
      tokens: [R, N, D] of B · M bodies, those of a clip adjacent.
      actionlet: [R, S, V], see `actionlets`.
      present: [B, M], False for an absent body, which does not count.
      grid: tokens in time, and tokens at each time.
    """
    rows, steps, _ = actionlet.shape
    b, _ = present.shape
    weight = actionlet.reshape(rows, steps * grid[1], -1).mean(axis=-1)
    weight = (weight * present.reshape(-1, 1)).reshape(b, -1)
    total = weight.sum(axis=1, keepdims=True)
    mean = (weight[..., None] * tokens.reshape(b, -1, tokens.shape[-1])).sum(axis=1)
    return jnp.where(total > 0, mean / jnp.where(total > 0, total, 1), pool(tokens, present))


def mixed_by_actionlets(
    target: Float[Array, "B E"], mask: Float[Array, "R T V"], batch: ClipBatch
) -> Float[Array, "B E"]:
    """Unit mixture of the targets of each clip and its partner, by what is kept and pasted.

    Both are shares of the clip that they come from, whose actionlet weighs more than the rest.
    """
    weight = jnp.exp(mask / _SHARPNESS).reshape(batch.mixed.pasted.shape)
    pasted = batch.mixed.pasted.astype(weight.dtype)
    there = batch.present[..., None, None].astype(weight.dtype)
    partner, axes = batch.mixed.partner, (1, 2, 3)
    total = (weight * there).sum(axis=axes)
    own = (weight * (1 - pasted) * there).sum(axis=axes) / total
    other = (weight[partner] * pasted).sum(axis=axes) / total[partner]
    return losses.normalize(own[:, None] * target + other[:, None] * target[partner])


def _tokens(
    teacher: Any, rows: Float[Array, "R T V C"], batch: ClipBatch, model: Contrastive
) -> Float[Array, "R N D"]:
    """All tokens of clips as the teacher reads them, a constant."""
    tokens = apply(model, teacher, rows, None, None, batch.packed, method="encode")
    return jax.lax.stop_gradient(tokens)


def _actionlets_of(
    teacher: Any,
    tokens: Float[Array, "R N D"],
    static: Float[Array, "1 D"],
    batch: ClipBatch,
    model: Contrastive,
) -> Float[Array, "R S V"]:
    """The actionlets that tokens of the teacher show, a constant."""

    def distance(z: Float[Array, "B D"]) -> Float[Array, ""]:
        # Together, since the projector normalises over the batch.
        unit = _unit(teacher, jnp.concatenate([z, static]), model)
        return (1 - (unit[:-1] * unit[-1:]).sum(axis=-1)).sum()

    count = tokens.shape[1] * jnp.maximum(batch.present.sum(axis=1, keepdims=True), 1)
    gradient = jax.grad(distance)(pool(tokens, batch.present)) / count  # of each token
    gradient = jnp.repeat(gradient, batch.present.shape[1], axis=0)
    found = actionlets(tokens, gradient, batch.parts, model.config.encoder.grid)
    return jax.lax.stop_gradient(found)


def _static_feature(teacher: Any, batch: ClipBatch, model: Contrastive) -> Float[Array, "1 D"]:
    """Pooled feature of the mean clip of the batch, of all bodies that are present."""
    rows = fold_bodies(batch.other)
    weight = batch.present.reshape(-1, 1, 1, 1).astype(rows.dtype)
    mean = (rows * weight).sum(axis=0, keepdims=True) / jnp.maximum(weight.sum(), 1)
    # The least number of rows that devices and micro-batches can share.
    count = model.micro_batches * (1 if model.mesh is None else model.mesh.size)
    mean = jnp.broadcast_to(mean, (count, *mean.shape[1:]))
    return apply(model, teacher, mean, method="encode")[:1].mean(axis=1)


def _unit(params: Any, z: Float[Array, "B D"], model: Contrastive) -> Float[Array, "B E"]:
    return losses.normalize(apply(model, params, z, method="project"))


def _share(mask: Float[Array, "B M T V"], batch: ClipBatch) -> Float[Array, ""]:
    """Mean of the actionlets over the bodies that are present."""
    there = batch.present.astype(mask.dtype)
    return (mask.mean(axis=(2, 3)) * there).sum() / jnp.maximum(there.sum(), 1)
