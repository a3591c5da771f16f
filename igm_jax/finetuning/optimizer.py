"""AdamW whose rate falls from the head down to the first layer of the encoder."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from igm_jax.training.config_groups import OptimizerConfig
from igm_jax.training.optimizer import make_optimizer


def layer_scales(params: Any, depth: int, decay: float) -> Any:
    """Factor on the learning rate of each parameter: decay to the power of layers above it.

    The head and the last norm have 1, block i of `depth` decay^(depth − i), and the embeddings
    decay^(depth + 1).

    Args:
      params: of `Classifier`.
      depth: number of blocks.
      decay: in (0, 1].

    Returns:
      A tree of arrays that broadcast with the parameters.

    References:
      Bao et al., BEiT (ICLR 2022), which MAE and MAMP follow.
    """

    def scale(path: tuple[Any, ...], x: Any) -> jax.Array:
        part, layer = path[0].key, path[1].key
        towers = layer == "towers"  # stacked, [towers, …]
        if towers:
            layer = path[2].key
        if part == "head" or layer == "norm":
            return jnp.ones((1,) * len(x.shape))
        if layer == "blocks":  # stacked, [depth, …]
            power = depth - jnp.arange(depth, dtype=jnp.float32)
            ones = (1,) * (len(x.shape) - 1 - towers)
            return (decay**power).reshape(*(1,) * towers, depth, *ones)
        return jnp.full((1,) * len(x.shape), decay ** (depth + 1))

    return jax.tree_util.tree_map_with_path(scale, params)


def layerwise_adamw(
    config: OptimizerConfig, depth: int, decay: float
) -> optax.GradientTransformation:
    """Clipping and AdamW at a rate of 1, then `layer_scales`.

    The caller multiplies the updates by the learning rate of the step, so that all rates share one
    compiled program.
    """

    def update(updates: Any, params: Any) -> Any:
        del params
        scales = layer_scales(updates, depth, decay)
        return jax.tree.map(lambda u, s: u * s, updates, scales)

    adamw = make_optimizer(config, optax.constant_schedule(1.0))
    return optax.chain(adamw, optax.stateless(update))
