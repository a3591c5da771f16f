"""Objectives that compare two views of a clip: contrast, momentum contrast and coding rate."""

from typing import Any

import jax
import jax.numpy as jnp
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
    z, one, other = two_views(params, params, batch, key, model, config)
    radius = config.spectral_mu**0.5
    loss = losses.spectral_contrastive_loss(radius * one, radius * other)
    return compared(loss, z, one, other, references=one)


def coding_rate(
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
    """Minus the coding rate reduction of two views; the two unit features of a clip are a group.

    It has the arguments and result of `igm_objective`, and ignores `teacher` and `queue`.

    References:
      MCR² (Yu et al., NeurIPS 2020, arXiv 2006.08558). Its self-supervised experiments take about
      50 copies of each image and weight the rates; here are two copies and the plain difference.
    """
    z, one, other = two_views(params, params, batch, key, model, config)
    pairs = jnp.stack([one, other], axis=1)
    loss = -losses.coding_rate_reduction(pairs, config.distortion)
    return compared(loss, z, one, other, references=one)


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
    z, query, positive = two_views(params, teacher, batch, key, model, config)
    positive = jax.lax.stop_gradient(positive)
    loss = losses.info_nce_loss(query, positive, queue, temperature=config.temperature).mean()
    return compared(loss, z, query, positive, references=positive)
