"""Reads PKU-MMD, phases I and II: label files cut videos into clips.

    skeletons  0002-M.txt (phase I) or A01N01-M.txt (phase II): a row a frame, body 1, then body 2,
               each 25 times x y z in metres, joints as in NTU RGB+D; an absent body is zeros
    labels     a file of the same name: rows "label,start,end,confidence", actions counted from 1
    splits     cross-subject.txt, cross_subject_v2.txt, …: names of the videos to train on, and of
               those to test on

A clip is the rows start to end − 1, counted from 0, as in the published pipelines; the confidence
is not used. The letter of a name is the camera: L is 1, M is 2, R is 3. Cross-view trains on M and
R and tests on L, by the camera. Cross-subject is the column `split`, because no file names
the subjects.

Both phases name the same 51 actions, of which phase II has 41. The publisher has sorted the
sensor's bodies into two already, so the usual cleaning does not drop or join bodies. Missing
joints (NaN, or all zero beside others that are not) are filled in before all other steps.

References:
  Liu et al., PKU-MMD: A Large Scale Benchmark for Continuous Multi-Modal Human Action
  Understanding, ACM Multimedia Workshop 2017.
"""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from igm_jax.data.formats import gaps, ntu_cleaning, pku_files
from igm_jax.data.formats.ntu_text import record
from igm_jax.data.raw import RawData
from igm_jax.data.store import BadClip, Clip
from igm_jax.errors import InputError
from igm_jax.skeleton import NTU25

DATASET = "pku_mmd"
LAYOUT = NTU25
CLASS_NAMES = (
    "bow", "brushing hair", "brushing teeth", "check time (from watch)", "cheer up", "clapping",
    "cross hands in front (say stop)", "drink water", "drop", "eat meal/snack", "falling",
    "giving something to other person", "hand waving", "handshaking", "hopping (one foot jumping)",
    "hugging other person", "jump up", "kicking other person", "kicking something",
    "make a phone call/answer phone", "pat on back of other person", "pickup",
    "playing with phone/tablet", "point finger at the other person",
    "pointing to something with finger", "punching/slapping other person", "pushing other person",
    "put on a hat/cap", "put something inside pocket", "reading", "rub two hands together",
    "salute", "sitting down", "standing up", "take off a hat/cap", "take off glasses",
    "take off jacket", "take out something from pocket", "taking a selfie", "tear up paper",
    "throw", "touch back (backache)", "touch chest (stomachache/heart pain)",
    "touch head (headache)", "touch neck (neckache)", "typing on a keyboard",
    "use a fan (with hand or paper)/feeling warm", "wear jacket", "wear on glasses", "wipe face",
    "writing",
)  # fmt: skip
HOW_TO_GET = (
    "request PKU-MMD (https://struct002.github.io/PKUMMD), unpack the skeletons (Skeleton.7z or "
    "Skeleton_v2.7z) and the labels (Label_PKUMMD.7z or Label_PKUMMD_v2.7z) of one phase to "
    "FOLDER, put its cross-subject split file there too, and run: "
    "python experiments/prepare_data.py --dataset=pku_mmd --source=FOLDER"
)
CLEANING = (gaps.FILL, "drop_empty_frames", "centre", "hold_lost_bodies")

_VALUES = 2 * LAYOUT.num_joints * 3  # of a row
_MAX_BYTES = 256 << 20  # twenty times the longest video; a larger file is hostile
_WHOLE = re.compile(r"\s*(\d{1,9})\s*", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Action:
    """A row of a label file: the clip's name, its label from 0, and its rows [start, stop)."""

    name: str
    label: int
    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class Video:
    """A skeleton file and its clips; the repr holds all values, as `RawData.parts` needs."""

    path: pathlib.Path
    camera: int
    split: int
    actions: tuple[Action | BadClip, ...]


def read(source: str | pathlib.Path, cleaning: Sequence[str] = CLEANING) -> RawData:
    """Finds all videos of a phase, in the order of their names.

    Args:
      source: the folder, searched at any depth: names and contents tell the files apart, whatever
        the folders are called.
      cleaning: keys of `ntu_cleaning.STEPS`, and `fill_gaps`, which always comes first.

    Returns:
      Clips of one or two bodies [M, T, 25, 3], NAME_LINE by the line of the label file. A row that
      is damaged, in either file, takes its clip with it and no other; a video without labels,
      labels without a video, and a video that the split leaves out come as a `BadClip` too.

    Raises:
      InputError: no such folder, files of a kind that is missing or there twice, both phases in
        one folder, a split file that is damaged or cuts the views otherwise, or an unknown step.
    """
    ntu_cleaning.check_steps([step for step in cleaning if step != gaps.FILL])
    found = pku_files.find(pathlib.Path(source).expanduser(), HOW_TO_GET)
    parts: list[Video | BadClip] = []
    for name in sorted(found.skeletons | found.labels):
        if name not in found.labels:
            parts.append(BadClip(name, "has no label file"))
        elif name not in found.skeletons:
            parts.append(BadClip(name, "has a label file, but no skeleton file"))
        elif name not in found.split:
            parts.append(BadClip(name, "is in no list of the split file", published=True))
        else:
            actions = _actions(name, found.labels[name])
            camera = pku_files.camera(name)
            parts.append(Video(found.skeletons[name], camera, found.split[name], actions))
    read_video = functools.partial(_read_video, tuple(cleaning))
    return RawData(parts, read_video, DATASET, LAYOUT, CLASS_NAMES, tuple(cleaning))


def _actions(video: str, path: pathlib.Path) -> tuple[Action | BadClip, ...]:
    lines = path.read_text("utf-8-sig", errors="replace").splitlines()
    actions = tuple(
        _action(f"{video}_{number:03d}", line, f"{_short(path)}, line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip()
    )
    if not actions:
        return (BadClip(video, f"{_short(path)} names no action"),)
    bad = [action for action in actions if isinstance(action, BadClip)]
    if len(actions) > 1 and len(bad) == len(actions):
        reason = f"{_short(path)} has no usable row; the first: {bad[0].reason}"
        return (BadClip(video, reason),)
    return actions


def _action(name: str, line: str, where: str) -> Action | BadClip:
    cells = line.split(",")
    if len(cells) != 4:
        return BadClip(name, f"{where}: has {len(cells)} columns, not label,start,end,confidence")
    numbers = []
    for cell in cells[:3]:
        number = _WHOLE.fullmatch(cell)
        if number is None:
            return BadClip(name, f"{where}: {cell.strip()[:40]!r} is no whole number")
        numbers.append(int(number[1]))
    label, start, stop = numbers
    if not 1 <= label <= len(CLASS_NAMES):
        return BadClip(name, f"{where}: label {label} is not 1 to {len(CLASS_NAMES)}")
    if start >= stop:
        return BadClip(name, f"{where}: starts at frame {start}, but ends at {stop}")
    return Action(name, label - 1, start, stop)


def _read_video(steps: tuple[str, ...], part: Video | BadClip) -> list[Clip | BadClip]:
    if isinstance(part, BadClip):
        return [part]
    if part.path.stat().st_size > _MAX_BYTES:
        reason = f"{_short(part.path)} is longer than {_MAX_BYTES >> 20} MB"
        return [BadClip(action.name, reason) for action in part.actions]
    rows = part.path.read_bytes().rstrip().splitlines()
    if not any(len(row.split()) == _VALUES for row in rows):
        reason = f"{_short(part.path)} is empty or damaged: no line of it has {_VALUES} numbers"
        return [BadClip(part.path.stem, reason)]
    return [_clip(steps, part, rows, action) for action in part.actions]


def _clip(
    steps: tuple[str, ...], video: Video, rows: list[bytes], action: Action | BadClip
) -> Clip | BadClip:
    if isinstance(action, BadClip):
        return action
    where = _short(video.path)
    if action.stop > len(rows):
        reason = f"ends at frame {action.stop}, but {where} has {len(rows)}"
        return BadClip(action.name, reason)
    try:
        values = _values(rows, action.start, action.stop)
        frames = values.reshape(-1, 2, LAYOUT.num_joints, 3).swapaxes(0, 1)
        seen, filled = np.asarray(frames.any(axis=(2, 3))), ()
        if gaps.FILL in steps:
            tracks = gaps.fill(frames, LAYOUT)
            frames, seen, filled = tracks.frames, tracks.seen, tuple(tracks.filled.tolist())
        further = [step for step in steps if step != gaps.FILL]
        frames = ntu_cleaning.clean(record(frames, seen), further)
    except InputError as error:
        return BadClip(action.name, f"{where}: {error}")
    identity = {"camera": video.camera, "split": video.split}
    return Clip(action.name, frames, action.label, **identity, filled=filled)


def _values(rows: list[bytes], start: int, stop: int) -> Float64[np.ndarray, "T 150"]:
    """Parses the rows of one clip only, so damage elsewhere does not affect it."""
    values = np.empty((stop - start, _VALUES))
    for i, row in enumerate(rows[start:stop]):
        cells = row.split()
        if len(cells) != _VALUES:
            raise InputError(f"line {start + i + 1} has {len(cells)} numbers, not {_VALUES}")
        try:
            values[i] = list(map(float, cells))
        except ValueError as error:
            raise InputError(f"line {start + i + 1}: {str(error)[:80]}") from error
    infinite = np.isinf(values).any(axis=1)
    if infinite.any():
        raise InputError(f"line {start + int(infinite.argmax()) + 1} has a number that is infinite")
    return values


def _short(path: pathlib.Path) -> str:
    """File name with its folder, because skeletons and labels share names."""
    return f"{path.parent.name}/{path.name}"
