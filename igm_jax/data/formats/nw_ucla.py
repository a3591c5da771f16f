"""Northwestern-UCLA Multiview Action 3D: one JSON file a clip, Kinect v1 joints in metres.

`all_sqe/aAA_sSS_eEE_vVV.json` holds `{"file_name", "skeletons": [T][20][3], "label": 1…10}` for
action, subject, take and view of its name. Coordinates are kept as they are, but in two clips some
joints of a frame are (0, 0, 0), which is how the sensor says that it lost them: `gaps` fills them.

References:
  Wang et al., Cross-view Action Modeling, Learning and Recognition, CVPR 2014.
"""

import functools
import json
import pathlib
import re

import numpy as np

from igm_jax.data.formats import gaps
from igm_jax.data.raw import RawData, one_clip
from igm_jax.data.store import BadClip, Clip
from igm_jax.errors import InputError
from igm_jax.skeleton import KINECT20

DATASET = "nw_ucla"
LAYOUT = KINECT20
CLASS_NAMES = (
    "pick up with one hand", "pick up with two hands", "drop trash", "walk around", "sit down",
    "stand up", "donning", "doffing", "throw", "carry",
)  # fmt: skip
HOW_TO_GET = (
    "download the NW-UCLA skeletons (all_sqe.zip, linked from the CTR-GCN project), unpack them to "
    "FOLDER/all_sqe and run: python experiments/prepare_data.py --dataset=nw_ucla --source=FOLDER"
)

_NAME = re.compile(r"a(\d{2})_s(\d{2})_e(\d{2})_v(\d{2})")


def read(source: str | pathlib.Path) -> RawData:
    """Finds all clips, in the order of their names.

    Args:
      source: the folder `all_sqe`, or the one it lies in.

    Returns:
      Clips with one body [1, T, 20, 3]; a file that is damaged comes as a `BadClip`.

    Raises:
      InputError: no such folder, or no JSON file in it.
    """
    folder = pathlib.Path(source).expanduser()
    if (folder / "all_sqe").is_dir():
        folder = folder / "all_sqe"
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder: {HOW_TO_GET}")
    files = sorted(file for file in folder.glob("*.json") if file.is_file())
    if not files:
        raise InputError(f"{folder}: no .json file in it: {HOW_TO_GET}")
    read_part = functools.partial(one_clip, read_path)
    return RawData(files, read_part, DATASET, LAYOUT, CLASS_NAMES, gaps.DEFAULT.cleaning)


def read_path(file: pathlib.Path) -> Clip | BadClip:
    """Reads one file of the data set."""
    name = _NAME.fullmatch(file.stem)
    if name is None:
        return BadClip(file.name, "the file name is not aAA_sSS_eEE_vVV.json")
    _, subject, _, camera = (int(number) for number in name.groups())
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        label, skeletons = record["label"], np.asarray(record["skeletons"], np.float32)
    except KeyError as error:
        return BadClip(file.name, f"has no key {error}")
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        return BadClip(file.name, f"is damaged ({error})")
    if type(label) is not int or not 1 <= label <= len(CLASS_NAMES):
        return BadClip(file.name, f"label {label!r} is not 1 to {len(CLASS_NAMES)}")
    if skeletons.shape == (0,):
        skeletons = skeletons.reshape(0, LAYOUT.num_joints, 3)
    if skeletons.ndim != 3 or skeletons.shape[2] != 3:
        return BadClip(file.name, f"skeletons have shape {list(skeletons.shape)}, not [T][20][3]")
    clip = Clip(file.stem, skeletons[None], label - 1, subject, camera)
    return gaps.filled(clip, LAYOUT)
