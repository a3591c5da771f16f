"""AdamW with warm-up, cosine decay and clipping; no weight decay on biases and norms."""

import re
from typing import Any

import jax
import optax

from igm_jax.training.config_groups import OptimizerConfig

# The first match counts, and every parameter must match, so that no new kind is overlooked.
DECAY_RULES = (
    (r"/(bias|scale)$", False),
    (r"/(temporal|spatial|null|mask|direction|token)$", False),
    (r"/kernel$", True),
)


def decay_mask(params: Any) -> Any:
    """A tree of bools, True where weight decay applies.

    Raises:
      ValueError: a parameter that no rule of `DECAY_RULES` covers.
    """

    def rule(path, _):
        name = "/" + "/".join(entry.key for entry in path)
        for pattern, decays in DECAY_RULES:
            if re.search(pattern, name):
                return decays
        raise ValueError(f"no weight-decay rule covers parameter {name}: add one to DECAY_RULES")

    return jax.tree_util.tree_map_with_path(rule, params)


def learning_rate_schedule(
    config: OptimizerConfig, total_steps: int, steps_per_epoch: int | float
) -> optax.Schedule:
    """Linear warm-up from 0, then cosine to the final rate at `total_steps`."""
    warmup = min(round(config.warmup_epochs * steps_per_epoch), total_steps - 1)
    return optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, warmup, total_steps, config.final_learning_rate
    )


def make_optimizer(
    config: OptimizerConfig, schedule: optax.Schedule
) -> optax.GradientTransformation:
    """Global-norm clipping, then AdamW on `schedule`."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(schedule, *config.betas, weight_decay=config.weight_decay, mask=decay_mask),
    )
