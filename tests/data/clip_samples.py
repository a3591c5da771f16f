"""Clips for the tests of this folder, and where the real ones would be."""

import pathlib

import numpy as np

from igm_jax.data.store import Clip

NW_UCLA = pathlib.Path(__file__).parents[3] / "shared" / "data" / "nw-ucla"
UTD_MHAD = NW_UCLA.parent / "utd-mhad"


def random_clips(count, joints=20, seed=0, max_bodies=3, max_length=30):
    """Clips of 1 to `max_bodies` bodies and 1 to `max_length` frames, somewhere before a camera."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        shape = (rng.integers(1, max_bodies + 1), rng.integers(1, max_length + 1), joints, 3)
        frames = rng.normal(size=shape) * 0.3 + [0.5, -0.2, 3.0]
        yield Clip(
            f"clip{i:04d}", frames.astype(np.float32), i % 4, 1 + i % 5, 1 + i % 3, 1 + i % 2
        )


def content(path):
    """The bytes of each file of a store."""
    return {file.name: file.read_bytes() for file in path.iterdir()}
