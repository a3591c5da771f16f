"""From a raw data set to a store: by several processes, resumable, to the same bytes every time.

Processes read, this one writes, in the order of the parts. Beside the store to be, the hidden
folder `.NAME.partial` holds what is written so far and a journal, a line every few seconds: the
parts that are through and their clips. A killed run is taken up behind the last line.
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
from igm_jax.data.formats.raw import RawData
from igm_jax.data.store import BadClip
from igm_jax.data.store.files import VERSION
from igm_jax.data.store.writer import StoreFiles, checked_target, named_errors, publish

JOURNAL = "journal.jsonl"
_COMMIT_EVERY = 2.0  # seconds of work that a kill can cost


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
    """Reads a raw data set into a store; the same call goes on where it was killed.

    Args:
      path: the folder to make; it appears when it is complete.
      raw: the data set. If it differs from that of a killed run, all is read anew.
      source: where the clips come from, in words.
      overwrite: replace a store at `path`; the old one stays until the new one is complete.
      on_bad: `"skip"` or `"refuse"`, see `SkeletonStore.write`.
      workers: processes that read; the bytes of the store do not depend on them.
      progress: called with the number of parts that are through, each time it grows.

    Returns:
      The clips left out; meta.json lists them too.

    Raises:
      InputError: a bad clip is refused, no good clip at all, something at `path` that may not be
        replaced, or another process prepares the same store.
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
    """What has been added to the files since it was last asked."""

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
    """The journal, for this process alone; after an error that is no kill, the folder goes."""
    with locking.exclusive(target, "prepares this store: wait for it"):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with open(folder / JOURNAL, "a+", encoding="utf-8") as journal:
                yield journal
        except Exception:  # but not KeyboardInterrupt: who stops a run wants to go on
            shutil.rmtree(folder, ignore_errors=True)
            raise


def _resume(journal: IO[str], files: StoreFiles, header: dict[str, Any]) -> int:
    """Takes up what a killed run of the same kind left; returns the number of parts done."""
    journal.seek(0)
    complete = journal.read().rpartition("\n")[0]  # a line that was cut short goes
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
