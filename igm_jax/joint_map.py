"""Maps clips of one joint layout onto another by the names of the joints.

A joint of the target is, in this order:

1. the joint of the source with the same name, after `SYNONYMS`;
2. the mean of the joints that `STAND_INS` names, if the source has them;
3. the mean of the nearest joints, along the bones of the target, that 1 or 2 found.
"""

import dataclasses
import re
from typing import Any

import numpy as np
from jaxtyping import Float

from igm_jax.errors import InputError
from igm_jax.skeleton import Layout

# Name → other names of the joint, in words of lower case. "left" stands for both sides. Kinect v1's
# "shoulder centre" is Kinect v2's "spine at shoulders"; both lie below the neck.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "hip centre": ("base of spine", "spine base", "pelvis", "hips", "hip", "mid hip", "root"),
    "spine": ("mid spine", "spine mid", "middle of spine", "spine 1", "torso", "belly"),
    "shoulder centre": (
        "spine at shoulders", "spine shoulder", "mid shoulder", "thorax", "chest", "upper chest",
    ),
    "neck": ("neck base",),
    "head": ("head centre", "skull"),
    "nose": ("neck/nose", "nose tip"),
    "left shoulder": ("left upper arm", "left arm"),
    "left elbow": ("left forearm", "left fore arm", "left lower arm"),
    "left wrist": (),
    "left hand": ("left palm",),
    "left hand tip": ("left fingers", "left finger", "left index"),
    "left thumb": (),
    "left hip": ("left thigh", "left upper leg", "left up leg"),
    "left knee": ("left shin", "left lower leg", "left leg"),
    "left ankle": (),
    "left foot": ("left toe", "left toes", "left big toe", "left foot index", "left toe base"),
    "left eye": (),
    "left ear": (),
}  # fmt: skip

# Name → lists of joints; the mean of the first list that the source has in full takes its place.
STAND_INS: dict[str, tuple[tuple[str, ...], ...]] = {
    "hip centre": (("left hip", "right hip"),),
    "shoulder centre": (("left shoulder", "right shoulder"), ("neck",)),
    "head": (("left ear", "right ear"), ("nose",), ("left eye", "right eye")),
    "nose": (("left eye", "right eye"), ("head",)),
    "left eye": (("nose",), ("head",)),
    "left ear": (("head",), ("nose",)),
    "left wrist": (("left hand",),),
    "left ankle": (("left foot",),),
}

_SIDES = {"l": "left", "lt": "left", "r": "right", "rt": "right", "center": "centre"}


@dataclasses.dataclass(frozen=True)
class JointMap:
    """Makes clips of one layout into clips of another.

    Attributes:
      source: layout of the clips.
      target: layout that they are mapped to.
      weights: for each joint of the target, U weights that sum to 1.
    """

    source: Layout
    target: Layout
    weights: tuple[tuple[float, ...], ...]

    def __call__(self, clip: Float[np.ndarray, "*batch U C"]) -> Float[np.ndarray, "*batch V C"]:
        """Maps joints [..., U, C] of the source to joints [..., V, C] of the target."""
        return np.matmul(np.asarray(self.weights, clip.dtype), clip)

    def description(self) -> dict[str, Any]:
        """Lists the joints that are mapped, averaged and not read, in JSON types.

        Returns:
          `source` and `target`, the names of the layouts; `mapped`: joint of the target → the joint
          of the source that it is; `averaged`: joint of the target → the joints whose mean it is;
          `not_read`: joints of the source that no joint of the target is made of.
        """
        weights, names = np.asarray(self.weights), self.source.joints
        mapped, averaged = {}, {}
        for joint, row in zip(self.target.joints, weights):
            made_of = [names[i] for i in np.flatnonzero(row)]
            if len(made_of) == 1 and canonical(made_of[0]) == canonical(joint):
                mapped[joint] = made_of[0]
            else:
                averaged[joint] = made_of
        unread = [names[i] for i in np.flatnonzero(weights.sum(axis=0) == 0)]
        return {
            "source": self.source.name,
            "target": self.target.name,
            "mapped": mapped,
            "averaged": averaged,
            "not_read": unread,
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` is the inverse."""
        weights = [list(row) for row in self.weights]
        layouts = {"source": self.source.to_dict(), "target": self.target.to_dict()}
        return layouts | {"weights": weights}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "JointMap":
        """Inverse of `to_dict`, also for values read from JSON."""
        source, target = (Layout.from_dict(values[name]) for name in ("source", "target"))
        return cls(source, target, tuple(tuple(map(float, row)) for row in values["weights"]))


def description_lines(description: dict[str, Any]) -> list[str]:
    """Text of a `JointMap.description`: one line of counts, one for each joint that is a mean."""
    mapped, averaged, unread = (description[k] for k in ("mapped", "averaged", "not_read"))
    names = f": {', '.join(unread)}" if unread else ""
    counts = (
        f"{len(mapped)} mapped by name, {len(averaged)} averaged, {len(unread)} not read{names}"
    )
    lines = [f"joints {description['source']} → {description['target']}: {counts}"]
    for joint, of in averaged.items():
        lines.append(f"  {joint}: {'mean of ' if len(of) > 1 else ''}{', '.join(of)}")
    return lines


def canonical(name: str) -> str:
    """The name of a joint in the words of `SYNONYMS`; other names in lower case.

    >>> [canonical(name) for name in ("base of spine", "RShoulder", "hand_l", "Tail Tip")]
    ['hip centre', 'right shoulder', 'left hand', 'tail tip']
    """
    text = re.sub(r"(?<=[a-z])(?=[A-Z0-9])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    words = [_SIDES.get(word, word) for word in re.split(r"[\s_\-.]+", text.lower().strip())]
    side = next((word for word in words if word in ("left", "right")), "")
    words = [word for word in words if word and word != side]
    plain = " ".join(["left", *words] if side else words)
    found = _CANONICAL.get(plain, plain)
    return _other_side(found) if side == "right" else found


def map_joints(source: Layout, target: Layout) -> JointMap | None:
    """The map of clips of one layout onto another; None if joints and order are the same.

    Args:
      source: layout of the clips.
      target: layout that is wanted.

    Raises:
      InputError: no joint of the target has a name that the source has too.

    >>> from igm_jax.skeleton import COCO17, KINECT20
    >>> map_joints(COCO17, KINECT20).description()["averaged"]["hip centre"]
    ['left hip', 'right hip']
    """
    at = _positions(source)
    wanted = [canonical(name) for name in target.joints]
    if wanted == [canonical(name) for name in source.joints]:
        return None
    if not at.keys() & set(wanted):
        raise InputError(
            f"layouts {source.name!r} ({', '.join(source.joints[:3])}, …) and {target.name!r} "
            f"({', '.join(target.joints[:3])}, …) have no joint in common by name: rename the "
            "joints of one, as in igm_jax/joint_map.py"
        )
    found: dict[int, np.ndarray] = {}
    for joint, name in enumerate(wanted):
        for names in ((name,), *_stand_ins(name)):
            if all(part in at for part in names):
                found[joint] = _mean_of([at[part] for part in names], source.num_joints)
                break
    rows = [_nearest(joint, target, found) for joint in range(target.num_joints)]
    return JointMap(source, target, tuple(tuple(map(float, row)) for row in rows))


def _positions(layout: Layout) -> dict[str, int]:
    """Canonical name → joint. Of two joints, the one that has that name itself counts."""
    names = [(canonical(name), name.lower()) for name in layout.joints]
    order = sorted(range(len(names)), key=lambda i: (names[i][0] == names[i][1], -i))
    return {names[i][0]: i for i in order}


def _mean_of(joints: list[int], count: int) -> np.ndarray:
    return np.eye(count)[joints].mean(axis=0)


def _stand_ins(name: str) -> tuple[tuple[str, ...], ...]:
    if not name.startswith("right "):
        return STAND_INS.get(name, ())
    mirrored = STAND_INS.get(_other_side(name), ())
    return tuple(tuple(map(_other_side, names)) for names in mirrored)


def _other_side(name: str) -> str:
    swapped = {"left": "right", "right": "left"}
    return " ".join(swapped.get(word, word) for word in name.split(" "))


def _nearest(joint: int, target: Layout, found: dict[int, np.ndarray]) -> np.ndarray:
    """Weights of the joint; if it was not found, the mean weights of the nearest along bones."""
    reached, seen = {joint}, {joint}
    while reached and not reached & found.keys():
        reached = {
            b
            for bone in target.bones
            for a, b in (bone, bone[::-1])
            if a in reached and b not in seen
        }
        seen |= reached
    nearest = sorted(reached & found.keys()) or sorted(found)  # no bone leads there: all of them
    return np.mean([found[j] for j in nearest], axis=0)


_CANONICAL = {other: name for name, others in SYNONYMS.items() for other in (name, *others)}
