"""The sizes that are measured: config files, and the keys that are set otherwise."""

import dataclasses
import pathlib
import runpy
from collections.abc import Mapping
from typing import Any

import numpy as np

from igm_jax import skeleton
from igm_jax.errors import InputError
from igm_jax.reading import Reading
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.mapping import from_mapping, nearest

_ROOT = pathlib.Path(__file__).resolve().parent.parent

_FLOAT32 = {"model.encoder.dtype": "float32", "model.generator.dtype": "float32"}
_UNMASKED = {"objective.mask_ratio": 0.0, "objective.reencode_mask_ratio": 0.0}
SIZES: dict[str, tuple[str, dict[str, Any]]] = {
    "nw_ucla": ("configs/nw_ucla.py", _FLOAT32),
    "ntu_masked": ("configs/ntu60.py", _FLOAT32),
    "ntu_unmasked": ("configs/ntu60.py", _FLOAT32 | _UNMASKED),
    "smoke": ("configs/ntu60.py:smoke", _FLOAT32),
}
HELP = f"Size: {', '.join(SIZES)}, or configs/NAME.py[:VARIANT]."  # of a flag
# Clips of the imagined data, which give the length of an epoch. The step does not depend on it.
NUM_CLIPS = 10_000
# On CPU a batch of 128 would take minutes a step.
CPU_BATCH = {"ntu_masked": 8, "ntu_unmasked": 2}


def read(file: str, changes: Mapping[str, Any]) -> ExperimentConfig:
    """Reads `configs/NAME.py[:VARIANT]`.

    Args:
      file: path from the root of the repository, and a variant.
      changes: values of dotted keys, such as `{"train.epochs": 3}`.

    Raises:
      InputError: there is no such file or variant.
    """
    path, _, variant = file.partition(":")
    if not (_ROOT / path).is_file():
        raise InputError(f"{path}: no such config file")
    get_config = runpy.run_path(str(_ROOT / path))["get_config"]
    try:
        config = get_config(variant or None)
    except ValueError as error:
        raise InputError(str(error)) from error
    config.update_from_flattened_dict(dict(changes))
    return from_mapping(ExperimentConfig, config.to_dict()).spelled_out()


def size(
    name: str, *, batch: int = 0, dtype: str | None = None, on_cpu: bool = True
) -> ExperimentConfig:
    """The config of a size.

    Args:
      name: one of `SIZES`, or a file that `read` reads.
      batch: clips in a step; 0 is the config's, on CPU that of `CPU_BATCH`.
      dtype: precision of f and g; None is float32 for `SIZES`, and the config's own for a file.
      on_cpu: whether the step will run on CPU.

    Raises:
      InputError: an unknown size.
    """
    if name not in SIZES and not name.partition(":")[0].endswith(".py"):
        known = ", ".join(SIZES)
        raise InputError(f"size {name!r} is unknown{nearest(name, SIZES)}: choose from {known}")
    file, changes = SIZES.get(name, (name, {}))
    changes = {**changes, "name": name}
    if dtype is not None:
        changes |= dict.fromkeys(_FLOAT32, dtype)
    config = read(file, changes)
    batch = batch or (CPU_BATCH.get(name) if on_cpu else None) or config.train.batch_size
    return dataclasses.replace(
        config,
        train=dataclasses.replace(config.train, batch_size=batch),
    )


def reading(config: ExperimentConfig) -> Reading:
    """A joint layout of the config's V, and statistics that change nothing.

    Raises:
      InputError: the config leaves the number of joints to a store.
    """
    layouts = {x.num_joints: x for x in (skeleton.NTU25, skeleton.KINECT20)}
    joints, channels = config.model.encoder.joints, config.model.encoder.channels
    if joints not in layouts:
        raise InputError(f"{config.name}: model.encoder.joints={joints} must be 20 or 25 here")
    data = config.data
    plain = Reading(
        layouts[joints], data.coordinates, config.model.encoder.frames, data.bodies, data.streams
    )
    return plain.standardised(np.zeros(channels), np.ones(channels))
