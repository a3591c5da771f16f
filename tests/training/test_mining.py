"""Objectives with mined positives, against slow references, and when the mining begins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from objective_world import KEY, world

from igm_jax.errors import InputError
from igm_jax.training.step import late_weight


def log_softmax(x):
    return x - np.log(np.exp(x - x.max()).sum()) - x.max()


def slow_mining(target, student, queue, positives):
    """Mean over clips of KL(P' ‖ P), one entry of the queue at a time."""
    total = []
    for t, s in zip(target, student):
        cosines = np.array([t @ q for q in queue])
        for i in np.argsort(-cosines)[:positives]:
            cosines[i] = cosines.max()
        p = log_softmax(cosines / 0.05)
        q = log_softmax(np.array([s @ q for q in queue]) / 0.2)
        total.append(sum(np.exp(a) * (a - b) for a, b in zip(p, q)))
    return np.mean(total)


@pytest.mark.parametrize(("ramp", "positives"), [(0, 1), (1, 3)])
def test_positive_mining_against_a_slow_reference(ramp, positives):
    w = world("positive_mining")
    k_one, k_other = jax.random.split(KEY)
    z, student = w.read(w.params, w.clip, k_one)
    _, target = w.read(w.teacher, w.other, k_other)
    expected = slow_mining(target, student, np.asarray(w.queue, np.float64), positives)
    loss, output = w.run(ramp=jnp.float32(ramp))
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    np.testing.assert_allclose(output.features, z, atol=1e-5)
    np.testing.assert_allclose(output.references, target, atol=1e-5)


def test_what_positive_mining_pulls():
    """f by its own view; the teacher's view and the queue are constants."""
    w = world("positive_mining")
    for ramp in (jnp.float32(0), jnp.float32(1)):
        for constant in ("other", "queue", "teacher"):
            gradients = jax.tree.leaves(w.gradient(constant, ramp=ramp))
            assert not any(np.any(g) for g in gradients), constant
        gradients = w.gradient("params", ramp=ramp)["encoder"]
        assert all(np.any(g) for g in jax.tree.leaves(gradients["embed"]))


def test_mining_begins_at_its_share_of_the_run():
    changes = {**tiny.changes_for("positive_mining"), "objective.mining_start": 0.5}
    config = tiny.config({**changes, "train.epochs": 4})
    weights = [float(late_weight(jnp.int32(step), config, 5)) for step in (0, 9, 10, 19)]
    assert weights == [0, 0, 1, 1]
    never = tiny.config({**changes, "objective.mining_start": 1.0, "train.epochs": 4})
    assert late_weight(jnp.int32(19), never, 5) == 0


def test_mining_more_than_the_queue_is_refused():
    changes = tiny.changes_for("positive_mining")
    with pytest.raises(InputError, match=r"needs objective.mined_positives of at most"):
        tiny.config({**changes, "objective.mined_positives": 17})
    later = tiny.config({**changes, "objective.mined_positives": 17, "objective.queue_size": 0})
    with pytest.raises(InputError, match=r"needs objective.mined_positives of at most"):
        later.with_queue(20)
