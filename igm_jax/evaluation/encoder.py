"""Loads the encoder of a run, pre-trained or fine-tuned, as a function of raw clips."""

import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from igm_jax import features, run_folder
from igm_jax.errors import InputError
from igm_jax.evaluation.run import Run, checked_clips, init_encoder, load_run, present_bodies
from igm_jax.training import checkpoint
from igm_jax.training.older_runs import config_of_run, reading_of_run


def encoder_run(folder: str | pathlib.Path, which: str | int = "last") -> Run:
    """Reads a run for its encoder alone, of either kind.

    Args:
      folder: of a pre-training run; or of a fine-tuned run, such as RUN/finetune-100pct, whose
        first subset of the labels counts, or of one of its subsets, such as
        RUN/finetune-10pct/subset-3.
      which: checkpoint of a pre-training run, see `load_run`; a fine-tuned one has "last" alone.

    Raises:
      InputError: no such run or checkpoint, or the fine-tuned run is not finished.
    """
    folder = pathlib.Path(folder)
    if not run_folder.is_finetuned(folder):
        return load_run(folder, which)
    check_only_checkpoint(folder, which)
    return finetuned_run(folder)


def finetuned_run(folder: pathlib.Path, subset: str | None = None) -> Run:
    """Reads the encoder of a fine-tuned run; the pre-training run is not needed.

    Args:
      folder: of the fine-tuned run, or of a subset in it.
      subset: name of the folder of a subset; by default the first.

    Raises:
      InputError: no such subset, or it is not finished.
    """
    trained = run_folder.finetuned_subset(folder, subset) / run_folder.TRAINED
    step = run_folder.newest_step(trained)
    meta = checkpoint.restore_meta(trained, step)
    config = config_of_run(meta["config"])
    target = jax.eval_shape(functools.partial(init_encoder, config), jax.random.key(0))
    params = checkpoint.restore_params(trained, step, {"encoder": target})["encoder"]
    return Run(folder, step, config, reading_of_run(meta), meta["data"], params, reached=step)


def check_only_checkpoint(folder: pathlib.Path, which: str | int) -> None:
    """Raises `InputError` for another checkpoint of a fine-tuned run than its last."""
    if which != "last":
        raise InputError(f"{folder} is a fine-tuned run, which has one checkpoint: not {which}")


class LoadedEncoder(NamedTuple):
    """Result of `load_encoder`; its docstring says more of both."""

    encode: Callable[..., Array]
    info: dict[str, Any]


def load_encoder(folder: str | pathlib.Path, which: str | int = "last") -> LoadedEncoder:
    """Loads a trained encoder as a function of raw clips.

    Args:
      folder: of a pre-training run or of a fine-tuned one, see `encoder_run`.
      which: "last", "best" by validation KNN, or a step.

    Returns:
      `(encode, info)`. `encode(clips, present=None)` maps clips [B, T, V, C] or [B, M, T, V, C] in
      the units of the training data (metres), of any length T, to features [B, D] float32. They are
      those that KNN and the probes judge: it makes the coordinates, resizes and standardises. It
      reads the first `data.bodies` bodies of each clip that are there. `present` [B, M] says which
      are; without it a body is absent if all its coordinates are zero. All lengths share one
      compiled program. It resizes on the host, so it cannot be traced; inside `jax.jit` use
      `igm_jax.features.pooled_features`. `info` holds `layout`, `frames`, `joints`, `channels`,
      `bodies`, `width`, `step`, `total_steps` and `config`. `layout` and `joints` are those of the
      clips that `encode` reads. A run that was fine-tuned on another data set has the joints of
      that data set there, and maps them inside.

    Raises:
      InputError: see `encoder_run`; or, from `encode`, clips that it cannot read.
    """
    run = encoder_run(folder, which)
    c, reading = run.config.model.encoder, run.reading
    channels = c.channels // len(reading.streams)

    def encode(
        clips: Array | np.ndarray | Sequence[Any],
        present: Array | np.ndarray | Sequence[Any] | None = None,
    ) -> Array:
        clips = checked_clips(clips, reading.source_layout, channels)
        batches = features.raw_batches(clips, present_bodies(clips, present), reading)
        return jnp.asarray(features.extract_features(c, run.params, reading, batches))

    info = {
        "layout": reading.source_layout,
        "frames": c.frames,
        "joints": reading.source_layout.num_joints,
        "channels": channels,
        "bodies": reading.bodies,
        "width": c.feature_width,
        "step": run.step,
        "total_steps": run.total_steps,
        "config": run.config,
    }
    return LoadedEncoder(encode, info)
