"""Reads UTD-MHAD: one MATLAB file for each clip, Kinect v1 joints in metres.

`Skeleton/aA_sS_tT_skeleton.mat` (numbers without leading zeros) holds `d_skel` [20, 3, T] for
action, subject and trial of its name. The store has no column for the trial: it stays in the clip's
name, `aA_sS_tT`. One sensor recorded everything, so the camera is 1.

Coordinates are kept as they are; missing joints are filled in (`gaps`). The joints are those of
NW-UCLA in another order. The axes are the same: y points up, z away from the sensor, x to the right
of a person who faces it.
That is right-handed and no mirror image: in the body frame (x to the person's right, y up,
z = x × y) toes point to −z, as in NW-UCLA, "swipe left" moves the right hand to −x, and
"draw circle (clockwise)" is clockwise for the person who draws it.

References:
  Chen et al., UTD-MHAD: A Multimodal Dataset for Human Action Recognition Utilizing a Depth Camera
  and a Wearable Inertial Sensor, ICIP 2015.
"""

import functools
import io
import pathlib
import re

import numpy as np
import scipy.io

from igm_jax.data.formats import gaps
from igm_jax.data.raw import RawData, one_clip
from igm_jax.data.store import BadClip, Clip
from igm_jax.errors import InputError
from igm_jax.skeleton import MHAD20

DATASET = "utd_mhad"
LAYOUT = MHAD20
CLASS_NAMES = (
    "swipe left", "swipe right", "wave", "clap", "throw", "arm cross", "basketball shoot",
    "draw x", "draw circle (clockwise)", "draw circle (counter clockwise)", "draw triangle",
    "bowling", "boxing", "baseball swing", "tennis swing", "arm curl", "tennis serve", "push",
    "knock", "catch", "pick up and throw", "jog", "walk", "sit to stand", "stand to sit", "lunge",
    "squat",
)  # fmt: skip
HOW_TO_GET = (
    "download the UTD-MHAD skeletons (Skeleton.zip, linked from the data set's page at UT Dallas), "
    "unpack them to FOLDER/Skeleton and run: "
    "python experiments/prepare_data.py --dataset=utd_mhad --source=FOLDER"
)

_NAME = re.compile(r"(a([1-9]\d*)_s([1-9]\d*)_t[1-9]\d*)_skeleton", re.ASCII)
_VARIABLE = "d_skel"


def read(source: str | pathlib.Path) -> RawData:
    """Finds all clips, in the order of action, subject and trial.

    Args:
      source: the folder `Skeleton`, or the one it lies in.

    Returns:
      Clips with one body [1, T, 20, 3]; a file that is damaged comes as a `BadClip`.

    Raises:
      InputError: no such folder, or no .mat file in it.
    """
    folder = pathlib.Path(source).expanduser()
    if (folder / "Skeleton").is_dir():
        folder = folder / "Skeleton"
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder: {HOW_TO_GET}")
    files = sorted((file for file in folder.glob("*.mat") if file.is_file()), key=_numbers)
    if not files:
        raise InputError(f"{folder}: no .mat file in it: {HOW_TO_GET}")
    read_part = functools.partial(one_clip, read_path)
    return RawData(files, read_part, DATASET, LAYOUT, CLASS_NAMES, gaps.DEFAULT.cleaning)


def _numbers(file: pathlib.Path) -> tuple[list[int], str]:
    """Sort key that puts a10 after a9; equal numbers sort by name."""
    return [int(number) for number in re.findall(r"\d+", file.stem)], file.stem


def read_path(file: pathlib.Path) -> Clip | BadClip:
    """Reads one file of the data set."""
    name = _NAME.fullmatch(file.stem)
    if name is None:
        return BadClip(file.name, "the file name is not aA_sS_tT_skeleton.mat")
    action, subject = int(name[2]), int(name[3])
    if action > len(CLASS_NAMES):
        return BadClip(file.name, f"action {action} is not 1 to {len(CLASS_NAMES)}")
    content = file.read_bytes()  # an OSError comes from the disk, not from the format
    try:
        record = scipy.io.loadmat(io.BytesIO(content), variable_names=[_VARIABLE])
    except Exception as error:  # SciPy raises many types for damaged files
        return BadClip(file.name, f"is damaged, or no MATLAB file up to version 7 ({error})")
    if _VARIABLE not in record:
        return BadClip(file.name, f"has no variable {_VARIABLE}")
    skeleton = np.asarray(record[_VARIABLE])
    if skeleton.dtype.kind not in "fiu":  # MATLAB stores whole numbers as integers
        return BadClip(file.name, f"{_VARIABLE} holds {skeleton.dtype}, not real numbers")
    # MATLAB drops the last axis where its length is 1.
    frames = skeleton[..., None] if skeleton.ndim == 2 else skeleton
    if frames.ndim != 3 or frames.shape[:2] != (LAYOUT.num_joints, 3):
        return BadClip(file.name, f"{_VARIABLE} has shape {list(skeleton.shape)}, not [20, 3, T]")
    with np.errstate(over="ignore"):  # overflow becomes infinity, which the store refuses
        frames = frames.transpose(2, 0, 1).astype(np.float32, order="C")
    clip = Clip(name[1], frames[None], action - 1, subject, camera=1)
    return gaps.filled(clip, LAYOUT)
