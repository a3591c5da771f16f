"""The smallest experiment that has every part, for the tests of training and evaluation.

It is the paper's literal reading, in which no part is left out.
"""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from igm_jax.data.store import Clip, SkeletonStore
from igm_jax.models import IGM
from igm_jax.reading import Reading
from igm_jax.skeleton import Layout
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.mapping import from_mapping

LAYOUT = Layout(
    name="tiny6",
    joints=("hip centre", "shoulder centre", "left hip", "right hip", "left hand", "right hand"),
    parents=(-1, 0, 0, 0, 1, 1),
    pairs=((2, 3), (4, 5)),
    origin=0,
    axes=(0, 1, 2, 3),
)
CLASS_NAMES = ("swing", "circle", "jerk")
READING = Reading(LAYOUT, "body", frames=8, bodies=2, mean=(0.1, -0.2, 0.3), std=(0.5, 0.6, 0.7))

_NETWORK = {"width": 16, "depth": 1, "heads": 2, "mlp_width": 32}
_SETTINGS = {
    "name": "tiny",
    "data": {
        "coordinates": "body",
        "streams": ("joint",),
        "bodies": 2,
        "crop": (0.5, 1.0),
        "min_crop_frames": 4,
        "crops": 1,
        "mirror": 0.0,
        "rotation": (0.3, 0.3, 0.3),
    },
    "model": {
        "encoder": {**_NETWORK, "frames": 8, "joints": 6, "channels": 3},
        "generator": dict(_NETWORK),
    },
    "objective": {
        "mask_ratio": 0.5,
        "reencode_mask_ratio": 0.5,
        "condition_drop": 0.1,
        "feature_weight": 1.0,
        "distribution_weight": 1.0,
        "entropy_weight": 0.0,
        "entropy": "coding_length",
        "ramp_epochs": 1,
        "queue_size": 16,
        "aux_tokens": True,
        "max_t_share": 0.9,
        "own_t": False,
    },
    "optimizer": {"warmup_epochs": 0.8},
    "train": {
        "epochs": 2,
        "batch_size": 8,
        "log_every": 1,
        "knn_every": 1,
        "checkpoint_every": 1,
    },
    "probe": {"epochs": 3, "batch_size": 16},
}


def config(changes: dict[str, Any] | None = None) -> ExperimentConfig:
    """The tiny experiment with some keys set: `config({"train.epochs": 3})`."""
    mapping = {k: _copy(v) for k, v in _SETTINGS.items()}
    for name, value in (changes or {}).items():
        *groups, key = name.split(".")
        group = functools.reduce(lambda m, g: m.setdefault(g, {}), groups, mapping)
        group[key] = value
    return from_mapping(ExperimentConfig, mapping)


# The settings that an objective needs and that the tiny experiment does not have.
_TWO_VIEWS = {"data.crops": 2}
_TEACHER = {**_TWO_VIEWS, "objective.ema_decay": 0.5}
_NEEDS = {
    "colorization": {"model.encoder.positions": False},
    "spectral_contrastive": _TWO_VIEWS,
    "coding_rate": _TWO_VIEWS,
    "momentum_contrast": _TEACHER,
    "motion_contrast": {"objective.ema_decay": 0.5},
    "positive_mining": _TEACHER,
    "extreme_contrast": _TEACHER,
    "mutual_distillation": {
        **_TEACHER,
        "data.streams": ("joint", "motion", "bone"),
        "model.encoder.channels": 9,
        "model.encoder.towers": 3,
    },
    "actionlet_contrast": _TEACHER,
    "masked_contrast": _TEACHER,
}


def changes_for(name: str) -> dict[str, Any]:
    """Settings under which the tiny experiment trains this objective."""
    return {"objective.name": name, "data.crops": 1, **_NEEDS.get(name, {})}


def reading_for(config: ExperimentConfig) -> Reading:
    """`READING` with the streams of this experiment."""
    streams, count = config.data.streams, len(config.data.streams)
    numbers = {"mean": READING.mean * count, "std": READING.std * count}
    return dataclasses.replace(READING, streams=streams, **numbers)


def _copy(value: Any) -> Any:
    return {k: _copy(v) for k, v in value.items()} if isinstance(value, dict) else value


def random_params(model: IGM, seed: int = 0) -> Any:
    """Parameters of which none is zero: a fresh generator would ignore its condition."""
    c, rng = model.config.encoder, np.random.default_rng(seed)
    clip = jax.ShapeDtypeStruct((1, c.frames, c.joints, c.channels), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), clip)["params"]

    def draw(path, leaf):
        centre = float(path[-1].key == "scale")
        return jnp.asarray(centre + 0.3 * rng.normal(size=leaf.shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def clips(count: int = 80, seed: int = 0):
    """One or two bodies that move a hand in one of three ways, of eight subjects."""
    rng = np.random.default_rng(seed)
    body = np.array(
        [[0, 0, 0], [0, 0.5, 0], [0.1, 0, 0], [-0.1, 0, 0], [0.4, 0.3, 0], [-0.4, 0.3, 0]]
    )
    for i in range(count):
        length, label = int(rng.integers(6, 20)), int(rng.integers(3))
        time = np.linspace(0, 2 * np.pi, length)[:, None]
        path = (
            np.hstack([np.sin(time), 0 * time, 0 * time]),
            np.hstack([np.sin(time), np.cos(time), 0 * time]),
            np.hstack([0 * time, np.sign(np.sin(2 * time)), 0 * time]),
        )[label]
        frames = np.tile(body, (1 + (i % 3 == 0), length, 1, 1))
        frames[:, :, 4] += 0.3 * path
        frames += 0.02 * rng.normal(size=frames.shape) + rng.normal(size=3) + [0, 0, 3]
        yield Clip(
            f"clip{i:03d}", frames.astype(np.float32), label, subject=1 + i % 8, camera=1 + i % 3
        )


def write_store(path: pathlib.Path, seed: int = 0) -> SkeletonStore:
    """80 clips; of the subjects 1, 3 and 5 are to fit, 7 is to validate, the even ones to test."""
    SkeletonStore.write(
        path,
        clips(seed=seed),
        layout=LAYOUT,
        class_names=CLASS_NAMES,
        source="tests",
        dataset="synthetic",
    )
    return SkeletonStore.open(path)
