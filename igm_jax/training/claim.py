"""Claims a run folder: locks it, checks what it holds, and writes config and environment."""

import contextlib
import importlib.metadata
import os
import pathlib
import platform
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import jax

from igm_jax import locking, run_folder
from igm_jax.data.store.files import FRAMES
from igm_jax.errors import InputError
from igm_jax.parallel import Device
from igm_jax.training import distributed
from igm_jax.training.config import BOOKKEEPING, differences
from igm_jax.training.mapping import to_mapping
from igm_jax.training.older_runs import config_of_run


@contextlib.contextmanager
def held(folder: pathlib.Path) -> Iterator[None]:
    """Locks the run folder against other runs; the first process locks it for all.

    Raises:
      InputError: a run holds the folder; in all processes.
      OSError: the folder cannot be written to.
    """
    with contextlib.ExitStack() as stack:
        problem: Exception | None = None
        if distributed.leader():
            busy = "trains this run: wait for it, or choose another --run"
            try:
                stack.enter_context(locking.exclusive(folder, busy))
            except (InputError, OSError) as error:
                problem = error
        distributed.check_leader(problem)
        yield


def check_same_run(folder: pathlib.Path, config: dict[str, Any], resume: str) -> None:
    """Checks that the pre-training run in this folder may be resumed.

    Args:
      folder: has a config.json.
      config: the experiment in plain JSON types.
      resume: "auto" accepts a run of the same config, "never" accepts none.

    Raises:
      InputError: the folder holds a run of another config, or any run under "never".
    """
    saved = saved_config(folder, resume)
    check_same_config(folder, to_mapping(config_of_run(saved)), config)


def saved_config(folder: pathlib.Path, resume: str) -> dict[str, Any]:
    """Reads the config.json of the run in this folder, which is to be resumed.

    Raises:
      InputError: there is none or it is damaged, or `resume` is "never".
    """
    if resume == "never":
        raise InputError(f"{folder} holds a run already: choose another --run, or --resume=auto")
    path = folder / run_folder.CONFIG
    if not path.exists():
        raise InputError(f"{path} is missing: put it back, or choose another --run")
    saved = run_folder.read_json(path)
    if saved is None:
        raise InputError(f"{path} is damaged: put it back, or choose another --run")
    return saved


def check_same_config(
    folder: pathlib.Path,
    saved: dict[str, Any],
    config: dict[str, Any],
    ignored: Collection[str] = BOOKKEEPING,
) -> None:
    """Raises `InputError` if the folder's config differs in a setting that is not `ignored`."""
    if changed := differences(saved, config, ignored=ignored):
        raise InputError(
            f"{folder} holds a run of another config ({'; '.join(changed[:4])}"
            f"{' …' if len(changed) > 4 else ''}): choose another --run"
        )


def begin(
    folder: pathlib.Path,
    config: dict[str, Any],
    data: Mapping[str, str] | None = None,
    devices: Sequence[Device] | None = None,
) -> None:
    """Writes config.json and environment.json; only the first process writes.

    A run without a checkpoint is overwritten.

    Args:
      folder: made if it does not exist.
      config: the experiment in plain JSON types.
      data: checksums of the store, by file.
      devices: those that the run uses; by default all of this process.

    Raises:
      InputError: the folder is a data store.
    """
    if (folder / FRAMES).exists():
        raise InputError(f"{folder} is a data store: choose another --run")
    if not distributed.leader():
        return
    folder.mkdir(parents=True, exist_ok=True)
    environment = _environment(devices or jax.devices()) | ({"data": dict(data)} if data else {})
    run_folder.write_json(folder / run_folder.ENVIRONMENT, environment)
    run_folder.write_json(folder / run_folder.CONFIG, config)


def _environment(devices: Sequence[Device]) -> dict[str, Any]:
    """Versions, platform and devices of a run."""
    packages = ("igm_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "python": platform.python_version(),
        "versions": versions,
        "commit": _commit(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "devices": [d.device_kind for d in devices],
    }


def _commit() -> str:
    """The commit of this code, with -dirty behind it where a file differs, or unknown.

    It writes nothing. `git describe --dirty` refreshes the index, and an interrupt leaves a lock
    that blocks every later commit.
    """

    def git(*arguments: str) -> str:
        command = ["git", "--no-optional-locks", *arguments]
        folder = pathlib.Path(__file__).parent
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                capture_output=True,
                check=False,
                encoding="utf-8",
                errors="replace",
            )
        except FileNotFoundError:  # there is no git
            return ""
        return done.stdout.strip()

    commit = git("describe", "--always")
    changed = commit and git("status", "--porcelain", "--untracked-files=no")
    return f"{commit}-dirty" if changed else commit or "unknown"
