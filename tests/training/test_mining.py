"""Objectives with mined positives, against slow references, and when the mining begins."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from objective_world import KEY, PRESENT, World, noise_of, pool, rows_of, unit, world

from igm_jax.errors import InputError
from igm_jax.training.objectives.extreme import energy_drop
from igm_jax.training.step import late_weight, prepare_batch


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


def slow_drop(tokens, seen):
    """Of rows [R, n, D] of which all count but absent bodies; `seen` names the joint of each."""
    here = np.flatnonzero(np.asarray(PRESENT).reshape(-1))
    mean, spread = tokens.mean(axis=1, keepdims=True), tokens.var(axis=1, keepdims=True, ddof=1)
    attention = 1 / (1 + np.exp(-((tokens - mean) ** 2 / (4 * (spread + 1e-4)) + 0.5)))
    quiet = np.ones(tokens.shape, bool)
    for r in range(len(tokens)):
        for joint in set(seen[r]):
            if attention[r, seen[r] == joint].mean() >= 0.7:
                quiet[r, seen[r] == joint] = False
    assert not quiet[here].all() and quiet[here].any()
    first = tokens * quiet / quiet[here].mean()
    small = attention < 0.7
    return first * small / small[here].mean()


@pytest.mark.parametrize("ramp", [0, 1])
def test_extreme_contrast_against_a_slow_reference(ramp):
    w = world("extreme_contrast")
    k_mild, k_extreme = jax.random.split(KEY)
    k_one, k_other = jax.random.split(k_mild)
    z, query = w.read(w.params, w.clip, k_one)
    _, positive = w.read(w.teacher, w.other, k_other)
    k_keep, k_noise = jax.random.split(k_extreme)
    keep = np.argsort(np.asarray(jax.random.uniform(k_keep, (8, 12))), axis=1)[:, :6]
    tokens = w.tokens(w.params, rows_of(w.extreme) + noise_of(k_noise), keep)
    extreme = [unit(pool(tokens)), unit(pool(slow_drop(tokens, keep % 6)))]

    queue, contrast, divergence = np.asarray(w.queue, np.float64), [], []
    for i in range(4):
        views = [query[i], extreme[0][i], extreme[1][i]]
        scores = [np.array([u @ positive[i], *(queue @ u)]) / 0.2 for u in views]
        mild, *others = map(log_softmax, scores)
        chosen = {0}
        if ramp:
            for x in scores:
                chosen |= {1 + int(j) for j in np.argsort(-x[1:])[:3]}
        contrast.append(-np.mean([mild[j] for j in chosen]))
        divergence.append(-sum((np.exp(mild) * x).sum() for x in others) / 2)
    loss, output = w.run(ramp=jnp.float32(ramp))
    np.testing.assert_allclose(output.metrics["loss_contrast"], np.mean(contrast), rtol=1e-4)
    np.testing.assert_allclose(output.metrics["loss_divergence"], np.mean(divergence), rtol=1e-4)
    np.testing.assert_allclose(loss, np.mean(contrast) + np.mean(divergence), rtol=1e-4)
    np.testing.assert_allclose(output.features, z, atol=1e-5)
    np.testing.assert_allclose(output.references, positive, atol=1e-5)


def test_what_extreme_contrast_pulls():
    """Similarities of the extreme copies follow those of the mild one, which they do not pull."""
    w = world("extreme_contrast")
    part = lambda name: lambda _, output: output.metrics[name]  # noqa: E731
    assert not np.any(w.gradient("clip", part("loss_divergence")))
    assert np.any(w.gradient("extreme", part("loss_divergence")))
    for ramp in (jnp.float32(0), jnp.float32(1)):
        assert np.any(w.gradient("clip", part("loss_contrast"), ramp=ramp))
        assert not np.any(w.gradient("extreme", part("loss_contrast"), ramp=ramp))
        for constant in ("other", "queue", "teacher"):
            gradients = jax.tree.leaves(w.gradient(constant, ramp=ramp))
            assert constant == "queue" or not any(np.any(g) for g in gradients), constant


def test_limits_of_extreme_contrast():
    """At a high temperature all 17 entries are alike, in both stages."""
    hot = World("extreme_contrast", {"objective.temperature": 1e6})
    for ramp in (0, 1):
        loss, _ = hot.run(ramp=jnp.float32(ramp))
        np.testing.assert_allclose(loss, 2 * np.log(17), rtol=1e-4)  # one log for each part


def test_limits_of_the_drop():
    """Nothing stands out among equal tokens or in one, and a lone peak is dropped."""
    present, joints = jnp.ones(2, bool), jnp.ones((2, 4, 1), bool)
    same = jnp.ones((2, 4, 3))
    np.testing.assert_array_equal(energy_drop(same, present, joints), same)
    np.testing.assert_array_equal(energy_drop(same[:, :1], present, joints[:, :1]), same[:, :1])
    peak = same.at[0, 2, 1].set(50.0)
    dropped = energy_drop(peak, present, joints)
    np.testing.assert_allclose(dropped, np.where(peak == 50, 0, 24 / 23), rtol=1e-6)
    absent = energy_drop(peak, jnp.array([False, True]), joints)
    np.testing.assert_allclose(absent[1], same[1], rtol=1e-6)  # an absent row changes no share


def test_the_extreme_copy_is_one_of_the_same_clip():
    config, rng = tiny.config(tiny.changes_for("extreme_contrast")), np.random.default_rng(0)
    clip = rng.normal(size=(4, 2, 8, 6, 3)).astype(np.float32)
    raw = {"clip": jnp.asarray(clip), "other": jnp.asarray(clip + 1), "present": PRESENT}
    settings = {"config": config.data, "reading": tiny.READING}
    plain = prepare_batch(raw, KEY, **settings)
    both = prepare_batch(raw, KEY, extreme=True, **settings)
    assert plain.extreme is None and both.extreme.shape == clip.shape
    np.testing.assert_array_equal(plain.clip, both.clip)
    np.testing.assert_array_equal(plain.other, both.other)
    assert np.abs(both.extreme - both.clip).max() > 0.1


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
