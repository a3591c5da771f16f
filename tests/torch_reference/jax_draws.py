"""The draws of our train step at some key, for the PyTorch step."""

from typing import Any

import jax
import numpy as np
import torch

from igm_jax.training.config import ExperimentConfig
from torch_reference.draws import Augmentation, Draws, Noising, feature_steps, own_steps


def _tensor(x: jax.Array) -> torch.Tensor:
    x = np.asarray(x)
    return torch.tensor(x.astype(np.int64) if x.dtype == np.int32 else x)


def step_draws(config: ExperimentConfig, clips: int, key: jax.Array) -> Draws:
    """All draws of `igm_jax.training.step.train_step`.

    Args:
      config: the experiment.
      clips: B.
      key: the step's own key, `fold_in(seed key, step)`.
    """
    k_augment, k_objective = jax.random.split(key)
    k_clip, k_other = jax.random.split(k_augment)
    two_views = config.data.crops == 2
    return objective_draws(
        config,
        clips,
        k_objective,
        clip=_augmentation(config.data, clips, k_clip),
        other=_augmentation(config.data, clips, k_other) if two_views else None,
    )


def objective_draws(
    config: ExperimentConfig,
    clips: int,
    key: jax.Array,
    clip: Augmentation | None = None,
    other: Augmentation | None = None,
) -> Draws:
    """All draws of `igm_jax.training.objectives.igm.igm_objective`."""
    o, e = config.objective, config.model.encoder
    rows = clips * config.data.bodies
    shape = (rows, e.frames, e.joints, e.channels)
    k_order, k_input, k_generate, k_reencode, k_own = jax.random.split(key, 5)
    k_keep, k_t, k_feature = jax.random.split(k_reencode, 3)

    def noising(key: jax.Array, steps: int) -> Noising:
        k_t, k_noise, k_drop = jax.random.split(key, 3)
        return Noising(
            _tensor(jax.random.randint(k_t, (clips,), 0, steps)),
            _tensor(jax.random.normal(k_noise, shape)),
            _tensor(jax.random.bernoulli(k_drop, o.condition_drop, (clips,))),
        )

    def permutations(key: jax.Array, ratio: float) -> torch.Tensor | None:
        if ratio == 0:
            return None
        return _tensor(jax.random.uniform(key, (rows, e.num_tokens)).argsort(axis=-1))

    return Draws(
        clip=clip,
        other=other,
        order=permutations(k_order, o.mask_ratio),
        input_noise=_tensor(jax.random.normal(k_input, shape)),
        generate=noising(k_generate, o.diffusion_steps),
        own=noising(k_own, own_steps(o)) if o.own_t else None,
        reencode_order=permutations(k_keep, o.reencode_mask_ratio),
        feature_t=_tensor(jax.random.randint(k_t, (clips,), 0, feature_steps(o))),
        feature_noise=_tensor(jax.random.normal(k_feature, (clips, e.width))),
    )


def _augmentation(data: Any, clips: int, key: jax.Array) -> Augmentation:
    k_mirror, _, k_rotation = jax.random.split(key, 3)
    mirrored = jax.random.bernoulli(k_mirror, data.mirror, (clips, 1, 1, 1, 1)).reshape(clips)
    limit = np.float32(data.rotation)
    angles = jax.random.uniform(k_rotation, (clips, 3), minval=-1.0, maxval=1.0) * limit[None]
    return Augmentation(_tensor(mirrored), _tensor(angles))
