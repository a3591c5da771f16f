"""Tables about a store, as plain rows of names and values."""

import collections
from typing import Any

import numpy as np
from jaxtyping import Int

from igm_jax.data import protocols
from igm_jax.data.store import SkeletonStore
from igm_jax.errors import InputError

Rows = list[dict[str, Any]]

_CHUNK = 1 << 16  # rows of frames looked at together, to bound the memory


def overview(store: SkeletonStore) -> dict[str, str]:
    """Facts and counts of the store."""
    facts = store.summary()
    length = np.quantile(store.clips["length"], [0, 0.05, 0.5, 0.95, 1]).astype(int)
    bodies = collections.Counter(store.clips["bodies"].tolist())
    missing = missing_joints(store)
    share = missing.sum() / (len(store.frames) * store.layout.num_joints)
    worst = [store.layout.joints[j] for j in np.argsort(-missing)[:3] if missing[j]]
    return {
        "data set": f"{store.dataset}, from {store.meta['source']}",
        "layout": f"{store.layout.name}: {store.layout.num_joints} joints in "
        f"{store.frames.shape[2]}-D, {store.meta['units']}",
        "cleaning": ", ".join(store.meta["cleaning"]) or "none",
        "clips": f"{facts['clips']:,} ({(store.clips['label'] < 0).sum():,} without a label)",
        "classes, subjects": f"{facts['classes']}, {facts['subjects']}",
        "cameras, setups": f"{facts['cameras']}, {facts['setups']}",
        "bodies": ", ".join(f"{n} in {count:,} clips" for n, count in sorted(bodies.items())),
        "frames a clip": "{} to {}; 5 %, half and 95 % have at most {}, {}, {}".format(
            length[0], length[-1], *length[1:-1]
        ),
        "missing joints": f"{share:.3%} at exactly zero"
        + f", most: {', '.join(worst)}" * any(worst),
        "filled joints": filled(store),
        "on disk": f"{facts['bytes'] / 1e6:,.1f} MB, {facts['rows']:,} frames of bodies",
        "left out": f"{facts['skipped']:,} clips",
    }


def missing_joints(store: SkeletonStore) -> Int[np.ndarray, " V"]:
    """Number of frames in which each joint is exactly zero, which marks a lost joint.

    The layout's origin is not counted, because centred clips have it at zero.
    """
    counts = np.zeros(store.layout.num_joints, np.int64)
    for start in range(0, len(store.frames), _CHUNK):
        frames = store.frames[start : start + _CHUNK]
        counts += (frames == 0).all(axis=-1).sum(axis=0)
    counts[store.layout.origin] = 0
    return counts


def filled(store: SkeletonStore) -> str:
    """How many missing joints the reader filled in before they were stored."""
    if "filled" not in store.meta:
        return "not counted: prepare the data set again to know"
    clips, joints = store.meta["filled"]["clips"], store.meta["filled"]["joints"]
    if not sum(joints):
        return "none"
    share = sum(joints) / (len(store.frames) * store.layout.num_joints)
    worst = sorted(zip(joints, store.layout.joints), reverse=True)[:3]
    named = ", ".join(f"{name} {count:,}" for count, name in worst if count)
    return f"{sum(joints):,} ({share:.3%}) in {clips:,} clips, most: {named}"


def left_out(store: SkeletonStore) -> Rows:
    """Reasons why clips were left out, the most frequent first, each with an example."""
    clips = collections.defaultdict(list)
    for name, reason in store.meta["skipped"]["clips"]:
        clips[reason].append(name)
    ordered = sorted(clips.items(), key=lambda item: -len(item[1]))
    return [{"left out": len(names), "because": why, "such as": names[0]} for why, names in ordered]


def classes(store: SkeletonStore) -> Rows:
    """For each class its clips, subjects and median length."""
    rows = []
    for label, name in enumerate(store.class_names):
        clips = store.clips[store.clips["label"] == label]
        rows.append(
            {
                "label": label,
                "class": name,
                "clips": len(clips),
                "subjects": len(np.unique(clips["subject"])),
                "frames, median": int(np.median(clips["length"])) if len(clips) else "-",
            }
        )
    return rows


def parts(store: SkeletonStore) -> Rows:
    """For each protocol of the data set the number of clips in its parts, and what to know of them.

    An empty part is "-", and `remark` says why it is empty.
    """
    rows = []
    for name in protocols.PROTOCOLS.get(store.dataset, {}):
        row: dict[str, Any] = {"protocol": name}
        remark = ""
        for part in protocols.PARTS:
            try:
                row[part] = len(protocols.split(store, name, part))
            except InputError as error:  # a trial, or clips without the column of the protocol
                row[part] = "-"
                remark = remark or str(error).removeprefix(f"{store.path}: ")
        rows.append(row | {"remark": remark or protocols.note(store, name)})
    return rows


def usable_parts(store: SkeletonStore) -> Rows:
    """The rows of `parts` whose protocol a run can train and validate on."""
    return [row for row in parts(store) if "-" not in (row["train"], row["fit"], row["val"])]
