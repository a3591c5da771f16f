"""The linear probe against the same recipe written out in float64, and against scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from igm_jax.evaluation import linear_probe as probes


def linear_probe(*arguments, **settings):
    return probes.linear_probe(*arguments, **settings).accuracy


def augmented_linear_probe(*arguments, **settings):
    return probes.augmented_linear_probe(*arguments, **settings).accuracy


def blobs(count, seed, classes=4, width=6, spread=1.3):
    """Overlapping Gaussians with features of very different scale, as an encoder gives them."""
    centres = np.random.default_rng(99).normal(size=(classes, width))
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, count)
    x = centres[y] + spread * rng.normal(size=(count, width))
    return (x * np.logspace(-1, 1, width) + 3).astype(np.float32), y.astype(np.int32)


def naive_probe(x, y, test_x, test_y, rate, classes, epochs, batch_size, seed):
    """SGD with momentum, one batch after the other; only the random numbers are JAX's."""
    k_init, k_epochs = jax.random.split(jax.random.key(seed))
    x, test_x = x.astype(np.float64), test_x.astype(np.float64)
    kernel = 0.01 * np.asarray(jax.random.normal(k_init, (x.shape[1], classes)), np.float64)
    bias, speed_kernel, speed_bias = np.zeros(classes), 0.0, 0.0
    running_mean, running_var = np.zeros(x.shape[1]), np.ones(x.shape[1])
    steps, step, accuracies = len(x) // batch_size, 0, []
    for key in jax.random.split(k_epochs, epochs):
        order = np.asarray(jax.random.permutation(key, len(x)))
        for i in range(steps):
            batch = order[i * batch_size : (i + 1) * batch_size]
            mean, var = x[batch].mean(0), x[batch].var(0)
            h = (x[batch] - mean) / np.sqrt(var + 1e-6)
            logits = h @ kernel + bias
            p = np.exp(logits - logits.max(1, keepdims=True))
            error = (p / p.sum(1, keepdims=True) - np.eye(classes)[y[batch]]) / batch_size
            speed_kernel = 0.9 * speed_kernel + h.T @ error
            speed_bias = 0.9 * speed_bias + error.sum(0)
            scale = rate * 0.5 * (1 + np.cos(np.pi * step / (epochs * steps)))
            kernel, bias = kernel - scale * speed_kernel, bias - scale * speed_bias
            running_mean = 0.9 * running_mean + 0.1 * mean
            running_var = 0.9 * running_var + 0.1 * var * batch_size / (batch_size - 1)
            step += 1
        h = (test_x - running_mean) / np.sqrt(running_var + 1e-6)
        accuracies.append(((h @ kernel + bias).argmax(1) == test_y).mean())
    return np.array(accuracies)


@pytest.mark.parametrize(("batch_size", "seed"), [(16, 0), (50, 3)])
def test_against_the_recipe_in_float64(batch_size, seed):
    """210 clips make 13 batches of 16 and 4 of 50: the rest of each epoch is left out."""
    (x, y), (test_x, test_y) = blobs(210, 0), blobs(400, 1)
    rates = np.array([0.003, 0.1, 3.0], np.float32)
    got = linear_probe(
        x, y, test_x, test_y, rates, num_classes=4, epochs=5, batch_size=batch_size, seed=seed
    )
    assert got.shape == (3, 5)
    for row, rate in zip(np.asarray(got), rates):
        expected = naive_probe(
            x, y, test_x, test_y, float(rate), 4, epochs=5, batch_size=batch_size, seed=seed
        )
        np.testing.assert_allclose(row, expected, atol=1.5 / 400)  # one clip on the edge


def test_reaches_what_logistic_regression_reaches():
    (x, y), (test_x, test_y) = blobs(600, 0), blobs(1000, 1)
    ours = np.asarray(
        linear_probe(x, y, test_x, test_y, jnp.array([0.1]), num_classes=4, epochs=60)
    )[0, -1]
    scale = x.std(axis=0)
    model = LogisticRegression(C=1e4, max_iter=1000).fit(x / scale, y)
    best = model.score(test_x / scale, test_y)
    assert 0.5 < best < 0.95  # neither trivial nor hopeless
    assert abs(ours - best) < 0.015


def test_rates_side_by_side_are_the_rates_one_by_one():
    (x, y), (test_x, test_y) = blobs(120, 0), blobs(300, 1)
    rates = jnp.array([0.01, 0.1, 1.0])
    probe = lambda r: linear_probe(  # noqa: E731
        x, y, test_x, test_y, r, num_classes=4, epochs=4, batch_size=32
    )
    together = np.asarray(probe(rates))
    assert len({tuple(row) for row in together}) == 3  # the rate does matter
    for i in range(3):
        np.testing.assert_allclose(probe(rates[i : i + 1])[0], together[i], atol=1.5 / 300)


def test_test_clips_do_not_take_part_in_training():
    """Each test clip is judged alone: others beside it, or other labels, change nothing."""
    (x, y), (test_x, test_y) = blobs(120, 0), blobs(60, 1)

    def correct(test_x, test_y):
        """By probing clips one at a time: 1 or 0 for each epoch."""
        accuracy = linear_probe(
            x, y, test_x, test_y, jnp.array([0.1]), num_classes=4, epochs=4, batch_size=32
        )
        return np.asarray(accuracy)[0] * len(test_x)

    whole, first, rest = (
        correct(test_x[s], test_y[s]) for s in (slice(None), slice(0, 30), slice(30, 60))
    )
    np.testing.assert_allclose(first + rest, whole, atol=1e-3)
    shuffled = np.random.default_rng(0).permutation(60)
    np.testing.assert_allclose(correct(test_x[shuffled], test_y[shuffled]), whole, atol=1e-3)
    # With a wild stranger among them, the other clips are judged as before.
    wild = np.concatenate([test_x, np.full((1, 6), 1e4, np.float32)])
    hits = {label: correct(wild, np.append(test_y, label).astype(np.int32)) for label in range(4)}
    np.testing.assert_allclose(sum(hits.values()), 4 * whole + 1, atol=1e-3)


def test_a_training_set_smaller_than_the_batch_is_one_batch():
    (x, y), (test_x, test_y) = blobs(20, 0), blobs(50, 1)
    small = linear_probe(x, y, test_x, test_y, jnp.array([0.1]), num_classes=4, epochs=3)
    exact = linear_probe(
        x, y, test_x, test_y, jnp.array([0.1]), num_classes=4, epochs=3, batch_size=20
    )
    np.testing.assert_array_equal(small, exact)
    assert np.isfinite(small).all()


def test_augmented_probe_of_features_that_stay_is_the_cached_one():
    (x, y), (test_x, test_y) = blobs(120, 0), blobs(300, 1)
    y, test_x, test_y = (jnp.asarray(a) for a in (y, test_x, test_y))
    rates, how = jnp.array([0.01, 0.1]), {"num_classes": 4, "epochs": 4, "batch_size": 32}
    asked = []
    stay = lambda epoch: asked.append(epoch) or x  # noqa: E731
    got = augmented_linear_probe(stay, y, test_x, test_y, rates, seed=3, **how)
    expected = linear_probe(x, y, test_x, test_y, rates, seed=3, **how)
    assert asked == [0, 1, 2, 3]
    np.testing.assert_allclose(got, expected, atol=1.5 / 300)
    # The features of the last epoch only have their say at the end.
    moved = lambda epoch: x if epoch < 3 else -x  # noqa: E731
    other = augmented_linear_probe(moved, y, test_x, test_y, rates, seed=3, **how)
    np.testing.assert_allclose(other[:, :3], got[:, :3])
    assert np.abs(other[:, 3] - got[:, 3]).max() > 0.02


def test_heads_are_the_probes_that_were_measured():
    """Each head classifies the test features as the last epoch did, and may be read back."""
    (x, y), (test_x, test_y) = blobs(120, 0), blobs(300, 1)
    how = {"num_classes": 4, "epochs": 4, "batch_size": 32}
    rates = jnp.array([0.01, 0.1])
    cached = probes.linear_probe(x, y, test_x, test_y, rates, **how)
    y, test_x, test_y = (jnp.asarray(a) for a in (y, test_x, test_y))
    fresh = probes.augmented_linear_probe(lambda _: x, y, test_x, test_y, rates, **how)
    for found in (cached, fresh):
        for i in range(2):
            head = probes.LinearHead(*(np.asarray(a)[i] for a in found.heads))
            assert head.kernel.shape == (6, 4) and head.mean.shape == (6,)
            logits = np.asarray(probes.head_logits(head, test_x))
            scaled = (test_x - head.mean[None]) / np.sqrt(head.variance[None] + 1e-6)
            np.testing.assert_allclose(logits, scaled @ head.kernel + head.bias[None], atol=1e-4)
            right = (logits.argmax(axis=1) == test_y).mean()
            np.testing.assert_allclose(right, found.accuracy[i, -1], atol=1.5 / 300)
