"""Displacement prediction: direction and size of the movements of each joint, as classes."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from igm_jax import losses
from igm_jax.models import DisplacementModel, apply, layers, pool
from igm_jax.models.heads import INTERVALS, MAGNITUDES
from igm_jax.training.config_groups import ObjectiveConfig
from igm_jax.training.objectives.common import (
    ClipBatch,
    ObjectiveOutput,
    masked_mean,
    view_input,
)


def displacement_prediction(
    params: Any,
    teacher: Any,
    queue: Float[Array, "Q E"],
    batch: ClipBatch,
    key: Key[Array, ""],
    *,
    model: DisplacementModel,
    config: ObjectiveConfig,
    **_: Any,
) -> tuple[Float[Array, ""], ObjectiveOutput]:
    """Cross-entropy of direction and size of each joint's displacement over several intervals.

    Each visible token predicts the displacements of its own joints and frames. Arguments and
    result as those of `igm_objective`; `teacher` and `queue` are not read.

    References:
      GL-Transformer (Kim et al., ECCV 2022), multi-interval pose displacement prediction.
    """
    e = model.config.encoder
    noisy, keep = view_input(batch.rows, key, model, config)
    tokens = apply(model, params, noisy, keep, None, batch.packed, method="encode")

    def by_token(classes: Int[Array, "R T V K"]) -> Int[Array, "R n E"]:
        of_all = layers.patchify(classes, e.patch)
        return of_all if keep is None else jnp.take_along_axis(of_all, keep[..., None], axis=1)

    moves = displacements(batch.rows)
    targets = (
        by_token(direction_classes(moves)),
        by_token(magnitude_classes(moves, config.magnitude_step)),
    )
    errors = apply(model, params, tokens, *targets, batch.packed, method="displacement_error")
    present = batch.present.reshape(-1)
    names = "loss_direction", "loss_magnitude"
    values = {name: masked_mean(error, present) for name, error in zip(names, errors)}
    loss = values["loss_direction"] + values["loss_magnitude"]
    z = jax.lax.stop_gradient(pool(tokens, batch.present))
    return loss, ObjectiveOutput({"loss": loss, **values}, z, losses.normalize(z))


def displacements(clip: Float[Array, "R T V C"]) -> Float[Array, "R T V K C"]:
    """Where each joint was some frames ago, minus where it is, for each of K `INTERVALS`.

    Before the first frame a joint is where it is in the first frame.
    """
    time = np.arange(clip.shape[1])
    past = [clip[:, np.maximum(time - interval, 0)] for interval in INTERVALS]
    return jnp.stack(past, axis=3) - clip[..., None, :]


def direction_classes(moves: Float[Array, "*batch C"]) -> Int[Array, "*batch"]:
    """One of 3^C classes: each coordinate falls, stays or grows, the first varying fastest.

    >>> moves = jnp.array([[-1.0, -0.5, -2.0], [0.0, 0.0, 0.0], [1.0, 0.0, -1.0]])
    >>> direction_classes(moves).tolist()
    [0, 13, 5]
    """
    digits = jnp.sign(moves).astype(jnp.int32) + 1
    return sum((3**i * digits[..., i] for i in range(1, moves.shape[-1])), start=digits[..., 0])


def magnitude_classes(moves: Float[Array, "*batch C"], step: float) -> Int[Array, "*batch"]:
    """Class of a length: 0 for no motion, 1 below `step`, 2 below 2 · `step`, up to the last.

    >>> moves = jnp.array([[0.0, 0.0], [0.3, 0.4], [0.6, 0.8], [30.0, 40.0]])
    >>> magnitude_classes(moves, 0.6).tolist()
    [0, 1, 2, 14]
    """
    length = jnp.sqrt(jnp.square(moves).sum(axis=-1))
    sizes = jnp.minimum(length / step, MAGNITUDES - 2).astype(jnp.int32) + 1
    return jnp.where(length > 0, sizes, 0)
