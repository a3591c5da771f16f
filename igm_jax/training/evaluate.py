"""Evaluates the encoder during training: KNN and a ridge probe on the validation clips."""

import functools
from typing import Any

import jax.numpy as jnp
from jax.sharding import Mesh

from igm_jax import features, metrics
from igm_jax.data import SkeletonStore, pipeline, protocols
from igm_jax.reading import Reading
from igm_jax.training.config import ExperimentConfig


def evaluate(
    params: Any, *, config: ExperimentConfig, store: SkeletonStore, reading: Reading, mesh: Mesh
) -> dict[str, float]:
    """KNN and a ridge probe from the fitting part of the training split to its validation part.

    If a part has more than `train.knn_clips` clips, `pipeline.sample` chooses a sample. The
    clips are split over the mesh, so all processes have to call this; all get the same.

    Args:
      params: parameters of the encoder, on the mesh.
      config: the experiment.
      store: its data.
      reading: how f reads a clip.
      mesh: the devices.

    Returns:
      `val_knn_1`, `val_knn_20` and `val_ridge` in [0, 1], and `val_effective_rank` of the features
      of the fitting part. Clips without a label are left out; a part that has no others keeps them,
      and then there is no KNN and no probe. The probe also needs two fitting clips.
    """
    parts = {}
    for part in ("fit", "val"):
        chosen = protocols.split(store, config.data.protocol, part)
        labelled = chosen[store.clips["label"][chosen] >= 0]
        chosen = pipeline.sample(labelled if len(labelled) else chosen, config.train.knn_clips)
        clips = features.clip_batches(store, chosen, reading)
        parts[part] = (
            jnp.asarray(
                features.extract_features(config.model.encoder, params, reading, clips, mesh)
            ),
            jnp.asarray(store.clips["label"][chosen]),
        )
    report = {"val_effective_rank": float(metrics.effective_rank(parts["fit"][0]))}
    if any((labels < 0).any() for _, labels in parts.values()):
        return report
    arguments, classes = (*parts["val"], *parts["fit"]), len(store.class_names)
    accuracy = functools.partial(metrics.knn_accuracy, *arguments, num_classes=classes)
    most = len(parts["fit"][1])
    if most > 1:
        report["val_ridge"] = float(metrics.ridge_accuracy(*arguments, num_classes=classes))
    return {
        "val_knn_1": float(accuracy(k=1)),
        "val_knn_20": float(accuracy(k=min(20, most))),
        **report,
    }
