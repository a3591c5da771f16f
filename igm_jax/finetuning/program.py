"""Compiles fine-tuning: model, initialisation, step and prediction on a mesh."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

from igm_jax import parallel
from igm_jax.errors import InputError
from igm_jax.evaluation.run import Run
from igm_jax.finetuning.config import FinetuneConfig
from igm_jax.finetuning.model import Classifier
from igm_jax.finetuning.optimizer import layerwise_adamw
from igm_jax.finetuning.step import FinetuneState, finetune_step, init_state, predict
from igm_jax.models import IGM, Hardware
from igm_jax.training import checkpoint
from igm_jax.training.objectives import OBJECTIVES


@dataclasses.dataclass(frozen=True)
class Program:
    """The compiled functions of fine-tuning; all trials of a run share them.

    Attributes:
      init: (key, encoder's parameters or None) → FinetuneState, jitted.
      step: (state, batch, learning rate, key, parent) → (state, metrics), jitted; donates the
        state.
      predict: (params, statistics, clip, present) → logits, jitted.
      mesh: the devices.
      shardings: FinetuneState of `NamedSharding`.
      encoder: pre-trained parameters that every trial starts from; None from scratch.
      parent: parameters of f and g that generate clips; empty without them.
    """

    init: Callable[..., FinetuneState]
    step: Callable[..., tuple[FinetuneState, dict[str, jax.Array]]]
    predict: Callable[..., jax.Array]
    mesh: Mesh
    shardings: FinetuneState
    encoder: Any
    parent: Any

    @property
    def restore_target(self) -> FinetuneState:
        """Shapes, dtypes and shardings of the state, for a checkpoint to be read into."""
        shapes = jax.eval_shape(self.init, jax.random.key(0), self.encoder)
        return jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            shapes,
            self.shardings,
        )


def build_program(
    config: FinetuneConfig,
    run: Run,
    classes: int,
    *,
    scratch: bool = False,
    devices: list[parallel.Device] | None = None,
) -> Program:
    """Builds the compiled functions.

    Args:
      config: settings of fine-tuning.
      run: the pre-training run.
      classes: number of classes of the store.
      scratch: start from random parameters instead of the run's; all layers learn at one rate.
      devices: devices to train on; all by default.

    Raises:
      InputError: `config.parallel` does not fit the devices, or the run has no generator for
        `config.generated`.
    """
    devices = jax.devices() if devices is None else devices
    mesh = parallel.make_mesh(config.parallel, len(devices), devices)
    hardware = Hardware.of(mesh)
    encoder = run.config.model.encoder
    model = Classifier(encoder, config.hidden, classes, config.dropout, config.drop_path, hardware)
    decay = 1.0 if scratch else config.layer_decay
    # The rate is an argument of the step; which of them is given here counts for nothing.
    optimizer = layerwise_adamw(config.optimizer(config.learning_rates[0]), encoder.depth, decay)
    generator, parent = _generator(run, hardware) if config.generated > 0 else (None, {})
    everywhere, split = parallel.replicated(mesh), parallel.split_batch(mesh)
    fresh = functools.partial(
        init_state, model=model, optimizer=optimizer, bodies=run.reading.bodies
    )
    start = None if scratch else jax.device_put(run.params, everywhere)
    shapes = jax.eval_shape(fresh, jax.random.key(0), start)
    shardings = parallel.split_arrays(mesh, shapes)
    step = functools.partial(
        finetune_step,
        model=model,
        optimizer=optimizer,
        config=config,
        pretrained=run.config,
        generator=generator,
        reading=run.reading,
        whole=everywhere if mesh.shape["fsdp"] > 1 else None,
    )
    compiled = functools.partial(jax.jit, compiler_options=hardware.compiler_options)
    return Program(
        init=compiled(fresh, out_shardings=shardings),
        step=compiled(
            step,
            in_shardings=(shardings, split, everywhere, everywhere, everywhere),
            out_shardings=(shardings, everywhere),
            donate_argnums=0,
        ),
        predict=compiled(
            functools.partial(predict, model=model, reading=run.reading), out_shardings=everywhere
        ),
        mesh=mesh,
        shardings=shardings,
        encoder=start,
        parent=jax.device_put(parent, everywhere),
    )


def _generator(run: Run, hardware: Hardware) -> tuple[IGM, Any]:
    """The pre-training model and its parameters, for `generate.one_step_denoised`."""
    name = run.config.objective.name
    if OBJECTIVES[name].model is not IGM:
        raise InputError(
            f"{run.folder} was trained with objective.name={name!r} and has no generator: leave "
            "--generated out, or choose a run of objective.name='igm'"
        )
    model, c = IGM(run.config.model, hardware=hardware), run.config.model.encoder
    clip = jax.ShapeDtypeStruct((1, c.frames, c.joints, c.channels), "float32")
    target = jax.eval_shape(model.init, jax.random.key(0), clip)["params"]["generator"]
    restored = checkpoint.restore_params(run.folder, run.step, {"generator": target})
    return model, restored | {"encoder": run.params}
