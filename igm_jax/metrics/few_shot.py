"""Few-shot episodes: classify queries by K labelled clips in each of N classes."""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from igm_jax.arguments import Array, check_at_least, check_choice
from igm_jax.errors import InputError
from igm_jax.losses import normalize
from igm_jax.metrics.arrays import check_in_range, check_labelled
from igm_jax.metrics.knn import knn_predict
from igm_jax.precision import dot, float32

METHODS = ("prototype", "knn")


def draw_episodes(
    labels: Int[Array, " B"],
    *,
    ways: int,
    shots: int,
    queries: int = 15,
    episodes: int = 600,
    seed: int = 0,
) -> Int[np.ndarray, "episodes ways _"]:
    """Draws episodes of N classes, with K clips to learn from and some to classify in each.

    Classes and clips of an episode are drawn without replacement. Episodes are independent.

    Args:
      labels: [B] of the clips, ≥ 0.
      ways: N, classes in an episode.
      shots: K, labelled clips of each class.
      queries: clips of each class to classify.
      episodes: number of episodes.
      seed: of the draws.

    Returns:
      [episodes, ways, shots + queries] positions of clips; the first `shots` are the labelled ones.

    Raises:
      InputError: a number below 1, a label below 0, fewer classes than `ways`, or a class with
        fewer clips than `shots + queries`.

    References:
      Vinyals et al., Matching Networks for One Shot Learning (NeurIPS 2016); Snell et al.,
      Prototypical Networks for Few-shot Learning (NeurIPS 2017). They use 15 queries; 600 episodes
      are common.

    >>> labels = np.repeat([3, 5, 8], 4)
    >>> picked = draw_episodes(labels, ways=2, shots=1, queries=2, episodes=7)
    >>> picked.shape, bool((labels[picked] == labels[picked][:, :, :1]).all())
    ((7, 2, 3), True)
    """
    numbers = {"ways": ways, "shots": shots, "queries": queries, "episodes": episodes}
    for name, value in numbers.items():
        check_at_least(name, value, 1)
    labels = np.asarray(labels)
    check_labelled("labels", labels)
    classes, counts = np.unique(labels, return_counts=True)
    check_in_range("ways", ways, len(classes), "classes with clips")
    if counts.min() < shots + queries:
        raise InputError(
            f"class {classes[counts.argmin()]} has {counts.min()} clips, and an episode needs "
            f"shots={shots} plus queries={queries}: lower these, or leave the class out"
        )
    clips = [np.flatnonzero(labels == c) for c in classes]
    rng = np.random.default_rng(seed)
    drawn = np.empty((episodes, ways, shots + queries), np.int64)
    for episode in drawn:
        for row, c in zip(episode, rng.permutation(len(classes))[:ways]):
            row[:] = rng.permutation(clips[c])[: shots + queries]
    return drawn


def few_shot_accuracy(
    features: Float[Array, "B D"],
    episodes: Int[Array, "E ways _"],
    *,
    shots: int,
    method: Literal["prototype", "knn"] = "prototype",
    k: int = 1,
) -> Float[jax.Array, " E"]:
    """Accuracy of each episode; see `mean_and_interval` for their mean.

    `"prototype"` takes the class whose mean of unit features has the largest cosine to the query.
    `"knn"` is `knn_predict` from the labelled clips of the episode. No parameter is trained.

    Args:
      features: [B, D] of all clips.
      episodes: what `draw_episodes` returns.
      shots: the K that they were drawn with.
      method: `"prototype"` or `"knn"`.
      k: neighbours of `"knn"`, in 1 … ways · shots.

    Returns:
      [E], each in [0, 1]; chance is 1 / ways. Of equal classes the first one drawn wins.

    Raises:
      InputError: unknown method, or `shots` or `k` out of range.

    References:
      Snell et al., Prototypical Networks for Few-shot Learning (NeurIPS 2017), here by cosine;
      Wang et al., SimpleShot (2019), for both on frozen features of unit length.

    >>> x = jnp.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9]])
    >>> few_shot_accuracy(x, np.array([[[0, 1], [2, 3]]]), shots=1).tolist()
    [1.0]
    """
    ways, picked = episodes.shape[1:]
    check_in_range("shots", shots, picked - 1, "clips of a class in an episode, less one query")
    check_choice("method", method, METHODS)
    if method == "knn":
        check_in_range("k", k, ways * shots, "labelled clips in an episode")
    return _accuracies(features, episodes, shots=shots, method=method, k=k)


@functools.partial(jax.jit, static_argnames=("shots", "method", "k"))
def _accuracies(
    features: jax.Array, episodes: jax.Array, *, shots: int, method: str, k: int
) -> jax.Array:
    ways, picked = episodes.shape[1:]
    units = normalize(float32(features))
    classes = jnp.arange(ways, dtype=jnp.int32)

    def accuracy(clips: jax.Array) -> jax.Array:
        known = units[clips[:, :shots]]
        asked = units[clips[:, shots:]].reshape(-1, units.shape[-1])
        truth = jnp.repeat(classes, picked - shots)
        if method == "prototype":
            prototypes = normalize(known.mean(axis=1))
            predicted = jnp.argmax(dot(asked, prototypes.T), axis=-1)
        else:
            known = known.reshape(-1, units.shape[-1])
            labels = jnp.repeat(classes, shots)
            predicted = knn_predict(asked, known, labels, k=k, num_classes=ways)
        return (predicted == truth).astype(units.dtype).mean()

    return jax.lax.map(accuracy, episodes)
