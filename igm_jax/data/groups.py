"""Groups of clips that fit and validation never share, such as all clips of one person."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Int

from igm_jax.data.store import SkeletonStore

# Data set → what the names of its clips say of who is in them, where no column does.
_GROUP_IN_NAMES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    # 0002-M_003 → 0002: the recording, which three cameras see.
    "pku_mmd": lambda names, label: np.char.partition(names, "-")[..., 0],
    # p1/walk_03 → p1: the folder.
    "custom": lambda names, label: _folders(names.tolist(), label.tolist()),
}


def find(
    store: SkeletonStore, positions: Int[np.ndarray, " clips"]
) -> Int[np.ndarray, " clips"] | None:
    """Numbers clips by who is in them, from 0 on; a split must keep clips of one number together.

    Clips of one subject have one number, where all subjects are known; else those of one recording
    (PKU-MMD) or of one folder (custom).

    Args:
      store: an open store.
      positions: of the clips in it.

    Returns:
      None if no groups are known, if there is only one, or if no group can be moved to validation
      without taking a class out of `fit`, as with folders by class.
    """
    if not len(positions):
        return None
    label = store.clips["label"][positions]
    subject = store.clips["subject"][positions]
    known = [subject] if subject.all() else []
    if store.dataset in _GROUP_IN_NAMES:
        known.append(_GROUP_IN_NAMES[store.dataset](store.clips["name"][positions], label))
    for who in known:
        group = np.unique(who, return_inverse=True)[1]
        if last_groups(label, group).any():
            return group
    return None


def last_clips(label: Int[np.ndarray, " clips"]) -> Bool[np.ndarray, " clips"]:
    """The last fifth of each class, at least one clip, but never all."""
    in_val = np.zeros(len(label), bool)
    for c in np.unique(label):
        of_class = np.flatnonzero(label == c)
        count = min(max(1, round(len(of_class) / 5)), len(of_class) - 1)
        in_val[of_class[len(of_class) - count :]] = True
    return in_val


def last_groups(
    label: Int[np.ndarray, " clips"], group: Int[np.ndarray, " clips"]
) -> Bool[np.ndarray, " clips"]:
    """Marks about the last fifth of each class in whole groups, never the only one of a class."""
    classes, label = np.unique(label, return_inverse=True)
    pairs, count = np.unique(group * len(classes) + label, return_counts=True)
    of_group, of_class = np.divmod(pairs, len(classes))
    start = np.searchsorted(of_group, np.arange(group.max(initial=-1) + 2))
    total = np.bincount(of_class, count)
    groups_left, in_val = np.bincount(of_class), np.zeros(len(classes))
    chosen: set[int] = set()
    for c in range(len(classes)):
        for pair in np.flatnonzero(of_class == c)[::-1]:
            g = int(of_group[pair])
            # One more group has to bring the class nearer to a fifth.
            if in_val[c] and 5 * (2 * in_val[c] + count[pair]) >= 2 * total[c]:
                break
            all_of_it = slice(start[g], start[g + 1])
            if g not in chosen and (groups_left[of_class[all_of_it]] > 1).all():
                chosen.add(g)
                groups_left[of_class[all_of_it]] -= 1
                in_val[of_class[all_of_it]] += count[all_of_it]
    return np.isin(group, list(chosen))


def _folders(names: list[str], labels: list[int]) -> np.ndarray:
    """The folder of each clip, such as p1 of walk/p1/03, without levels that name the classes.

    It is "" for all clips where each has a folder of its own: that does not tell who is in it.
    """
    paths = [name.split("/")[:-1] for name in names]
    kept: list[list[str]] = [[] for _ in names]
    for level in range(max(map(len, paths), default=0)):
        parts = [path[level] if level < len(path) else "" for path in paths]
        is_class = len(set(zip(parts, labels))) == len(set(parts)) == len(set(labels))
        for folder, part in zip(kept, parts):
            folder += [] if is_class else [part]
    keys = ["/".join(folder).strip("/") for folder in kept]
    return np.array(keys if len(set(keys)) < len(keys) else [""] * len(keys))
