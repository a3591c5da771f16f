"""The linear probe: batch normalisation without affine, then a linear classifier.

Classifier, optimiser and epochs are those that MAMP published. MAMP draws new crops and rotations
in each epoch and reports the best epoch on the test clips. `linear_probe` computes the features of
the whole clips once, and its result is the last epoch. `augmented_linear_probe` takes new features
in each epoch; it too reports the last. The learning rate is ours too: `judge.evaluate_linear`
chooses it on validation clips.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from igm_jax.precision import dot

# PyTorch's BatchNorm1d, which the recipe was published with, keeps 0.9 of the old statistics.
BATCH_NORM_DECAY = 0.9
BATCH_NORM_EPSILON = 1e-6
_MOMENTUM = optax.trace(0.9)


class LinearHead(NamedTuple):
    """A trained probe: logits are (x − mean) / √(variance + ε) · kernel + bias.

    Attributes:
      kernel: [D, classes].
      bias: [classes].
      mean: [D] running mean of the batch normalisation.
      variance: [D] its running variance.
    """

    kernel: Float[Array, "D classes"]
    bias: Float[Array, " classes"]
    mean: Float[Array, " D"]
    variance: Float[Array, " D"]


class Probes(NamedTuple):
    """Probes that were trained with L learning rates.

    Attributes:
      accuracy: [L, epochs] on the test features after each epoch; the last column is the result.
      heads: the probes after the last epoch; every array has a leading axis of L.
    """

    accuracy: Float[Array, "L epochs"]
    heads: LinearHead


class ProbeState(NamedTuple):
    """Weights, running statistics and momentum of one probe."""

    params: dict[str, Array]
    mean: Float[Array, " D"]
    variance: Float[Array, " D"]
    momentum: Any


@functools.partial(jax.jit, static_argnames=("num_classes", "epochs", "batch_size", "report"))
def linear_probe(
    features: Float[Array, "n D"],
    labels: Int[Array, " n"],
    test_features: Float[Array, "m D"],
    test_labels: Int[Array, " m"],
    learning_rates: Float[Array, " L"],
    *,
    num_classes: int,
    epochs: int = 100,
    batch_size: int = 256,
    seed: int | Int[Array, ""] = 0,
    report: Callable[[], None] | None = None,
) -> Probes:
    """Trains one probe for each learning rate, side by side, in one compiled program.

    SGD with momentum 0.9, no weight decay, cosine decay to 0 at every step.

    Args:
      features: [n, D] frozen features to train on.
      labels: [n] classes, 0 … num_classes − 1.
      test_features: [m, D].
      test_labels: [m].
      learning_rates: [L].
      num_classes: number of classes.
      epochs: passes over the n features, reshuffled each time.
      batch_size: at most n are used; an incomplete last batch is left out.
      seed: of the order and the initial weights.
      report: is called after each epoch.

    Returns:
      The accuracies and the trained heads.
    """
    states, keys = _begin(features.shape[1], len(learning_rates), num_classes, epochs, seed)
    one_epoch = functools.partial(
        _epoch,
        features=features,
        labels=labels,
        test_features=test_features,
        test_labels=test_labels,
        learning_rates=learning_rates,
        epochs=epochs,
        batch_size=batch_size,
        report=report,
    )
    step = jnp.zeros((), jnp.int32)
    (states, _), accuracy = jax.lax.scan(one_epoch, (states, step), keys)
    return Probes(accuracy.T, _heads(states))


def augmented_linear_probe(
    features_of_epoch: Callable[[int], Float[np.ndarray, "n D"]],
    labels: Int[Array, " n"],
    test_features: Float[Array, "m D"],
    test_labels: Int[Array, " m"],
    learning_rates: Float[Array, " L"],
    *,
    num_classes: int,
    epochs: int = 100,
    batch_size: int = 256,
    seed: int = 0,
    report: Callable[[], None] | None = None,
) -> Probes:
    """`linear_probe` whose training features are new in each epoch, as MAMP trains its probe.

    Args:
      features_of_epoch: number of the epoch, from 0 → [n, D] features of newly augmented clips.
      labels: see `linear_probe`, as are all others.
      test_features: [m, D].
      test_labels: [m].
      learning_rates: [L].
      num_classes: number of classes.
      epochs: passes over the clips.
      batch_size: at most n.
      seed: of the order and the initial weights.
      report: is called after each epoch.

    Returns:
      The accuracies and the trained heads.
    """
    width = test_features.shape[1]
    states, keys = _begin(width, len(learning_rates), num_classes, epochs, seed)
    carry, accuracy = (states, jnp.zeros((), jnp.int32)), []
    for number, key in enumerate(keys):
        carry, after = _compiled_epoch(
            carry,
            key,
            features=jnp.asarray(features_of_epoch(number)),
            labels=labels,
            test_features=test_features,
            test_labels=test_labels,
            learning_rates=learning_rates,
            epochs=epochs,
            batch_size=batch_size,
        )
        accuracy.append(after)
        if report is not None:
            report()
    return Probes(jnp.stack(accuracy, axis=1), _heads(carry[0]))


def head_logits(
    head: LinearHead, features: Float[Array, "B D"] | Float[np.ndarray, "B D"]
) -> Float[Array, "B classes"]:
    """Logits of one trained probe, `Probes.heads` without its leading axis.

    Args:
      head: the probe.
      features: [B, D] frozen features.

    Returns:
      [B, classes]; their softmax is the probability of each class.
    """
    params = {"kernel": jnp.asarray(head.kernel), "bias": jnp.asarray(head.bias)}
    mean, variance = jnp.asarray(head.mean), jnp.asarray(head.variance)
    return _logits(params, jnp.asarray(features), mean, variance)


def _heads(states: ProbeState) -> LinearHead:
    return LinearHead(states.params["kernel"], states.params["bias"], states.mean, states.variance)


def _begin(
    width: int, rates: int, num_classes: int, epochs: int, seed: int | Array
) -> tuple[ProbeState, Array]:
    """One equal state for each learning rate, and a key for each epoch."""
    k_init, k_epochs = jax.random.split(jax.random.key(seed))
    params = {
        "kernel": 0.01 * jax.random.normal(k_init, (width, num_classes)),
        "bias": jnp.zeros(num_classes),
    }
    state = ProbeState(params, jnp.zeros(width), jnp.ones(width), _MOMENTUM.init(params))
    states = jax.tree.map(lambda x: jnp.broadcast_to(x[None], (rates, *x.shape)), state)
    return states, jax.random.split(k_epochs, epochs)


def _epoch(
    carry: tuple[ProbeState, Array],
    key: Array,
    *,
    features: Array,
    labels: Array,
    test_features: Array,
    test_labels: Array,
    learning_rates: Array,
    epochs: int,
    batch_size: int,
    report: Callable[[], None] | None = None,
) -> tuple[tuple[ProbeState, Array], Float[Array, " L"]]:
    """One pass over the features with every learning rate, then the accuracies."""
    count = len(features)
    batch_size = min(batch_size, count)
    steps = count // batch_size
    schedule = optax.cosine_decay_schedule(1.0, epochs * steps)

    def step(carry, batch):
        states, i = carry
        x, y = features[batch], labels[batch]
        scales = learning_rates * schedule(i)
        return (jax.vmap(_update, (0, 0, None, None))(states, scales, x, y), i + 1), None

    def accuracy(state):
        logits = _logits(state.params, test_features, state.mean, state.variance)
        return (logits.argmax(axis=-1) == test_labels).mean()

    order = jax.random.permutation(key, count)[: steps * batch_size]
    carry, _ = jax.lax.scan(step, carry, order.reshape(steps, batch_size))
    if report is not None:
        jax.debug.callback(report)
    return carry, jax.vmap(accuracy)(carry[0])


_compiled_epoch = jax.jit(_epoch, static_argnames=("epochs", "batch_size"))


def _update(state: ProbeState, scale: Array, x: Array, y: Array) -> ProbeState:
    """One step of SGD on one batch."""
    mean, variance = x.mean(axis=0), x.var(axis=0)

    def loss_fn(params):
        logits = _logits(params, x, mean, variance)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    grads = jax.grad(loss_fn)(state.params)
    updates, trace = _MOMENTUM.update(grads, state.momentum)
    params = jax.tree.map(lambda p, u: p - scale * u, state.params, updates)
    # Running variances are unbiased, batch variances are not; so is PyTorch's.
    unbiased = variance * (len(x) / max(len(x) - 1, 1))
    return ProbeState(params, _decay(state.mean, mean), _decay(state.variance, unbiased), trace)


def _decay(old: Array, new: Array) -> Array:
    return BATCH_NORM_DECAY * old + (1 - BATCH_NORM_DECAY) * new


def _logits(params: dict[str, Array], x: Array, mean: Array, variance: Array) -> Array:
    x = (x - mean[None]) * jax.lax.rsqrt(variance + BATCH_NORM_EPSILON)[None]
    return dot(x, params["kernel"]) + params["bias"][None]
