"""Semi-supervised protocols: choose the few clips of a part that keep their labels.

`"1%"`, `"5%"` and `"10%"` take that share of every class, at least one clip each; `"1%-plain"`,
`"5%-plain"` and `"10%-plain"` take that share of all clips, whatever their class. With one seed the
smaller subsets of a kind are parts of the larger ones.

Of a protocol, the clips are drawn once from `train`. Those of them that lie in `fit` are the few of
`fit`, so that choices and final training together use the labels of no other training clip.
"""

import numpy as np
from jaxtyping import Int

from igm_jax.arguments import check_choice
from igm_jax.data import protocols
from igm_jax.data.store import SkeletonStore
from igm_jax.errors import InputError

_SHARES = {"1%": 0.01, "5%": 0.05, "10%": 0.1}

# Name → (share of the clips, whether of every class).
SUBSETS: dict[str, tuple[float, bool]] = {
    name + suffix: (share, not suffix)
    for suffix in ("", "-plain")
    for name, share in _SHARES.items()
}


def few_labels(
    store: SkeletonStore,
    indices: Int[np.ndarray, " clips"],
    name: str,
    seed: int = 0,
    first: Int[np.ndarray, " first"] | None = None,
) -> Int[np.ndarray, " few"]:
    """The clips among `indices` whose labels a semi-supervised protocol may use.

    Args:
      store: an open store.
      indices: positions of clips in the store, such as `protocols.split(store, "xsub", "train")`;
        those without a label are never chosen.
      name: a key of `SUBSETS`.
      seed: which of the possible subsets is drawn.
      first: positions of which the subset holds at least one of each class that has any there;
        where the share is drawn without regard to classes ("-plain"), at least one in all.

    Returns:
      Their positions in the store, in the order of `indices`.

    Raises:
      InputError: unknown name, or no clip with a label.
    """
    check_choice("labels", name, SUBSETS)
    share, balanced = SUBSETS[name]
    label = store.clips["label"][indices]
    if not (label >= 0).any():
        raise InputError(f"{store.path}: no clip of this part has a label")
    order = np.random.default_rng(seed).permutation(len(indices))
    order = order[label[order] >= 0]
    group = label[order] if balanced else np.zeros(len(order), int)
    preferred = np.isin(indices, [] if first is None else first)
    chosen = []
    for rows in (order[group == g] for g in np.unique(group)):
        front = preferred[rows].argmax()  # 0 if none is preferred
        rows = np.concatenate([rows[front : front + 1], np.delete(rows, front)])
        chosen.append(rows[: max(1, round(share * len(rows)))])
    return np.asarray(indices)[np.sort(np.concatenate(chosen))]


def few_labels_of(
    store: SkeletonStore, protocol: str, part: str, name: str, seed: int = 0
) -> Int[np.ndarray, " few"]:
    """The clips of a part of a protocol whose labels may be used, of few drawn from `train`.

    A class with clips in `fit` keeps at least one there.

    Args:
      store: an open store.
      protocol: see `protocols.split`.
      part: "train", or "fit" for those of the same clips that are in it.
      name: a key of `SUBSETS`.
      seed: which of the possible subsets.

    Raises:
      InputError: see `few_labels` and `protocols.split`.
    """
    train, fit = (protocols.split(store, protocol, p) for p in ("train", "fit"))
    few = few_labels(store, train, name, seed, first=fit)
    return np.intersect1d(few, protocols.split(store, protocol, part))


def few_labels_of_every_class(
    store: SkeletonStore, protocol: str, part: str, name: str, seed: int = 0
) -> Int[np.ndarray, " few"]:
    """`few_labels_of` for a classifier, which needs a clip of every class of the part.

    Args:
      store: an open store.
      protocol: see `protocols.split`.
      part: "train" or "fit".
      name: a key of `SUBSETS`.
      seed: which of the possible subsets.

    Raises:
      InputError: see `few_labels_of`; also if a class of the part has no clip in the subset.
    """
    chosen, label = few_labels_of(store, protocol, part, name, seed), store.clips["label"]
    known = label[protocols.split(store, protocol, part)]
    absent = np.setdiff1d(known[known >= 0], label[chosen])
    if len(absent):
        names = ", ".join(store.class_names[c] for c in absent[:3])
        raise InputError(
            f"labels={name}, subset {seed}: {len(chosen)} clips of part {part!r} leave "
            f"{len(absent)} classes without a clip ({names}{', …' if len(absent) > 3 else ''}): "
            "choose a larger share, or one without -plain"
        )
    return chosen
