"""Compiles a run: model, initialisation and step on a mesh."""

import dataclasses
import functools
from collections.abc import Callable

import flax.linen as nn
import jax
from jax.sharding import Mesh

from igm_jax import diffusion, parallel
from igm_jax.models import Hardware
from igm_jax.reading import Reading
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.objectives import build_model
from igm_jax.training.optimizer import learning_rate_schedule, make_optimizer
from igm_jax.training.state import TrainState, init_state
from igm_jax.training.step import train_step


@dataclasses.dataclass(frozen=True)
class Program:
    """The compiled functions of a run, for a config, data and mesh.

    Attributes:
      model: f and the other networks of the objective.
      init: key → TrainState, jitted.
      step: (state, batch, key) → (state, metrics), jitted; donates the state.
      mesh: the devices.
      shardings: TrainState of `NamedSharding`, the placement of the state.
      total_steps: length of the run.
      steps_per_epoch: whole batches in the data.
    """

    model: nn.Module
    init: Callable[[jax.Array], TrainState]
    step: Callable[..., tuple[TrainState, dict[str, jax.Array]]]
    mesh: Mesh
    shardings: TrainState
    total_steps: int
    steps_per_epoch: int

    @property
    def restore_target(self) -> TrainState:
        """Shapes, dtypes and shardings of the state, for a checkpoint to be read into."""
        return jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            jax.eval_shape(self.init, jax.random.key(0)),
            self.shardings,
        )


def build_program(
    config: ExperimentConfig,
    reading: Reading,
    num_clips: int,
    devices: list[parallel.Device] | None = None,
    hardware: Hardware | None = None,
) -> Program:
    """Builds the compiled functions, without reading any data.

    Args:
      config: the experiment.
      reading: how f reads a clip.
      num_clips: clips in the pre-training split, for the length of an epoch.
      devices: devices to train on; all by default.
      hardware: what the networks are compiled for, if not for these devices: the program can then
        be lowered, but not run.

    Raises:
      InputError: `config.parallel` does not fit the devices, or the batch does not.
    """
    config = config.with_queue(num_clips)
    batch_size = config.train.batch_size
    mesh = parallel.make_mesh(config.parallel, batch_size, devices)
    hardware = hardware or Hardware.of(mesh, whole=True)
    several = mesh if mesh.size > 1 else None
    steps_per_epoch = config.train.steps_per_epoch(num_clips)
    total_steps = config.train.epochs * steps_per_epoch
    model = build_model(
        config.objective.name, config.model, config.parallel.accumulate, hardware, several
    )
    schedule = learning_rate_schedule(config.optimizer, total_steps, steps_per_epoch)
    optimizer = make_optimizer(config.optimizer, schedule)
    everywhere, split = parallel.replicated(mesh), parallel.split_batch(mesh)
    fresh = functools.partial(init_state, model=model, optimizer=optimizer, config=config)
    shardings = parallel.state_shardings(mesh, jax.eval_shape(fresh, jax.random.key(0)))
    init = jax.jit(fresh, out_shardings=shardings, compiler_options=hardware.compiler_options)
    step = jax.jit(
        functools.partial(
            train_step,
            model=model,
            optimizer=optimizer,
            schedule=schedule,
            config=config,
            alpha_bar=diffusion.alpha_bar(
                config.objective.schedule, config.objective.diffusion_steps
            ),
            reading=reading,
            steps_per_epoch=steps_per_epoch,
            mesh=several,
        ),
        in_shardings=(shardings, split, everywhere),
        out_shardings=(shardings, everywhere),
        donate_argnums=0,
        compiler_options=hardware.compiler_options,
    )
    return Program(model, init, step, mesh, shardings, total_steps, steps_per_epoch)
