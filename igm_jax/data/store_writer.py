"""Writing a skeleton store: streamed, checked clip by clip, and there only when it is complete."""

import contextlib
import json
import os
import pathlib
import secrets
import shutil
from collections.abc import Iterable, Iterator
from typing import IO, Any

import numpy as np

from igm_jax.data.store import BadClip, Clip
from igm_jax.data.store_files import CLIPS, FORMAT, FRAMES, META, VERSION, clip_dtype, sha256
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
    """`SkeletonStore.write` with the descriptive keys of meta.json gathered in `facts`."""
    if on_bad not in ("refuse", "skip"):
        raise InputError(f"on_bad {on_bad!r} is unknown: choose refuse or skip")
    target = pathlib.Path(path).expanduser().resolve()
    _check_target(target, overwrite)
    skipped: list[BadClip] = []
    with _unfinished(target) as folder:
        good = _good_clips(clips, facts, skipped, on_bad)
        rows, records = _write_frames(folder / FRAMES, good)
        if not records:
            raise InputError(
                f"{target}: no clip to write ({len(skipped)} skipped): check the source"
            )
        _write_table(folder / CLIPS, records)
        meta = {
            "format": FORMAT,
            "version": VERSION,
            **facts,
            "counts": {"clips": len(records), "rows": rows},
            "skipped": {
                "count": len(skipped),
                "clips": [[bad.name, bad.reason] for bad in skipped],
            },
            "sha256": {name: sha256(folder / name) for name in (FRAMES, CLIPS)},
        }
        with _durable(folder / META) as file:
            file.write(json.dumps(meta, indent=1, ensure_ascii=False).encode())
        _check_target(target, overwrite)  # again: it may have appeared meanwhile
        _publish(folder, target)
    return skipped


def _check_target(target: pathlib.Path, overwrite: bool) -> None:
    """Only a store, whole or damaged, is ever replaced: nobody's other files go with it."""
    if not target.exists():
        return
    if not overwrite:
        raise InputError(f"{target}: exists already: choose another folder, or set overwrite")
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


@contextlib.contextmanager
def _unfinished(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """A new hidden folder beside `target`, removed unless it was renamed by then."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = _sibling(target, "writing")
    folder.mkdir()
    try:
        yield folder
    except OSError as error:
        if error.filename is None:  # a failed write() does not know its file
            error.filename = str(target)
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sibling(target: pathlib.Path, what: str) -> pathlib.Path:
    return target.parent / f".{target.name}.{what}-{os.getpid()}-{secrets.token_hex(4)}"


def _publish(folder: pathlib.Path, target: pathlib.Path) -> None:
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


def _good_clips(
    clips: Iterable[Clip | BadClip], facts: dict[str, Any], skipped: list[BadClip], on_bad: str
) -> Iterator[Clip]:
    """Yields the clips that pass; the others are raised or, if told so, added to `skipped`."""
    layout = Layout.from_dict(facts["layout"])
    seen: set[str] = set()
    channels: int | None = None  # the first good clip decides
    for clip in clips:
        if isinstance(clip, BadClip):
            bad = clip
        elif reason := _fault(clip, layout, channels, len(facts["class_names"]), seen):
            bad = BadClip(str(clip.name), reason)
        else:
            seen.add(clip.name)
            channels = clip.frames.shape[-1]
            yield clip
            continue
        if on_bad == "refuse":
            raise InputError(
                f'clip {bad.name!r}: {bad.reason}: repair the source, or set on_bad to "skip"'
            )
        skipped.append(bad)


def _fault(
    clip: Clip, layout: Layout, channels: int | None, num_classes: int, seen: set[str]
) -> str | None:
    """Why `clip` cannot be stored, or None."""
    name, label, *identity = clip.facts
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or not name.isprintable():
        return f"its name is not 1 to {_MAX_NAME} printable characters"
    if name in seen:
        return "a clip of this name came before"
    if not -1 <= label < num_classes:
        return f"label {label} is outside the {num_classes} class names (-1 is unknown)"
    if not all(0 <= number < 2**31 for number in identity):
        return f"subject, camera, setup {identity} are not all 0 (unknown) or positive"
    frames = clip.frames
    if frames.ndim != 4 or not np.issubdtype(frames.dtype, np.floating):
        return f"frames are {frames.dtype} {list(frames.shape)}, not floating [M, T, V, C]"
    bodies, length, joints, coordinates = frames.shape
    if bodies == 0:
        return "it has no body"
    if length == 0:
        return "it has no frame"
    if joints != layout.num_joints:
        return f"it has {joints} joints, layout {layout.name!r} has {layout.num_joints}"
    if coordinates == 0 or coordinates != (channels or coordinates):
        return f"it has {coordinates} coordinates a joint, the clips before have {channels}"
    if not np.isfinite(_float32(frames)).all():
        return "it has NaN or infinite coordinates"
    return None


def _float32(frames: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # what overflows is infinite, and refused as such
        return np.ascontiguousarray(frames, dtype="<f4")


def _write_frames(file: pathlib.Path, clips: Iterable[Clip]) -> tuple[int, list[tuple]]:
    """Appends clip after clip; returns the number of rows and the records of the clip table."""
    records, rows, shape = [], 0, (0, 0)
    with _durable(file) as out:
        for clip in clips:
            bodies, length, *shape = clip.frames.shape
            if not records:
                _write_header(out, (0, *shape))
            records.append((*clip.facts, bodies, rows, length))
            out.write(_float32(clip.frames).data)
            rows += bodies * length
        # NumPy pads every header so that the first axis can grow without moving the data.
        out.seek(0)
        _write_header(out, (rows, *shape))
    return rows, records


def _write_header(out: IO[bytes], shape: tuple[int, ...]) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(out, header)


def _write_table(file: pathlib.Path, records: list[tuple]) -> None:
    table = np.array(records, dtype=clip_dtype(max(len(record[0]) for record in records)))
    with _durable(file) as out:
        np.save(out, table, allow_pickle=False)


@contextlib.contextmanager
def _durable(file: pathlib.Path) -> Iterator[IO[bytes]]:
    """A file whose bytes are on the disk before the folder gets its final name."""
    with open(file, "wb") as out:
        yield out
        out.flush()
        os.fsync(out.fileno())
