"""Reads a pre-training run and its store, and checks raw clips for its encoder."""

import dataclasses
import functools
import pathlib
from typing import Any

import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float32

from igm_jax import run_folder, skeleton
from igm_jax.data import SkeletonStore, open_dataset, unseen
from igm_jax.errors import InputError
from igm_jax.models import Encoder
from igm_jax.reading import Reading
from igm_jax.training import checkpoint
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.older_runs import config_of_run, reading_of_run


@dataclasses.dataclass(frozen=True)
class Run:
    """A run, as its folder describes it.

    Attributes:
      folder: the run folder.
      step: the checkpoint that was read.
      config: the experiment.
      reading: how the encoder reads a clip.
      data: checksums of the store that it was trained on.
      params: parameters of the encoder.
      places: possible paths of that store, likeliest first; empty means the path of the config.
      total_steps: the length of the run; None where an older version did not save it.
      reached: its newest checkpoint.
      classes: the classes that it is judged on: `"all"`, or by `data.leave_out` `"unseen"` or
        `"seen"`.
      whiten: whether its whitened features are judged too.
      origin: the run itself, where this one describes its encoder on another data set; see
        `igm_jax.evaluation.transfer`.
    """

    folder: pathlib.Path
    step: int
    config: ExperimentConfig
    reading: Reading
    data: dict[str, str]
    params: Any
    places: tuple[str, ...] = ()
    total_steps: int | None = None
    reached: int = 0
    classes: str = "all"
    whiten: bool = False
    origin: "Run | None" = None

    @property
    def other_data(self) -> str:
        """Name of the data set that it is transferred to, that of its folder; "" for its own."""
        return "" if self.origin is None else pathlib.Path(self.places[0]).name

    @property
    def unfinished(self) -> bool:
        """Whether the run has no checkpoint of its last step."""
        return self.total_steps is not None and self.reached < self.total_steps

    @property
    def judged_on(self) -> str:
        """Data set, protocol and classes as text: `xsub`, or `nw_ucla, xview, unseen classes`."""
        classes = "" if self.classes == "all" else f", {self.classes} classes"
        data = f"{self.other_data}, " if self.other_data else ""
        return f"{data}{self.config.data.protocol}{classes}"

    def results(self, name: str) -> pathlib.Path:
        """Path of a file of results: `knn.json`, or `knn-unseen.json` for unseen classes.

        On another data set it is `knn-NAME.json`.
        """
        return self.folder / run_folder.variant(name, self.other_data, self.classes)

    @property
    def progress(self) -> str:
        """Progress as text: `step 234`, or `step 118 of 234, unfinished`."""
        if self.total_steps is None or self.step == self.total_steps:
            return f"step {self.step}"
        end = ", unfinished" if self.unfinished else ""
        return f"step {self.step} of {self.total_steps}{end}"


def load_run(
    folder: str | pathlib.Path,
    which: str | int = "last",
    data: str | pathlib.Path | None = None,
) -> Run:
    """Reads the encoder of a run.

    Args:
      folder: the run folder.
      which: "last", "best" by validation KNN, or a step.
      data: the store that it was trained on; by default where the config says, seen from here, and
        then where it was when the checkpoint was written.

    Raises:
      InputError: no such run or checkpoint.
    """
    folder = pathlib.Path(folder)
    if not folder.is_dir():
        others = ", ".join(run_folder.runs_in(folder.parent))
        others = f": {str(folder.parent)!r} holds {others}" if others else ""
        raise InputError(f"run {str(folder)!r} does not exist{others}")
    if run_folder.is_finetuned(folder):
        raise InputError(
            f"{folder} is a fine-tuned run, which predict.py, embed.py, export.py and load_encoder "
            "read: give its pre-training run here"
        )
    step = checkpoint.select_step(folder, which)
    meta = checkpoint.restore_meta(folder, step)
    reading = reading_of_run(meta)
    config = config_of_run(meta["config"]).fitted(
        reading.layout.num_joints, len(reading.mean), reading.bodies
    )
    target = jax.eval_shape(functools.partial(init_encoder, config), jax.random.key(0))
    params = checkpoint.restore_params(folder, step, {"encoder": target})["encoder"]
    places = (config.data.path, meta.get("store", config.data.path)) if data is None else (data,)
    return Run(
        folder,
        step,
        config,
        reading,
        meta["data"],
        params,
        places=tuple(map(str, places)),
        total_steps=meta.get("total_steps"),
        reached=run_folder.newest_step(folder),
    )


def open_store(run: Run) -> SkeletonStore:
    """The store that a run was trained on, known by its checksums.

    Of `run.classes` other than `"all"` only their clips have a label.

    Raises:
      InputError: it is at none of these paths.
    """
    problems = []
    for place in dict.fromkeys(run.places or (run.config.data.path,)):
        try:
            # A missing store is an error that says how to get it. The checksums tell which it is.
            missing = not pathlib.Path(place).exists()
            dataset = run.config.data.dataset
            store = open_dataset(dataset, place) if missing else SkeletonStore.open(place)
        except InputError as error:
            problems.append(f"{error}")
            continue
        if store.meta["sha256"] == run.data:
            return _judged_classes(store, run)
        problems.append(f"{place} is not the data that {run.folder} was trained on")
    raise InputError(
        f"{problems[0]}; if its data lies elsewhere, give that folder by --data; to judge it on "
        "other data, give --transfer=configs/NAME.py too"
    )


def _judged_classes(store: SkeletonStore, run: Run) -> SkeletonStore:
    if run.classes == "all":
        return store
    left_out = run.config.data.leave_out
    if not left_out:
        raise InputError(f"{run.folder} was trained on all classes: data.leave_out names none")
    seen = [name for name in store.class_names if name not in left_out]
    judged = left_out if run.classes == "unseen" else seen
    if len(judged) < 2:
        raise InputError(
            f"--classes={run.classes} of {run.folder} has {', '.join(judged) or 'no class'} alone, "
            "so all answers would be right: choose other classes in data.leave_out"
        )
    return unseen.only_classes(store, judged)


def init_encoder(config: ExperimentConfig, key: jax.Array) -> Any:
    """Parameters of an untrained encoder of this config, without the auxiliary projections."""
    c = config.model.encoder
    clip = jnp.zeros((1, c.frames, c.joints, c.channels))
    return Encoder(c).init(key, clip)["params"]


def checked_clips(
    clips: Any, layout: skeleton.Layout, channels: int
) -> Float32[np.ndarray, "B M T V C"]:
    """Checks the clips given to `encode`; returns one array."""
    if isinstance(clips, jax.core.Tracer):
        raise InputError(
            "encode resizes clips on the host and cannot be traced: call it outside jax.jit, "
            "jax.grad and jax.vmap, or use igm_jax.features.pooled_features inside"
        )
    if np.ma.isMaskedArray(clips):  # masked values count as missing
        clips = np.ma.filled(clips.astype(np.float32), np.nan)
    try:
        clips = np.asarray(clips)
    except ValueError as error:
        raise InputError(
            "clips are no array: encode clips of different lengths one after the other"
        ) from error
    if clips.dtype.kind not in "fiu" and clips.dtype != jnp.bfloat16:
        raise InputError(f"clips are of type {clips.dtype}: they have to be real numbers")
    given, joints = clips.shape, layout.num_joints
    if clips.ndim == 4:
        clips = clips[:, None]
    if clips.ndim != 5 or given[-2:] != (joints, channels) or 0 in clips.shape[1:3]:
        raise InputError(
            f"clips have shape {list(given)}; this encoder reads [B, T, V, C] or "
            f"[B, M, T, V, C] with V={joints} ({layout.name}) and C={channels}"
        )
    with np.errstate(over="ignore"):  # found below
        clips = clips.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(clips).all(axis=(1, 2, 3, 4)))
    if len(bad):
        raise InputError(
            f"clip {bad[0]} holds NaN or infinity ({len(bad)} of {len(clips)} clips do): fill "
            "missing joints first"
        )
    return clips


def present_bodies(
    clips: Float32[np.ndarray, "B M T V C"], present: Any
) -> Bool[np.ndarray, "B M"]:
    """Mask of the bodies that `encode` reads."""
    if present is None:
        present = (clips != 0).any(axis=(2, 3, 4))
    try:
        present = np.asarray(present)
    except ValueError as error:
        raise InputError("present is no array: give one row [M] for each clip") from error
    if present.shape != clips.shape[:2] or present.dtype.kind not in "biu":
        raise InputError(
            f"present has shape {list(present.shape)} and type {present.dtype}; for these clips it "
            f"has to be {list(clips.shape[:2])} of True and False"
        )
    present = present.astype(bool)
    empty = np.flatnonzero(~present.any(axis=1))
    if len(empty):
        raise InputError(
            f"clip {empty[0]} shows nobody ({len(empty)} of {len(clips)} clips): leave it out"
        )
    return present
