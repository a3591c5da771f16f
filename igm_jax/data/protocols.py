"""Evaluation protocols: which people, cameras or setups are for training, and which for test.

A protocol cuts a store twice, and no subject (camera, setup) that it goes by is on two sides:

    train | test    the published split: train on "train", report accuracy on "test"
    fit   | val     "train" split again: choose learning rates, epochs and ideas on these

Choices are made on `val`; `test` is looked at once.

`val` is the last fifth (rounded up) of the training values that occur in the store, `fit` the
others. If either would lack a class by that, as with NTU RGB+D 120, where the last people perform
only the classes from 61 on, the values are chosen by class as below, where that leaves more.

The column `split` is filled by the publisher of the clips, and `val` is to be as far from `fit` as
`test` is from `train`. So it is about the last fifth of each class in whole `groups`: clips of one
person, of one recording or of one folder stay together, and each class keeps a group in `fit`.
Where nothing says who is in a clip, it is the last fifth of each class in the order of the store.
Published files are sorted by setup, camera and person, so that few performances are seen on both
sides, but people are; `note` says so.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Int

from igm_jax.arguments import check_choice
from igm_jax.data import groups
from igm_jax.data.store import SkeletonStore
from igm_jax.errors import InputError

PARTS = ("train", "test", "fit", "val")


@dataclasses.dataclass(frozen=True)
class Protocol:
    """One way to split a data set.

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
    # Both phases: xsub uses the split file, xview trains on the middle and the right camera.
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
    # Subjects of NTU RGB+D 60 or 120 (the further ones do not occur in 60), or the file's split.
    "pyskl_pkl": {
        "xsub": Protocol("subject", _NTU120_SUBJECTS),
        "xview": Protocol("camera", frozenset((2, 3))),
        "xset": Protocol("setup", "even"),
        "split": Protocol("split", frozenset((1,))),
    },
    # These need the columns of your own labels.csv.
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
    check_choice("part", part, PARTS)
    rule = _rule(store, protocol)
    column = store.clips[rule.column]
    values = np.unique(column)
    if values[0] == 0:
        name = str(store.clips["name"][column.argmin()])
        raise InputError(
            f"{store.path}: clip {name!r} has no {rule.column}, protocol {protocol!r} cuts by it: "
            "add it to the source, or choose another protocol"
        )
    train = _train(store, rule)
    if part in ("fit", "val"):
        in_val = _in_val(store, rule, train)
        positions = train[in_val if part == "val" else ~in_val]
    else:
        positions = train if part == "train" else np.setdiff1d(np.arange(len(store)), train)
    if not len(positions):
        raise InputError(
            f"{store.path}: part {part!r} of protocol {protocol!r} is empty: "
            f"{_why_empty(rule, part, values)}: {_how_to_fill(store, rule)}, or choose another "
            "protocol"
        )
    return positions.astype(np.int64)


def shares_people(store: SkeletonStore, protocol: str | Protocol) -> bool:
    """Whether `val` may hold people (recordings, folders) of `fit`, as nothing tells them apart.

    A protocol that cuts by camera or setup does not count: its test has the people of training too.
    """
    rule = _rule(store, protocol)
    return rule.column == "split" and groups.find(store, _train(store, rule)) is None


def note(store: SkeletonStore, protocol: str | Protocol) -> str:
    """Caveat of accuracies, for the tables and the log; "" if there is none."""
    train, fit, val = (split(store, protocol, part) for part in ("train", "fit", "val"))
    test = np.setdiff1d(np.arange(len(store)), train)  # may be empty, so not by `split`
    told = ["validation shares people with training"] if shares_people(store, protocol) else []
    for judged, known, name in ((val, fit, "validation"), (test, train, "test")):
        label = store.clips["label"]
        new = np.setdiff1d(label[judged], label[known])
        if unseen := [store.class_names[c] for c in new if c >= 0]:
            more = f" and {len(unseen) - 3} more" if len(unseen) > 3 else ""
            told.append(f"only {name} has the classes {', '.join(unseen[:3])}{more}")
    return "; ".join(told)


def unjudged(store: SkeletonStore, protocol: str | Protocol) -> str:
    """Says why probes and KNN cannot judge a run on this store; "" if they can."""
    for part in PARTS:
        try:
            clips = split(store, protocol, part)
        except InputError as error:
            return str(error)
        if not (store.clips["label"][clips] >= 0).any():
            return f"{store.path}: no clip of part {part!r} of protocol {protocol!r} has a label"
    return ""


def _rule(store: SkeletonStore, protocol: str | Protocol) -> Protocol:
    return find(store.dataset, protocol) if isinstance(protocol, str) else protocol


def _train(store: SkeletonStore, rule: Protocol) -> Int[np.ndarray, " train"]:
    column = store.clips[rule.column]
    return np.flatnonzero(np.isin(column, [v for v in np.unique(column) if rule.trains_on(int(v))]))


def _in_val(
    store: SkeletonStore, rule: Protocol, train: Int[np.ndarray, " train"]
) -> Bool[np.ndarray, " train"]:
    """Which of the training clips are for validation."""
    label = store.clips["label"][train]
    if rule.column == "split":
        group = groups.find(store, train)
        return groups.last_clips(label) if group is None else groups.last_groups(label, group)
    values, group = np.unique(store.clips[rule.column][train], return_inverse=True)
    in_val = group >= len(values) - -(-len(values) // 5)
    everything = len(np.unique(label[label >= 0]))
    if (
        sum(_classes(label, in_val)) < 2 * everything
        and (by_class := groups.last_groups(label, group)).any()
    ):
        in_val = max(in_val, by_class, key=lambda chosen: _classes(label, chosen))
    return in_val


def _classes(
    label: Int[np.ndarray, " clips"], in_val: Bool[np.ndarray, " clips"]
) -> tuple[int, int]:
    """How many classes `fit` has, and how many `val`."""
    fit, val = (np.unique(label[side & (label >= 0)]) for side in (~in_val, in_val))
    return len(fit), len(val)


def _how_to_fill(store: SkeletonStore, rule: Protocol) -> str:
    if store.dataset == "custom":
        return f"add clips, or change their {rule.column} in labels.csv"
    return "prepare more of the data set"


def _why_empty(rule: Protocol, part: str, values: Int[np.ndarray, " values"]) -> str:
    """Why a part has no clip, for a store with these values of the column."""
    column, train = rule.column, [int(v) for v in values if rule.trains_on(int(v))]
    tests = part == "test"
    if column == "split":
        if train and not tests:
            return "each class has one training clip, and part 'fit' keeps it"
        return f"no clip is marked as {'test' if tests else 'training'}"
    if train and not tests:
        return f"only one {column} is trained on, {train[0]}, and its clips are part 'val'"
    shown = ", ".join(map(str, values[:8])) + (", …" if len(values) > 8 else "")
    return (
        f"no clip has a {column} that is {'tested' if tests else 'trained'} on, "
        f"for the store's {column}s are [{shown}]"
    )
