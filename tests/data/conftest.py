"""Small stores for the tests of this folder."""

import pytest
from clip_samples import NW_UCLA

from igm_jax.data.formats import nw_ucla
from igm_jax.data.store import SkeletonStore
from igm_jax.skeleton import KINECT20


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
