"""Remarks on a store whose clips may not be what their owner thinks they are."""

import numpy as np

from igm_jax.data.store import SkeletonStore
from igm_jax.data.suggest import first_frames

# The largest body over the smallest, in one unit. Inches beside metres are 39, centimetres 100.
# People at different distances in an image stay below it.
MOST_SIZES = 20.0


def remarks(store: SkeletonStore) -> tuple[str, ...]:
    """Sentences about clips that a run accepts but that are often a mistake.

    They are about bodies of very different sizes, clips of one frame, classes without a clip, and
    labels of one class.

    Args:
      store: an open store; its first frames and its table of clips are read.
    """
    found = (_sizes(store), _single_frames(store), _empty_classes(store), _one_class(store))
    return tuple(filter(None, found))


def _sizes(store: SkeletonStore) -> str:
    clips, points = first_frames(store)
    # Medians, because a lost joint is at zero, metres away from the others.
    centred = points - np.median(points, axis=1, keepdims=True)
    sizes = np.median(np.linalg.norm(centred, axis=2), axis=1)
    clips, sizes = clips[sizes > 0], sizes[sizes > 0]
    if not len(sizes) or sizes.max() <= MOST_SIZES * sizes.min():
        return ""
    names = store.clips["name"][clips]
    small, large = int(sizes.argmin()), int(sizes.argmax())
    return (
        f"the body of clip {str(names[large])!r} is {sizes[large] / sizes[small]:,.0f} times as "
        f"large as that of {str(names[small])!r}: check that all clips have the same unit"
    )


def _single_frames(store: SkeletonStore) -> str:
    short = np.flatnonzero(store.clips["length"] < 2)
    if not len(short):
        return ""
    name = str(store.clips["name"][short[0]])
    return f"{len(short):,} of {len(store):,} clips have one frame, so no motion, such as {name!r}"


def _empty_classes(store: SkeletonStore) -> str:
    known = np.unique(store.clips["label"])
    empty = [name for i, name in enumerate(store.class_names) if i not in known]
    if not empty:
        return ""
    return f"{len(empty)} of {len(store.class_names)} classes have no clip, such as {empty[0]!r}"


def _one_class(store: SkeletonStore) -> str:
    known = np.unique(store.clips["label"][store.clips["label"] >= 0])
    if len(known) != 1:
        return ""
    return f"all labelled clips are of class {store.class_names[known[0]]!r}: nothing can be judged"
