"""Evaluation protocols as data: which people, cameras or setups are trained on, which are tested.

A protocol cuts a store twice, both times by the same column, so that no subject (camera, setup) is
ever on two sides:

    train | test    the published cut: report numbers of models trained on "train", tested on "test"
    fit   | val     "train" cut again: choose everything (learning rates, epochs, ideas) on these

`val` is the last fifth (rounded up) of the training values that occur in the store, `fit` the
others; by the column `split`, which the publisher of the clips has filled, it is every fifth
training clip of each class. Choices are made on `val`; `test` is looked at once.
"""

import dataclasses

import numpy as np
from jaxtyping import Int

from igm_jax.data.store import SkeletonStore
from igm_jax.errors import InputError

PARTS = ("train", "test", "fit", "val")


@dataclasses.dataclass(frozen=True)
class Protocol:
    """One way to cut a data set.

    Attributes:
      column: of the clip table: `"subject"`, `"camera"`, `"setup"` or `"split"`.
      train: the values trained on, or `"odd"` or `"even"`; all other values are tested on.
    """

    column: str
    train: frozenset[int] | str

    def trains_on(self, value: int) -> bool:
        """Whether clips of this subject (camera, setup) belong to the training side."""
        if isinstance(self.train, str):
            return value % 2 == ("even", "odd").index(self.train)
        return value in self.train


_NTU60_SUBJECTS = frozenset(
    (1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38)
)
_NTU120_SUBJECTS = _NTU60_SUBJECTS | frozenset(
    (45, 46, 47, 49, 50, 52, 53, 54, 55, 56, 57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86,
     89, 91, 92, 93, 94, 95, 97, 98, 100, 103)
)  # fmt: skip

# Data set (`meta["dataset"]` of a store) → protocol → cut.
PROTOCOLS: dict[str, dict[str, Protocol]] = {
    "ntu60": {
        "xsub": Protocol("subject", _NTU60_SUBJECTS),
        "xview": Protocol("camera", frozenset((2, 3))),
    },
    "ntu120": {
        "xsub": Protocol("subject", _NTU120_SUBJECTS),
        "xset": Protocol("setup", "even"),
    },
    # Both phases: the split file says who trains, the middle and the right camera do.
    "pku_mmd": {
        "xsub": Protocol("split", frozenset((1,))),
        "xview": Protocol("camera", frozenset((2, 3))),
    },
    "nw_ucla": {"xview": Protocol("camera", frozenset((1, 2)))},
    "utd_mhad": {"xsub": Protocol("subject", "odd")},
    "synthetic": {
        "xsub": Protocol("subject", "odd"),
        "xview": Protocol("camera", frozenset((2, 3))),
    },
    "mamp_npz": {"split": Protocol("split", frozenset((1,)))},
    # Of NTU RGB+D 60 or 120, for none of 120's further subjects are in 60; or the file's own cut.
    "pyskl_pkl": {
        "xsub": Protocol("subject", _NTU120_SUBJECTS),
        "xview": Protocol("camera", frozenset((2, 3))),
        "xset": Protocol("setup", "even"),
        "split": Protocol("split", frozenset((1,))),
    },
    # Whatever columns one's own labels.csv has.
    "custom": {
        "xsub": Protocol("subject", "odd"),
        "split": Protocol("split", frozenset((1,))),
    },
}


def find(dataset: str, name: str) -> Protocol:
    """The protocol `name` of a data set.

    Raises:
      InputError: the data set has no protocol of that name.
    """
    known = PROTOCOLS.get(dataset, {})
    if name not in known:
        choice = f"choose one of {', '.join(known)}" if known else "pass a Protocol instead"
        raise InputError(f"protocol {name!r} is unknown for data set {dataset!r}: {choice}")
    return known[name]


def split(store: SkeletonStore, protocol: str | Protocol, part: str) -> Int[np.ndarray, " clips"]:
    """The clips of one part of the store, in the store's order.

    Args:
      store: an open store.
      protocol: a name known for `store.dataset`, or a `Protocol` of one's own.
      part: one of `PARTS`; train = fit ∪ val.

    Returns:
      int64 positions in the store, ascending.

    Raises:
      InputError: unknown protocol or part, a clip without the value that decides, an empty part.
    """
    if part not in PARTS:
        raise InputError(f"part {part!r} is unknown: choose one of {', '.join(PARTS)}")
    rule = find(store.dataset, protocol) if isinstance(protocol, str) else protocol
    column = store.clips[rule.column]
    values = np.unique(column)
    if values[0] == 0:
        name = str(store.clips["name"][column.argmin()])
        raise InputError(
            f"{store.path}: clip {name!r} has no {rule.column}, protocol {protocol!r} cuts by it: "
            "add it to the source, or choose another protocol"
        )
    train = [int(value) for value in values if rule.trains_on(int(value))]
    num_val = -(-len(train) // 5)
    side = {
        "train": train,
        "test": [int(value) for value in values if not rule.trains_on(int(value))],
        "fit": train[: len(train) - num_val],
        "val": train[len(train) - num_val :],
    }
    if rule.column == "split" and part in ("fit", "val"):
        positions = _cut_by_class(store, np.flatnonzero(np.isin(column, train)), part)
    else:
        positions = np.flatnonzero(np.isin(column, side[part]))
    if not len(positions):
        raise InputError(
            f"{store.path}: part {part!r} of protocol {protocol!r} is empty, for the store's "
            f"{rule.column}s are {values.tolist()}: prepare more of the data set"
        )
    return positions.astype(np.int64)


def _cut_by_class(
    store: SkeletonStore, train: Int[np.ndarray, " train"], part: str
) -> Int[np.ndarray, " clips"]:
    """`val` is every fifth clip of each class, for a published split has no values to go by."""
    label = store.clips["label"][train]
    in_val = np.zeros(len(train), bool)
    for c in np.unique(label):
        in_val[np.flatnonzero(label == c)[4::5]] = True
    return train[in_val if part == "val" else ~in_val]
