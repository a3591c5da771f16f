"""Converts a raw data set to a store: in parallel, resumable, with the same bytes every time.

Worker processes read, and this one writes in the order of the parts. Beside the new store, the
hidden folder `.NAME.partial` holds the files so far and a journal. Every few seconds it gets a
line with the finished parts and clips. An interrupted run resumes after the last line.
"""

import contextlib
import json
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator
from typing import IO, Any

from igm_jax import locking
from igm_jax.data.raw import KilledReaderError, RawData
from igm_jax.data.store import BadClip
from igm_jax.data.store.files import VERSION
from igm_jax.data.store.writer import StoreFiles, checked_target, named_errors, publish

JOURNAL = "journal.jsonl"
_COMMIT_EVERY = 2.0  # a kill loses at most so many seconds of work


def prepare_store(
    path: str | os.PathLike,
    raw: RawData,
    *,
    source: str,
    overwrite: bool = False,
    on_bad: str = "skip",
    workers: int = 1,
    progress: Callable[[int], None] = lambda parts: None,
) -> list[BadClip]:
    """Reads a raw data set into a store; the same call resumes an interrupted one.

    Args:
      path: the folder to make; it appears when it is complete.
      raw: the data set. If it differs from the interrupted run's, everything is read again.
      source: where the clips come from, in words.
      overwrite: replace a store at `path`; the old one stays until the new one is complete.
      on_bad: `"skip"` or `"refuse"`, see `SkeletonStore.write`.
      workers: processes that read; the bytes of the store do not depend on them.
      progress: called with the number of finished parts, each time it grows.

    Returns:
      The clips left out; meta.json lists them too.

    Raises:
      InputError: a bad clip is refused, no good clip at all, a reading process was killed,
        something at `path` that may not be replaced, or another process prepares the same store.
      OSError: the disk is full or the folder not writable.
    """
    target = checked_target(path, overwrite)
    folder = target.parent / f".{target.name}.partial"
    with named_errors(target), _journal(target, folder) as journal:
        with StoreFiles(folder, {**raw.facts, "source": source}, on_bad) as files:
            header = {"version": VERSION, "raw": raw.fingerprint(), "on_bad": on_bad}
            before = _resume(journal, files, header)
            progress(before)
            written, committed = _Written(files), time.monotonic()
            for done, clips in enumerate(raw.clips_of_parts(before, workers), before + 1):
                for clip in clips:
                    files.append(clip)
                progress(done)
                if time.monotonic() - committed > _COMMIT_EVERY:
                    files.sync()
                    _add_line(journal, {"parts": done, **written.since()})
                    committed = time.monotonic()
            files.finish(target)
        checked_target(target, overwrite)  # again: it may have appeared meanwhile
        (folder / JOURNAL).unlink()
        publish(folder, target)
    return files.skipped


class _Written:
    """Additions to the files since the last call."""

    def __init__(self, files: StoreFiles):
        self._files, self._seen = files, (len(files.records), len(files.skipped))

    def since(self) -> dict[str, Any]:
        files, (clips, skipped) = self._files, self._seen
        self._seen = (len(files.records), len(files.skipped))
        return {
            "channels": files.channels,
            "filled": files.filled,
            "clips": files.records[clips:],
            "skipped": [[bad.name, bad.reason] for bad in files.skipped[skipped:]],
        }


@contextlib.contextmanager
def _journal(target: pathlib.Path, folder: pathlib.Path) -> Iterator[IO[str]]:
    """Opens the journal for this process alone; an error other than a kill removes the folder."""
    with locking.exclusive(target, "prepares this store: wait for it"):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with open(folder / JOURNAL, "a+", encoding="utf-8") as journal:
                yield journal
        except KilledReaderError:  # resumes, and so does what KeyboardInterrupt stopped
            raise
        except Exception:
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _resume(journal: IO[str], files: StoreFiles, header: dict[str, Any]) -> int:
    """Restores an interrupted run of the same kind; returns the number of finished parts."""
    journal.seek(0)
    complete = journal.read().rpartition("\n")[0]  # an incomplete line is dropped
    lines = [json.loads(line) for line in complete.splitlines()]
    if lines and lines[0] == header:
        commits = lines[1:]
        records = [tuple(clip) for commit in commits for clip in commit["clips"]]
        skipped = [BadClip(*bad) for commit in commits for bad in commit["skipped"]]
        channels = commits[-1]["channels"] if commits else None
        filled = commits[-1].get("filled") if commits else None
        if files.restore(records, skipped, channels, filled):
            journal.truncate(len(complete.encode()) + 1)
            return commits[-1]["parts"] if commits else 0
    journal.truncate(0)
    files.restore([], [], None)
    _add_line(journal, header)
    return 0


def _add_line(journal: IO[str], values: dict[str, Any]) -> None:
    journal.write(json.dumps(values) + "\n")
    journal.flush()
    os.fsync(journal.fileno())
