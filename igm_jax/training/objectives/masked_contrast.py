"""Masked prediction and contrast together: each helps the other by the views that it makes."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from igm_jax import losses, masking
from igm_jax.models import PromptedAutoencoder, apply, layers, pool
from igm_jax.training.config_groups import ObjectiveConfig
from igm_jax.training.objectives.common import (
    ClipBatch,
    ObjectiveOutput,
    compared,
    fold_bodies,
    masked_mean,
    noisy,
    similarity_loss,
    two_views,
)

# PCM³'s 40 on squared metres, at a usual deviation of standardised coordinates of 0.3 m.
PREDICTION_WEIGHT = 4.0


def masked_contrast(
    params: Any,
    teacher: Any,
    queue: Float[Array, "Q E"],
    batch: ClipBatch,
    key: Key[Array, ""],
    *,
    model: PromptedAutoencoder,
    config: ObjectiveConfig,
    **_: Any,
) -> tuple[Float[Array, ""], ObjectiveOutput]:
    """Error of predicted hidden tokens, and contrast of four views with the teacher's view.

    The views are the clip, its visible tokens, the clip with its hidden tokens predicted, and the
    clip with parts of another one. The last has a mixture of both targets. A learned token tells f
    which view it reads. The predicted clip does not pull the tokens that it was predicted from.
    Arguments and result as those of `igm_objective`.

    References:
      PCM³ (Zhang et al., ACM MM 2023): Prompted Contrast with Masked Motion Modeling.
    """
    keys = jax.random.split(key, 5)
    whole = dataclasses.replace(config, mask_ratio=0.0)
    z, query, positive = two_views(params, teacher, batch, keys[0], model, whole)
    positive = jax.lax.stop_gradient(positive)
    masked, predicted, mixed, prediction = _other_views(params, batch, keys[1:], model, config)
    pairs = [(query, positive), (masked, positive), (predicted, positive)]
    pairs += [(mixed, mixed_target(positive, batch))]
    temperature = config.temperature
    contrast = sum(
        losses.info_nce_loss(view, wanted, queue, temperature=temperature).mean()
        for view, wanted in pairs
    )
    similarity = sum(similarity_loss(wanted, view, queue, config) for view, wanted in pairs)
    loss, output = compared(
        contrast + similarity + PREDICTION_WEIGHT * prediction,
        z,
        query,
        positive,
        references=positive,
    )
    parts = {
        "loss_contrast": contrast,
        "loss_similarity": similarity,
        "loss_prediction": prediction,
    }
    return loss, output._replace(metrics=output.metrics | parts)


def _other_views(
    params: Any,
    batch: ClipBatch,
    keys: Key[Array, " 4"],
    model: PromptedAutoencoder,
    config: ObjectiveConfig,
) -> tuple[Float[Array, "B E"], Float[Array, "B E"], Float[Array, "B E"], Float[Array, ""]]:
    """Unit features of the masked, the predicted and the mixed view, and the prediction error."""
    k_order, k_masked, k_predicted, k_mixed = keys

    def encode(view: str, rows: Float[Array, "R T V C"], keep: Any = None) -> Array:
        return apply(model, params, view, rows, keep, batch.packed, method="encode_as")

    def unit(tokens: Float[Array, "R n D"]) -> Float[Array, "B E"]:
        pooled = pool(tokens, batch.present)
        return losses.normalize(apply(model, params, pooled, method="project"))

    def decode(tokens: Float[Array, "R n D"]) -> Float[Array, "R N P"]:
        return apply(model, params, tokens, order, batch.packed, method="decode")

    e = model.config.encoder
    order = masking.random_order(k_order, len(batch.rows), e.num_tokens)
    visible = masking.num_visible(e.num_tokens, config.mask_ratio)
    tokens = encode("masked", noisy(batch.rows, k_masked, config), order[:, :visible])
    target = jnp.take_along_axis(layers.patchify(batch.rows, e.patch), order[..., None], axis=1)
    error = jnp.square(decode(tokens) - target)[:, visible:].mean(axis=(1, 2))
    prediction = masked_mean(error, batch.present.reshape(-1))

    guessed = decode(jax.lax.stop_gradient(tokens))
    filled = in_place(jnp.concatenate([target[:, :visible], guessed[:, visible:]], axis=1), order)
    predicted = layers.unpatchify(filled, e.patch, e.joints)
    predicted = encode("predicted", noisy(predicted, k_predicted, config))
    mixed = encode("mixed", noisy(fold_bodies(batch.mixed.clip), k_mixed, config))
    return unit(tokens), unit(predicted), unit(mixed), prediction


def in_place(patches: Float[Array, "R N P"], order: Int[Array, "R N"]) -> Float[Array, "R N P"]:
    """Puts patches that stand in the order of a permutation back in their places."""
    return jnp.take_along_axis(patches, jnp.argsort(order, axis=1)[..., None], axis=1)


def mixed_target(positive: Float[Array, "B E"], batch: ClipBatch) -> Float[Array, "B E"]:
    """Unit mixture of the targets of each clip and its partner, by the share that is pasted."""
    count = batch.present.sum(axis=1) * batch.mixed.pasted[0, 0].size
    share = batch.mixed.pasted.sum(axis=(1, 2, 3)) / jnp.maximum(count, 1)
    share = share[:, None].astype(positive.dtype)
    return losses.normalize((1 - share) * positive + share * positive[batch.mixed.partner])
