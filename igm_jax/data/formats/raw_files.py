"""Reads raw files of several formats one by one, without preparing a store."""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator

from igm_jax.data.formats import custom, ntu_files, nw_ucla, utd_mhad
from igm_jax.data.store import BadClip, Clip, SkeletonStore
from igm_jax.data.store.files import META
from igm_jax.errors import InputError
from igm_jax.joint_map import canonical
from igm_jax.skeleton import KINECT20, MHAD20, NTU25, Layout

# Formats that define their joints: suffix → layout and reader of a file.
_OF_DATA_SETS = {
    ".skeleton": (NTU25, ntu_files.read_path),
    ".json": (KINECT20, nw_ucla.read_path),
    ".mat": (MHAD20, utd_mhad.read_path),
}
_OWN = (".npy", ".npz", ".csv")  # of any joints
SUFFIXES = (*_OF_DATA_SETS, *_OWN)
_NO_CLIPS = (custom.LAYOUT_FILE, custom.TABLE_FILE)


def read_paths(
    paths: Iterable[str | os.PathLike], layout: Layout
) -> Iterator[tuple[str, Clip | BadClip]]:
    """Yields every clip with its path, in the order of the paths.

    Args:
      paths: files, stores, or folders that are searched for files at any depth.
      layout: the joints that the clips should have. Arrays and tables are taken to have them.

    Yields:
      `(path, clip)`, or the path and why it holds no clip of these joints. The name of a clip is
      its path, and in a store its name there.

    Raises:
      InputError: no such file, an unknown format, a folder without clips, or a damaged store.
    """
    for source in _sources(paths):
        if isinstance(source, SkeletonStore):
            yield from _of_store(source, layout)
        else:
            yield source.as_posix(), _read(source, layout)


def count_clips(paths: Iterable[str | os.PathLike]) -> int:
    """How many clips `read_paths` yields; nothing is read but the index of a store.

    Raises:
      InputError: see `read_paths`.
    """
    sources = _sources(paths)
    return sum(len(x) if isinstance(x, SkeletonStore) else 1 for x in sources)


def read_clips(
    paths: Iterable[str | os.PathLike],
    layout: Layout,
    skipped: Callable[[str, BadClip], None] | None = None,
    problem: Callable[[Clip], str] = lambda _: "",
) -> Iterator[Clip]:
    """Yields the clips of `read_paths` that can be read and used.

    Args:
      paths: see `read_paths`.
      layout: the joints that the clips should have.
      skipped: is given the path and the reason of every other one; None refuses the first.
      problem: why a clip that can be read cannot be used, and what to do; "" if it can.

    Raises:
      InputError: see `read_paths`; also, without `skipped`, for a clip that cannot be read or used.
    """
    for path, clip in read_paths(paths, layout):
        advice = ": correct it" if isinstance(clip, BadClip) else ""
        reason = clip.reason if isinstance(clip, BadClip) else problem(clip)
        if isinstance(clip, Clip) and not reason:
            yield clip
        elif skipped is None:
            raise InputError(f"{path}: {reason}{advice}, or leave it out with --skip")
        else:
            skipped(path, BadClip(clip.name, reason))


def _sources(paths: Iterable[str | os.PathLike]) -> Iterator[pathlib.Path | SkeletonStore]:
    """Yields stores and files."""
    for path in map(pathlib.Path, paths):
        path = path.expanduser()
        if not path.exists():
            raise InputError(f"{path}: no such file or folder")
        if (path / META).is_file():
            yield SkeletonStore.open(path)
        else:
            yield from _files(path)


def _of_store(store: SkeletonStore, layout: Layout) -> Iterator[tuple[str, Clip | BadClip]]:
    wrong = _other_joints(store.layout, layout)
    for i in range(len(store)):
        clip = store[i]
        yield f"{store.path}/{clip.name}", BadClip(clip.name, wrong) if wrong else clip


def _files(path: pathlib.Path) -> list[pathlib.Path]:
    known = ", ".join(SUFFIXES)
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise InputError(
                f"{path}: is no {known} and no store: convert it with prepare_data.py first"
            )
        return [path]
    found = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in SUFFIXES
        and file.name not in _NO_CLIPS
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
    )
    if not found:
        raise InputError(f"{path}: is no store, and no {known} is in it")
    return found


def _read(file: pathlib.Path, layout: Layout) -> Clip | BadClip:
    suffix = file.suffix.lower()
    own, read = _OF_DATA_SETS.get(
        suffix, (layout, functools.partial(custom.read_path, layout=layout))
    )
    wrong = _other_joints(own, layout)
    if not wrong and not file.stat().st_size:
        wrong = "is empty"
    clip = BadClip(file.stem, wrong) if wrong else read(file)
    if isinstance(clip, BadClip):  # some readers begin with the name, which is said already
        return BadClip(file.as_posix(), clip.reason.removeprefix(f"{file.name} "))
    return dataclasses.replace(clip, name=file.as_posix())


def _other_joints(found: Layout, wanted: Layout) -> str:
    """Why joints do not fit; "" if they do, be it under synonyms."""
    if [*map(canonical, found.joints)] == [*map(canonical, wanted.joints)]:
        return ""
    return (
        f"has the {found.num_joints} joints of {found.name}, not the {wanted.num_joints} of "
        f"{wanted.name}"
    )
