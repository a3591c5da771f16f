"""Contrast by actionlets: a slow reference, its limits, and who gets a gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from objective_world import KEY, PRESENT, World, pool, rows_of, unit, world

from igm_jax.augment import Mixture
from igm_jax.errors import InputError
from igm_jax.training.objectives import OBJECTIVES, ClipBatch
from igm_jax.training.objectives.actionlet import actionlets, pool_actionlet

HERE = np.asarray(PRESENT)
PARTS = ([0, 1], [2], [3], [4], [5])


def log_softmax(x):
    return x - np.log(np.exp(x - x.max()).sum()) - x.max()


def slow_similarity(view, wanted, queue):
    target = log_softmax(np.array([q @ wanted for q in queue]) / 0.05)
    seen = log_softmax(np.array([q @ view for q in queue]) / 0.2)
    return sum(np.exp(a) * (a - b) for a, b in zip(target, seen))


def slow_actionlet(tokens, static):
    """[8, 8, 6]: the gradient of one minus the cosine, by hand, at each token."""
    y, s, out = pool(tokens), unit(static), np.zeros((8, 8, 6))
    for r in range(8):
        u = unit(y[r // 2])
        gradient = -(s - (u @ s) * u) / np.linalg.norm(y[r // 2])
        gradient /= 12 * HERE[r // 2].sum()  # of each of the tokens that are pooled
        for step in range(2):
            for part in PARTS:
                active = [max(0, np.mean(tokens[r, 6 * step + j] * gradient)) for j in part]
                out[r, 4 * step : 4 * step + 4, part] = min(1, np.mean(active) / 1.28e-6)
    return out


@pytest.mark.parametrize("ramp", [0, 1])
def test_actionlet_contrast_against_a_slow_reference(ramp):
    w = world("actionlet_contrast")
    k_clip, k_extreme, k_kept, k_mixed = jax.random.split(KEY, 4)
    mild = w.read(w.params, w.clip, k_clip)
    mean = rows_of(w.other)[HERE.reshape(-1)].mean(axis=0)
    static = w.tokens(w.teacher, mean[None])[0].mean(axis=0)
    own = slow_actionlet(w.tokens(w.teacher, rows_of(w.clip)), static)
    tokens = w.tokens(w.teacher, rows_of(w.other))
    actionlet = slow_actionlet(tokens, static)
    assert 0.2 < own.mean() < 0.8

    target, positive = [], unit(pool(tokens))
    for i in range(4):
        total, weights = np.zeros(16), 0
        for m in np.flatnonzero(HERE[i]):
            for n in range(12):
                weight = actionlet[2 * i + m, 4 * (n // 6), n % 6]
                total, weights = total + weight * tokens[2 * i + m, n], weights + weight
        target.append(unit(positive[i] + unit(total / weights)))
    mixed_target, own_by_clip = [], own.reshape(4, 2, 8, 6)
    pasted, partner = np.asarray(w.pasted), np.asarray(w.partner)
    for i, j in enumerate(partner):
        weight = [np.exp(own_by_clip[k] / 0.1) for k in (i, j)]
        kept = other = 0.0
        for m in np.flatnonzero(HERE[i]):
            kept += weight[0][m][~pasted[i, m]].sum() / weight[0][HERE[i]].sum()
            other += weight[1][m][pasted[i, m]].sum() / weight[1][HERE[j]].sum()
        mixed_target.append(unit((kept * target[i] + other * target[j]) / (kept + other)))

    def keep_own(x):
        kept = own_by_clip[..., None]
        return (kept * np.asarray(w.clip) + (1 - kept) * np.asarray(x)).astype(np.float32)

    views = [
        (w.read(w.params, keep_own(w.extreme), k_extreme), target),
        (w.read(w.params, keep_own(w.mixed), k_kept), target),
        (w.read(w.params, w.mixed, k_mixed), mixed_target),
    ]
    queue = np.asarray(w.queue, np.float64)
    similarity = sum(
        np.mean([slow_similarity(a, b, queue) for a, b in zip(view[1], wanted)])
        for view, wanted in views
    )
    contrast = np.mean(
        [-log_softmax(np.array([q @ k, *(queue @ q)]) / 0.2)[0] for q, k in zip(mild[1], positive)]
    )
    loss, output = w.run(ramp=jnp.float32(ramp))
    np.testing.assert_allclose(loss, similarity if ramp else contrast, rtol=1e-4)
    logged = {"loss_contrast": (contrast, 0), "loss_similarity": (0, similarity)}
    logged |= {"actionlet_share": (0, own_by_clip[HERE].mean())}
    for name, values in logged.items():
        np.testing.assert_allclose(output.metrics[name], values[ramp], rtol=1e-4)
    z = (mild, views[0][0])[ramp][0]
    np.testing.assert_allclose(output.features, z, atol=1e-5)
    np.testing.assert_allclose(output.references, target if ramp else positive, atol=1e-5)


def test_what_actionlet_contrast_pulls():
    """f by the three views; neither the teacher nor what it reads, and no actionlet."""
    w, late = world("actionlet_contrast"), jnp.float32(1)
    for ramp in (jnp.float32(0), late):
        for constant in ("other", "teacher"):
            gradients = jax.tree.leaves(w.gradient(constant, ramp=ramp))
            assert not any(np.any(g) for g in gradients), constant
        assert np.any(w.gradient("params", ramp=ramp)["encoder"]["embed"]["kernel"])
    assert not np.any(w.gradient("queue", ramp=late))
    for view in ("clip", "extreme", "mixed"):
        gradient = np.asarray(w.gradient(view, ramp=late))
        assert np.any(gradient[HERE]) and not np.any(gradient[~HERE]), view
        assert np.any(w.gradient(view)) == (view == "clip")  # in the first stage


def test_limits_of_actionlet_contrast():
    """No queue, and a temperature at which all of it is alike."""
    for ramp in (jnp.float32(0), jnp.float32(1)):
        loss, _ = world("actionlet_contrast").run(queue=jnp.zeros((0, 16)), ramp=ramp)
        np.testing.assert_allclose(loss, 0, atol=1e-6)
    changes = {"objective.temperature": 1e6, "objective.target_temperature": 1e6}
    hot = World("actionlet_contrast", changes)
    np.testing.assert_allclose(hot.run()[0], np.log(17), rtol=1e-4)
    np.testing.assert_allclose(hot.run(ramp=jnp.float32(1))[0], 0, atol=1e-5)


def test_one_clip_is_its_own_static_clip_and_partner():
    w = world("actionlet_contrast")
    clip, present = w.clip[:1, :1], jnp.ones((1, 1), bool)
    mixture = Mixture(clip, jnp.zeros(1, jnp.int32), jnp.ones((1, 1, 8, 6), bool))
    batch = ClipBatch(clip, present, clip, extreme=clip, mixed=mixture, parts=w.parts)
    for ramp in (0, 1):
        loss, output = OBJECTIVES["actionlet_contrast"].loss(
            w.params,
            w.params,
            w.queue,
            batch,
            KEY,
            model=w.model,
            config=w.config.objective,
            ramp=jnp.float32(ramp),
        )
        assert np.isfinite(loss) and np.isfinite(output.references).all()


def test_limits_of_the_actionlet():
    """Empty where nothing differs; then the plain mean is pooled. Tokens of poses have no parts."""
    tokens, grid = jax.random.normal(KEY, (2, 4, 3)), (2, 2)
    parts, present = jnp.array([0, 0, 1, 1]), jnp.ones((1, 2), bool)
    empty = actionlets(tokens, jnp.zeros((2, 3)), parts, grid)
    np.testing.assert_array_equal(empty, 0)
    plain = tokens.mean(axis=(0, 1))[None]
    np.testing.assert_allclose(pool_actionlet(tokens, empty, present, grid), plain, rtol=1e-5)
    full = jnp.ones((2, 2, 4))
    np.testing.assert_allclose(pool_actionlet(tokens, full, present, grid), plain, rtol=1e-5)
    ones = jnp.ones((2, 3))
    tokens = jnp.array([[[1.0], [-1.0], [-1.0], [-1.0]]] * 2) * ones[:, None]
    found = actionlets(tokens, ones, parts, grid)
    np.testing.assert_array_equal(found[0], [[1, 1, 0, 0], [0, 0, 0, 0]])
    poses = actionlets(tokens, ones, parts, (4, 1))
    np.testing.assert_array_equal(poses[0], [[1] * 4, [0] * 4, [0] * 4, [0] * 4])


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"objective.ema_decay": 0.0}, r"needs a teacher \(objective\.ema_decay above 0\)"),
        ({"data.crops": 1}, r"needs data\.crops=2"),
        ({"train.batch_size": 1}, r"needs train\.batch_size above 1"),
    ],
)
def test_a_missing_setting_of_actionlet_contrast_is_told(changes, told):
    with pytest.raises(InputError, match=told):
        tiny.config({**tiny.changes_for("actionlet_contrast"), **changes})
