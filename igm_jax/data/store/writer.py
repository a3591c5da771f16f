"""Writes a skeleton store as a stream, checks each clip, and publishes it when complete."""

import contextlib
import json
import os
import pathlib
import secrets
import shutil
from collections.abc import Iterable, Iterator
from typing import IO, Any

import numpy as np

from igm_jax.arguments import check_choice
from igm_jax.data.store.clip import BadClip, Clip
from igm_jax.data.store.files import CLIPS, FORMAT, FRAMES, META, VERSION, clip_dtype, sha256
from igm_jax.errors import InputError
from igm_jax.skeleton import Layout

_MAX_NAME = 256  # the table's name column is as wide as the longest


def write_store(
    path: str | os.PathLike,
    clips: Iterable[Clip | BadClip],
    facts: dict[str, Any],
    *,
    overwrite: bool,
    on_bad: str,
) -> list[BadClip]:
    """Like `SkeletonStore.write`, with the descriptive keys of meta.json in `facts`."""
    target = checked_target(path, overwrite)
    with _unfinished(target) as folder:
        with StoreFiles(folder, facts, on_bad) as files:
            for clip in clips:
                files.append(clip)
            files.finish(target)
        checked_target(target, overwrite)  # again: it may have appeared meanwhile
        publish(folder, target)
    return files.skipped


class StoreFiles:
    """The files of a store while clips are added to it; a context manager.

    Args:
      folder: where they are, or shall be.
      facts: the descriptive keys of meta.json.
      on_bad: `"refuse"` or `"skip"`, see `SkeletonStore.write`.

    Attributes:
      records: a row of the clip table for each clip, as a tuple.
      skipped: the clips left out.
      rows: how many rows of frames there are.
      channels: coordinates of a joint; None before the first good clip, which decides.
      filled: clips in which missing joints were filled in, and then for each joint how many.
    """

    def __init__(self, folder: pathlib.Path, facts: dict[str, Any], on_bad: str):
        check_choice("on_bad", on_bad, ("refuse", "skip"))
        self.records: list[tuple] = []
        self.skipped: list[BadClip] = []
        self.rows = 0
        self._folder, self._facts, self._on_bad = folder, facts, on_bad
        self._layout = Layout.from_dict(facts["layout"])
        self.channels: int | None = None
        self.filled = [0] * (1 + self._layout.num_joints)
        self._names: set[str] = set()

    def __enter__(self) -> "StoreFiles":
        # Neither truncated nor read: `restore` resumes an interrupted writer.
        self._file = open(os.open(self._folder / FRAMES, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()

    def append(self, clip: Clip | BadClip) -> None:
        """Adds a clip, or refuses or skips it.

        Raises:
          InputError: it is bad, and `on_bad` is refuse.
        """
        if isinstance(clip, BadClip):
            bad = clip
        elif reason := self._fault(clip):
            bad = BadClip(str(clip.name), reason)
        else:
            self._write(clip)
            return
        if self._on_bad == "refuse" and not bad.published:
            raise InputError(
                f"clip {bad.name!r}: {bad.reason}: repair the source, or have bad clips left out "
                '(prepare_data.py without --strict, or on_bad="skip")'
            )
        self.skipped.append(bad)

    def restore(
        self,
        records: list[tuple],
        skipped: list[BadClip],
        channels: int | None,
        filled: list[int] | None = None,
    ) -> bool:
        """Resumes after the clips of an interrupted writer; returns False if they are missing."""
        rows = sum(bodies * length for *_, bodies, _, length in records)
        start = self._write_header(0, channels) if channels else 0
        size = start + rows * self._layout.num_joints * (channels or 0) * 4
        if os.fstat(self._file.fileno()).st_size < size:
            return False
        self._file.truncate(size)
        self._file.seek(size)
        self.records, self.skipped, self.rows = records, skipped, rows
        self.channels, self._names = channels, {record[0] for record in records}
        self.filled = list(filled or [0] * (1 + self._layout.num_joints))
        return True

    def sync(self) -> None:
        """Returns when all frames so far are on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def finish(self, target: pathlib.Path) -> None:
        """Completes the files.

        Raises:
          InputError: there is no clip; names `target`.
        """
        if not self.records:
            raise InputError(
                f"{target}: no clip to write ({len(self.skipped)} skipped{self._why()}): check the "
                "source"
            )
        # NumPy pads every header so that the first axis can grow without moving the data.
        self._write_header(self.rows, self.channels)
        self.sync()
        table = np.array(
            self.records, dtype=clip_dtype(max(len(record[0]) for record in self.records))
        )
        with _durable(self._folder / CLIPS) as file:
            np.save(file, table, allow_pickle=False)
        meta = {
            "format": FORMAT,
            "version": VERSION,
            **self._facts,
            "counts": {"clips": len(self.records), "rows": self.rows},
            "skipped": {
                "count": len(self.skipped),
                "clips": [[bad.name, bad.reason] for bad in self.skipped],
            },
            "filled": {"clips": self.filled[0], "joints": self.filled[1:]},
            "sha256": {name: sha256(self._folder / name) for name in (FRAMES, CLIPS)},
        }
        with _durable(self._folder / META) as file:
            # A file name that is no UTF-8 gets a "?" for each byte that has no character.
            text = json.dumps(meta, indent=1, ensure_ascii=False)
            file.write(text.encode(errors="replace"))

    def _why(self) -> str:
        bad = next(iter(self.skipped), None)
        return f"; the first, {bad.name}: {bad.reason}" if bad else ""

    def _write(self, clip: Clip) -> None:
        bodies, length, _, self.channels = clip.frames.shape
        if not self.records:
            self._write_header(0, self.channels)
        self._file.write(_float32(clip.frames).data)
        self._names.add(clip.name)
        self.records.append((*clip.facts, bodies, self.rows, length))
        self.rows += bodies * length
        if any(clip.filled):
            self.filled = [n + m for n, m in zip(self.filled, (1, *clip.filled), strict=True)]

    def _write_header(self, rows: int, channels: int | None) -> int:
        shape = (rows, self._layout.num_joints, channels)
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        self._file.seek(0)
        np.lib.format.write_array_header_1_0(self._file, header)
        return self._file.tell()

    def _fault(self, clip: Clip) -> str | None:
        """Reason why `clip` cannot be stored, or None."""
        name, label, *identity = clip.facts
        num_classes = len(self._facts["class_names"])
        if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or not name.isprintable():
            return f"its name is not 1 to {_MAX_NAME} printable characters"
        if name in self._names:
            return "a clip of this name came before"
        if not -1 <= label < num_classes:
            return f"label {label} is outside the {num_classes} class names (-1 is unknown)"
        if not all(0 <= number < 2**31 for number in identity):
            return f"subject, camera, setup, split {identity} are not all 0 (unknown) or positive"
        if fault := self._fault_of_frames(clip.frames):
            return fault
        if len(clip.filled) not in (0, self._layout.num_joints):
            return f"filled counts {len(clip.filled)} joints, not {self._layout.num_joints}"
        return None

    def _fault_of_frames(self, frames: np.ndarray) -> str | None:
        if frames.ndim != 4 or not np.issubdtype(frames.dtype, np.floating):
            return f"frames are {frames.dtype} {list(frames.shape)}, not floating [M, T, V, C]"
        bodies, length, joints, channels = frames.shape
        if bodies == 0:
            return "it has no body"
        if length == 0:
            return "it has no frame"
        if joints != self._layout.num_joints:
            layout = self._layout
            return f"it has {joints} joints, layout {layout.name!r} has {layout.num_joints}"
        if channels == 0 or channels != (self.channels or channels):
            return f"it has {channels} coordinates a joint, the clips before have {self.channels}"
        if not np.isfinite(_float32(frames)).all():
            return "it has NaN or infinite coordinates"
        return None


def checked_target(path: str | os.PathLike, overwrite: bool) -> pathlib.Path:
    """`path` made absolute.

    Raises:
      InputError: `path` holds something else than a store, or overwrite is off. Only a store is
        ever replaced, whole or damaged, so no other files are lost.
    """
    target = pathlib.Path(path).expanduser().resolve()
    if not target.exists():
        return target
    if not overwrite:
        raise InputError(f"{target}: exists already: choose another folder, or set --overwrite")
    strange = (
        {entry.name for entry in target.iterdir()} - {FRAMES, CLIPS, META}
        if target.is_dir()
        else {target.name}
    )
    if strange:
        raise InputError(
            f"{target}: {min(strange)!r} is not part of a skeleton store, so it is not "
            "overwritten: move it away, or choose another folder"
        )
    return target


@contextlib.contextmanager
def _unfinished(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """A new hidden folder beside `target`, removed unless it was renamed by then."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = _sibling(target, "writing")
    folder.mkdir()
    try:
        with named_errors(target):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def named_errors(target: pathlib.Path) -> Iterator[None]:
    """Adds the file name to errors of the disk, which a failed write() does not know."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(target)
        raise


def _sibling(target: pathlib.Path, what: str) -> pathlib.Path:
    return target.parent / f".{target.name}.{what}-{os.getpid()}-{secrets.token_hex(4)}"


def publish(folder: pathlib.Path, target: pathlib.Path) -> None:
    """Gives a complete store its final name."""
    if not target.exists():
        folder.rename(target)
        return
    old = _sibling(target, "replaced")
    target.rename(old)
    try:
        folder.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old)


def _float32(frames: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # overflow becomes infinity, which is refused
        return np.ascontiguousarray(frames, dtype="<f4")


@contextlib.contextmanager
def _durable(file: pathlib.Path) -> Iterator[IO[bytes]]:
    """Writes a file whose bytes reach the disk before the folder gets its final name."""
    with open(file, "wb") as out:
        yield out
        out.flush()
        os.fsync(out.fileno())
