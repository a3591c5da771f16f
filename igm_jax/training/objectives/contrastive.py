"""Baselines that compare two views of a clip: spectral contrast and momentum contrast."""

from typing import Any

import jax
from jaxtyping import Array, Float, Key

from igm_jax import losses, masking
from igm_jax.models import Contrastive, apply
from igm_jax.training.config_groups import ObjectiveConfig
from igm_jax.training.objectives.common import (
    ClipBatch,
    ObjectiveOutput,
    clip_features,
    fold_bodies,
)


def spectral_contrastive(
    params: Any,
    teacher: Any,
    queue: Float[Array, "Q E"],
    batch: ClipBatch,
    key: Key[Array, ""],
    *,
    model: Contrastive,
    config: ObjectiveConfig,
    **_: Any,
) -> tuple[Float[Array, ""], ObjectiveOutput]:
    """Spectral contrastive loss of two views, features on the sphere of radius √μ.

    It has the arguments and result of `igm_objective`, and ignores `teacher` and `queue`.

    References:
      HaoChen et al., Provable Guarantees for Self-Supervised Deep Learning with Spectral
      Contrastive Loss (NeurIPS 2021): the loss, and μ.
    """
    k_one, k_other = jax.random.split(key)
    z, one = _read(params, batch.rows, batch, k_one, model, config)
    other = _read(params, fold_bodies(batch.other), batch, k_other, model, config)[1]
    radius = config.spectral_mu**0.5
    loss = losses.spectral_contrastive_loss(radius * one, radius * other)
    return loss, _output(loss, z, one, other, references=one)


def momentum_contrast(
    params: Any,
    teacher: Any,
    queue: Float[Array, "Q E"],
    batch: ClipBatch,
    key: Key[Array, ""],
    *,
    model: Contrastive,
    config: ObjectiveConfig,
    **_: Any,
) -> tuple[Float[Array, ""], ObjectiveOutput]:
    """InfoNCE between f and its teacher, with past features of the teacher as negatives.

    Arguments and result as those of `igm_objective`.

    References:
      MoCo v2 (He et al., CVPR 2020), which SkeletonCLR and AimCLR (AAAI 2022) build on.
    """
    k_one, k_other = jax.random.split(key)
    z, query = _read(params, batch.rows, batch, k_one, model, config)
    positive = _read(teacher, fold_bodies(batch.other), batch, k_other, model, config)[1]
    positive = jax.lax.stop_gradient(positive)
    loss = losses.info_nce_loss(query, positive, queue, temperature=config.temperature).mean()
    return loss, _output(loss, z, query, positive, references=positive)


def _read(
    params: Any,
    rows: Float[Array, "BM T V C"],
    batch: ClipBatch,
    key: Key[Array, ""],
    model: Contrastive,
    config: ObjectiveConfig,
) -> tuple[Float[Array, "B D"], Float[Array, "B E"]]:
    """Encodes a noisy, partly hidden view; returns pooled features and unit projections."""
    k_keep, k_noise = jax.random.split(key)
    num_tokens = model.config.encoder.num_tokens
    _, keep = masking.random_subset(k_keep, len(rows), num_tokens, config.mask_ratio)
    noisy = rows + config.input_noise * jax.random.normal(k_noise, rows.shape, rows.dtype)
    z = clip_features(model, params, noisy, batch, keep)
    return z, losses.normalize(apply(model, params, z, method="project"))


def _output(
    loss: Float[Array, ""],
    z: Float[Array, "B D"],
    one: Float[Array, "B E"],
    other: Float[Array, "B E"],
    *,
    references: Float[Array, "B E"],
) -> ObjectiveOutput:
    values = {"loss": loss, "cos_views": (one * other).sum(axis=-1).mean()}
    return ObjectiveOutput(values, jax.lax.stop_gradient(z), jax.lax.stop_gradient(references))
