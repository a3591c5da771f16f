"""NTU RGB+D 120: actions A001 to A120 of setups S001 to S032, NTU RGB+D 60 included.

References:
  Liu et al., NTU RGB+D 120: A Large-Scale Benchmark for 3D Human Activity Understanding,
  TPAMI 2019.
"""

import pathlib
from collections.abc import Sequence

from igm_jax.data.formats import ntu60, ntu_cleaning, ntu_files
from igm_jax.data.raw import RawData
from igm_jax.skeleton import NTU25

DATASET = "ntu120"
LAYOUT = NTU25
CLASS_NAMES = (
    *ntu60.CLASS_NAMES,
    "put on headphone", "take off headphone", "shoot at the basket", "bounce ball",
    "tennis bat swing", "juggling table tennis balls", "hush (quite)", "flick hair", "thumb up",
    "thumb down", "make ok sign", "make victory sign", "staple book", "counting money",
    "cutting nails", "cutting paper (using scissors)", "snapping fingers", "open bottle",
    "sniff (smell)", "squat down", "toss a coin", "fold paper", "ball up paper", "play magic cube",
    "apply cream on face", "apply cream on hand back", "put on bag", "take off bag",
    "put something into a bag", "take something out of a bag", "open a box", "move heavy objects",
    "shake fist", "throw up cap/hat", "hands up (both hands)", "cross arms", "arm circles",
    "arm swings", "running on the spot", "butt kicks (kick backward)", "cross toe touch",
    "side kick", "yawn", "stretch oneself", "blow nose", "hit other person with something",
    "wield knife towards other person", "knock over other person (hit with body)",
    "grab other person's stuff", "shoot at other person with a gun", "step on foot", "high-five",
    "cheers and drink", "carry something with other person", "take a photo of other person",
    "follow other person", "whisper in other person's ear", "exchange things with other person",
    "support somebody with one's hand (someone is sick, help him to walk)",
    "finger-guessing game (playing rock-paper-scissors)",
)  # fmt: skip
HOW_TO_GET = (
    "request NTU RGB+D 120 from the ROSE Lab (https://rose1.ntu.edu.sg/dataset/actionRecognition), "
    'download "3D skeletons (body joints)", nturgbd_skeletons_s001_to_s017.zip and '
    "nturgbd_skeletons_s018_to_s032.zip, both to FOLDER, and run: python "
    "experiments/prepare_data.py --dataset=ntu120 --source=FOLDER"
)
CLEANING = ntu_cleaning.DEFAULT_STEPS


def read(source: str | pathlib.Path, cleaning: Sequence[str] = CLEANING) -> RawData:
    """Finds all clips, in the order of their names; `ntu_files.find` says how."""
    parts, read_part = ntu_files.find(
        source, num_actions=120, num_setups=32, how_to_get=HOW_TO_GET, steps=cleaning
    )
    return RawData(parts, read_part, DATASET, LAYOUT, CLASS_NAMES, tuple(cleaning))
