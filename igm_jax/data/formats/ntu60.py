"""NTU RGB+D 60: actions A001 to A060 of setups S001 to S017, Kinect v2 joints in metres.

References:
  Shahroudy et al., NTU RGB+D: A Large Scale Dataset for 3D Human Activity Analysis, CVPR 2016.
"""

import pathlib
from collections.abc import Sequence

from igm_jax.data.formats import ntu_cleaning, ntu_files
from igm_jax.data.raw import RawData
from igm_jax.skeleton import NTU25

DATASET = "ntu60"
LAYOUT = NTU25
CLASS_NAMES = (
    "drink water", "eat meal/snack", "brushing teeth", "brushing hair", "drop", "pickup", "throw",
    "sitting down", "standing up (from sitting position)", "clapping", "reading", "writing",
    "tear up paper", "wear jacket", "take off jacket", "wear a shoe", "take off a shoe",
    "wear on glasses", "take off glasses", "put on a hat/cap", "take off a hat/cap", "cheer up",
    "hand waving", "kicking something",
    "put something inside pocket / take out something from pocket", "hopping (one foot jumping)",
    "jump up", "make a phone call/answer phone", "playing with phone/tablet",
    "typing on a keyboard", "pointing to something with finger", "taking a selfie",
    "check time (from watch)", "rub two hands together", "nod head/bow", "shake head", "wipe face",
    "salute", "put the palms together", "cross hands in front (say stop)", "sneeze/cough",
    "staggering", "falling", "touch head (headache)", "touch chest (stomachache/heart pain)",
    "touch back (backache)", "touch neck (neckache)", "nausea or vomiting condition",
    "use a fan (with hand or paper)/feeling warm", "punching/slapping other person",
    "kicking other person", "pushing other person", "pat on back of other person",
    "point finger at the other person", "hugging other person", "giving something to other person",
    "touch other person's pocket", "handshaking", "walking towards each other",
    "walking apart from each other",
)  # fmt: skip
HOW_TO_GET = (
    "request NTU RGB+D from the ROSE Lab (https://rose1.ntu.edu.sg/dataset/actionRecognition), "
    'download "3D skeletons (body joints)", nturgbd_skeletons_s001_to_s017.zip, and run: python '
    "experiments/prepare_data.py --dataset=ntu60 --source=FOLDER_OR_ZIP"
)
CLEANING = ntu_cleaning.DEFAULT_STEPS


def read(source: str | pathlib.Path, cleaning: Sequence[str] = CLEANING) -> RawData:
    """Finds all clips, in the order of their names; `ntu_files.find` says how."""
    parts, read_part = ntu_files.find(
        source, num_actions=60, num_setups=17, how_to_get=HOW_TO_GET, steps=cleaning
    )
    return RawData(parts, read_part, DATASET, LAYOUT, CLASS_NAMES, tuple(cleaning))
