"""InfoNCE, mined similarities and mutual distillation against one pair at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_oracles import REFERENCES, Z_HAT, Z, unit

from igm_jax import losses
from igm_jax.errors import InputError


def test_mined_similarity_against_one_reference_at_a_time():
    expected = []
    for a, b in zip(unit(Z), unit(Z_HAT)):
        cosines = [a @ r for r in unit(REFERENCES)]
        third = sorted(cosines)[-3]
        weights = [np.exp((max(cosines) if c >= third else c) / 0.05) for c in cosines]
        p = np.array(weights) / sum(weights)
        other = np.exp([b @ r / 0.1 for r in unit(REFERENCES)])
        expected.append(sum(p * np.log(p / (other / other.sum()))))
    arrays = [jnp.asarray(x) for x in (Z, Z_HAT, REFERENCES)]
    np.testing.assert_allclose(
        losses.mined_similarity_loss(*arrays, positives=3), expected, rtol=2e-5
    )


def test_limits_of_the_mined_similarity():
    """One positive changes nothing, equal temperatures without a limit leave nothing to learn."""
    arrays = [jnp.asarray(x) for x in (Z, Z_HAT, REFERENCES)]
    np.testing.assert_allclose(
        losses.mined_similarity_loss(*arrays, positives=1),
        losses.distribution_idempotency_loss(*arrays),
        rtol=1e-5,
    )
    flat = {"target_temperature": 1e6, "temperature": 1e6}
    np.testing.assert_allclose(
        losses.mined_similarity_loss(*arrays, positives=3, **flat), 0, atol=1e-5
    )
    alone = losses.mined_similarity_loss(*arrays[:2], arrays[2][:1], positives=1)
    np.testing.assert_allclose(alone, 0, atol=1e-6)  # the only clip of the queue
    every = losses.mined_similarity_loss(*arrays, positives=9, temperature=1e6)
    np.testing.assert_allclose(every, 0, atol=1e-5)  # all are positives alike
    one_clip = losses.mined_similarity_loss(arrays[0][:1], arrays[1][:1], arrays[2], positives=3)
    np.testing.assert_allclose(
        one_clip, losses.mined_similarity_loss(*arrays, positives=3)[:1], rtol=1e-5
    )


def _streams(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(3, *shape)), jnp.float32)


def test_mutual_distillation_against_one_pair_of_streams_at_a_time():
    z, z_hat, references = _streams(0, 4, 7), _streams(1, 4, 7), _streams(2, 9, 7)
    a, b, queue = ([unit(x) for x in y] for y in (z, z_hat, references))
    expected = np.zeros(4)
    for s in range(3):
        for other in {0, 1, 2} - {s}:
            for i in range(4):
                nearest = np.argsort([-(a[s][i] @ r) for r in queue[s]])[:5]
                p = np.exp([a[s][i] @ queue[s][j] / 0.05 for j in nearest])
                q = np.exp([b[other][i] @ queue[other][j] / 0.1 for j in nearest])
                expected[i] += sum(p / p.sum() * (np.log(p / p.sum()) - np.log(q / q.sum())))
    loss = losses.mutual_distillation_loss(z, z_hat, references, nearest=5)
    np.testing.assert_allclose(loss, expected, rtol=2e-5)


def test_limits_of_mutual_distillation():
    """Without another stream, without a queue, with one entry of it, or with a high temperature."""
    z, references = _streams(0, 4, 7), _streams(2, 9, 7)
    distillation = losses.mutual_distillation_loss
    zeros = [
        distillation(z[:1], z[:1] + 1, references[:1], nearest=5),
        distillation(z, z + 1, references[:, :0], nearest=0),
        distillation(z, z + 1, references, nearest=1),
        distillation(z, z + 1, references, nearest=9, target_temperature=1e6, temperature=1e6),
    ]
    for loss in zeros:
        np.testing.assert_allclose(loss, 0, atol=1e-5)
    one = distillation(z[:, :1], z[:, :1] + 1, references, nearest=5)
    np.testing.assert_allclose(one, distillation(z, z + 1, references, nearest=5)[:1], rtol=1e-5)
    total = lambda *x: distillation(*x, nearest=5).sum()  # noqa: E731
    pulled = [np.any(g) for g in jax.grad(total, (0, 1, 2))(z, z + 1, references)]
    assert pulled == [False, True, False]


def test_info_nce_against_one_pair_at_a_time():
    rng = np.random.default_rng(0)
    z, positive, negatives = (
        rng.normal(size=(5, 7)),
        rng.normal(size=(5, 7)),
        rng.normal(size=(9, 7)),
    )
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
    expected = []
    for a, b in zip(unit(z), unit(positive)):
        scores = np.exp(np.array([a @ b, *(unit(negatives) @ a)]) / 0.3)
        expected.append(-np.log(scores[0] / scores.sum()))
    got = losses.info_nce_loss(*map(jnp.asarray, (z, positive, negatives)), temperature=0.3)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    with pytest.raises(InputError, match="temperature=0"):
        losses.info_nce_loss(jnp.asarray(z), jnp.asarray(positive), jnp.asarray(z), temperature=0)
    np.testing.assert_allclose(
        losses.info_nce_loss(*map(jnp.asarray, (z, positive)), jnp.zeros((0, 7))), 0, atol=1e-7
    )  # no negative


def test_log_probabilities_put_the_positive_first():
    arrays = [jnp.asarray(x) for x in (Z, Z_HAT, REFERENCES)]
    log_p = losses.positive_log_probabilities(*arrays, temperature=0.3)
    assert log_p.shape == (5, 10)
    np.testing.assert_allclose(jnp.exp(log_p).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(-log_p[:, 0], losses.info_nce_loss(*arrays, temperature=0.3))
    cosines = unit(Z) @ unit(REFERENCES).T
    np.testing.assert_allclose(
        log_p[:, 1:] - log_p[:, :1],
        (cosines - (unit(Z) * unit(Z_HAT)).sum(axis=1, keepdims=True)) / 0.3,
        atol=1e-4,
    )
