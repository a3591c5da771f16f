"""A store of the size of NTU RGB+D 120, or larger, whose frames are noise: what costs is its size.

made    frames and all, 29 kB a clip, streamed to disk
hollow  a clip table like that, and frames that are a hole in the file and read as zeros: for
        what depends on the number of clips alone, when their frames would not fit on the disk
"""

import json
import pathlib
from collections.abc import Iterator

import numpy as np

from igm_jax.data import Clip, SkeletonStore
from igm_jax.data.formats import ntu120
from igm_jax.data.store import files as store_files

NTU120_CLIPS = 114_480
_LENGTHS = (30, 131)  # frames; 80 in the mean
_TWO_BODIES = 0.22  # share of the clips: 26 of the 120 actions are of two people
_POOL = 1 << 14  # rows of noise, of which every clip is a part


def clips(count: int) -> Iterator[Clip]:
    """The same clips every time, named as those of NTU RGB+D are."""
    pool, bodies, length, start = _drawn(count)
    for i in range(count):
        rows = pool[start[i] : start[i] + bodies[i] * length[i]]
        frames = rows.reshape(bodies[i], length[i], 25, 3)
        action, performer, camera, setup = (int(x) for x in _identity(np.array(i)))
        name = f"S{setup:03}C{camera:03}P{performer:03}R001A{action + 1:03}"
        yield Clip(name, frames, action, performer, camera, setup)


def _drawn(count: int) -> tuple[np.ndarray, ...]:
    """The pool of rows; of each clip its bodies, its frames, and where in the pool it begins."""
    rng = np.random.default_rng(0)
    pool = rng.standard_normal((_POOL, 25, 3)).astype(np.float32)
    length = rng.integers(*_LENGTHS, count)
    bodies = np.where(rng.random(count) < _TWO_BODIES, 2, 1)
    return pool, bodies, length, rng.integers(0, _POOL - bodies * length)


def _identity(i: np.ndarray) -> tuple[np.ndarray, ...]:
    """Action from 0, performer, camera and setup from 1: no two clips have all four alike."""
    rest, action = np.divmod(i, 120)
    rest, performer = np.divmod(rest, 106)
    setup, camera = np.divmod(rest, 3)
    return action, performer + 1, camera + 1, setup + 1


def made(folder: pathlib.Path, count: int) -> pathlib.Path:
    """The store of so many clips in `folder`, which is written if it is not there yet."""
    path = folder / f"noise-{count}"
    if not path.exists():
        SkeletonStore.write(
            path,
            clips(count),
            layout=ntu120.LAYOUT,
            class_names=ntu120.CLASS_NAMES,
            source="noise",
            dataset=ntu120.DATASET,
        )
    return path


def hollow(folder: pathlib.Path, count: int) -> pathlib.Path:
    """As `made`, without frames; it opens, but `SkeletonStore.verify` refuses it."""
    path = folder / f"hollow-{count}"
    if path.exists():
        return path
    table = np.zeros(count, store_files.clip_dtype(20))
    table["name"] = np.arange(count).astype("<U20")
    _, table["bodies"], table["length"], _ = _drawn(count)
    columns = ("label", "subject", "camera", "setup")
    for column, values in zip(columns, _identity(np.arange(count)), strict=True):
        table[column] = values
    used = table["bodies"].astype(np.int64) * table["length"]
    table["offset"], rows = np.cumsum(used) - used, int(used.sum())
    path.mkdir(parents=True)
    np.save(path / store_files.CLIPS, table)
    shape = (rows, ntu120.LAYOUT.num_joints, 3)
    with open(path / store_files.FRAMES, "wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 4 * int(np.prod(shape)))
    meta = {
        "format": store_files.FORMAT,
        "version": store_files.VERSION,
        "dataset": ntu120.DATASET,
        "layout": ntu120.LAYOUT.to_dict(),
        "class_names": list(ntu120.CLASS_NAMES),
        "units": "metres",
        "cleaning": [],
        "source": "nothing",
        "sha256": {},
        "counts": {"clips": count, "rows": rows},
        "skipped": {"count": 0, "clips": []},
    }
    (path / store_files.META).write_text(json.dumps(meta), encoding="utf-8")
    return path
