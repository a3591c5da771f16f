"""The IGM objective: noise prediction and two idempotency constraints on generated clips.

One pure function of parameters, batch and key follows the paper. f reads the clip, h
turns its features into a condition, and g predicts noise (L_gen). The generated clip goes
through f again and must keep its feature (L_ide_feat) and its similarities (L_ide_dist).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from igm_jax import diffusion, losses, masking
from igm_jax.models import IGM, AuxTokens, apply, pool
from igm_jax.training.config_groups import ObjectiveConfig
from igm_jax.training.objectives.common import (
    ClipBatch,
    ObjectiveOutput,
    clip_features,
    fold_bodies,
    masked_mean,
    noisy,
)


def igm_objective(
    params: Any,
    teacher: Any,
    queue: Float[Array, "Q E"],
    batch: ClipBatch,
    key: Key[Array, ""],
    *,
    model: IGM,
    config: ObjectiveConfig,
    alpha_bar: Float[Array, " K"],
    ramp: Float[Array, ""],
) -> tuple[Float[Array, ""], ObjectiveOutput]:
    """Returns L_gen + ramp · (λ_feat L_ide_feat + λ_dist L_ide_dist + λ_entropy L_entropy).

    Args:
      params: parameters of `model`; the gradient is with respect to these.
      teacher: parameters that make the targets, or an empty dict: then f itself makes them.
      queue: [Q, E] unit reference features of other clips.
      batch: clips.
      key: random key of this step.
      model: the joined model.
      config: settings of the losses.
      alpha_bar: [K] noise schedule.
      ramp: scalar in [0, 1] on everything but L_gen.

    Returns:
      `(loss, ObjectiveOutput)`.
    """
    k_order, k_input, k_generate, k_reencode, k_own = jax.random.split(key, 5)
    setting = {"model": model, "config": config, "alpha_bar": alpha_bar}
    num_tokens = model.config.encoder.num_tokens

    # f reads a random part of the clip, or of another view of it.
    view = batch.rows if batch.other is None else fold_bodies(batch.other)
    order, keep = masking.random_subset(k_order, view.shape[0], num_tokens, config.mask_ratio)
    read = noisy(view, k_input, config)
    tokens = apply(model, params, read, keep, None, batch.packed, method="encode")
    z = pool(tokens, batch.present)

    # h turns it into a condition, and g predicts the noise in the whole clip.
    condition = apply(model, params, tokens, order, method="condition")
    loss_gen, generated = _generate(
        params, batch, condition, k_generate, steps=config.diffusion_steps, **setting
    )

    # The target that f must match.
    target = _target(params, teacher, batch, z, read, keep, model=model, config=config)

    # f reads the clip that g generated from its feature.
    weighted, values = {}, {}
    if config.idempotent:
        if config.own_t:  # generated once more, only from steps that leave enough of the clip
            steps = max(1, round(config.max_t_share * config.diffusion_steps))
            _, generated = _generate(params, batch, condition, k_own, steps=steps, **setting)
        values |= _idempotency(params, queue, batch, z, target, generated, k_reencode, **setting)
        weighted["loss_feat"] = config.feature_weight
        weighted["loss_dist"] = config.distribution_weight
    if config.entropy_weight > 0:
        unit = losses.normalize(_project(model, params, z))
        values["loss_entropy"] = _entropy_loss(unit, config)
        weighted["loss_entropy"] = config.entropy_weight

    loss = loss_gen + ramp * sum(weight * values[name] for name, weight in weighted.items())
    references = jax.lax.stop_gradient(losses.normalize(target))
    values |= {"loss": loss, "loss_gen": loss_gen}
    return loss, ObjectiveOutput(values, jax.lax.stop_gradient(z), references)


def _project(model: IGM, params: Any, z: Float[Array, "B D"]) -> Float[Array, "B E"]:
    return apply(model, params, z, method="project")


def _target(
    params: Any,
    teacher: Any,
    batch: ClipBatch,
    z: Float[Array, "B D"],
    read: Float[Array, "BM T V C"],
    keep: Int[Array, "BM n"] | None,
    *,
    model: IGM,
    config: ObjectiveConfig,
) -> Float[Array, "B E"]:
    """The projected feature that is the target of L_ide.

    A teacher, if there is one, makes it from the same tokens. Otherwise it is z itself.
    """
    if config.idempotent and teacher:
        z = clip_features(model, teacher, read, batch, keep)
        return jax.lax.stop_gradient(_project(model, teacher, z))
    target = _project(model, params, z)
    return target if config.target_gradient else jax.lax.stop_gradient(target)


class Generated(NamedTuple):
    """Generated clips: x̂0 of every row, and the step and conditioning of every clip."""

    clip: Float[Array, "BM T V C"]
    t: Int[Array, " B"]
    conditioned: Bool[Array, " B"]


def _generate(
    params: Any,
    batch: ClipBatch,
    condition: Any,
    key: Key[Array, ""],
    *,
    steps: int,
    model: IGM,
    config: ObjectiveConfig,
    alpha_bar: Float[Array, " K"],
) -> tuple[Float[Array, ""], Generated]:
    """Computes L_gen at t < `steps` and the clean clip that the predicted noise implies."""
    k_t, k_noise, k_drop = jax.random.split(key, 3)
    b, bodies = batch.present.shape
    t = jax.random.randint(k_t, (b,), 0, steps, jnp.int32)
    dropped = jax.random.bernoulli(k_drop, jnp.float32(config.condition_drop), (b,))
    noise = jax.random.normal(k_noise, batch.rows.shape, batch.rows.dtype)
    row_t = jnp.repeat(t, bodies)  # all bodies of a clip are at the same step
    x_t = diffusion.add_noise(alpha_bar, batch.rows, row_t, noise)
    signal = alpha_bar[row_t]
    rows = x_t, condition, row_t, signal, jnp.repeat(dropped, bodies)
    predicted = apply(model, params, *rows, batch.packed, method="generate")
    loss = losses.noise_prediction_loss(predicted, noise)
    if config.generation_loss == "velocity":
        loss = loss / signal
    loss = masked_mean(loss, batch.present.reshape(-1))
    clean = diffusion.predict_clean(alpha_bar, x_t, row_t, predicted)
    clean = jnp.clip(clean, -config.clean_clip, config.clean_clip)
    if not config.clean_gradient:
        clean = jax.lax.stop_gradient(clean)
    return loss, Generated(clean, t, ~dropped)


def _idempotency(
    params: Any,
    queue: Float[Array, "Q E"],
    batch: ClipBatch,
    z: Float[Array, "B D"],
    target: Float[Array, "B E"],
    generated: Generated,
    key: Key[Array, ""],
    *,
    model: IGM,
    config: ObjectiveConfig,
    alpha_bar: Float[Array, " K"],
) -> dict[str, Float[Array, ""]]:
    """L_ide_feat, L_ide_dist, and the cosines of z with the features that f reads and makes."""
    z_hat, valid, noisy_feature = _reencode(
        params, batch, z, generated, key, model=model, config=config, alpha_bar=alpha_bar
    )
    p = _project(model, params, z_hat)
    loss_feat = losses.feature_idempotency_loss(target, p)
    loss_dist = losses.distribution_idempotency_loss(
        target,
        p,
        queue,
        target_temperature=config.target_temperature,
        temperature=config.temperature,
    )
    return {
        "loss_feat": masked_mean(loss_feat, valid),
        "loss_dist": masked_mean(loss_dist, valid),
        "cos_generated": masked_mean(-losses.feature_idempotency_loss(z, z_hat), valid),
        "cos_aux": -losses.feature_idempotency_loss(z, noisy_feature).mean(),
    }


def _reencode(
    params: Any,
    batch: ClipBatch,
    z: Float[Array, "B D"],
    generated: Generated,
    key: Key[Array, ""],
    *,
    model: IGM,
    config: ObjectiveConfig,
    alpha_bar: Float[Array, " K"],
) -> tuple[Float[Array, "B D"], Bool[Array, " B"], Float[Array, "B D"]]:
    """Re-encodes generated clips; returns f(x̂0, z_t', t, t'), a mask of clips, and z_t'.

    A clip counts if x̂0 was conditioned and came from a step that is not too noisy:
    1/√ᾱ_t amplifies the error of g, 22 times at t = 998 of 1,000 and 100 times at the last step.
    """
    k_keep, k_t, k_noise = jax.random.split(key, 3)
    bodies = batch.present.shape[1]
    num_tokens = model.config.encoder.num_tokens
    rows = generated.clip.shape[0]
    _, keep = masking.random_subset(k_keep, rows, num_tokens, config.reencode_mask_ratio)

    steps = max(1, round(config.max_feature_t_share * config.diffusion_steps))
    feature_t = jax.random.randint(k_t, generated.t.shape, 0, steps, jnp.int32)
    unit = losses.normalize(jax.lax.stop_gradient(z))
    noisy_feature = diffusion.add_noise(
        alpha_bar, unit, feature_t, jax.random.normal(k_noise, unit.shape, unit.dtype)
    )
    aux = AuxTokens(noisy_feature, feature_t, generated.t)
    aux = jax.tree.map(lambda x: jnp.repeat(x, bodies, axis=0), aux) if config.aux_tokens else None
    z_hat = clip_features(model, params, generated.clip, batch, keep, aux)
    valid = generated.conditioned & (generated.t <= config.max_t_share * config.diffusion_steps)
    return z_hat, valid, noisy_feature


def _entropy_loss(unit: Float[Array, "B D"], config: ObjectiveConfig) -> Float[Array, ""]:
    """Minus the coding length per clip, or its second-order part: the spectral repulsion."""
    if config.entropy == "coding_length":
        return -losses.coding_length(unit, config.distortion) / unit.shape[0]
    # spectral_contrastive_loss is −2 · attraction + repulsion; of a pair with itself, −2 + it.
    return losses.spectral_contrastive_loss(unit, unit) + 2
