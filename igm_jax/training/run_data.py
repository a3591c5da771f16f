"""Data of a run: its clips, how f reads them, and the batches."""

from typing import Any

import grain
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int

from igm_jax import parallel
from igm_jax.data import SkeletonStore, pipeline, protocols, unseen
from igm_jax.errors import InputError
from igm_jax.reading import Reading
from igm_jax.skeleton import Layout
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.objectives import OBJECTIVES
from igm_jax.training.older_runs import reading_of_run
from igm_jax.training.packing import Packing
from igm_jax.training.step import MIXED_PARTS


def fitted(config: ExperimentConfig, store: SkeletonStore) -> ExperimentConfig:
    """Replaces zeros in the config by the joints, channels and bodies of a store."""
    _, joints, channels = store.frames.shape
    bodies = int(store.clips["bodies"].max())
    return config.fitted(joints, channels * len(config.data.streams), bodies)


def training_clips(config: ExperimentConfig, store: SkeletonStore) -> Int[np.ndarray, " n"]:
    """Indices of the pre-training split.

    Args:
      config: of a run, `fitted`.
      store: its data.

    Raises:
      InputError: joints, channels or batch size do not fit the store, or a part has no clip.
    """
    data, encoder = config.data, config.model.encoder
    _, joints, channels = store.frames.shape
    expected = {"joints": joints, "channels": channels * len(data.streams)}
    if expected != {"joints": encoder.joints, "channels": encoder.channels}:
        raise InputError(
            f"{store.path} has {joints} joints ({store.layout.name}) of {channels} channels, but "
            f"the config says model.encoder.joints={encoder.joints}, channels={encoder.channels}: "
            f"for data.streams={data.streams} set them to {joints} and {expected['channels']}"
        )
    unseen.check_left_out(store, protocols.split(store, data.protocol, "train"), data.leave_out)
    indices = protocols.split(store, data.protocol, data.pretrain_split)
    indices = unseen.seen_clips(store, indices, data.leave_out)
    if len(indices) < config.train.batch_size:
        raise InputError(
            f"{store.path} has {len(indices)} clips to pre-train on, fewer than "
            f"train.batch_size={config.train.batch_size}: set --config.train.batch_size to "
            f"{len(indices)} or less, or add clips"
        )
    for part in ("fit", "val"):  # what KNN needs later must not fail after hours
        chosen = protocols.split(store, data.protocol, part)
        if not len(unseen.seen_clips(store, chosen, data.leave_out)):
            raise InputError(f"{store.path}: data.leave_out leaves no clip in part {part!r}")
    return indices


def prepare(
    config: ExperimentConfig, store: SkeletonStore, saved: dict[str, Any] | None = None
) -> tuple[Int[np.ndarray, " n"], Reading]:
    """Indices of the pre-training split, and how f reads a clip.

    A resumed run takes the statistics from its last checkpoint and reads no clip.

    Raises:
      InputError: the config does not fit the store.
    """
    indices = training_clips(config, store)
    _check_body_parts(config.objective.name, store.layout)
    if saved is not None:
        return indices, reading_of_run(saved)
    config.check_length(len(indices))
    data, encoder = config.data, config.model.encoder
    reading = Reading(store.layout, data.coordinates, encoder.frames, data.bodies, data.streams)
    return indices, reading.standardised(*pipeline.statistics(store, indices, reading))


def _check_body_parts(objective: str, layout: Layout) -> None:
    """Refuses an objective that pastes body parts where all of them together are the body."""
    count = max(layout.body_parts) + 1
    if OBJECTIVES[objective].mixed and count <= MIXED_PARTS[1]:
        raise InputError(
            f"objective.name={objective!r} pastes up to {MIXED_PARTS[1]} body parts, and layout "
            f"{layout.name!r} has {count}: name the `pairs` of its left and right joints, or "
            "choose another objective"
        )


def packing(
    config: ExperimentConfig, store: SkeletonStore, indices: np.ndarray, mesh: Mesh
) -> Packing:
    """Rows that the networks compute in each step of a run."""
    bodies, parts = store.clips["bodies"][indices], config.parallel.accumulate
    size = config.train.batch_size
    return Packing.of(bodies, config.data.bodies, size, shards=mesh.size, parts=parts)


def batches(
    config: ExperimentConfig,
    store: SkeletonStore,
    indices: np.ndarray,
    reading: Reading,
    mesh: Mesh,
) -> grain.IterDataset:
    """Training batches; this process reads the rows of its own devices."""
    return pipeline.train_batches(
        store,
        indices,
        reading,
        batch_size=config.train.batch_size,
        crop=config.data.augmentation.crop,
        min_crop_frames=config.data.min_crop_frames,
        crops=config.data.crops,
        batches=config.data.batches,
        seed=config.seed,
        rows=parallel.local_rows(mesh, config.train.batch_size),
    )
