"""A lock file that one process holds, with its host and number; it ends with the process."""

import contextlib
import json
import os
import pathlib
import socket
from collections.abc import Iterator

import filelock

from igm_jax.errors import InputError


@contextlib.contextmanager
def exclusive(folder: pathlib.Path, busy: str) -> Iterator[None]:
    """Holds the lock of a folder, which need not exist; the lock file is hidden beside it.

    The lock file stays, because waiting processes must find the same one. The holder is named in
    another file, because a locked file cannot be read on Windows.

    Args:
      folder: what is locked; two paths to one folder have one lock.
      busy: what another process does with it, and what to do: the end of the error message.

    Raises:
      InputError: another process holds the lock; names its host and number.
      OSError: the lock file cannot be made.
    """
    lock, holder = _paths(folder)
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        held = filelock.FileLock(lock, timeout=0).acquire()
    except filelock.Timeout:
        if not lock.exists():  # no file can be made there, which filelock reports as a lock
            raise OSError(f"{lock}: the lock of {folder} cannot be made there") from None
        raise InputError(f"{folder}: {_holder(holder)} {busy}") from None
    with held:
        holder.write_text(
            json.dumps({"host": socket.gethostname(), "process": os.getpid()}), encoding="utf-8"
        )
        try:
            yield
        finally:
            holder.unlink(missing_ok=True)


def is_held(folder: pathlib.Path) -> bool:
    """Whether a process, this one included, holds the lock of a folder at this moment."""
    lock, _ = _paths(folder)
    if not lock.exists():
        return False
    try:
        with filelock.FileLock(lock, timeout=0):
            return False
    except filelock.Timeout:
        return True


def _paths(folder: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    folder = folder.resolve()
    if not folder.name:
        raise InputError(f"{folder} is the root of a file system: choose a folder in it")
    return folder.with_name(f".{folder.name}.lock"), folder.with_name(f".{folder.name}.holder")


def _holder(path: pathlib.Path) -> str:
    try:
        who = json.loads(path.read_text(encoding="utf-8"))
        return f"process {who['process']} on host {who['host']}"
    except (OSError, ValueError, KeyError):  # the lock is only a moment old
        return "another process"
