"""Compares our step with the PyTorch one on the same numbers.

`python tests/torch_reference/parity.py` prints how far apart the loss, its terms and the gradient
of every parameter are. It ends with exit code 1 if one is further apart than `--tolerance`.
"""

import pathlib
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # for torch_reference
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))  # works uninstalled too

import jax
import numpy as np
import torch
from absl import flags

from benchmarks import sizes
from benchmarks.worker import random_batch
from igm_jax import cli, diffusion
from igm_jax.errors import InputError
from igm_jax.reading import Reading
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.objectives import OBJECTIVES, build_model
from igm_jax.training.program import build_program
from igm_jax.training.state import TrainState
from igm_jax.training.step import prepare_batch
from torch_reference.jax_draws import step_draws
from torch_reference.training import Trainer
from torch_reference.weights import state_dict

_SIZE = flags.DEFINE_string("size", "smoke", sizes.HELP)
_BATCH = flags.DEFINE_integer("batch", 4, "Clips in a step.", lower_bound=2)
_PLATFORM = flags.DEFINE_enum("platform", "cpu", ["cpu", "gpu"], "Where it runs.")
_TOLERANCE = flags.DEFINE_float("tolerance", 1e-4, "Largest relative difference.")


def jax_gradients(
    state: TrainState,
    raw: dict[str, Any],
    key: jax.Array,
    config: ExperimentConfig,
    reading: Reading,
    ramp: float,
) -> tuple[dict[str, jax.Array], Any]:
    """Metrics and gradients of our objective on one batch; `key` is the step's own."""
    k_augment, k_objective = jax.random.split(key)
    o = config.objective

    def loss_fn(params: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
        batch = prepare_batch(raw, k_augment, config=config.data, reading=reading)
        loss, output = OBJECTIVES[o.name].loss(
            params,
            state.teacher,
            state.queue,
            batch,
            k_objective,
            model=build_model(o.name, config.model),
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
    """The part of a parameter or its gradient that the loss can see.

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
    trainer: Trainer,
    state: TrainState,
    raw: dict[str, Any],
    key: jax.Array,
    config: ExperimentConfig,
    reading: Reading,
) -> dict[str, float]:
    """Relative differences of every metric and of every parameter's gradient on one batch.

    Args:
      trainer: the PyTorch side, with the parameters, teacher and queue of `state`.
      state: our side.
      raw: the batch; see `igm_jax.training.step.prepare_batch`.
      key: the step's own key.
      config: the experiment.
      reading: how f reads a clip.

    Returns:
      name → ‖ours − theirs‖ / ‖theirs‖.
    """
    metrics, grads = jax_gradients(state, raw, key, config, reading, trainer.ramp)
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


def random_params(params: Any, seed: int = 0) -> Any:
    """Parameters of the same shapes of which none is zero, as fresh ones are in part."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: x + 0.1 * rng.normal(size=x.shape).astype(np.float32), params)


def main() -> None:
    """Compares one batch; prints the largest differences."""
    if _PLATFORM.value == "cpu":
        jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_default_matmul_precision", "highest")  # not TF32
    config = sizes.size(_SIZE.value, batch=_BATCH.value)
    reading = sizes.reading(config)
    program = build_program(config, reading, 100, jax.devices()[:1])
    state = jax.device_get(program.init(jax.random.key(0)))
    state = state.replace(params=random_params(state.params))
    trainer = Trainer(
        config,
        reading,
        state.params,
        state.queue,
        total_steps=program.total_steps,
        steps_per_epoch=program.steps_per_epoch,
        device="cpu" if _PLATFORM.value == "cpu" else "cuda",
    )
    trainer.step_count = program.total_steps - 1  # the ramp is over
    raw = jax.tree.map(jax.numpy.asarray, random_batch(config))
    differences = compare(trainer, state, raw, jax.random.key(1), config, reading)
    worst = sorted(differences.items(), key=lambda item: item[1], reverse=True)
    device = jax.devices()[0].device_kind
    print(f"{config.name}, {_BATCH.value} clips on {device}: {len(worst)} numbers compared")
    for name, difference in worst[:5]:
        print(f"{difference:.1e}  {name}")
    if not worst[0][1] <= _TOLERANCE.value:
        raise InputError(f"{worst[0][0]} differs by {worst[0][1]:.1e}, more than --tolerance")


if __name__ == "__main__":
    cli.run(main)
