"""A store of the size of NTU RGB+D 120 whose frames are noise: what costs depends on its size."""

import pathlib
from collections.abc import Iterator

import numpy as np

from igm_jax.data import Clip, SkeletonStore
from igm_jax.data.formats import ntu120

NTU120_CLIPS = 114_480
_LENGTHS = (30, 131)  # frames; 80 in the mean
_TWO_BODIES = 0.22  # share of the clips: 26 of the 120 actions are of two people
_POOL = 1 << 14  # rows of noise, of which every clip is a part


def clips(count: int) -> Iterator[Clip]:
    """The same clips every time, named as those of NTU RGB+D are."""
    rng = np.random.default_rng(0)
    pool = rng.standard_normal((_POOL, 25, 3)).astype(np.float32)
    length = rng.integers(*_LENGTHS, count)
    bodies = np.where(rng.random(count) < _TWO_BODIES, 2, 1)
    start = rng.integers(0, _POOL - bodies * length)
    for i in range(count):
        rows = pool[start[i] : start[i] + bodies[i] * length[i]]
        (rest, action), frames = divmod(i, 120), rows.reshape(bodies[i], length[i], 25, 3)
        rest, performer = divmod(rest, 106)
        setup, camera = divmod(rest, 3)
        name = f"S{setup + 1:03}C{camera + 1:03}P{performer + 1:03}R001A{action + 1:03}"
        yield Clip(name, frames, action, performer + 1, camera + 1, setup + 1)


def made(folder: pathlib.Path, count: int) -> pathlib.Path:
    """The store of so many clips in `folder`, which is written if it is not there yet."""
    path = folder / f"noise-{count}"
    if not path.exists():
        SkeletonStore.write(
            path,
            clips(count),
            layout=ntu120.LAYOUT,
            class_names=ntu120.CLASS_NAMES,
            source="noise",
            dataset=ntu120.DATASET,
        )
    return path
