"""Unseen classes: clips of some classes are left out of pre-training, and judged afterwards."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from igm_jax.data.store import SkeletonStore
from igm_jax.errors import InputError


def seen_clips(
    store: SkeletonStore, indices: Int[np.ndarray, " clips"], leave_out: Sequence[str]
) -> Int[np.ndarray, " seen"]:
    """The clips among `indices` whose class is not left out.

    Clips without a label go too, for they may show a class that is left out.

    Args:
      store: an open store.
      indices: positions of clips in the store.
      leave_out: names of classes; without any, all clips stay.

    Returns:
      Their positions in the store, in the order of `indices`.

    Raises:
      InputError: a name that is no class, or no class is left.
    """
    if not leave_out:
        return indices
    left_out = _numbers(store, leave_out)
    if len(left_out) == len(store.class_names):
        raise InputError(
            f"data.leave_out names all {len(left_out)} classes of {store.path}: leave some to train"
        )
    label = store.clips["label"][indices]
    return indices[(label >= 0) & ~np.isin(label, left_out)]


def check_left_out(
    store: SkeletonStore, train: Int[np.ndarray, " train"], leave_out: Sequence[str]
) -> None:
    """Raises `InputError` for a class to leave out that has no clip among those of a split.

    Leaving it out would change nothing, and no probe could learn it.

    Args:
      store: an open store.
      train: positions of the training clips.
      leave_out: names of classes.
    """
    for number in _numbers(store, leave_out):
        if not (store.clips["label"][train] == number).any():
            raise InputError(
                f"data.leave_out: class {store.class_names[number]!r} has no training clip in "
                f"{store.path}: leave out other classes"
            )


def only_classes(store: SkeletonStore, names: Sequence[str]) -> SkeletonStore:
    """The same store, in which only clips of some classes have a label; all clips stay.

    Args:
      store: an open store.
      names: of the classes; they become 0, 1, … in the order of the store.

    Raises:
      InputError: a name that is no class.
    """
    kept = _numbers(store, names)
    new_label = np.full(len(store.class_names) + 1, -1)  # the last is that of −1
    new_label[kept] = np.arange(len(kept))
    clips = np.array(store.clips)
    clips["label"] = new_label[clips["label"]]
    class_names = tuple(store.class_names[i] for i in kept)
    return dataclasses.replace(store, clips=clips, class_names=class_names)


def _numbers(store: SkeletonStore, names: Sequence[str]) -> np.ndarray:
    """Labels of classes, ascending."""
    for name in names:
        if name not in store.class_names:
            raise InputError(
                f"{store.path} has no class {name!r}: its classes are "
                f"{', '.join(store.class_names)}"
            )
    return np.flatnonzero(np.isin(store.class_names, names))
