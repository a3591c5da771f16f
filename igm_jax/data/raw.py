"""Describes a raw data set before it is read, and reads it in parallel."""

import collections
import concurrent.futures
import dataclasses
import hashlib
import itertools
import json
import multiprocessing
import os
import pathlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from igm_jax.data.store import BadClip, Clip
from igm_jax.errors import InputError
from igm_jax.skeleton import Layout

_TOGETHER = 16  # parts that a process reads between two messages


class KilledReaderError(InputError):
    """A reading process was killed; the clips that were read before stay, to be resumed from."""


@dataclasses.dataclass(frozen=True)
class RawData:
    """Result of a format's `read`; iterate over it to get the clips in the order of its parts.

    Attributes:
      parts: units that can be read alone, such as files: a path, an object with a `path`, or any
        value whose `repr` is complete.
      read_part: the clips of a part; a function that can be sent to another process.
      dataset: key of `igm_jax.data.protocols.PROTOCOLS`, or any other name.
      layout: what the V joints are.
      class_names: name of each label.
      cleaning: the steps that `read_part` applies to the raw clips, in order.
      units: of the coordinates.
      parallel: whether other processes may read parts too.
    """

    parts: Sequence[Any]
    read_part: Callable[[Any], Iterable[Clip | BadClip]]
    dataset: str
    layout: Layout
    class_names: tuple[str, ...]
    cleaning: tuple[str, ...] = ()
    units: str = "metres"
    parallel: bool = True

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[Clip | BadClip]:
        return itertools.chain.from_iterable(map(self.read_part, self.parts))

    @property
    def facts(self) -> dict[str, Any]:
        """Facts about the data that a store keeps beside the clips, as plain JSON types."""
        return {
            "dataset": self.dataset,
            "layout": self.layout.to_dict(),
            "class_names": list(self.class_names),
            "units": self.units,
            "cleaning": list(self.cleaning),
        }

    def limited(self, count: int) -> "RawData":
        """At most `count` parts, a fixed random sample, so a trial sees all people and classes.

        Raises:
          InputError: fewer than one part is asked for.
        """
        if count < 1:
            raise InputError(f"a limit of {count} leaves nothing to read: give 1 or more")
        if count >= len(self):
            return self
        # Random, not every n-th: classes may repeat with a period that shares a factor with n.
        chosen = np.sort(np.random.default_rng(0).choice(len(self), count, replace=False))
        return dataclasses.replace(self, parts=[self.parts[i] for i in chosen])

    def fingerprint(self) -> str:
        """Hash that changes with the data; for a file, with its size or time."""
        facts = json.dumps(self.facts)
        return hashlib.sha256(f"{facts}{[_stamped(p) for p in self.parts]}".encode()).hexdigest()

    def clips_of_parts(self, start: int = 0, workers: int = 1) -> Iterator[list[Clip | BadClip]]:
        """Yields the clips of every part from `start` on, in order, for any number of workers.

        Args:
          start: parts to leave out.
          workers: processes that read; with 1 it is this one.

        Raises:
          KilledReaderError: a reading process died, for instance because the memory was used up.
        """
        if workers == 1 or not self.parallel:
            yield from map(_clips_of(self.read_part), self.parts[start:])
            return
        blocks = [self.parts[i : i + _TOGETHER] for i in range(start, len(self), _TOGETHER)]
        # Not forked: a child of a process that runs threads, as JAX does, can hang.
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(workers, context, _end_with_parent) as pool:
            ahead: collections.deque[concurrent.futures.Future] = collections.deque()
            try:
                for block in blocks:
                    ahead.append(pool.submit(_read_block, self.read_part, block))
                    if len(ahead) > 2 * workers:  # not further: what is read fills the memory
                        yield from ahead.popleft().result()
                while ahead:
                    yield from ahead.popleft().result()
            except concurrent.futures.process.BrokenProcessPool as error:
                raise KilledReaderError(
                    "a reading process was killed, perhaps for want of memory: run the same "
                    "command again with fewer --workers, it resumes where it was"
                ) from error
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


def one_clip(read: Callable[[Any], Clip | BadClip], part: Any) -> list[Clip | BadClip]:
    """Reads a part that holds one clip; `functools.partial(one_clip, read)` is a `read_part`."""
    return [read(part)]


def _clips_of(read_part: Callable) -> Callable[[Any], list[Clip | BadClip]]:
    return lambda part: list(read_part(part))


def _read_block(read_part: Callable, parts: Sequence[Any]) -> list[list[Clip | BadClip]]:
    return list(map(_clips_of(read_part), parts))


def _end_with_parent() -> None:
    """Ends this process when its parent is killed; otherwise it would wait forever.

    The queue would stay open, because this process holds both of its ends.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None  # only workers call this
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _stamped(part: Any) -> tuple:
    path = part if isinstance(part, pathlib.Path) else getattr(part, "path", None)
    if path is None:
        return (repr(part),)
    stat = path.stat()
    return repr(part), stat.st_size, stat.st_mtime_ns
