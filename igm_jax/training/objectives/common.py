"""Input and output of all objectives, and their shared steps."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from igm_jax import losses, metrics
from igm_jax.models import apply, pool


@struct.dataclass
class ClipBatch:
    """A batch of standardised, augmented clips.

    Attributes:
      clip: [B, M, T, V, C].
      present: [B, M], False for an absent body; its rows count in no loss and no feature.
      other: [B, M, T, V, C], the same clips cropped and augmented a second time, or None.
      packed: [P] rows that the networks compute, see `training.packing`, or None for all.
    """

    clip: Any
    present: Any
    other: Any = None
    packed: Any = None

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
