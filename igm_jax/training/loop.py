"""Pre-trains an encoder: from a config and a store to a finished run folder."""

import dataclasses
import functools
import pathlib
from typing import Any

import grain
import jax
import numpy as np

from igm_jax import parallel, run_folder
from igm_jax.data import SkeletonStore, protocols
from igm_jax.errors import DivergedError, InputError
from igm_jax.reading import Reading
from igm_jax.training import checkpoint, claim, distributed, memory, run_data
from igm_jax.training.checkpoint import Checkpoints
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.evaluate import evaluate
from igm_jax.training.log import RunLog, check_tensorboard
from igm_jax.training.mapping import to_mapping
from igm_jax.training.packing import Packing
from igm_jax.training.program import Program, build_program
from igm_jax.training.report import Window, headline, progress_line
from igm_jax.training.state import TrainState
from igm_jax.training.stopping import Stopping


def pretrain(
    config: ExperimentConfig,
    store: SkeletonStore,
    folder: pathlib.Path,
    *,
    resume: str = "auto",
    devices: list[parallel.Device] | None = None,
) -> str:
    """Starts or resumes a run and trains until the last epoch or a signal.

    Of many processes (`distributed.join`) all call this with the same arguments; data and run
    folder lie where all can reach them. The first writes all but the checkpoints, which are written
    by all.

    Args:
      config: the experiment.
      store: its data.
      folder: gets config.json, environment.json, metrics.jsonl and checkpoints/.
      resume: "auto" resumes a run of the same config, "never" refuses an existing run.
      devices: devices to train on; all by default.

    Returns:
      "finished", or the name of the signal that stopped the run after it was saved.

    Raises:
      InputError: the data does not fit the config, the run folder belongs to another config or is
        held by another run, or processes differ in one of them.
      MemoryError: a step needs more memory than there is; says which keys need less.
      DivergedError: a loss that is not finite; names step, clips and config.
      ConnectionError: another process is gone.
    """
    advice = functools.partial(memory.advice, config)
    with claim.held(folder), memory.one_line_out_of_memory(advice, devices):
        return _pretrain(config, store, folder, resume, devices)


def _pretrain(
    config: ExperimentConfig,
    store: SkeletonStore,
    folder: pathlib.Path,
    resume: str,
    devices: list[parallel.Device] | None,
) -> str:
    """`pretrain`, after this process has locked the run folder."""
    config = config.spelled_out()  # so that a run stays what it was if a preset changes
    stated = to_mapping(config)  # with its zeros, so that the same command finds its run again
    config = run_data.fitted(config, store)
    start = run_folder.newest_step(folder)
    distributed.check_same(
        config=_without_path(stated), data=store.meta["sha256"], checkpoints=start
    )
    saved = None
    if not start:
        config.check_length()
    else:
        claim.check_same_run(folder, stated, resume)
        saved = checkpoint.restore_meta(folder, start)
        if saved["data"] != store.meta["sha256"]:
            raise InputError(
                f"{store.path} is not the data that {folder} was trained on: give that with "
                "--config.data.path=FOLDER, or choose another --run"
            )
    # Told before the statistics are computed, which read all clips.
    parallel.make_mesh(config.parallel, config.train.batch_size, devices)
    check_tensorboard(config.train.tensorboard)
    indices, reading = run_data.prepare(config, store, saved)
    program = build_program(config, reading, len(indices), devices)
    meta = {
        "config": stated,
        "reading": reading.to_dict(),
        "total_steps": program.total_steps,
        "class_names": list(store.class_names),
        "data": store.meta["sha256"],
        "store": str(store.path.absolute()),  # where it lay; it is known by its checksums
    }
    distributed.check_same(statistics=meta["reading"])
    if saved is None:
        claim.begin(folder, stated, meta["data"], [*program.mesh.devices.flat])
    iterator = iter(run_data.batches(config, store, indices, reading, program.mesh))
    init_key, step_key = parallel.two_keys(program.mesh, config.seed)

    with (
        distributed.one_line_for_a_lost_process(),
        Checkpoints(folder, config.train.keep_checkpoints) as checkpoints,
    ):
        window = Window(config.train.batch_size)
        if saved is not None:
            state, iterator = checkpoints.restore(start, program.restore_target, iterator)
            window.values = saved.get("window", [])
        else:
            state = program.init(init_key)
        with (
            RunLog(
                folder,
                program.total_steps,
                start,
                tensorboard=config.train.tensorboard,
                silent=not distributed.leader(),
            ) as log,
            Stopping(program.mesh) as stopping,
        ):
            notes = [protocols.note(store, config.data.protocol)]
            if problem := protocols.unjudged(store, config.data.protocol):
                notes.append(f"no probe can judge this run: {problem}")
            note = "; ".join(filter(None, notes))
            bodies = int(store.clips["bodies"].max())
            log.say(headline(config, program, len(indices), start, bodies, note))
            packing = run_data.packing(config, store, indices, program.mesh)
            return _Loop(
                config, program, store, reading, meta, checkpoints, log, stopping, folder, packing
            ).run(state, step_key, iterator, start, window)


@dataclasses.dataclass
class _Loop:
    """Fixed objects of the loop, so that its methods need fewer arguments."""

    config: ExperimentConfig
    program: Program
    store: SkeletonStore
    reading: Reading
    meta: dict[str, Any]
    checkpoints: Checkpoints
    log: RunLog
    stopping: Stopping
    folder: pathlib.Path
    packing: Packing

    def run(
        self,
        state: TrainState,
        key: jax.Array,
        iterator: grain.DatasetIterator,
        start: int,
        window: Window,
    ) -> str:
        train, program = self.config.train, self.program
        pending = None  # the step whose metrics are still on the device
        compiled = set()  # the programs: of packed rows, and of all rows
        for step in range(start + 1, program.total_steps + 1):
            raw = next(iterator)
            clip_index = raw.pop("index")
            raw |= self._packed(clip_index)
            state, values = program.step(state, parallel.to_devices(program.mesh, raw), key)
            if (packed := "packed" in raw) not in compiled:
                compiled.add(packed)
                window.restart_clock()  # the call has compiled
            if pending:  # one step late, so that the device never waits for the host
                self._collect(*pending, window)
            pending = (step, values, clip_index)

            last = step == program.total_steps
            epoch, rest = divmod(step, program.steps_per_epoch)
            knn_due = last or (rest == 0 and epoch % train.knn_every == 0)
            save_due = knn_due or (rest == 0 and epoch % train.checkpoint_every == 0)
            log_due = last or step % train.log_every == 0
            stop = self.stopping.agreed()
            if knn_due or save_due or log_due or stop:
                self._collect(*pending, window)  # nothing is saved before it is known to be finite
                pending = None
            if log_due:
                report = window.flush(epoch=step / program.steps_per_epoch)
                seconds_left = (
                    (program.total_steps - step) * train.batch_size / report["clips_per_second"]
                )
                self.log.report(step, report, progress_line(step, report, seconds_left))
            knn = None
            if knn_due:
                evaluated = evaluate(
                    state.params["encoder"],
                    config=self.config,
                    store=self.store,
                    reading=self.reading,
                    mesh=program.mesh,
                )
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
                    f"{stop}: saved step {step} of {program.total_steps} in {self.folder}; "
                    "the same command resumes it"
                )
                return stop
            self.log.advance(step)
        return "finished"

    def _packed(self, clip_index: np.ndarray) -> dict[str, np.ndarray]:
        """Lists the rows that the networks compute on this process's devices, unless all.

        The table of clips tells every process the bodies of the whole batch, so all of them choose
        the same program.
        """
        present = self.store.bodies_present(clip_index, self.config.data.bodies)
        packed = self.packing.rows(present)
        if packed is None:
            return {}
        return {"packed": packed[parallel.local_rows(self.program.mesh, len(packed))]}

    def _collect(
        self, step: int, values: dict[str, jax.Array], clip_index: np.ndarray, window: Window
    ) -> None:
        """Fetches a step's metrics, and stops the run if they are not finite."""
        features_ = values.pop("features")
        host = {k: float(v) for k, v in jax.device_get(values).items()}
        bad = [k for k, v in host.items() if not np.isfinite(v)]
        if bad:
            names = ", ".join(str(n) for n in self.store.clips["name"][clip_index])
            raise DivergedError(
                f"{' and '.join(bad)} not finite at step {step}: the last good checkpoint is step "
                f"{self.checkpoints.latest_step or 0} of {self.folder} (config in "
                f"{self.folder / run_folder.CONFIG}); clips of the batch: {names}"
            )
        window.add(host, features_, self.config.objective.distortion)


def _without_path(stated: dict[str, Any]) -> dict[str, Any]:
    """Removes the path of the data, which may differ between hosts."""
    return {**stated, "data": {**stated["data"], "path": ""}}
