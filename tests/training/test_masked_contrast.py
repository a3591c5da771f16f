"""Masked prediction with contrast: a slow reference, its limits, and who gets a gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from objective_world import KEY, PRESENT, World, noise_of, patch, pool, rows_of, unit, world

from igm_jax import masking
from igm_jax.errors import InputError

HERE = np.flatnonzero(np.asarray(PRESENT).reshape(-1))
PULLED = ("encoder", "decoder", "prompts")


def log_softmax(x):
    return x - np.log(np.exp(x - x.max()).sum()) - x.max()


def slow_pair(view, wanted, queue):
    """InfoNCE and KL of one clip."""
    own = log_softmax(np.array([view @ wanted, *(q @ view for q in queue)]) / 0.2)
    target = log_softmax(np.array([q @ wanted for q in queue]) / 0.05)
    seen = log_softmax(np.array([q @ view for q in queue]) / 0.2)
    return -own[0], sum(np.exp(a) * (a - b) for a, b in zip(target, seen))


def test_masked_contrast_against_a_slow_reference():
    w, rows = world("masked_contrast"), rows_of(world("masked_contrast").clip)
    k_plain, k_order, k_masked, k_predicted, k_mixed = jax.random.split(KEY, 5)
    k_one, k_other = jax.random.split(k_plain)
    noise = lambda k: noise_of(jax.random.split(k)[1])  # noqa: E731
    z = pool(w.tokens(w.params, rows + noise(k_one)))
    positive = unit(pool(w.tokens(w.teacher, rows_of(w.other) + noise(k_other))))

    def as_view(view, rows, keep=None):
        rows, keep = jax.tree.map(jnp.asarray, (rows, keep))
        tokens = w.model.apply({"params": w.params}, view, rows, keep, method="encode_as")
        return np.asarray(tokens, np.float64)

    order = np.asarray(masking.random_order(k_order, 8, 12))
    tokens = as_view("masked", rows + noise_of(k_masked), order[:, :6])
    decoded = np.asarray(
        w.apply({"params": w.params}, jnp.asarray(tokens, jnp.float32), order, method="decode")
    )
    target, filled, errors = patch(rows), rows.copy(), []
    for r in range(8):
        for i in range(6, 12):
            span, joint = divmod(int(order[r, i]), 6)
            filled[r, 4 * span : 4 * span + 4, joint] = decoded[r, i].reshape(4, 3)
            if r in HERE:
                errors.append((decoded[r, i] - target[r, order[r, i]]) ** 2)
    predicted = as_view("predicted", filled + noise_of(k_predicted))
    mixed = as_view("mixed", rows_of(w.mixed) + noise_of(k_mixed))

    wanted = []
    for i, j in enumerate(np.asarray(w.partner)):
        share = np.asarray(w.pasted)[i].sum() / (np.asarray(PRESENT)[i].sum() * 8 * 6)
        wanted.append(unit((1 - share) * positive[i] + share * positive[j]))
    queue = np.asarray(w.queue, np.float64)
    views = [(z, positive), (pool(tokens), positive), (pool(predicted), positive)]
    views += [(pool(mixed), wanted)]
    terms = [[slow_pair(unit(a), b, queue) for a, b in zip(*pair)] for pair in views]
    contrast, similarity = np.mean(terms, axis=1).sum(axis=0)
    loss, output = w.run()
    np.testing.assert_allclose(output.metrics["loss_contrast"], contrast, rtol=1e-4)
    np.testing.assert_allclose(output.metrics["loss_similarity"], similarity, rtol=1e-4)
    np.testing.assert_allclose(output.metrics["loss_prediction"], np.mean(errors), rtol=1e-4)
    np.testing.assert_allclose(loss, contrast + similarity + 4 * np.mean(errors), rtol=1e-4)
    np.testing.assert_allclose(output.features, z, atol=1e-5)
    np.testing.assert_allclose(output.references, positive, atol=1e-5)


def test_what_masked_contrast_pulls():
    """Contrast reaches the decoder by the predicted clip alone, and targets are constants."""
    w = world("masked_contrast")
    part = lambda name: lambda _, output: output.metrics[name]  # noqa: E731
    by_contrast = w.gradient("params", part("loss_contrast"))
    by_error = w.gradient("params", part("loss_prediction"))
    for name in PULLED:
        assert any(np.any(g) for g in jax.tree.leaves(by_contrast[name])), name
    assert np.any(by_contrast["prompts"]["token"], axis=1).all()
    assert np.any(by_error["prompts"]["token"], axis=1).tolist() == [True, False, False]
    assert np.any(by_error["encoder"]["embed"]["kernel"])
    for constant in ("other", "teacher"):
        assert not any(np.any(g) for g in jax.tree.leaves(w.gradient(constant))), constant
    assert np.any(w.gradient("mixed"))
    assert not np.any(w.gradient("mixed")[~np.asarray(PRESENT)])


def test_limits_of_masked_contrast():
    values = world("masked_contrast").run(queue=jnp.zeros((0, 16)))[1].metrics
    np.testing.assert_allclose(values["loss_contrast"], 0, atol=1e-6)
    np.testing.assert_allclose(values["loss_similarity"], 0, atol=1e-6)
    changes = {"objective.temperature": 1e6, "objective.target_temperature": 1e6}
    hot = World("masked_contrast", changes).run()[1].metrics
    np.testing.assert_allclose(hot["loss_contrast"], 4 * np.log(17), rtol=1e-4)
    np.testing.assert_allclose(hot["loss_similarity"], 0, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"objective.mask_ratio": 0.0}, r"needs objective\.mask_ratio that hides a token"),
        ({"objective.ema_decay": 0.0}, r"needs a teacher \(objective\.ema_decay above 0\)"),
        ({"data.crops": 1}, r"needs data\.crops=2"),
        ({"data.streams": ("joint", "bone")}, r"needs data\.streams=\('joint',\)"),
        ({"train.batch_size": 1}, r"needs train\.batch_size above 1"),
    ],
)
def test_a_missing_setting_of_masked_contrast_is_told(changes, told):
    with pytest.raises(InputError, match=told):
        tiny.config({**tiny.changes_for("masked_contrast"), **changes})
