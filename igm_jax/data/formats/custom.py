"""Reads your own skeletons: a folder of arrays, a table of labels and a list of joints.

    FOLDER/layout.json  the joints (keys: `custom_layout`)
    FOLDER/labels.csv   labels and people of the clips (columns: `custom_table`); optional
    FOLDER/classes.txt  the class names in their order, one a line; optional
    FOLDER/**/*.npy     a clip [T, V, C], or [M, T, V, C] of M bodies; C is 2 or 3
    FOLDER/**/*.npz     the same, as the only array or under the key `frames`
    FOLDER/**/*.csv     a row a frame, V · C columns (`custom_csv`)

A clip is named by its path below FOLDER without the suffix. Coordinates are kept as they are, but
missing joints are filled in (`gaps`). Without labels.csv all clips are unlabelled, which is
enough for pre-training. With labels.csv, a clip that it does not list is left out and reported.
Files and folders whose names begin with a dot are ignored.
"""

import dataclasses
import functools
import io
import pathlib
import zipfile
from collections.abc import Iterator

import numpy as np

from igm_jax.data.formats import custom_csv, custom_layout, custom_table, gaps, npy
from igm_jax.data.raw import RawData, one_clip
from igm_jax.data.store import BadClip, Clip
from igm_jax.errors import InputError
from igm_jax.skeleton import Layout

DATASET = "custom"
HOW_TO_GET = (
    "put clips (.npy, .npz or .csv) and a layout.json into FOLDER, as docs/own_data.md says, and "
    "run: python experiments/prepare_data.py --dataset=custom --source=FOLDER"
)

LAYOUT_FILE, TABLE_FILE, CLASSES_FILE = "layout.json", "labels.csv", "classes.txt"
_SUFFIXES = (".npy", ".npz", ".csv")
_MAX_BYTES = 1 << 28  # hours of one clip; a larger size means a damaged file


@dataclasses.dataclass(frozen=True)
class _File:
    """A clip that is not read yet; its repr holds all its values, as `RawData.parts` needs."""

    path: pathlib.Path
    name: str
    row: custom_table.Row


class _Unreadable(Exception):
    """A file that holds no clip, with the reason."""


def read(source: str | pathlib.Path, min_score: float = 0.0) -> RawData:
    """Finds all clips, in the order of their paths.

    Args:
      source: the folder.
      min_score: joints of a lower score are missing, where a table has scores.

    Returns:
      Clips [M, T, V, C]; a damaged file, a file without a row in labels.csv and a row without a
      file come as a `BadClip`.

    Raises:
      InputError: no such folder, no clip in it, or a layout.json, labels.csv or classes.txt that
        cannot be understood; names the file and the key or line.
    """
    gaps.Rules(min_score)  # refuses what is no score before anything is looked for
    folder = pathlib.Path(source).expanduser()
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder: {HOW_TO_GET}")
    files = dict(sorted(_clip_files(folder)))
    if not files:
        raise InputError(f"{folder}: no .npy, .npz or .csv clip in it: {HOW_TO_GET}")
    if min_score and not any(path.suffix.lower() == ".csv" for path in files.values()):
        raise InputError(
            f"min_score {min_score:g}: only .csv clips have scores, and {folder} has none: leave "
            "it out"
        )
    layout, units, missing = custom_layout.read_layout(folder / LAYOUT_FILE)
    rules = gaps.Rules(min_score, missing)
    table = custom_table.read_table(folder / TABLE_FILE, folder / CLASSES_FILE, list(files))
    parts: list[_File | BadClip] = []
    for file, path in files.items():
        row = table.rows.get(file) or BadClip(file, f"has no row in {TABLE_FILE}: add one")
        name = pathlib.PurePosixPath(file).with_suffix("").as_posix()
        parts.append(row if isinstance(row, BadClip) else _File(path, name, row))
    read_part = functools.partial(one_clip, functools.partial(_read_file, layout, rules))
    return RawData(
        [*parts, *table.without_file],
        read_part,
        DATASET,
        layout,
        table.class_names,
        rules.cleaning,
        units,
    )


def read_path(path: pathlib.Path, layout: Layout) -> Clip | BadClip:
    """Reads one clip of these joints, without a table of labels.

    A layout.json beside the file, if there is one, may name other joints, which is refused, and the
    value of missing coordinates.
    """
    rules, beside = gaps.DEFAULT, path.parent / LAYOUT_FILE
    if beside.is_file():
        own, _, missing = custom_layout.read_layout(beside)
        if own.joints != layout.joints:
            return BadClip(
                path.stem,
                f"has the {own.num_joints} joints of {own.name!r}, as {LAYOUT_FILE} beside it says",
            )
        rules = gaps.Rules(value=missing)
    return _read_file(layout, rules, _File(path, path.stem, custom_table.Row()))


def _clip_files(folder: pathlib.Path) -> Iterator[tuple[str, pathlib.Path]]:
    """Pairs of relative name and path, one for every clip."""
    for path in folder.rglob("*"):
        below = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in below.parts)
        if path.suffix.lower() in _SUFFIXES and not hidden and path.is_file():
            if below.as_posix() != TABLE_FILE:
                yield below.as_posix(), path


def _read_file(layout: Layout, rules: gaps.Rules, part: _File | BadClip) -> Clip | BadClip:
    if isinstance(part, BadClip):
        return part
    if part.path.stat().st_size > _MAX_BYTES:
        return BadClip(part.name, f"is larger than {_MAX_BYTES} bytes: cut it into clips")
    content = part.path.read_bytes()  # an OSError comes from the disk, not from the format
    try:
        if part.path.suffix.lower() == ".csv":
            frames, scores = custom_csv.read(content, layout)
        else:
            frames, scores = _READERS[part.path.suffix.lower()](content), None
        clip = Clip(part.name, _checked(frames, layout), *dataclasses.astuple(part.row))
    except (_Unreadable, InputError) as error:
        return BadClip(part.name, f"{part.path.name} {error}")
    return gaps.filled(clip, layout, scores, rules)


def _read_npy(content: bytes) -> np.ndarray:
    return _read_array(io.BytesIO(content), len(content))


def _read_npz(content: bytes) -> np.ndarray:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            if "frames" not in members and len(members) != 1:
                names = ", ".join(sorted(members)) or "nothing"
                raise _Unreadable(f"holds {names}: it needs one array, or one named frames")
            member = members.get("frames") or next(iter(members.values()))
            if member.file_size > _MAX_BYTES:
                raise _Unreadable(f"is larger than {_MAX_BYTES} bytes unpacked: cut it into clips")
            with archive.open(member) as file:  # a BufferedIOBase, unlike typeshed says
                return _read_array(file, member.file_size)  # pyright: ignore[reportArgumentType]
    except _Unreadable:
        raise
    except Exception as error:  # zipfile and zlib raise many types for damaged files
        raise _Unreadable(f"is damaged ({error!r})") from error


def _read_array(file: io.BufferedIOBase, size: int) -> np.ndarray:
    """Reads an array in NumPy's format."""
    try:
        shape, fortran, dtype = npy.read_header(file, size)
    except InputError as error:
        raise _Unreadable(str(error)) from error
    return np.ndarray(shape, dtype, file.read(), order="F" if fortran else "C")


_READERS = {".npy": _read_npy, ".npz": _read_npz}


def _checked(frames: np.ndarray, layout: Layout) -> np.ndarray:
    """[M, T, V, C] of floating numbers."""
    joints = layout.num_joints
    if frames.ndim not in (3, 4) or frames.shape[-2] != joints or frames.shape[-1] not in (2, 3):
        raise _Unreadable(
            f"has shape {list(frames.shape)}, not [frames, {joints}, 2 or 3] or "
            f"[bodies, frames, {joints}, 2 or 3]"
        )
    frames = frames[None] if frames.ndim == 3 else frames
    return frames if frames.dtype.kind == "f" else frames.astype(np.float64)
