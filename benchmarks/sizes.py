"""The sizes that are measured, as dataclasses: no config file and no data is read.

A test holds each equal to the config file it stands for, in all that a step costs.
"""

import dataclasses

from igm_jax import skeleton
from igm_jax.errors import InputError
from igm_jax.inputs import Inputs
from igm_jax.models import EncoderConfig, GeneratorConfig, IGMConfig
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.groups import DataConfig, ObjectiveConfig, OptimizerConfig, TrainConfig
from igm_jax.training.mapping import nearest

# The paper's networks; `configs/ntu60.py` computes them in bfloat16, see `with_dtype`.
NTU = ExperimentConfig(
    name="ntu_masked",
    data=DataConfig(bodies=2),
    model=IGMConfig(encoder=EncoderConfig(channels=6)),
)


def _unmasked(config: ExperimentConfig) -> ExperimentConfig:
    objective = dataclasses.replace(config.objective, mask_ratio=0.0, reencode_mask_ratio=0.0)
    return dataclasses.replace(config, name="ntu_unmasked", objective=objective)


SIZES = {
    "nw_ucla": ExperimentConfig(
        name="nw_ucla",
        data=DataConfig(min_crop_frames=16),
        model=IGMConfig(
            encoder=EncoderConfig(
                frames=32, joints=20, channels=6, patch_frames=32, depth=2, heads=4
            ),
            generator=GeneratorConfig(width=128, depth=1, heads=4, mlp_width=512),
        ),
        objective=ObjectiveConfig(mask_ratio=0.3, reencode_mask_ratio=0.3, queue_size=960),
        optimizer=OptimizerConfig(warmup_epochs=10.0),
        train=TrainConfig(epochs=200, batch_size=64, log_every=100),
    ),
    "ntu_masked": NTU,
    "ntu_unmasked": _unmasked(NTU),
    # Everything in a second: shows that the commands run, no more.
    "smoke": ExperimentConfig(
        name="smoke",
        data=DataConfig(bodies=2),
        model=IGMConfig(
            encoder=EncoderConfig(frames=8, channels=6, width=16, depth=1, heads=2, mlp_width=32),
            generator=GeneratorConfig(width=16, depth=1, heads=2, mlp_width=32),
        ),
        objective=ObjectiveConfig(mask_ratio=0.5, reencode_mask_ratio=0.5, queue_size=32),
        train=TrainConfig(epochs=2, batch_size=4),
    ),
}
# On CPU a batch of 128 would take minutes a step.
CPU_BATCH = {"ntu_masked": 8, "ntu_unmasked": 2}


def size(
    name: str, *, batch: int = 0, dtype: str = "float32", on_cpu: bool = True
) -> ExperimentConfig:
    """The config of a size.

    Args:
      name: one of `SIZES`.
      batch: clips in a step; 0 is the config's, on CPU that of `CPU_BATCH`.
      dtype: compute precision of f and g.
      on_cpu: whether the step will run on CPU.

    Raises:
      InputError: an unknown size.
    """
    if name not in SIZES:
        known = ", ".join(SIZES)
        raise InputError(f"size {name!r} is unknown{nearest(name, SIZES)}: choose from {known}")
    config = SIZES[name]
    batch = batch or (CPU_BATCH.get(name) if on_cpu else None) or config.train.batch_size
    queue = max(1, config.objective.queue_size // batch) * batch
    return dataclasses.replace(
        config,
        model=with_dtype(config.model, dtype),
        objective=dataclasses.replace(config.objective, queue_size=queue),
        train=dataclasses.replace(config.train, batch_size=batch),
    )


def plain_step(tokens: int, width: int, depth: int, batch: int, dtype: str) -> ExperimentConfig:
    """IGM on one body, nothing hidden; f and g alike, with four heads and MLPs 4 · width wide.

    Args:
      tokens: N, a multiple of 25.
      width: D of both.
      depth: number of blocks of both.
      batch: clips in a step.
      dtype: compute precision.
    """
    ntu = size("ntu_unmasked", batch=batch, dtype=dtype)
    alike = {"width": width, "depth": depth, "heads": 4, "mlp_width": 4 * width}
    encoder = dataclasses.replace(
        ntu.model.encoder, frames=tokens // 25 * ntu.model.encoder.patch_frames, **alike
    )
    generator = dataclasses.replace(ntu.model.generator, **alike)
    model = dataclasses.replace(ntu.model, encoder=encoder, generator=generator)
    return dataclasses.replace(
        ntu, model=model, data=dataclasses.replace(ntu.data, bodies=1), name="plain"
    )


def with_dtype(model: IGMConfig, dtype: str) -> IGMConfig:
    """The same networks, computed in another precision."""
    return dataclasses.replace(
        model,
        encoder=dataclasses.replace(model.encoder, dtype=dtype),
        generator=dataclasses.replace(model.generator, dtype=dtype),
    )


def inputs(config: ExperimentConfig) -> Inputs:
    """A joint layout of the config's V, and statistics that change nothing."""
    layouts = {x.num_joints: x for x in (skeleton.NTU25, skeleton.KINECT20)}
    channels = config.model.encoder.channels
    return Inputs(
        layouts[config.model.encoder.joints],
        config.data.streams,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
    )
