"""Small stores for the tests of this folder."""

import pytest
from clip_samples import NW_UCLA, UTD_MHAD

from igm_jax.data.formats import nw_ucla, utd_mhad
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
    """The real NW-UCLA, if it is on this machine."""
    return _real(nw_ucla, NW_UCLA, "all_sqe", tmp_path_factory)


@pytest.fixture(scope="session")
def utd(tmp_path_factory):
    """The real UTD-MHAD, if it is on this machine."""
    return _real(utd_mhad, UTD_MHAD, "Skeleton", tmp_path_factory)


def _real(data_format, source, folder, tmp_path_factory):
    """A store of real data; skips the test where there is none."""
    if not (source / folder).is_dir():
        pytest.skip(f"no {data_format.DATASET} at {source}")
    path = tmp_path_factory.mktemp(data_format.DATASET) / "store"
    SkeletonStore.write(
        path,
        data_format.read(source),
        layout=data_format.LAYOUT,
        class_names=data_format.CLASS_NAMES,
        source="tests",
        dataset=data_format.DATASET,
    )
    return SkeletonStore.open(path)
