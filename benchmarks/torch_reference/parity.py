"""Both implementations on the same numbers: how far apart the loss and its gradients are."""

from typing import Any

import jax
import numpy as np
import torch

from benchmarks.torch_reference.jax_draws import step_draws
from benchmarks.torch_reference.training import Trainer
from benchmarks.torch_reference.weights import state_dict
from igm_jax import diffusion
from igm_jax.inputs import Inputs
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.objectives import OBJECTIVES, build_model
from igm_jax.training.state import TrainState
from igm_jax.training.step import prepare_batch


def jax_gradients(
    state: TrainState, raw: dict[str, Any], key: jax.Array, config: ExperimentConfig,
    inputs: Inputs, ramp: float,
) -> tuple[dict[str, jax.Array], Any]:  # fmt: skip
    """Metrics and gradients of our objective on one batch; `key` is the step's own."""
    k_augment, k_objective = jax.random.split(key)
    o = config.objective

    def loss_fn(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        batch = prepare_batch(raw, k_augment, config=config.data, inputs=inputs)
        loss, output = OBJECTIVES[o.name](
            params,
            state.teacher,
            state.queue,
            batch,
            k_objective,
            model=build_model(config),
            config=o,
            alpha_bar=diffusion.alpha_bar(o.schedule, o.diffusion_steps),
            ramp=jax.numpy.float32(ramp),
        )
        return loss, output.metrics

    grads, metrics = jax.jit(jax.grad(loss_fn, has_aux=True))(state.params)
    return jax.device_get((metrics, grads))


def relative(ours: Any, theirs: Any) -> float:
    """‖ours − theirs‖ / ‖theirs‖ in float64; of two zeros 0."""
    ours, theirs = (np.asarray(x, np.float64) for x in (ours, theirs))
    scale = np.linalg.norm(theirs)
    return float(np.linalg.norm(ours - theirs) / scale) if scale else float(np.linalg.norm(ours))


def visible_part(name: str, tensor: Any) -> np.ndarray:
    """What the loss can see of a parameter or its gradient.

    A softmax does not see the bias of the keys, nor batch normalisation the bias before it: their
    gradients are rounding, which Adam scales up to steps like any other.
    """
    tensor = np.asarray(tensor)
    if name == "projector.hidden.bias":
        return tensor[:0]
    if name.endswith("attention.qkv.bias"):
        query, _, value = np.split(tensor, 3)
        return np.concatenate([query, value])
    return tensor


def batch_tensors(raw: dict[str, Any], device: torch.device) -> dict[str, torch.Tensor]:
    """The arrays of a batch as arguments of `Trainer.step`."""
    return {name: torch.tensor(np.asarray(x)).to(device) for name, x in raw.items()}


def compare(
    trainer: Trainer, state: TrainState, raw: dict[str, Any], key: jax.Array,
    config: ExperimentConfig, inputs: Inputs,
) -> dict[str, float]:  # fmt: skip
    """Relative differences of every metric and of every parameter's gradient on one batch.

    Args:
      trainer: the PyTorch side, with the parameters, teacher and queue of `state`.
      state: our side.
      raw: the batch; see `igm_jax.training.step.prepare_batch`.
      key: the step's own key.
      config: the experiment.
      inputs: streams and statistics.

    Returns:
      name → ‖ours − theirs‖ / ‖theirs‖.
    """
    metrics, grads = jax_gradients(state, raw, key, config, inputs, trainer.ramp)
    draws = step_draws(config, len(raw["clip"]), key).to(trainer.device)
    result = trainer.gradients(**batch_tensors(raw, trainer.device), draws=draws)
    differences = {n: relative(metrics[n], x.cpu()) for n, x in result.terms.items()}
    theirs = {n: p.grad.cpu() for n, p in trainer.model.named_parameters()}
    ours = state_dict(grads)
    assert ours.keys() == theirs.keys() and metrics.keys() == result.terms.keys()
    for name in ours:
        pair = (visible_part(name, x[name]) for x in (ours, theirs))
        differences["gradient of " + name] = relative(*pair)
    return differences
