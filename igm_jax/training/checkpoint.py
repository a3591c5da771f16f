"""Saves and restores checkpoints: state, position in the data, and config of the encoder.

Only this module uses Orbax. Saves are asynchronous and atomic: a step's folder appears when it
is complete, so a killed run or a full disk leaves the previous checkpoint as it was.
"""

import contextlib
import errno
import logging
import os
import pathlib
import re
import shutil
from collections.abc import Iterator
from typing import Any

import grain
import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from igm_jax import run_folder
from igm_jax.errors import InputError


class Checkpoints:
    """The `checkpoints/` folder of a run: the last few steps, and the best by validation KNN."""

    def __init__(self, folder: pathlib.Path, keep: int = 2):
        best = policies.BestN(
            get_metric_fn=lambda m: m["knn"], n=1, keep_checkpoints_without_metrics=False
        )
        self._folder = (folder / run_folder.CHECKPOINTS).absolute()
        self._manager = ocp.CheckpointManager(
            self._folder,
            options=ocp.CheckpointManagerOptions(
                # The loop decides when to save; without this every call but the first is refused.
                save_decision_policy=policies.FixedIntervalPolicy(1),
                preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(keep), best]),
                best_fn=lambda m: m["knn"],
                cleanup_tmp_directories=True,
            ),
        )

    @property
    def latest_step(self) -> int | None:
        """The newest complete step, or None."""
        return self._manager.latest_step()

    def save(
        self,
        step: int,
        state: Any,
        iterator: grain.DatasetIterator,
        meta: dict[str, Any],
        knn: float | None = None,
    ) -> None:
        """Starts to save and returns at once, unless another save is in progress.

        All processes call it, for each writes its part of the state. The place in the data is the
        same in all of them, whatever their number.

        Args:
          step: name of the checkpoint.
          state: tree of arrays.
          iterator: the data iterator, just after the batch of this step.
          meta: JSON: config, reading, and what of the log is still to be written.
          knn: validation accuracy that ranks this checkpoint, if it was measured.

        Raises:
          OSError: the disk has no room for it, or the save before did not get there.
        """
        if step == self.latest_step:
            return
        with self._writing():
            # Checked first: a write that fails half-way prints many tracebacks from other threads.
            size = sum(x.nbytes for x in jax.tree.leaves(state))
            if shutil.disk_usage(self._folder).free < size:
                raise OSError(errno.ENOSPC, f"{os.strerror(errno.ENOSPC)} for {size / 1e6:.0f} MB")
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardSave(state),
                    data=ocp.args.JsonSave(iterator.get_state()),
                    meta=ocp.args.JsonSave(meta),
                ),
                metrics=None if knn is None else {"knn": knn},
            )

    def restore(
        self, step: int, target: Any, iterator: grain.DatasetIterator
    ) -> tuple[Any, grain.DatasetIterator]:
        """State and iterator after a step.

        Args:
          step: name of a checkpoint; see `run_folder.newest_step`.
          target: tree of `jax.ShapeDtypeStruct` with shardings; the device count may differ from
            that of the saving run.
          iterator: a fresh iterator of the same data; it is moved to the saved place.

        Raises:
          InputError: it was written by a version that kept something else in it.
        """
        try:
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.StandardRestore(target), data=ocp.args.JsonRestore()
                ),
            )
        except (FileNotFoundError, KeyError, ValueError) as error:
            raise _unreadable(self._folder / str(step), error) from error
        iterator.set_state(restored["data"])
        return restored["state"], iterator

    def wait(self) -> None:
        """Waits until the current save is on disk.

        Raises:
          OSError: the save failed.
        """
        with self._writing():
            self._manager.wait_until_finished()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Converts errors of writing to OSError; TensorStore raises ValueError on a full disk."""
        try:
            yield
        except (OSError, ValueError) as error:
            self._manager.reload()  # the failed step was counted in advance
            code = re.search(r"os_error_code='(\d+)'", str(error))
            text = os.strerror(int(code[1])) if code else " ".join(str(error).split())[:200]
            reason = getattr(error, "strerror", None) or text
            raise OSError(
                f"{self._folder}: a checkpoint could not be written ({reason}); the last good one "
                f"is step {self.latest_step or 0}"
            ) from error

    def close(self) -> None:
        """Waits, then releases the threads."""
        self.wait()
        self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, *_) -> None:
        # Report the error that ended the run, not the failure of the last save.
        with contextlib.suppress(*([OSError] if kind else [])):
            self.close()


def save_params(folder: pathlib.Path, params: Any, meta: dict[str, Any]) -> None:
    """Saves parameters that were not trained here, as step 0 of a run.

    Args:
      folder: of the run.
      params: of its networks, such as `{"encoder": …}`.
      meta: see `Checkpoints.save`.
    """
    with ocp.CheckpointManager((folder / run_folder.CHECKPOINTS).absolute()) as manager:
        state, described = ocp.args.StandardSave({"params": params}), ocp.args.JsonSave(meta)
        manager.save(0, args=ocp.args.Composite(state=state, meta=described))
        manager.wait_until_finished()


def select_step(folder: pathlib.Path, which: str | int) -> int:
    """Finds the step for "last", "best" (by validation KNN) or a number.

    Raises:
      InputError: no checkpoint, or not this one.
    """
    checkpoints = folder / run_folder.CHECKPOINTS
    if not checkpoints.is_dir():
        raise InputError(f"{folder} has no checkpoints: is it the folder of a run?")
    with _log_level(logging.ERROR):  # Orbax warns that what is only read is only read
        options = ocp.CheckpointManagerOptions(
            read_only=True, create=False, best_fn=lambda m: m["knn"]
        )
        with ocp.CheckpointManager(checkpoints.absolute(), options=options) as manager:
            steps = manager.all_steps()
            named = {"last": manager.latest_step, "best": manager.best_step}
            step = named[which]() if isinstance(which, str) and which in named else which
    if not isinstance(step, int) or step not in steps:
        raise InputError(
            f"{folder} has no checkpoint {which!r}: it has {sorted(steps) or 'none yet'}"
        )
    return step


@contextlib.contextmanager
def _log_level(level: int) -> Iterator[None]:
    """Lets the log of Orbax, which is absl's, through from this level on."""
    log = logging.getLogger("absl")
    before = log.level
    log.setLevel(max(level, before))
    try:
        yield
    finally:
        log.setLevel(before)


def restore_params(folder: pathlib.Path, step: int, target: Any) -> Any:
    """`restore_parts` of the parameters alone: `target` is a subtree of them."""
    return restore_parts(folder, step, {"params": target})["params"]


def restore_parts(folder: pathlib.Path, step: int, target: Any) -> Any:
    """Restores the parts of the state that `target` names, on the default device.

    Args:
      folder: of the run.
      step: an existing step; see `select_step`.
      target: tree of `jax.ShapeDtypeStruct`, a subtree of the saved state.

    Raises:
      InputError: a part is not there.
    """
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), target
    )
    restore_args = ocp.checkpoint_utils.construct_restore_args(target)
    path = (folder / run_folder.CHECKPOINTS / str(step) / "state").absolute()
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        restored = checkpointer.restore(
            path,
            args=ocp.args.PyTreeRestore(target, restore_args=restore_args, partial_restore=True),
        )
    # Orbax leaves the shapes of what is not there.
    for place, leaf in jax.tree.leaves_with_path(restored):
        if not isinstance(leaf, jax.Array):
            name = jax.tree_util.keystr(place, simple=True, separator="/")
            raise InputError(
                f"{folder} has no {name.removeprefix('params/')}: imported weights are an encoder "
                "alone, so choose a run that was pre-trained"
            )
    return restored


def restore_meta(folder: pathlib.Path, step: int) -> dict[str, Any]:
    """Reads the JSON of a step: config, reading, checksums of the data.

    Raises:
      InputError: it is damaged, or from a version with other contents.
    """
    path = (folder / run_folder.CHECKPOINTS / str(step)).absolute()
    try:
        with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer:
            meta = checkpointer.restore(path / "meta", args=ocp.args.JsonRestore())
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise _unreadable(path, error) from error
    missing = {"config", "data"} - meta.keys()
    if not {"reading", "inputs"} & meta.keys():
        missing.add("reading")
    if missing:
        raise _unreadable(path, f"without {', '.join(sorted(missing))}")
    return meta


def _unreadable(path: pathlib.Path, reason: Exception | str) -> InputError:
    steps = sorted(int(p.name) for p in path.parent.glob("*") if p.name.isdigit() and p != path)
    other = ""
    if steps:
        other = f", --checkpoint={steps[-1]}, or remove this folder to resume from another step"
    return InputError(
        f"{path} is damaged, or no checkpoint of this version "
        f"({' '.join(str(reason).split())[:100]}): choose another --run{other}"
    )
