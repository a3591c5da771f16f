"""A finished (or running) run, read back: its encoder, and how to feed it raw clips."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from igm_jax import augment, skeleton
from igm_jax.errors import InputError
from igm_jax.evaluation import features
from igm_jax.inputs import Inputs
from igm_jax.models import Encoder
from igm_jax.training import checkpoint
from igm_jax.training.config import ExperimentConfig, from_mapping


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run folder says of its encoder.

    Attributes:
      folder: the run folder.
      step: the checkpoint that was read.
      config: the experiment.
      inputs: what the encoder sees of a clip.
      data: checksums of the store that it was trained on.
      params: parameters of the encoder.
    """

    folder: pathlib.Path
    step: int
    config: ExperimentConfig
    inputs: Inputs
    data: dict[str, str]
    params: Any


def load_run(folder: str | pathlib.Path, which: str | int = "last") -> Run:
    """Reads the encoder of a run.

    Args:
      folder: the run folder.
      which: "last", "best" by validation KNN, or a step.

    Raises:
      InputError: no such run or checkpoint.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        raise InputError(f"run {str(folder)!r} does not exist{_others(folder.parent)}")
    step = checkpoint.select_step(folder, which)
    meta = checkpoint.restore_meta(folder, step)
    inputs = Inputs.from_dict(meta["inputs"])
    config = from_mapping(ExperimentConfig, meta["config"])
    config = config.fitted(inputs.layout.num_joints, len(inputs.mean))
    target = jax.eval_shape(functools.partial(init_encoder, config), jax.random.key(0))
    params = checkpoint.restore_params(folder, step, {"encoder": target})["encoder"]
    return Run(folder, step, config, inputs, meta["data"], params)


def newest_run(root: str | pathlib.Path = "runs") -> pathlib.Path:
    """The run under `root` that was written to last.

    Raises:
      InputError: there is none.
    """
    logs = list(pathlib.Path(root).glob("*/metrics.jsonl"))
    if not logs:
        raise InputError(
            f"no run under {str(root)!r}: start one with experiments/pretrain.py, or give --run"
        )
    return max(logs, key=lambda p: p.stat().st_mtime).parent


def init_encoder(config: ExperimentConfig, key: jax.Array) -> Any:
    """Parameters of an untrained encoder of this config, without the auxiliary projections."""
    c = config.model.encoder
    clip = jnp.zeros((1, c.frames, c.joints, c.channels))
    return Encoder(c).init(key, clip)["params"]


def load_encoder(
    run_folder: str | pathlib.Path, which: str | int = "last"
) -> tuple[Callable[..., Array], dict[str, Any]]:
    """A trained encoder as a function of raw clips.

    Args:
      run_folder: folder of a pre-training run.
      which: "last", "best" by validation KNN, or a step.

    Returns:
      `(encode, info)`. `encode(clips, present=None)` maps clips [B, T, V, C] or [B, M, T, V, C] in
      the units of the training data (metres), of any length T, to features [B, D] float32: view,
      resize and standardisation are inside. `present` [B, M] says which bodies are there; without
      it a body is absent if all its coordinates are zero. `info` holds `layout`, `frames`,
      `joints`, `channels`, `bodies`, `width`, `step` and `config`.

    Raises:
      InputError: no such run; or, from `encode`, clips of another shape.
    """
    run = load_run(run_folder, which)
    c = run.config.model.encoder
    channels = c.channels // len(run.inputs.streams)
    jitted = jax.jit(functools.partial(_encode_raw, run))

    def encode(clips: Array | np.ndarray, present: Array | np.ndarray | None = None) -> Array:
        clips = jnp.asarray(clips, jnp.float32)
        if clips.ndim == 4:
            clips = clips[:, None]
        if clips.ndim != 5 or clips.shape[-2:] != (c.joints, channels) or not clips.shape[2]:
            raise InputError(
                f"clips have shape {list(clips.shape)}; this encoder reads [B, T, V, C] or "
                f"[B, M, T, V, C] with V={c.joints} ({run.inputs.layout.name}) and C={channels}"
            )
        if present is None:
            present = (clips != 0).any(axis=(2, 3, 4))
        return jitted(run.params, clips, jnp.asarray(present))

    info = {
        "layout": run.inputs.layout,
        "frames": c.frames,
        "joints": c.joints,
        "channels": channels,
        "bodies": run.config.data.bodies,
        "width": c.width * c.stretches,
        "step": run.step,
        "config": run.config,
    }
    return encode, info


def _encode_raw(
    run: Run, params: Any, clips: Float[Array, "B M T V C"], present: Bool[Array, "B M"]
) -> Float[Array, "B D"]:
    """The device's twin of `pipeline.full_clips`, followed by the encoder."""
    layout, view = run.inputs.layout, run.config.data.view
    origin, rotation = skeleton.view_transform(clips[:, 0, 0], layout, view)
    origin = skeleton.moving_origin(origin, clips[:, 0], layout, view)
    clips = skeleton.apply_view(clips, origin[:, None], rotation[:, None])
    clips = jnp.where(present[:, :, None, None, None], clips, 0)
    config = run.config.model.encoder
    length = clips.shape[2]
    clips = augment.crop_resize(
        clips, jnp.zeros(present.shape), jnp.full(present.shape, length), config.frames
    )
    return features.pooled_features(params, clips, present, config=config, inputs=run.inputs)


def _others(parent: pathlib.Path) -> str:
    names = sorted(p.parent.name for p in parent.glob("*/config.json"))
    return f": {str(parent)!r} holds {', '.join(names)}" if names else ""
