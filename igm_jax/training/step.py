"""One optimiser step, as a pure function."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, Key

from igm_jax import augment, parallel
from igm_jax.models.backbone import BY_ROWS
from igm_jax.reading import Reading
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.config_data import DataConfig
from igm_jax.training.objectives import OBJECTIVES, ClipBatch, has_stages
from igm_jax.training.state import TrainState, enqueue, taught

Metrics = dict[str, Float[Array, "..."]]

MIXED_PARTS = (2, 3)  # least and most body parts that are pasted into a clip [PCM³, ActCLR]


def prepare_batch(
    raw: dict[str, Array],
    key: Key[Array, ""],
    *,
    config: DataConfig,
    reading: Reading,
    extreme: bool = False,
    mixed: tuple[float, float] | None = None,
) -> ClipBatch:
    """Augments a batch (mirror, shear, rotation) and computes the networks' input.

    Args:
      raw: `clip` [B, M, T, V, C] in the units of the store, `present` [B, M], `other` like `clip`
        where the objective compares two views, and `packed` [P] if rows are packed.
      key: random key.
      config: `augmentation` and `shear` are read.
      reading: how f reads a clip.
      extreme: add a copy under extreme augmentations, on top of the mild ones.
      mixed: add a copy into which parts of other clips are pasted, for a time between these shares
        of a clip.
    """
    mirror, rotation = config.augmentation.mirror, config.augmentation.rotation

    def augmented(clip: Array, key: Key[Array, ""]) -> Array:
        k_mirror, k_shear, k_rotation = jax.random.split(key, 3)
        if mirror > 0:
            clip = augment.random_mirror(k_mirror, clip, reading.layout.pairs, mirror)
        if config.shear > 0:
            clip = augment.random_shear(k_shear, clip, config.shear)
        return augment.random_rotation(k_rotation, clip, rotation)

    layout = reading.layout
    k_clip, k_other = jax.random.split(key)
    other = reading(augmented(raw["other"], k_other)) if "other" in raw else None
    extreme_copy = None
    if extreme:
        # A key of its own, so that `k_clip` and `k_other` are the same with and without `extreme`.
        k_mild, k_extreme = jax.random.split(jax.random.fold_in(key, 2))
        mild = augmented(raw["clip"], k_mild)
        extreme_copy = reading(augment.extreme(k_extreme, mild, layout.pairs))
    clip, mixture, parts = augmented(raw["clip"], k_clip), None, None
    if mixed:
        mixture = augment.mix_clips(
            jax.random.fold_in(key, 3), clip, raw["present"], layout.body_parts, MIXED_PARTS, mixed
        )
        mixture = mixture._replace(clip=reading(mixture.clip))
        parts = jnp.asarray(layout.body_parts, jnp.int32)
    clip = reading(clip)
    return ClipBatch(clip, raw["present"], other, raw.get("packed"), extreme_copy, mixture, parts)


def train_step(
    state: TrainState,
    raw: dict[str, Array],
    key: Key[Array, ""],
    *,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    config: ExperimentConfig,
    alpha_bar: Float[Array, " K"],
    reading: Reading,
    steps_per_epoch: int,
    mesh: Mesh | None = None,
) -> tuple[TrainState, Metrics]:
    """Makes one optimiser step: state, batch and key → next state and metrics.

    Args:
      state: donated by the caller.
      raw: the *global* batch; see `prepare_batch`.
      key: key of the run; the step uses `fold_in(key, state.step)`.
      model: the model from `build_model`.
      optimizer: optax transformation.
      schedule: learning rate by step, for the log.
      config: the experiment.
      alpha_bar: [K] noise schedule.
      reading: how f reads a clip.
      steps_per_epoch: turns the ramp's epochs into steps.
      mesh: the devices of the model if there are several, else None.

    Returns:
      `(state, metrics)`: scalars, and `features` [B, D] of this batch for the diagnostics.
    """
    k_augment, k_objective = jax.random.split(jax.random.fold_in(key, state.step))
    objective = config.objective
    chosen = OBJECTIVES[objective.name]
    batch = prepare_batch(
        raw,
        k_augment,
        config=config.data,
        reading=reading,
        extreme=chosen.extreme,
        mixed=chosen.mixed,
    )

    def gathered(params: Any) -> Any:
        # Here, before any network reads them, so that their gradient is summed over devices once.
        return params if mesh is None else parallel.gather(params, mesh, copied=BY_ROWS)

    def loss_fn(params: Any):
        return chosen.loss(
            gathered(params),
            gathered(state.teacher),
            state.queue,
            batch,
            k_objective,
            model=model,
            config=objective,
            alpha_bar=alpha_bar,
            ramp=late_weight(state.step, config, steps_per_epoch),
        )

    (_, output), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    teacher = state.teacher
    if objective.ema_decay > 0:
        teacher = optax.incremental_update(taught(params), teacher, 1 - objective.ema_decay)
    metrics = output.metrics | {
        "learning_rate": schedule(state.step),
        "grad_norm": optax.tree.norm(grads),
        "features": output.features,
    }
    state = TrainState(
        step=state.step + 1,
        params=params,
        teacher=teacher,
        opt_state=opt_state,
        queue=enqueue(state.queue, output.references, state.step),
    )
    return state, metrics


def late_weight(step: Array, config: ExperimentConfig, steps_per_epoch: int) -> Float[Array, ""]:
    """Weight of the losses that begin later, the `ramp` of objectives.

    Those on x̂0 grow (`idempotency_ramp`). Those of a second stage begin at once.
    """
    if has_stages(config.objective):
        start = config.objective.mining_start * config.train.epochs * steps_per_epoch
        return (step >= start).astype(jnp.float32)
    return idempotency_ramp(step, config, steps_per_epoch)


def idempotency_ramp(
    step: Array, config: ExperimentConfig, steps_per_epoch: int
) -> Float[Array, ""]:
    """Weight of the losses on x̂0: 0 until `start_epoch`, then linear to 1 over `ramp_epochs`."""
    start = config.objective.start_epoch * steps_per_epoch
    length = max(1, config.objective.ramp_epochs * steps_per_epoch)
    return jnp.clip((step.astype(jnp.float32) - start) / length, 0.0, 1.0)
