"""Input and output of all objectives, and their shared steps."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Key

from igm_jax import losses, masking, metrics
from igm_jax.models import apply, pool
from igm_jax.training.config_groups import ObjectiveConfig


@struct.dataclass
class ClipBatch:
    """A batch of standardised, augmented clips.

    Attributes:
      clip: [B, M, T, V, C].
      present: [B, M], False for an absent body; its rows count in no loss and no feature.
      other: [B, M, T, V, C], the same clips cropped and augmented a second time, or None.
      extreme: [B, M, T, V, C], the clips of `clip` under extreme augmentations, or None.
      mixed: the clips of `clip` with parts of each other, an `augment.Mixture`, or None.
      parts: [V] body part of each joint, from 0 on, or None.
      packed: [P] rows that the networks compute, see `training.packing`, or None for all.
    """

    clip: Any
    present: Any
    other: Any = None
    packed: Any = None
    extreme: Any = None
    mixed: Any = None
    parts: Any = None

    @property
    def rows(self) -> Float[Array, "BM T V C"]:
        """Bodies folded into the batch."""
        return fold_bodies(self.clip)


class ObjectiveOutput(NamedTuple):
    """Output of an objective besides the loss.

    Attributes:
      metrics: name → scalar.
      features: [B, D] pooled features of the real clips.
      references: [B, E] unit features of the targets, to be enqueued.
    """

    metrics: dict[str, Float[Array, ""]]
    features: Float[Array, "B D"]
    references: Float[Array, "B E"]


def fold_bodies(clip: Float[Array, "B M T V C"]) -> Float[Array, "BM T V C"]:
    """Folds bodies into the batch; bodies of a clip are adjacent."""
    return clip.reshape(-1, *clip.shape[2:])


def clip_features(
    model: nn.Module,
    params: Any,
    rows: Float[Array, "BM T V C"],
    batch: ClipBatch,
    keep: Int[Array, "BM n"] | None = None,
    aux: Any = None,
) -> Float[Array, "B D"]:
    """Features of each clip: f, then the mean over visible tokens and over present bodies."""
    tokens = apply(model, params, rows, keep, aux, batch.packed, method="encode")
    return pool(tokens, batch.present)


def noisy(
    rows: Float[Array, "R T V C"], key: Key[Array, ""], config: ObjectiveConfig
) -> Float[Array, "R T V C"]:
    """Adds the noise of `input_noise` to what f reads."""
    return rows + config.input_noise * jax.random.normal(key, rows.shape, rows.dtype)


def view_input(
    rows: Float[Array, "R T V C"],
    key: Key[Array, ""],
    model: nn.Module,
    config: ObjectiveConfig,
) -> tuple[Float[Array, "R T V C"], Int[Array, "R n"] | None]:
    """Adds noise to a view and chooses the tokens that stay visible (None: all)."""
    k_keep, k_noise = jax.random.split(key)
    num_tokens = model.config.encoder.num_tokens
    _, keep = masking.random_subset(k_keep, len(rows), num_tokens, config.mask_ratio)
    return noisy(rows, k_noise, config), keep


def read_view(
    params: Any,
    rows: Float[Array, "BM T V C"],
    batch: ClipBatch,
    key: Key[Array, ""],
    model: nn.Module,
    config: ObjectiveConfig,
) -> tuple[Float[Array, "B D"], Float[Array, "B E"]]:
    """Encodes a noisy, partly hidden view; returns pooled features and unit projections."""
    read, keep = view_input(rows, key, model, config)
    z = clip_features(model, params, read, batch, keep)
    return z, losses.normalize(apply(model, params, z, method="project"))


def two_views(
    params: Any,
    other: Any,
    batch: ClipBatch,
    key: Key[Array, ""],
    model: nn.Module,
    config: ObjectiveConfig,
) -> tuple[Float[Array, "B D"], Float[Array, "B E"], Float[Array, "B E"]]:
    """Reads the first view with `params` and the second one with `other`, such as the teacher.

    Returns:
      Pooled features of the first view, and the unit projections of both.
    """
    k_one, k_other = jax.random.split(key)
    z, one = read_view(params, batch.rows, batch, k_one, model, config)
    return z, one, read_view(other, fold_bodies(batch.other), batch, k_other, model, config)[1]


def compared(
    loss: Float[Array, ""],
    z: Float[Array, "B D"],
    one: Float[Array, "B E"],
    other: Float[Array, "B E"],
    *,
    references: Float[Array, "B E"],
) -> tuple[Float[Array, ""], ObjectiveOutput]:
    """The result of an objective that compares unit features of two views."""
    values = {"loss": loss, "cos_views": (one * other).sum(axis=-1).mean()}
    references = jax.lax.stop_gradient(references)
    return loss, ObjectiveOutput(values, jax.lax.stop_gradient(z), references)


def similarity_loss(
    target: Float[Array, "B E"],
    features: Float[Array, "B E"],
    queue: Float[Array, "Q E"],
    config: ObjectiveConfig,
) -> Float[Array, ""]:
    """Mean KL between similarities of targets and of features to the queue."""
    return losses.distribution_idempotency_loss(
        target,
        features,
        queue,
        target_temperature=config.target_temperature,
        temperature=config.temperature,
    ).mean()


def masked_mean(x: Float[Array, " R"], where: Bool[Array, " R"]) -> Float[Array, ""]:
    """Mean over the rows that count; 0 if none does."""
    weight = where.astype(x.dtype)
    return (x * weight).sum() / jnp.maximum(weight.sum(), 1)


def feature_diagnostics(
    features: Float[Array, "B D"], distortion: float
) -> dict[str, Float[Array, ""]]:
    """Measures how close the features are to a collapse.

    Args:
      features: [B, D] pooled features.
      distortion: ε of the coding length.

    Returns:
      `effective_rank`, `mean_cosine` (over pairs of clips), and per clip the `coding_length` of the
      unit features with its `second_term` and the `residual` R, which the theory neglects. Its
      first term is constant. The series converges where `radius` is below 1.
    """
    unit = losses.normalize(features)
    parts, count = metrics.coding_length_parts(unit, distortion), features.shape[0]
    return {
        "effective_rank": metrics.effective_rank(features),
        "mean_cosine": metrics.mean_pairwise_cosine(features),
        "coding_length": parts.total / count,
        "second_term": parts.second / count,
        "residual": parts.residual / count,
        "radius": parts.radius,
    }
