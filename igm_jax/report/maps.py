"""Test clips as points: two numbers for each feature, and its nearest neighbours."""

import importlib.util
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from openTSNE import TSNE

from igm_jax import features
from igm_jax.data import SkeletonStore, pipeline, protocols
from igm_jax.errors import InputError
from igm_jax.evaluation.run import Run

_FEWEST = 8  # a map of fewer points shows nothing, and t-SNE needs neighbours


class FeatureMap(NamedTuple):
    """Some test clips, their features, and where these lie on a map.

    Attributes:
      indices: [n] positions in the store.
      total: number of test clips, of which these are a sample if n is smaller.
      places: name of the method → [n, 2]; `t-SNE`, and `UMAP` if umap-learn is installed.
      neighbours: [n, k] rows of the clips with the most similar features, the nearest first.
      cosines: [n, k] their similarities.
    """

    indices: Int[np.ndarray, " n"]
    total: int
    places: dict[str, Float[np.ndarray, "n 2"]]
    neighbours: Int[np.ndarray, "n k"]
    cosines: Float[np.ndarray, "n k"]


def feature_map(run: Run, store: SkeletonStore, *, most: int = 600, k: int = 5) -> FeatureMap:
    """Encodes at most `most` test clips, lays them out and finds their neighbours.

    Raises:
      InputError: the test split has fewer than 8 clips.
    """
    test = protocols.split(store, run.config.data.protocol, "test")
    indices = pipeline.sample(test, most)
    if len(indices) < _FEWEST:
        raise InputError(
            f"{store.path}: {len(indices)} test clips are too few for a map: it needs {_FEWEST}"
        )
    clips = features.clip_batches(store, indices, run.reading)
    values = features.extract_features(run.config.model.encoder, run.params, run.reading, clips)
    near, cosine = neighbours(values, k)
    return FeatureMap(indices, len(test), places(values, run.config.seed), near, cosine)


def neighbours(
    values: Float[np.ndarray, "n D"], k: int
) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """Of each row the k other rows of greatest cosine, the nearest first, and their cosines.

    >>> neighbours(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.1]]), 1)[0].tolist()
    [[2], [2], [0]]
    """
    norm = np.linalg.norm(values, axis=1, keepdims=True)
    unit = values / np.where(norm > 0, norm, 1)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    order = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(cosine, order, axis=1)


def places(values: Float[np.ndarray, "n D"], seed: int) -> dict[str, Float[np.ndarray, "n 2"]]:
    """A map of features by t-SNE, and by UMAP if it is installed; by cosine."""
    perplexity = min(30, (len(values) - 1) // 3)
    tsne = TSNE(perplexity=perplexity, metric="cosine", initialization="pca", random_state=seed)
    found = {"t-SNE": _unit_square(np.asarray(tsne.fit(values)))}
    # Not in the extra: umap-learn needs numba, which follows new versions of Python late.
    if importlib.util.find_spec("umap"):
        umap: Any = importlib.import_module("umap")
        made = umap.UMAP(n_neighbors=min(15, len(values) - 1), metric="cosine", random_state=seed)
        found["UMAP"] = _unit_square(made.fit_transform(values))
    return found


def _unit_square(points: np.ndarray) -> np.ndarray:
    """The points moved and scaled so that they fill [0, 1]²; a map's axes have no unit."""
    size = np.ptp(points, axis=0)
    return (points - points.min(axis=0)) / np.where(size > 0, size, 1.0)
