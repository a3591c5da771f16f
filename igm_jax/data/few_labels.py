"""Semi-supervised protocols: choose the few clips of a part that keep their labels.

`"1%"`, `"5%"` and `"10%"` take that share of every class, at least one clip each; `"1%-plain"`,
`"5%-plain"` and `"10%-plain"` take that share of all clips, whatever their class. With one seed the
smaller subsets of a kind are parts of the larger ones.
"""

import numpy as np
from jaxtyping import Int

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
    store: SkeletonStore, indices: Int[np.ndarray, " clips"], name: str, seed: int = 0
) -> Int[np.ndarray, " few"]:
    """The clips among `indices` whose labels a semi-supervised protocol may use.

    Args:
      store: an open store.
      indices: positions of clips in the store, such as `protocols.split(store, "xsub", "train")`;
        those without a label are never chosen.
      name: a key of `SUBSETS`.
      seed: which of the possible subsets.

    Returns:
      Their positions in the store, in the order of `indices`.

    Raises:
      InputError: unknown name, or no clip with a label.
    """
    if name not in SUBSETS:
        raise InputError(f"labels {name!r} are unknown: choose one of {', '.join(SUBSETS)}")
    share, balanced = SUBSETS[name]
    label = store.clips["label"][indices]
    if not (label >= 0).any():
        raise InputError(f"{store.path}: no clip of this part has a label")
    order = np.random.default_rng(seed).permutation(len(indices))
    order = order[label[order] >= 0]
    group = label[order] if balanced else np.zeros(len(order), int)
    chosen = [
        rows[: max(1, round(share * len(rows)))]
        for rows in (order[group == g] for g in np.unique(group))
    ]
    return np.asarray(indices)[np.sort(np.concatenate(chosen))]
