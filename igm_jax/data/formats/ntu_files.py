"""Finds the files of NTU RGB+D 60 and 120 in a folder or in the downloaded zip archives.

A clip is a file SsssCcccPpppRrrrAaaa.skeleton: setup, camera, performer, replication and action,
each counted from 1. Only the last part of a path is used, and entries of an archive are read
into memory, so hostile paths in an archive do no harm.
"""

import dataclasses
import functools
import io
import pathlib
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence

from igm_jax.data.formats import ntu_cleaning, ntu_missing, ntu_text
from igm_jax.data.formats.archives import UNREADABLE
from igm_jax.data.store import BadClip, Clip
from igm_jax.errors import InputError

_NAME = re.compile(r"S\d{3}C\d{3}P\d{3}R\d{3}A\d{3}", re.ASCII)
_FILE = re.compile(rf"({_NAME.pattern})\.skeleton", re.ASCII)
_MAX_BYTES = 64 << 20  # ten times the longest clip; a larger entry is hostile
_OFFICIAL = "has missing or incomplete skeletons, by the official list"

_UNREADABLE = (*UNREADABLE, OSError, InputError)


@dataclasses.dataclass(frozen=True)
class File:
    """The place of the text of a clip.

    Attributes:
      name: of the clip.
      path: the file, or an archive.
      entry: of the archive.
      listed: the reason in a list of missing skeletons, if the clip is in one.
    """

    name: str
    path: pathlib.Path
    entry: str | None = None
    listed: str | None = None

    def read(self) -> bytes:
        """Reads the text; raises one of `_UNREADABLE` if it is missing or too long."""
        with self.path.open("rb") if self.entry is None else _entry(self.path, self.entry) as file:
            text = file.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise InputError(f"is longer than {_MAX_BYTES >> 20} MB")
        return text


def find(
    source: str | pathlib.Path,
    *,
    num_actions: int,
    num_setups: int,
    how_to_get: str,
    steps: Sequence[str] = ntu_cleaning.DEFAULT_STEPS,
) -> tuple[list[File], Callable[[File], list[Clip | BadClip]]]:
    """Finds all clips of a part of the data set, in the order of their names.

    Args:
      source: a folder, searched for files and archives at any depth, or one archive. What is there
        twice, unpacked and in an archive, is read once.
      num_actions: clips of higher actions are passed over.
      num_setups: clips of higher setups are passed over.
      how_to_get: what to say if there is nothing.
      steps: of the cleaning, keys of `ntu_cleaning.STEPS`.

    Returns:
      `(files, read_file)`, parts and reader of a `RawData`. Clips have one or two bodies
      [M, T, 25, 3]. A file that is damaged or shows no usable body is read as a `BadClip`, and so
      are the samples with missing or incomplete skeletons that publications leave out (302 and
      535, `ntu_missing.NAMES`), and those in further lists (…missing_skeletons….txt) in the folder.

    Raises:
      InputError: no such folder or archive, a damaged archive, no clip in it, or an unknown step.
    """
    ntu_cleaning.check_steps(steps)
    source = pathlib.Path(source).expanduser()
    if not source.exists():
        raise InputError(f"{source}: no such folder or archive: {how_to_get}")
    paths = sorted(source.rglob("*")) if source.is_dir() else [source]
    files: dict[str, File] = {}
    for file in _find(paths):
        setup, *_, action = _numbers(file.name)
        if 1 <= setup <= num_setups and 1 <= action <= num_actions:
            files.setdefault(file.name, file)
    if not files:
        raise InputError(
            f"{source}: no SsssCcccPpppRrrrAaaa.skeleton of setups 1 to {num_setups} and actions "
            f"1 to {num_actions} in it: {how_to_get}"
        )
    missing = _missing(paths)
    found = [
        dataclasses.replace(files[name], listed=missing[name]) if name in missing else files[name]
        for name in sorted(files)
    ]
    return found, functools.partial(_read_file, tuple(steps))


def read_clip(
    name: str, text: bytes, steps: Sequence[str] = ntu_cleaning.DEFAULT_STEPS
) -> Clip | BadClip:
    """Builds a clip from its name and its text."""
    setup, camera, performer, _, action = _numbers(name)
    try:
        frames = ntu_cleaning.clean(ntu_text.parse(text), steps)
    except InputError as error:
        return BadClip(name, str(error))
    return Clip(name, frames, action - 1, performer, camera, setup)


def read_path(path: pathlib.Path) -> Clip | BadClip:
    """Reads one file of any name; label and people are unknown unless the name says them."""
    file = File(path.stem, path)
    try:
        text = file.read()
    except _UNREADABLE as error:
        return BadClip(file.name, f"cannot be read ({error})")
    if _NAME.fullmatch(file.name):
        return read_clip(file.name, text)
    try:
        return Clip(file.name, ntu_cleaning.clean(ntu_text.parse(text)))
    except InputError as error:
        return BadClip(file.name, str(error))


def _numbers(name: str) -> tuple[int, ...]:
    """Setup, camera, performer, replication and action."""
    return tuple(int(number) for number in re.findall(r"\d+", name))


def _find(paths: Sequence[pathlib.Path]) -> Iterator[File]:
    """Yields clips with their places: first all files, then each archive."""
    for path in paths:
        if match := _FILE.fullmatch(path.name):
            yield File(match[1], path)
    for path in paths:
        if path.is_file() and path.suffix == ".zip":
            with _open(path) as archive:
                for entry in sorted(archive.namelist()):
                    if match := _FILE.fullmatch(re.split(r"[/\\]", entry)[-1]):
                        yield File(match[1], path, entry)


def _missing(paths: Sequence[pathlib.Path]) -> dict[str, str]:
    """Names in the official list and in the lists among the paths, with their reasons."""
    further = {
        match[0]: f"is listed in {path.name}"
        for path in paths
        if path.match("*missing_skeletons*.txt")
        for match in _NAME.finditer(path.read_text(encoding="latin-1"))
    }
    return further | dict.fromkeys(ntu_missing.NAMES, _OFFICIAL)


def _open(path: pathlib.Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise InputError(f"{path}: {error}: download it again") from error


def _entry(path: pathlib.Path, entry: str) -> io.BufferedIOBase:
    stat = path.stat()
    file = _archive(path, stat.st_size, stat.st_mtime_ns).open(entry)
    return file  # pyright: ignore[reportReturnType]  # typeshed: IO[bytes]


@functools.lru_cache(maxsize=4)
def _archive(path: pathlib.Path, size: int, mtime_ns: int) -> zipfile.ZipFile:
    """Opens an archive and caches it, because reading its index for every clip is slow."""
    return _open(path)


def _read_file(steps: Sequence[str], file: File) -> list[Clip | BadClip]:
    if file.listed is not None:
        return [BadClip(file.name, file.listed, published=True)]
    try:
        text = file.read()
    except _UNREADABLE as error:
        return [BadClip(file.name, f"cannot be read ({error})")]
    return [read_clip(file.name, text, steps)]
