"""Small stores for the tests of this folder."""

import pathlib

import numpy as np
import pytest

from igm_jax.data.formats import nw_ucla
from igm_jax.data.store import Clip, SkeletonStore
from igm_jax.skeleton import KINECT20

NW_UCLA = pathlib.Path(__file__).parents[3] / "shared" / "data" / "nw-ucla"


def random_clips(count, joints=20, seed=0, max_bodies=3, max_length=30):
    """Clips of 1 to `max_bodies` bodies and 1 to `max_length` frames, somewhere before a camera."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        shape = (rng.integers(1, max_bodies + 1), rng.integers(1, max_length + 1), joints, 3)
        frames = rng.normal(size=shape) * 0.3 + [0.5, -0.2, 3.0]
        yield Clip(
            f"clip{i:04d}", frames.astype(np.float32), i % 4, 1 + i % 5, 1 + i % 3, 1 + i % 2
        )


@pytest.fixture
def write(tmp_path):
    """Writes clips to a new store and opens it."""

    def write(clips, path=tmp_path / "store", layout=KINECT20, **kwargs):
        kwargs = {"class_names": ["w", "x", "y", "z"], "source": "tests", **kwargs}
        SkeletonStore.write(path, clips, layout=layout, **kwargs)
        return SkeletonStore.open(path)

    return write


@pytest.fixture(scope="session")
def ucla(tmp_path_factory):
    """The real NW-UCLA, where it is at hand."""
    if not (NW_UCLA / "all_sqe").is_dir():
        pytest.skip(f"no NW-UCLA at {NW_UCLA}")
    path = tmp_path_factory.mktemp("ucla") / "store"
    SkeletonStore.write(
        path,
        nw_ucla.read(NW_UCLA),
        layout=nw_ucla.LAYOUT,
        class_names=nw_ucla.CLASS_NAMES,
        source="tests",
        dataset=nw_ucla.DATASET,
    )
    return SkeletonStore.open(path)
