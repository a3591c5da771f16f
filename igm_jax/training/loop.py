"""Pre-training from a config and a store to a finished run folder."""

import dataclasses
import functools
import pathlib
import signal
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from igm_jax import metrics
from igm_jax.data import SkeletonStore, pipeline, protocols
from igm_jax.errors import DivergedError, InputError
from igm_jax.evaluation import features
from igm_jax.inputs import Inputs
from igm_jax.training import parallel
from igm_jax.training import run_folder as run_folders
from igm_jax.training.checkpoint import Checkpoints
from igm_jax.training.config import ExperimentConfig, to_mapping
from igm_jax.training.log import RunLog
from igm_jax.training.objectives import feature_diagnostics
from igm_jax.training.program import Program, build_program
from igm_jax.training.state import TrainState


def pretrain(
    config: ExperimentConfig,
    store: SkeletonStore,
    run_folder: pathlib.Path,
    *,
    resume: str = "auto",
    devices: list[jax.Device] | None = None,
) -> str:
    """Trains, or goes on training, until the last epoch or a signal.

    Args:
      config: the experiment.
      store: its data.
      run_folder: gets config.json, environment.json, metrics.jsonl and checkpoints/.
      resume: "auto" goes on with a run of the same config, "never" refuses an existing run.
      devices: devices to train on; all by default.

    Returns:
      "finished", or the name of the signal that stopped the run after it was saved.

    Raises:
      InputError: the data does not fit the config, or the run folder belongs to another config.
      DivergedError: a loss that is not finite; names step, clips and config.
    """
    stated = to_mapping(config)  # with its zeros, so that the same command knows its run again
    config = config.fitted(
        store.layout.num_joints, store.frames.shape[2] * len(config.data.streams)
    )
    indices, inputs = _prepare_data(config, store)
    program = build_program(config, inputs, len(indices), devices)
    meta = {
        "config": stated,
        "inputs": inputs.to_dict(),
        "class_names": list(store.class_names),
        "data": store.meta["sha256"],
    }
    if jax.process_count() > 1:
        raise InputError(
            f"{jax.process_count()} processes: pre-training runs in one process so far"
        )
    run_folders.claim(run_folder, meta["config"], resume)

    def batches() -> Any:
        return pipeline.train_batches(
            store,
            indices,
            batch_size=config.train.batch_size,
            frames=config.model.encoder.frames,
            bodies=config.data.bodies,
            view=config.data.view,
            crop=config.data.crop,
            min_crop_frames=config.data.min_crop_frames,
            crops=config.data.crops,
            seed=config.seed,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    with Checkpoints(run_folder, config.train.keep_checkpoints) as checkpoints:
        iterator = iter(batches())
        start, window = checkpoints.latest_step or 0, _Window(config.train.batch_size)
        if start:
            state, iterator, saved = checkpoints.restore(program.restore_target, iterator)
            if saved["data"] != meta["data"]:
                raise InputError(
                    f"{store.path} is not the data that {run_folder} was trained on: put that "
                    "back, or choose another --run"
                )
            window.values = saved.get("window", [])
        else:
            state = program.init(_keys(config.seed)[0])
        with (
            RunLog(run_folder, program.total_steps, start, config.train.tensorboard) as log,
            _Signals() as signals,
        ):
            log.say(_headline(config, program, len(indices), start))
            return _Loop(
                config, program, store, inputs, meta, checkpoints, log, signals, run_folder
            ).run(state, iterator, start, window)


@dataclasses.dataclass
class _Loop:
    """The loop's fixed surroundings, so that its parts do not pass nine arguments around."""

    config: ExperimentConfig
    program: Program
    store: SkeletonStore
    inputs: Inputs
    meta: dict[str, Any]
    checkpoints: Checkpoints
    log: RunLog
    signals: "_Signals"
    run_folder: pathlib.Path

    def run(
        self,
        state: TrainState,
        iterator: Iterator[dict[str, np.ndarray]],
        start: int,
        window: "_Window",
    ) -> str:
        train, program = self.config.train, self.program
        key = jax.device_put(
            _keys(self.config.seed)[1],
            parallel.replicated(program.mesh),
        )
        pending = None  # the step whose metrics are still on the device
        for step in range(start + 1, program.total_steps + 1):
            raw = next(iterator)
            clip_index = raw.pop("index")
            state, values = program.step(state, parallel.to_devices(program.mesh, raw), key)
            if pending:  # one step late, so that the device never waits for the host
                self._collect(*pending, window)
            pending = (step, values, clip_index)

            last = step == program.total_steps
            epoch, rest = divmod(step, program.steps_per_epoch)
            knn_due = last or (rest == 0 and epoch % train.knn_every == 0)
            save_due = knn_due or (rest == 0 and epoch % train.checkpoint_every == 0)
            log_due = last or step % train.log_every == 0
            stop = self.signals.received
            if knn_due or save_due or log_due or stop:
                self._collect(*pending, window)  # nothing is saved before it is known to be finite
                pending = None
            if log_due:
                report = window.flush(epoch=step / program.steps_per_epoch)
                seconds_left = (
                    (program.total_steps - step) * train.batch_size / report["clips_per_second"]
                )
                self.log.report(step, report, _progress_line(step, report, seconds_left))
            knn = None
            if knn_due:
                evaluated = self._evaluate(state)
                self.log.report(step, evaluated)
                knn = evaluated.get("val_knn_1")
                window.restart_clock()
            if save_due or stop:
                meta = {**self.meta, "window": window.values}
                self.checkpoints.save(step, state, iterator, meta, knn)
                window.restart_clock()
            if stop and not last:
                self.checkpoints.wait()
                self.log.say(
                    f"{stop}: saved step {step} of {program.total_steps} in {self.run_folder}; "
                    "the same command goes on from there"
                )
                return stop
            self.log.advance(step)
        return "finished"

    def _collect(
        self, step: int, values: dict[str, jax.Array], clip_index: np.ndarray, window: "_Window"
    ) -> None:
        """Fetches a step's metrics, and stops the run if they are not finite."""
        features_ = values.pop("features")
        host = {k: float(v) for k, v in jax.device_get(values).items()}
        bad = [k for k, v in host.items() if not np.isfinite(v)]
        if bad:
            names = ", ".join(str(n) for n in self.store.clips["name"][clip_index])
            raise DivergedError(
                f"{' and '.join(bad)} not finite at step {step}: the last good checkpoint is step "
                f"{self.checkpoints.latest_step or 0} of {self.run_folder} (config in "
                f"{self.run_folder / 'config.json'}); clips of the batch: {names}"
            )
        window.add(host, features_, self.config.objective.distortion)

    def _evaluate(self, state: TrainState) -> dict[str, float]:
        """KNN from the fitting part of the training split to its validation part.

        Clips without a label say nothing here; where a part has no others, there is no KNN.
        """
        parts = {}
        for part in ("fit", "val"):
            chosen = protocols.split(self.store, self.config.data.protocol, part)
            clips = features.clip_batches(
                self.store,
                chosen,
                frames=self.config.model.encoder.frames,
                bodies=self.config.data.bodies,
                view=self.config.data.view,
            )
            parts[part] = (
                features.extract_features(
                    self.config.model.encoder, state.params["encoder"], self.inputs, clips
                ),
                self.store.clips["label"][chosen],
            )
        report = {"val_effective_rank": float(metrics.effective_rank(jnp.asarray(parts["fit"][0])))}
        labelled = {part: labels >= 0 for part, (_, labels) in parts.items()}
        if not all(chosen.any() for chosen in labelled.values()):
            return report
        accuracy = functools.partial(
            metrics.knn_accuracy,
            *(jnp.asarray(x[labelled[part]]) for part in ("val", "fit") for x in parts[part]),
            num_classes=len(self.store.class_names),
        )
        most = int(labelled["fit"].sum())
        return {
            "val_knn_1": float(accuracy(k=1)),
            "val_knn_20": float(accuracy(k=min(20, most))),
            **report,
        }


class _Window:
    """Averages the metrics between two reports.

    Attributes:
      values: of the steps since the last report; a checkpoint in between keeps them.
    """

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self.values: list[dict[str, float]] = []
        self._diagnostics = jax.jit(feature_diagnostics, static_argnames="distortion")
        self._latest = None
        self.restart_clock()

    def restart_clock(self) -> None:
        """Leaves what happened between steps out of the throughput."""
        self._start, self._timed = time.perf_counter(), 0

    def add(self, values: dict[str, float], features_: jax.Array, distortion: float) -> None:
        self.values.append(values)
        self._timed += 1
        self._latest = (features_, distortion)

    def flush(self, epoch: float) -> dict[str, float]:
        """Means since the last report, diagnostics of the last batch, clips per second."""
        seconds = time.perf_counter() - self._start
        report = {"epoch": round(epoch, 3)}
        names = sorted(self.values[0], key=lambda k: (not k.startswith("loss"), k))
        report |= {k: float(np.mean([v[k] for v in self.values])) for k in names}
        report["learning_rate"] = self.values[-1]["learning_rate"]
        features_, distortion = self._latest
        report |= {k: float(v) for k, v in self._diagnostics(features_, distortion).items()}
        report["clips_per_second"] = self._batch_size * self._timed / seconds
        self.values = []
        self.restart_clock()
        return report


class _Signals:
    """SIGTERM (preemption) and Ctrl-C end the step in flight, save, and leave."""

    def __init__(self):
        self.received: str | None = None

    def __enter__(self) -> "_Signals":
        def note(number, _):
            if self.received and number == signal.SIGINT:
                raise KeyboardInterrupt  # the second Ctrl-C means now
            self.received = signal.Signals(number).name

        self._old = {}
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._old[number] = signal.signal(number, note)
        except ValueError:  # not the main thread: whoever runs us there handles signals
            pass
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)


def _keys(seed: int) -> jax.Array:
    """Two keys that share no randomness: of the initial state, and of all steps."""
    return jax.random.split(jax.random.key(seed))


def _prepare_data(config: ExperimentConfig, store: SkeletonStore) -> tuple[np.ndarray, Inputs]:
    """Indices of the pre-training split, and what the networks see of its clips."""
    data, encoder = config.data, config.model.encoder
    _, joints, channels = store.frames.shape
    expected = {"joints": joints, "channels": channels * len(data.streams)}
    if expected != {"joints": encoder.joints, "channels": encoder.channels}:
        raise InputError(
            f"{store.path} has {joints} joints ({store.layout.name}) of {channels} channels, but "
            f"the config says model.encoder.joints={encoder.joints}, channels={encoder.channels}: "
            f"for data.streams={data.streams} set them to {joints} and {expected['channels']}"
        )
    indices = protocols.split(store, data.protocol, data.pretrain_split)
    if len(indices) < config.train.batch_size:
        raise InputError(
            f"{store.path} has {len(indices)} clips to pre-train on, fewer than "
            f"train.batch_size={config.train.batch_size}"
        )
    for part in ("fit", "val"):  # what KNN needs later must not fail after hours
        protocols.split(store, data.protocol, part)
    mean, std = pipeline.statistics(
        store, indices,
        frames=encoder.frames, bodies=data.bodies, view=data.view, streams=data.streams,
    )  # fmt: skip
    std = np.where(std > 0, std, 1.0)  # a constant coordinate stays zero, it does not become NaN
    inputs = Inputs(store.layout, data.streams, tuple(map(float, mean)), tuple(map(float, std)))
    return indices, inputs


def _progress_line(step: int, report: dict[str, float], seconds_left: float) -> str:
    """What a person wants to see of a report; metrics.jsonl has all of it."""
    losses = "  ".join(
        f"{k.removeprefix('loss_')} {v:.3f}" for k, v in report.items() if k.startswith("loss")
    )
    return (
        f"step {step:,}  epoch {report['epoch']:.1f}  {losses}  "
        f"rank {report['effective_rank']:.1f}  cosine {report['mean_cosine']:.2f}  "
        f"{report['clips_per_second']:.0f} clips/s  {seconds_left / 60:.1f} min left"
    )


def _headline(config: ExperimentConfig, program: Program, clips: int, start: int) -> str:
    target = program.restore_target
    count = {k: sum(x.size for x in jax.tree.leaves(v)) for k, v in target.params.items()}
    parts = ", ".join(f"{k} {v:,}" for k, v in count.items())
    return (
        f"{config.name}: {clips:,} clips, {program.total_steps:,} steps of "
        f"{config.train.batch_size} ({config.train.epochs} epochs) on {program.mesh.size} "
        f"{jax.devices()[0].platform} device(s); parameters: {parts}"
        + (f"; resumed after step {start:,}" if start else "; compiling …")
    )
