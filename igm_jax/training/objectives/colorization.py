"""Colorization: the order of the tokens, which f is not told, as colours."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from igm_jax import losses
from igm_jax.models import Colorizer, apply, layers, pool
from igm_jax.training.config_groups import ObjectiveConfig
from igm_jax.training.objectives.common import (
    ClipBatch,
    ObjectiveOutput,
    masked_mean,
    view_input,
)


def colorization(
    params: Any,
    teacher: Any,
    queue: Float[Array, "Q E"],
    batch: ClipBatch,
    key: Key[Array, ""],
    *,
    model: Colorizer,
    config: ObjectiveConfig,
    **_: Any,
) -> tuple[Float[Array, ""], ObjectiveOutput]:
    """Squared error of the colour of every token, which shows its place in time and in the body.

    f reads the tokens as a set. Its mean token is the code of the clip. A painter then colours
    single tokens, also those that were hidden from f, and knows nothing else of the clip. Arguments
    and result as those of `igm_objective`; `teacher` and `queue` are not read.

    References:
      Yang et al., Skeleton Cloud Colorization (ICCV 2021, arXiv 2108.01959).
    """
    noisy, keep = view_input(batch.rows, key, model, config)
    tokens = apply(model, params, noisy, keep, None, batch.packed, method="encode")
    patches = layers.patchify(noisy, model.config.encoder.patch)
    painted = apply(model, params, patches, tokens.mean(axis=1), batch.packed, method="decode")
    target = order_colours(*model.config.encoder.grid)[None]
    error = jnp.square(painted - target).mean(axis=(1, 2))
    loss = masked_mean(error, batch.present.reshape(-1))
    z = jax.lax.stop_gradient(pool(tokens, batch.present))
    return loss, ObjectiveOutput({"loss": loss}, z, losses.normalize(z))


def colour(place: Float[Array, "*batch"]) -> Float[Array, "*batch 3"]:
    """Red, green and blue of places in [0, 1]: red turns to green and green to blue, linearly.

    >>> colour(jnp.array([0.0, 0.25, 0.5, 1.0])).tolist()
    [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    red, blue = jnp.maximum(1 - 2 * place, 0), jnp.maximum(2 * place - 1, 0)
    return jnp.stack([red, 1 - jnp.abs(2 * place - 1), blue], axis=-1)


def order_colours(steps: int, groups: int) -> Float[Array, "N E"]:
    """Colours of all tokens of a clip, in the order of `patchify`.

    Args:
      steps: tokens in time.
      groups: tokens at each time.

    Returns:
      [steps · groups, 6], the colour in time and the colour in the body. With one group there is
      no order in the body, and only the three numbers of time are left.
    """
    time = jnp.repeat(colour(jnp.linspace(0, 1, steps)), groups, axis=0)
    if groups == 1:
        return time
    return jnp.concatenate([time, jnp.tile(colour(jnp.linspace(0, 1, groups)), (steps, 1))], axis=1)
