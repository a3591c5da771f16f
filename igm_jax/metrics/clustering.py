"""Clusters without labels: k-means, and how well clusters agree with classes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, Key

from igm_jax.arguments import Array, check_at_least
from igm_jax.errors import InputError
from igm_jax.metrics.arrays import check_count, check_in_range, check_labelled
from igm_jax.precision import dot, float32


def kmeans(
    key: Key[jax.Array, ""],
    features: Float[Array, "B D"],
    clusters: int,
    *,
    restarts: int = 4,
    iterations: int = 30,
) -> Int[jax.Array, " B"]:
    """Assigns features to clusters by Lloyd's algorithm, started by k-means++.

    Distances are Euclidean: give unit features (`losses.normalize`) to cluster by direction. Of the
    restarts the one with the smallest sum of squared distances is returned. A cluster that becomes
    empty keeps its centre.

    Args:
      key: random key of the first centres.
      features: [B, D], finite.
      clusters: in 1 … B.
      restarts: number of starts, ≥ 1.
      iterations: steps of each, ≥ 1; their number is fixed so that the function compiles.

    Returns:
      [B] numbers of clusters, 0 … clusters−1.

    Raises:
      InputError: a number out of range.

    References:
      Lloyd, Least Squares Quantization in PCM (1982); Arthur & Vassilvitskii, k-means++ (2007).

    >>> x = jnp.array([[0.0], [0.1], [5.0], [5.1]])
    >>> first, _, second, _ = kmeans(jax.random.key(0), x, 2).tolist()
    >>> first != second
    True
    """
    check_in_range("clusters", clusters, features.shape[0], "features")
    check_at_least("restarts", restarts, 1)
    check_at_least("iterations", iterations, 1)
    x = jax.lax.stop_gradient(float32(features))  # an assignment has no gradient
    x = x - x.mean(axis=0, keepdims=True)  # else a common offset costs digits of the distances
    keys = jax.random.split(key, restarts)
    assignments, spreads = _starts(keys, x, clusters=clusters, iterations=iterations)
    return assignments[jnp.argmin(spreads)]


@functools.partial(jax.jit, static_argnames=("clusters", "iterations"))
def _starts(
    keys: jax.Array, x: jax.Array, *, clusters: int, iterations: int
) -> tuple[jax.Array, jax.Array]:
    """`_lloyd` of each start."""
    run = functools.partial(_lloyd, x=x, clusters=clusters, iterations=iterations)
    return jax.lax.map(run, keys)


def _lloyd(
    key: jax.Array, *, x: jax.Array, clusters: int, iterations: int
) -> tuple[jax.Array, jax.Array]:
    """Assignment of one start and its sum of squared distances."""

    def step(_, centres):
        members = jax.nn.one_hot(_distances(x, centres).argmin(axis=1), clusters, dtype=x.dtype)
        count = members.sum(axis=0)[:, None]
        mean = dot(members.T, x) / jnp.maximum(count, 1)
        return jnp.where(count > 0, mean, centres)

    centres = jax.lax.fori_loop(0, iterations, step, _first_centres(key, x, clusters))
    distances = _distances(x, centres)
    return distances.argmin(axis=1), distances.min(axis=1).sum()


def _first_centres(key: jax.Array, x: jax.Array, clusters: int) -> jax.Array:
    """k-means++: each next centre is drawn in proportion to the squared distance to the others."""
    keys = jax.random.split(key, clusters)
    first = x[jax.random.randint(keys[0], (), 0, x.shape[0])]
    nearest = jnp.square(x - first[None]).sum(axis=1)

    def draw(nearest, key):
        # Where all features are centres already, any will do.
        chance = jnp.where(nearest.sum() > 0, nearest, 1)
        centre = x[jax.random.categorical(key, jnp.log(chance))]
        return jnp.minimum(nearest, jnp.square(x - centre[None]).sum(axis=1)), centre

    _, others = jax.lax.scan(draw, nearest, keys[1:])
    return jnp.concatenate([first[None], others])


def _distances(x: jax.Array, centres: jax.Array) -> jax.Array:
    """Squared distances [B, clusters]; memory grows with B · clusters, not with D."""
    square = jnp.square(x).sum(axis=1)[:, None] + jnp.square(centres).sum(axis=1)[None]
    return jnp.maximum(square - 2 * dot(x, centres.T), 0)


def adjusted_rand_index(labels: Int[Array, " B"], clusters: Int[Array, " B"]) -> float:
    """Share of pairs of clips that both partitions put together or apart, corrected for chance.

    Args:
      labels: [B] classes, ≥ 0.
      clusters: [B], any numbers.

    Returns:
      In [−0.5, 1]; 1 for equal partitions, whatever their numbers, and 0 at chance.

    Raises:
      InputError: no clips, a label below 0, or different lengths.

    References:
      Hubert & Arabie, Comparing Partitions (1985).

    >>> adjusted_rand_index(np.array([0, 0, 1, 1]), np.array([7, 7, 2, 2]))
    1.0
    """
    table = _contingency(labels, clusters)
    together = _pairs(table).sum()
    rows, columns = _pairs(table.sum(axis=1)).sum(), _pairs(table.sum(axis=0)).sum()
    total = len(labels) * (len(labels) - 1) / 2
    expected = rows * columns / total if total else 0.0
    most = (rows + columns) / 2
    if most == expected:  # one cluster, or all clips apart, in both
        return 1.0
    return float((together - expected) / (most - expected))


def normalized_mutual_information(labels: Int[Array, " B"], clusters: Int[Array, " B"]) -> float:
    """Mutual information of two partitions over the mean of their entropies.

    It is not corrected for chance: it rises with the number of clusters.

    Args:
      labels: [B] classes, ≥ 0.
      clusters: [B], any numbers.

    Returns:
      In [0, 1]; 1 for equal partitions, 0 if one of them alone is a single cluster.

    Raises:
      InputError: no clips, a label below 0, or different lengths.

    References:
      Strehl & Ghosh, Cluster Ensembles (JMLR 2002); the arithmetic mean as in scikit-learn.

    >>> normalized_mutual_information(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 0]))
    0.0
    """
    joint = _contingency(labels, clusters)
    joint = joint / joint.sum()
    rows, columns = _entropy(joint.sum(axis=1)), _entropy(joint.sum(axis=0))
    if rows == columns == 0:
        return 1.0
    shared = rows + columns - _entropy(joint)
    return float(np.clip(2 * shared / (rows + columns), 0, 1))  # rounding


def _contingency(labels: Array, clusters: Array) -> np.ndarray:
    """Number of clips in each class and cluster, as floats: their pairs may exceed integers."""
    check_count("clusters", clusters, labels.shape[0], "labels")
    if not labels.shape[0]:
        raise InputError("no clips to compare: give at least one")
    check_labelled("labels", labels)
    _, rows = np.unique(np.asarray(labels), return_inverse=True)
    _, columns = np.unique(np.asarray(clusters), return_inverse=True)
    table = np.zeros((rows.max() + 1, columns.max() + 1))
    np.add.at(table, (rows, columns), 1)
    return table


def _pairs(count: np.ndarray) -> np.ndarray:
    return count * (count - 1) / 2


def _entropy(share: np.ndarray) -> float:
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())
