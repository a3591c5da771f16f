"""The training state: a tree of arrays."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Float, Int, Key

from igm_jax import losses
from igm_jax.training.config import ExperimentConfig


@struct.dataclass
class TrainState:
    """State of a run; all randomness comes from `fold_in(seed key, step)` and is not stored.

    Attributes:
      step: int32 scalar, optimiser steps done.
      params: parameters of f and of the objective's other networks.
      teacher: exponential moving average of the parameters that make features (`taught`), or an
        empty dict without one.
      opt_state: optax state.
      queue: [Q, E] the last Q unit targets, references of L_ide_dist and negatives of momentum
        contrast; a ring buffer written from (step · B) mod Q on.
    """

    step: Any
    params: Any
    teacher: Any
    opt_state: Any
    queue: Any


def init_state(
    key: Key[Array, ""],
    *,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    config: ExperimentConfig,
) -> TrainState:
    """Initial state; jit it with the shardings of the step."""
    params_key, queue_key = jax.random.split(key)
    c = model.config.encoder
    clip = jnp.zeros((1, c.frames, c.joints, c.channels), jnp.float32)
    params = model.init(params_key, clip)["params"]
    objective = config.objective
    # Random directions until real features have replaced them; the ramp covers that time.
    width = model.config.projector_width or c.width
    shape = (objective.queue_size, c.towers * width)
    queue = jax.random.normal(queue_key, shape, jnp.float32)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        # A copy: the step donates its input, and one buffer must not be donated twice.
        teacher=jax.tree.map(jnp.copy, taught(params)) if objective.ema_decay > 0 else {},
        opt_state=optimizer.init(params),
        queue=losses.normalize(queue),
    )


def taught(params: Any) -> Any:
    """The parameters that a teacher copies: those of f and of the projector."""
    return {name: params[name] for name in ("encoder", "projector") if name in params}


def enqueue(
    queue: Float[Array, "Q E"], features: Float[Array, "B E"], step: Int[Array, ""]
) -> Float[Array, "Q E"]:
    """Overwrites the B oldest rows of the ring buffer; where B > Q, the last Q features stay."""
    size, batch = queue.shape[0], features.shape[0]
    kept = features[-size:].astype(queue.dtype)
    rows = (step * batch + jnp.arange(batch - len(kept), batch)) % size
    return queue.at[rows].set(kept, unique_indices=True)
