"""State and optimiser step of fine-tuning, as pure functions."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import NamedSharding
from jaxtyping import Array, Bool, Float, Int, Key

from igm_jax.finetuning.config import FinetuneConfig
from igm_jax.finetuning.generate import one_step_denoised
from igm_jax.finetuning.model import Classifier
from igm_jax.models import IGM
from igm_jax.reading import Reading
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.step import Metrics, prepare_batch


@struct.dataclass
class FinetuneState:
    """State of fine-tuning; all randomness comes from `fold_in(seed key, step)`.

    Attributes:
      step: int32 scalar, optimiser steps done.
      params: of `Classifier`.
      statistics: running statistics of the head's batch normalisation.
      opt_state: optax state.
    """

    step: Any
    params: Any
    statistics: Any
    opt_state: Any


def init_state(
    key: Key[Array, ""],
    encoder: Any,
    *,
    model: Classifier,
    optimizer: optax.GradientTransformation,
    bodies: int,
) -> FinetuneState:
    """Initial state; jit it with the shardings of the step.

    Args:
      key: random key.
      encoder: pre-trained parameters of the encoder, or None for random ones.
      model: the classifier.
      optimizer: optax transformation.
      bodies: M.
    """
    c = model.encoder_config
    clip = jnp.zeros((1, bodies, c.frames, c.joints, c.channels), jnp.float32)
    variables = model.init(key, clip, jnp.ones((1, bodies), bool), train=False)
    params = variables["params"]
    if encoder is not None:  # a copy: the step donates its input
        params = {**params, "encoder": jax.tree.map(jnp.copy, encoder)}
    return FinetuneState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        statistics=variables["batch_stats"],
        opt_state=optimizer.init(params),
    )


def smoothed_cross_entropy(
    logits: Float[Array, "B classes"], label: Int[Array, " B"], smoothing: float
) -> Float[Array, " B"]:
    """Cross-entropy to labels of which `smoothing` is spread evenly over all classes."""
    one_hot = jax.nn.one_hot(label, logits.shape[-1], dtype=jnp.float32)
    logits = logits.astype(jnp.float32)
    return optax.softmax_cross_entropy(logits, optax.smooth_labels(one_hot, smoothing))


def finetune_step(
    state: FinetuneState,
    raw: dict[str, Array],
    learning_rate: Float[Array, ""],
    key: Key[Array, ""],
    parent: Any,
    *,
    model: Classifier,
    optimizer: optax.GradientTransformation,
    config: FinetuneConfig,
    pretrained: ExperimentConfig,
    generator: IGM | None,
    reading: Reading,
    whole: NamedSharding | None = None,
) -> tuple[FinetuneState, Metrics]:
    """Makes one optimiser step: state, batch, rate and key → next state and metrics.

    Args:
      state: donated by the caller.
      raw: the *global* batch: `clip` [B, M, T, V, C], `present` [B, M] and `label` [B].
      learning_rate: of this step.
      key: key of the trial; the step uses `fold_in(key, state.step)`.
      parent: parameters of f and g as pre-training left them, read only by `generator`.
      model: the classifier.
      optimizer: from `layerwise_adamw`.
      config: settings of fine-tuning.
      pretrained: settings of the pre-training run, for the augmentation.
      generator: the pre-training model, or None to train on real clips alone.
      reading: how f reads a clip.
      whole: sharding of gathered parameters for the networks; None if they are not split.

    Returns:
      `(state, metrics)`: scalars; loss and accuracy are those of this batch.
    """
    k_augment, k_generate, k_path, k_dropout = jax.random.split(
        jax.random.fold_in(key, state.step), 4
    )
    batch = prepare_batch(raw, k_augment, config=pretrained.data, reading=reading)
    clip, present, label = batch.clip, batch.present, raw["label"]
    weight = jnp.ones(len(clip))
    if generator is not None:
        made = one_step_denoised(
            parent,
            batch,
            k_generate,
            model=generator,
            config=pretrained.objective,
            share=config.generated,
        )
        clip, present, label = (
            _side_by_side(x, y) for x, y in ((clip, made), (present, present), (label, label))
        )
        weight = _side_by_side(weight, config.generated_weight * weight)

    def loss_fn(params: Any) -> tuple[Array, tuple[Array, Any]]:
        if whole is not None:
            params = jax.lax.with_sharding_constraint(params, whole)
        logits, updated = model.apply(
            {"params": params, "batch_stats": state.statistics},
            clip,
            present,
            train=True,
            rngs={"drop_path": k_path, "dropout": k_dropout},
            mutable=["batch_stats"],
        )
        loss = smoothed_cross_entropy(logits, label, config.label_smoothing)
        return (weight * loss).sum() / weight.sum(), (logits, updated["batch_stats"])

    (loss, (logits, statistics)), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.tree.add_scale(state.params, learning_rate, updates)
    metrics = {
        "loss": loss,
        "accuracy": (logits.argmax(axis=-1) == label).mean(),
        "learning_rate": learning_rate,
        "grad_norm": optax.tree.norm(grads),
    }
    return FinetuneState(state.step + 1, params, statistics, opt_state), metrics


def predict(
    params: Any,
    statistics: Any,
    clip: Float[Array, "B M T V C"],
    present: Bool[Array, "B M"],
    *,
    model: Classifier,
    reading: Reading,
) -> Float[Array, "B classes"]:
    """Logits of clips in the units and coordinates of the training data."""
    variables = {"params": params, "batch_stats": statistics}
    # Flax's types allow for changed variables beside the result; evaluation changes none.
    logits = model.apply(variables, reading(clip), present, train=False)
    return logits  # pyright: ignore[reportReturnType]


def _side_by_side(x: Array, y: Array) -> Array:
    """Rows of x and y in turns, so that each device keeps the rows that it has."""
    return jnp.stack([x, y], axis=1).reshape(2 * len(x), *x.shape[1:])
