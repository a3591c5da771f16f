"""The linear probe of MAMP: batch normalisation without affine, then a linear classifier."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

# PyTorch's BatchNorm1d, which the recipe was published with, keeps 0.9 of the old statistics.
BATCH_NORM_DECAY = 0.9
BATCH_NORM_EPSILON = 1e-6


class ProbeState(NamedTuple):
    """Weights, running statistics and momentum of one probe."""

    params: dict[str, Array]
    mean: Float[Array, " D"]
    variance: Float[Array, " D"]
    momentum: Any


@functools.partial(jax.jit, static_argnames=("num_classes", "epochs", "batch_size"))
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
) -> Float[Array, "L epochs"]:
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

    Returns:
      [L, epochs] accuracy on the test features after each epoch; the last column is the result.
    """
    count, width = features.shape
    batch_size = min(batch_size, count)
    steps = count // batch_size
    schedule = optax.cosine_decay_schedule(1.0, epochs * steps)
    momentum = optax.trace(0.9)

    def train_one(rate: Array) -> Array:
        def step(carry, batch):
            state, i = carry
            x, y = features[batch], labels[batch]
            mean, variance = x.mean(axis=0), x.var(axis=0)

            def loss_fn(params):
                logits = _logits(params, x, mean, variance)
                return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

            grads = jax.grad(loss_fn)(state.params)
            updates, trace = momentum.update(grads, state.momentum)
            scale = rate * schedule(i)
            params = jax.tree.map(lambda p, u: p - scale * u, state.params, updates)
            # Running variances are unbiased, batch variances are not; so is PyTorch's.
            unbiased = variance * (batch_size / max(batch_size - 1, 1))
            state = ProbeState(
                params, _decay(state.mean, mean), _decay(state.variance, unbiased), trace
            )
            return (state, i + 1), None

        def epoch(carry, key):
            order = jax.random.permutation(key, count)[: steps * batch_size]
            carry, _ = jax.lax.scan(step, carry, order.reshape(steps, batch_size))
            state = carry[0]
            logits = _logits(state.params, test_features, state.mean, state.variance)
            return carry, (logits.argmax(axis=-1) == test_labels).mean()

        k_init, k_epochs = jax.random.split(jax.random.key(seed))
        params = {
            "kernel": 0.01 * jax.random.normal(k_init, (width, num_classes)),
            "bias": jnp.zeros(num_classes),
        }
        state = ProbeState(params, jnp.zeros(width), jnp.ones(width), momentum.init(params))
        keys = jax.random.split(k_epochs, epochs)
        _, accuracy = jax.lax.scan(epoch, (state, jnp.zeros((), jnp.int32)), keys)
        return accuracy

    return jax.vmap(train_one)(learning_rates)


def _decay(old: Array, new: Array) -> Array:
    return BATCH_NORM_DECAY * old + (1 - BATCH_NORM_DECAY) * new


def _logits(params: dict[str, Array], x: Array, mean: Array, variance: Array) -> Array:
    x = (x - mean[None]) * jax.lax.rsqrt(variance + BATCH_NORM_EPSILON)[None]
    return x @ params["kernel"] + params["bias"][None]
