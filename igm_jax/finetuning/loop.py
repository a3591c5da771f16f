"""Trains one classifier: resumable, judged on validation clips or on nothing."""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int

from igm_jax import features, metrics, parallel, run_folder
from igm_jax.data import SkeletonStore, pipeline
from igm_jax.errors import DivergedError, InputError
from igm_jax.evaluation.run import Run
from igm_jax.finetuning.config import FinetuneConfig
from igm_jax.finetuning.program import Program
from igm_jax.finetuning.step import FinetuneState
from igm_jax.training import checkpoint
from igm_jax.training.checkpoint import Checkpoints
from igm_jax.training.log import RunLog
from igm_jax.training.mapping import to_mapping
from igm_jax.training.optimizer import learning_rate_schedule
from igm_jax.training.stopping import Stopping


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Clips with their labels; a trial sees no other label.

    Attributes:
      indices: positions in the store.
      labels: their classes.
    """

    indices: Int[np.ndarray, " n"]
    labels: Int[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.indices)


@dataclasses.dataclass(frozen=True)
class Trial:
    """One classifier to train.

    Attributes:
      folder: gets metrics.jsonl and checkpoints/.
      known: the clips that train it.
      asked: validation clips, judged at every milestone; None judges nothing.
      learning_rate: the peak.
      seed: of head, order, augmentation and dropout.
      milestones: how many of the schedule's milestones are trained; all by default.
    """

    folder: pathlib.Path
    known: Labelled
    asked: Labelled | None
    learning_rate: float
    seed: int
    milestones: int | None = None


@dataclasses.dataclass(frozen=True)
class Trained:
    """Result of a trial.

    Attributes:
      state: after the last step that was trained.
      accuracies: on the validation clips, one for each milestone, also of those that are the same
        step; empty if nothing was judged.
      temperatures: those that calibrate the logits of these clips, likewise.
      epochs: passes over the clips.
      stopped: name of the signal that ended it early, after the state was saved; None if finished.
    """

    state: FinetuneState
    accuracies: list[float]
    temperatures: list[float]
    epochs: float
    stopped: str | None = None


def train(
    trial: Trial, program: Program, config: FinetuneConfig, run: Run, store: SkeletonStore
) -> Trained:
    """Starts or resumes a trial and trains it to its last milestone, or until a signal.

    Args:
      trial: the clips, the rate and the folder.
      program: from `build_program`.
      config: settings of fine-tuning.
      run: the pre-training run.
      store: its data.

    Raises:
      InputError: fewer labelled clips than devices.
      DivergedError: a loss that is not finite.
    """
    batch_size = _batch_size(config, len(trial.known), program.mesh.size)
    per_epoch = max(1, len(trial.known) // batch_size)
    total = config.total_steps(len(trial.known), batch_size)
    milestones = config.milestones(total)[: trial.milestones]
    # Warm-up is a share of the schedule, which few labels make longer than `epochs`.
    schedule = learning_rate_schedule(
        config.optimizer(trial.learning_rate), total, total / config.epochs
    )
    rates = np.asarray(jax.vmap(schedule)(np.arange(total)), np.float32)
    init_key, step_key = parallel.two_keys(program.mesh, trial.seed)
    iterator = iter(_batches(trial, batch_size, program, run, store))
    start, losses, pending, stop = run_folder.newest_step(trial.folder), [], None, None
    described = {
        "config": to_mapping(run.config),
        "data": run.data,
        "reading": run.reading.to_dict(),
    }
    trial.folder.mkdir(parents=True, exist_ok=True)
    with (
        Checkpoints(trial.folder, keep=1) as checkpoints,
        RunLog(trial.folder, milestones[-1], start) as log,
        Stopping(program.mesh) as stopping,
    ):
        if not start and total > config.epochs * per_epoch:
            log.say(
                f"{trial.folder}: epochs={config.epochs} are {config.epochs * per_epoch} steps, "
                f"fewer than min_steps={config.min_steps}, which sets the length"
            )
        if start:
            losses = checkpoint.restore_meta(trial.folder, start)["losses"]
            state, iterator = checkpoints.restore(start, program.restore_target, iterator)
        else:
            state = program.init(init_key, program.encoder)
        for step in range(start + 1, milestones[-1] + 1):
            raw = parallel.to_devices(program.mesh, next(iterator))
            state, values = program.step(state, raw, rates[step - 1], step_key, program.parent)
            if pending:  # one step late, so that the device never waits for the host
                losses.append(_fetched(*pending, trial.folder))
            pending = (step, values)
            due, stop = step in milestones, stopping.agreed()
            if due or stop:
                losses.append(_fetched(*pending, trial.folder))
                pending = None
            if due:
                report = {"epoch": round(step / per_epoch, 3), **_means(losses)}
                if trial.asked is not None:
                    logits = predicted(program, state, store, trial.asked.indices, run)
                    report["val_accuracy"] = accuracy(logits, trial.asked.labels)
                    report["temperature"] = metrics.fit_temperature(logits, trial.asked.labels)
                log.report(step, report)
                losses = []
            if due or stop:
                meta = {**described, "losses": losses}
                checkpoints.save(step, state, iterator, meta)
            log.advance(step)
            if stop and step < milestones[-1]:
                break
            stop = None
    accuracies, temperatures = _judged(trial.folder, milestones)
    return Trained(state, accuracies, temperatures, round(milestones[-1] / per_epoch, 2), stop)


def _judged(folder: pathlib.Path, milestones: list[int]) -> tuple[list[float], list[float]]:
    """Validation accuracy and temperature at each milestone, from the log of the trial."""
    reports = run_folder.read_reports(folder / run_folder.METRICS)
    by_step = {r["step"]: r for r in reports if "val_accuracy" in r}
    judged = [by_step[step] for step in milestones if step in by_step]
    return [r["val_accuracy"] for r in judged], [r["temperature"] for r in judged]


def predicted(
    program: Program,
    state: FinetuneState,
    store: SkeletonStore,
    indices: Int[np.ndarray, " n"],
    run: Run,
) -> Float[np.ndarray, "n classes"]:
    """Logits of whole clips, in the order of `indices`."""

    def logits(clip: Any, present: Any) -> jax.Array:
        return program.predict(state.params, state.statistics, clip, present)

    classes = len(store.class_names)
    batches = features.clip_batches(store, indices, run.reading)
    return features.rows_of(logits, batches, classes, program.mesh)


def accuracy(logits: Float[np.ndarray, "n classes"], labels: Int[np.ndarray, " n"]) -> float:
    """Share of the clips whose largest logit is that of their class."""
    return float((logits.argmax(axis=1) == labels).mean())


def _batch_size(config: FinetuneConfig, clips: int, devices: int) -> int:
    size = min(config.batch_size, clips) // devices * devices
    if not size:
        raise InputError(
            f"{clips} labelled clips in batches of {config.batch_size} cannot be split over "
            f"{devices} devices: use fewer devices, or more labels"
        )
    return size


def _batches(
    trial: Trial, batch_size: int, program: Program, run: Run, store: SkeletonStore
) -> Any:
    """Training batches with labels; this process reads the rows of its own devices."""
    rows = parallel.local_rows(program.mesh, batch_size)
    label_of = np.full(len(store), -1, np.int32)
    label_of[trial.known.indices] = trial.known.labels

    def labelled(batch: pipeline.Batch) -> pipeline.Batch:
        index = batch.pop("index")
        return batch | {"label": label_of[index[rows]]}

    data = run.config.data
    return pipeline.train_batches(
        store,
        trial.known.indices,
        run.reading,
        batch_size=batch_size,
        crop=data.augmentation.crop,
        min_crop_frames=data.min_crop_frames,
        seed=trial.seed,
        rows=rows,
    ).map(labelled)


def _fetched(step: int, values: dict[str, jax.Array], folder: pathlib.Path) -> dict[str, float]:
    """Metrics of a step as Python numbers.

    Raises:
      DivergedError: one is not finite.
    """
    host = {k: float(v) for k, v in jax.device_get(values).items()}
    bad = [k for k, v in host.items() if not np.isfinite(v)]
    if bad:
        raise DivergedError(
            f"{' and '.join(bad)} not finite at step {step} of {folder}: set smaller "
            "--config.learning_rates"
        )
    return host


def _means(values: list[dict[str, float]]) -> dict[str, float]:
    means = {k: float(np.mean([x[k] for x in values])) for k in values[0]}
    return means | {"learning_rate": values[-1]["learning_rate"]}
