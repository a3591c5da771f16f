"""The table of data sets and their readers."""

import pathlib

from igm_jax.data import synthetic
from igm_jax.data.formats import (
    custom,
    mamp_npz,
    ntu60,
    ntu120,
    nw_ucla,
    pku_mmd,
    pyskl_pkl,
    utd_mhad,
)
from igm_jax.data.store import SkeletonStore
from igm_jax.errors import InputError

# One module for each source, with DATASET, HOW_TO_GET and `read(source)`, which finds the clips. If
# cleaning is a choice, `read` takes the steps as `cleaning`, and CLEANING names the defaults.
FORMATS = {
    module.DATASET: module
    for module in (
        synthetic,
        ntu60,
        ntu120,
        pku_mmd,
        nw_ucla,
        utd_mhad,
        mamp_npz,
        pyskl_pkl,
        custom,
    )
}


def open_dataset(dataset: str, path: str | pathlib.Path) -> SkeletonStore:
    """Opens the store of a data set.

    Raises:
      InputError: nothing at `path` (says what to download, where to put it, and how to prepare
        it), a damaged store, or the store of another data set.
    """
    path = pathlib.Path(path)
    if not path.exists():
        how = FORMATS[dataset].HOW_TO_GET if dataset in FORMATS else "prepare it first"
        raise InputError(f"data set {dataset!r} is not at {path}: {how}")
    store = SkeletonStore.open(path)
    if store.dataset != dataset:
        raise InputError(
            f"{path} holds the data set {store.dataset!r}, but the config asks for {dataset!r}: "
            "choose the config file of that data set, or the folder of this one"
        )
    return store
