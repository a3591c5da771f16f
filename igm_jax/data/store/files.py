"""The three files of a skeleton store, and the checks that opening them makes."""

import hashlib
import json
import pathlib
from typing import Any

import numpy as np

from igm_jax.errors import InputError
from igm_jax.skeleton import Layout

FORMAT = "igm_jax skeleton store"
VERSION = 2  # 1 had no column split
FRAMES, CLIPS, META = "frames.npy", "clips.npy", "meta.json"
_CHUNK = 1 << 16  # clips that are checked together


def clip_dtype(name_width: int) -> np.dtype:
    """One row of the clip table; `igm_jax.data.Clip` says what the columns mean."""
    return np.dtype(
        [("name", f"<U{name_width}"), ("label", "<i4"), ("subject", "<i4"), ("camera", "<i4"),
         ("setup", "<i4"), ("split", "<i4"),
         ("bodies", "<i4"), ("offset", "<i8"), ("length", "<i4")]
    )  # fmt: skip


def sha256(path: pathlib.Path) -> str:
    """Checksum of a file, as `sha256sum` prints it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def damaged(file: pathlib.Path, check: str) -> InputError:
    """Error for a `file` that fails `check`."""
    check = " ".join(check.split())  # NumPy's message may span lines
    return InputError(f"{file}: {check}: prepare the data set again with prepare_data.py")


def read_meta(file: pathlib.Path) -> tuple[dict[str, Any], Layout]:
    """Reads meta.json and checks the keys that the program uses."""
    if not file.is_file():
        raise InputError(
            f"{file}: no such file, so {file.parent} is no skeleton store: give the folder that "
            "prepare_data.py wrote (its --out)"
        )
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
        found, version = meta["format"], meta["version"]
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise damaged(file, f"is not the JSON object of a skeleton store ({error!r})") from error
    if found != FORMAT or type(version) is not int:
        raise damaged(file, f'says format {found!r}, not "{FORMAT}"')
    if version != VERSION:
        age, cure = ("newer", "update igm_jax") if version > VERSION else ("older", "")
        cure = cure or "prepare the data set again with prepare_data.py"
        raise InputError(
            f"{file}: format version {version} is {age} than the {VERSION} read here: {cure}"
        )
    types = {
        "dataset": str,
        "class_names": list,
        "units": str,
        "source": str,
        "cleaning": list,
        "counts": dict,
        "sha256": dict,
        "skipped": dict,
        "layout": dict,
    }
    for key, kind in types.items():
        if not isinstance(meta.get(key), kind):
            raise damaged(file, f"key {key!r} is missing or no {kind.__name__}")
    for key, count in (("counts", "clips"), ("counts", "rows"), ("skipped", "count")):
        if type(meta[key].get(count)) is not int:
            raise damaged(file, f"key {key}.{count} is missing or no integer")
    _check_filled(file, meta)
    if not all(isinstance(name, str) for name in meta["class_names"]):
        raise damaged(file, "class_names are not all strings")
    try:
        return meta, Layout.from_dict(meta["layout"])
    except (TypeError, ValueError) as error:
        raise damaged(file, f"key 'layout' is no layout ({error})") from error


def _check_filled(file: pathlib.Path, meta: dict[str, Any]) -> None:
    """Raises InputError if `filled` is damaged; stores of older versions have no such key."""
    filled = meta.get("filled", {"clips": 0, "joints": []})
    joints = filled.get("joints") if isinstance(filled, dict) else None
    counts = [filled.get("clips"), *joints] if isinstance(joints, list) else [None]
    if not all(type(count) is int and count >= 0 for count in counts):
        raise damaged(file, "key 'filled' does not count clips and joints")


def map_array(file: pathlib.Path) -> np.ndarray:
    """Memory-maps an .npy file; unlike `np.load`, it accepts no pickles and no zip archives."""
    try:
        array = np.lib.format.open_memmap(file, mode="r")
    except FileNotFoundError:
        raise damaged(file, "no such file") from None
    except Exception as error:  # a broken header surfaces as whatever Python's tokenizer raises
        raise damaged(file, f"is truncated or no plain .npy file ({error})") from error
    size, promised = file.stat().st_size, array.offset + array.nbytes
    if size != promised or not array.flags.c_contiguous:
        raise damaged(file, f"has {size} bytes where its header promises {promised} in C order")
    return array


def check_table(file: pathlib.Path, clips: np.ndarray, rows: int, meta: dict[str, Any]) -> None:
    """Raises InputError unless the clips tile the rows of `frames` one after the other.

    It keeps nothing, so opening takes no more memory for more clips. Unique names are not
    checked here, because that needs all names at once: see `check_names`.
    """
    names = clips.dtype.names or ()
    width = clips.dtype["name"].itemsize // 4 if "name" in names else 1
    if clips.ndim != 1 or len(clips) == 0 or clips.dtype != clip_dtype(width):
        raise damaged(file, f"is {clips.dtype} {list(clips.shape)}, no clip table")
    if len(clips) != meta["counts"]["clips"]:
        raise damaged(file, f"{len(clips)} clips, {META} says {meta['counts']['clips']}")
    end = 0
    for start in range(0, len(clips), _CHUNK):
        end = _check_chunk(file, clips[start : start + _CHUNK], end, rows, meta)
    if end != rows:
        raise _gaps(file, rows)


def check_names(file: pathlib.Path, clips: np.ndarray) -> None:
    """Raises InputError if two clips have one name; sorts a copy of all names."""
    names = np.sort(clips["name"])
    same = np.flatnonzero(names[1:] == names[:-1])
    if len(same):
        raise damaged(file, f"two clips have one name, {str(names[same[0]])!r}")


def _check_chunk(
    file: pathlib.Path, clips: np.ndarray, end: int, rows: int, meta: dict[str, Any]
) -> int:
    """Checks clips that follow `end` rows of frames; returns how many rows there are after them."""
    column = {name: np.asarray(clips[name]) for name in clips.dtype.names or ()}
    used = column["bodies"].astype(np.int64) * column["length"]
    if column["bodies"].min() < 1 or column["length"].min() < 1:
        raise damaged(file, "a clip has no bodies or no frames")
    # Check single clips first, so that the running sum cannot overflow.
    if used.max() > rows:
        raise _gaps(file, rows)
    after = end + np.cumsum(used)
    if not np.array_equal(column["offset"], after - used) or after[-1] > rows:
        raise _gaps(file, rows)
    if column["label"].min() < -1 or column["label"].max() >= len(meta["class_names"]):
        raise damaged(file, "a label is outside the class names")
    if min(column[name].min() for name in ("subject", "camera", "setup", "split")) < 0:
        raise damaged(file, "a subject, camera, setup or split is negative")
    return int(after[-1])


def _gaps(file: pathlib.Path, rows: int) -> InputError:
    return damaged(file, f"the clips do not lie one after the other in the {rows} rows of {FRAMES}")
