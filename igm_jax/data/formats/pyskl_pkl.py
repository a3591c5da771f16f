"""Reads the annotation files of pyskl: one pickle for each data set, 2-D or 3-D.

    {"split": {"xsub_train": [name, …], "xsub_val": [name, …], …},
     "annotations": [{"frame_dir": name, "label": 0…, "total_frames": T, "keypoint": [M, T, V, C],
                      …}, …]}

V, C are 17, 2, the joints of COCO in pixels of the video (HRNet), or 25, 3, those of NTU RGB+D in
metres. Coordinates are kept: y points down in pixels and is not divided by the image size. The
inputs are standardised over the training clips anyway. Of the confidences (`keypoint_score`,
[M, T, V]) only this is used: joints of a low one are missing, and filled in as `gaps` says.

A name SsssCcccPpppRrrrAaaa, as in NTU RGB+D, gives setup, camera and performer, and the
protocols of NTU RGB+D use them. Otherwise the file's own lists become the column `split`.

References:
  Duan et al., PYSKL: Towards Good Practices for Skeleton Action Recognition, ACM Multimedia 2022.
"""

import collections
import dataclasses
import functools
import pathlib
import re
from typing import Any

import numpy as np

from igm_jax.data.formats import gaps, ntu60, ntu120, plain_pickle
from igm_jax.data.raw import RawData, one_clip
from igm_jax.data.store import BadClip, Clip
from igm_jax.errors import InputError
from igm_jax.skeleton import COCO17, NTU25

DATASET = "pyskl_pkl"
HOW_TO_GET = (
    "download an annotation file (ntu60_3danno.pkl, ntu60_hrnet.pkl, …, linked from the PYSKL "
    "project's tools/data) and run: "
    "python experiments/prepare_data.py --dataset=pyskl_pkl --source=FILE.pkl"
)

_LAYOUTS = {(17, 2): (COCO17, "pixels"), (25, 3): (NTU25, "metres")}
_NTU_NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R\d{3}A(\d{3})", re.ASCII)
_NTU_SHARE = 0.9  # of the names: then the others are damaged
_MAX_CLASSES = 10_000


@dataclasses.dataclass(frozen=True)
class Annotation:
    """A clip that is not read yet: its keypoints, label and people."""

    path: pathlib.Path
    index: int
    name: str
    label: int
    subject: int = 0
    camera: int = 0
    setup: int = 0
    split: int = 0


def read(source: str | pathlib.Path, split: str | None = None, min_score: float = 0.0) -> RawData:
    """Finds all clips, in the order of the file.

    Args:
      source: the file. It is read into memory.
      split: the list to train on, such as `"xsub_train"`, if the file has several and the column
        `split` is wanted; clips that neither it nor its counterpart lists are left out.
      min_score: joints of a lower score are missing.

    Returns:
      Clips [M, T, V, C]; an annotation that is damaged comes as a `BadClip`.

    Raises:
      InputError: no such file, a pickle that is damaged or holds anything but containers and
        arrays, no annotation with joints that are known, or a split that is unknown or has to be
        chosen.
    """
    rules = gaps.Rules(min_score)
    path = pathlib.Path(source).expanduser()
    if not path.is_file():
        raise InputError(f"{path}: no such file: {HOW_TO_GET}")
    content = plain_pickle.load(path)
    annotations = content.get("annotations") if isinstance(content, dict) else None
    if not isinstance(annotations, list) or not annotations:
        raise InputError(f"{path}: is no dict with a list of annotations: {HOW_TO_GET}")
    joints = _joints(path, annotations)
    parts = [_described(path, i, annotation) for i, annotation in enumerate(annotations)]
    parts, is_ntu = _by_names(parts)
    clips = [part for part in parts if isinstance(part, Annotation)]
    sides = _sides(path, content.get("split"), split, optional=is_ntu)
    if sides is not None:
        parts = [_on_side(part, sides) for part in parts]
    layout, units = _LAYOUTS[joints]
    read_clip = functools.partial(_read_clip, annotations, joints, rules)
    # Everything is in memory already. Sending it to other processes would take longer.
    return RawData(
        parts,
        functools.partial(one_clip, read_clip),
        DATASET,
        layout,
        _class_names(clips, is_ntu),
        rules.cleaning,
        units,
        parallel=False,
    )


def _joints(path: pathlib.Path, annotations: list[Any]) -> tuple[int, int]:
    """(V, C) of most annotations: any of them may be damaged, the first one too."""
    arrays = (_keypoints(annotation) for annotation in annotations)
    shapes = [array.shape for array in arrays if array is not None]
    known = collections.Counter(shape[2:] for shape in shapes if shape[2:] in _LAYOUTS)
    if not known:
        found = f"of shape {list(shapes[0])}" if shapes else "none of [M, T, V, C]"
        raise InputError(
            f"{path}: keypoints are {found}: 17 joints in the plane (COCO) or 25 in space (NTU "
            "RGB+D) are read here; others can be brought as --dataset=custom"
        )
    return known.most_common(1)[0][0]


def _keypoints(annotation: Any) -> np.ndarray | None:
    """The array [M, T, V, C] of real numbers, or None."""
    return _numbers(annotation, "keypoint", 4)


def _numbers(annotation: Any, key: str, axes: int) -> np.ndarray | None:
    pickled = annotation.get(key) if isinstance(annotation, dict) else None
    array = pickled.array if isinstance(pickled, plain_pickle.Array) else None
    return array if array is not None and array.ndim == axes and array.dtype.kind in "fiu" else None


def _described(path: pathlib.Path, index: int, annotation: Any) -> Annotation | BadClip:
    values = annotation if isinstance(annotation, dict) else {}
    name, label = values.get("frame_dir"), values.get("label")
    if not isinstance(name, str) or not 0 < len(name) <= 256 or not name.isprintable():
        return BadClip(f"annotation {index}", "its frame_dir is not 1 to 256 printable characters")
    if type(label) is not int or not 0 <= label < _MAX_CLASSES:
        shown = label if type(label) is int and abs(label) < 1 << 63 else type(label).__name__
        return BadClip(name, f"label {shown} is no number from 0 to {_MAX_CLASSES - 1}")
    match = _NTU_NAME.fullmatch(name)
    if match is None:
        return Annotation(path, index, name, label)
    setup, camera, subject, action = map(int, match.groups())
    if action != label + 1:
        return BadClip(name, f"label {label} is action {label + 1}, its name says {action}")
    return Annotation(path, index, name, label, subject, camera, setup)


def _by_names(parts: list[Annotation | BadClip]) -> tuple[list[Annotation | BadClip], bool]:
    """Whether the file is of NTU RGB+D; then clips that are not named so are damaged."""
    named = [bool(part.setup) for part in parts if isinstance(part, Annotation)]
    if not named or sum(named) < _NTU_SHARE * len(named):
        return parts, False
    told = "is no name SsssCcccPpppRrrrAaaa, as almost all others have it"
    return [
        BadClip(part.name, told) if isinstance(part, Annotation) and not part.setup else part
        for part in parts
    ], True


def _sides(
    path: pathlib.Path, lists: Any, train: str | None, *, optional: bool
) -> dict[str, int] | None:
    """Name → 1 for training, 2 for test, by the only or the chosen pair of lists."""
    lists = lists if isinstance(lists, dict) else {}
    pairs = {
        key: other
        for key in lists
        if isinstance(key, str) and "train" in key and key.isprintable() and len(key) < 80
        for other in (key.replace("train", "val"), key.replace("train", "test"))
        if other in lists
    }
    choices = ", ".join(pairs) or "none"
    if train is None and len(pairs) == 1:
        train = next(iter(pairs))
    if train is None and (optional or not pairs):
        return None
    if train not in pairs:
        problem = "it has several splits" if train is None else f"--split={train} is unknown"
        raise InputError(f"{path}: {problem}: choose the list to train on with --split: {choices}")
    sides: dict[str, int] = {}
    for side, key in enumerate((train, pairs[train]), 1):
        if not isinstance(lists[key], list) or not all(isinstance(n, str) for n in lists[key]):
            raise InputError(f"{path}: split {key!r} is no list of names: {HOW_TO_GET}")
        for name in lists[key]:
            if sides.setdefault(name, side) != side:
                raise InputError(
                    f"{path}: {name[:80]!r} is in {train!r} and in {key!r}: correct it"
                )
    return sides


def _on_side(part: Annotation | BadClip, sides: dict[str, int]) -> Annotation | BadClip:
    if isinstance(part, BadClip):
        return part
    if part.name not in sides:
        return BadClip(part.name, "is in neither list of the split", published=True)
    return dataclasses.replace(part, split=sides[part.name])


def _class_names(clips: list[Annotation], is_ntu: bool) -> tuple[str, ...]:
    count = 1 + max((clip.label for clip in clips), default=-1)
    for names in (ntu60.CLASS_NAMES, ntu120.CLASS_NAMES):
        if is_ntu and count <= len(names):
            return names
    return tuple(f"class {label}" for label in range(count))


def _read_clip(
    annotations: list[Any], joints: tuple[int, int], rules: gaps.Rules, part: Annotation | BadClip
) -> Clip | BadClip:
    if isinstance(part, BadClip):
        return part
    annotation = annotations[part.index]
    frames = _keypoints(annotation)
    if frames is None:
        return BadClip(part.name, "has no keypoint array [M, T, V, C] of real numbers")
    if frames.shape[2:] != joints:
        return BadClip(
            part.name,
            f"keypoint has shape {list(frames.shape)}, not [M, T, {joints[0]}, {joints[1]}]",
        )
    length = annotation.get("total_frames", frames.shape[1])
    if length != frames.shape[1]:
        return BadClip(part.name, f"keypoint has {frames.shape[1]} frames, not total_frames")
    scored = frames.size and annotation.get("keypoint_score") is not None
    scores = _numbers(annotation, "keypoint_score", 3) if scored else None
    if scored and (scores is None or scores.shape != frames.shape[:3]):
        return BadClip(part.name, f"keypoint_score is no array {list(frames.shape[:3])} of numbers")
    frames = frames.astype(np.float64) if frames.dtype.kind in "iu" else frames
    identity = (part.subject, part.camera, part.setup, part.split)
    clip = Clip(part.name, frames, part.label, *identity)
    return gaps.filled(clip, _LAYOUTS[joints][0], scores, rules)
