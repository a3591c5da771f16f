"""The ridge probe against refits without each clip, scikit-learn and cases with known answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge, RidgeCV

from igm_jax import metrics
from igm_jax.errors import InputError
from igm_jax.metrics.ridge import PENALTIES

RNG = np.random.default_rng(0)
MIX = RNG.normal(size=(8, 8))


def clips(count, width=8, seed=0):
    """Features with a mean and unequal directions, and four classes that show in them."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    x = (rng.normal(size=(count, 8)) + 2.5 * np.eye(8)[labels]) @ MIX + 5
    x = np.tile(x, (1, -(-width // 8)))[:, :width]
    return np.float32(x + rng.normal(size=x.shape)), labels


X, Y = clips(40)
ASKED, TRUTH = clips(60, seed=1)
ONE_HOT = np.eye(4)


def alphas(x, penalties=PENALTIES):
    """scikit-learn's penalties are absolute."""
    x = np.float64(x)
    return np.array(penalties) * ((x - x.mean(axis=0)) ** 2).sum()


@pytest.mark.parametrize("width", [3, 8, 50])  # the last: more dimensions than clips
def test_leave_one_out_equals_refits(width):
    x, y = clips(20, width)
    probe = metrics.fit_ridge(x, y, num_classes=4)
    wanted = []
    for alpha in alphas(x):
        errors = []
        for i in range(20):
            rest = np.arange(20) != i
            model = Ridge(alpha).fit(np.float64(x)[rest], ONE_HOT[y[rest]])
            errors.append((model.predict(np.float64(x)[i : i + 1])[0] - ONE_HOT[y[i]]) ** 2)
        wanted.append(np.mean(errors))
    np.testing.assert_allclose(probe.errors, wanted, rtol=2e-2)
    np.testing.assert_allclose(probe.errors[2:], wanted[2:], rtol=1e-3)
    assert probe.penalty == pytest.approx(PENALTIES[int(np.argmin(wanted))])
    assert 0 < np.argmin(wanted) < len(PENALTIES) - 1


@pytest.mark.parametrize("width", [3, 8, 50])
def test_probe_equals_sklearn(width):
    x, y = clips(40, width)
    asked, _ = clips(30, width, seed=2)
    probe = metrics.fit_ridge(x, y, num_classes=4)
    model = RidgeCV(alphas(x)).fit(np.float64(x), ONE_HOT[y])
    assert alphas(x, [float(probe.penalty)])[0] == pytest.approx(model.alpha_, rel=1e-5)
    scores = metrics.ridge_scores(probe, asked)
    np.testing.assert_allclose(scores, model.predict(np.float64(asked)), atol=1e-3)
    np.testing.assert_allclose(probe.weights, model.coef_.T, atol=1e-4)
    np.testing.assert_allclose(probe.bias, model.intercept_, atol=2e-3)


def test_validation_chooses():
    probe = metrics.fit_ridge(X, Y, num_classes=4, validation=(ASKED, TRUTH))
    models = [Ridge(a).fit(np.float64(X), ONE_HOT[Y]) for a in alphas(X)]
    errors = [((m.predict(np.float64(ASKED)) - ONE_HOT[TRUTH]) ** 2).mean() for m in models]
    np.testing.assert_allclose(probe.errors, errors, rtol=1e-3)
    assert probe.penalty == pytest.approx(PENALTIES[int(np.argmin(errors))])


def test_accuracy_is_that_of_the_scores_under_jit_or_not():
    probe = metrics.fit_ridge(X, Y, num_classes=4)
    wanted = (np.argmax(metrics.ridge_scores(probe, ASKED), axis=1) == TRUTH).mean()
    assert 0.5 < wanted < 1
    jitted = jax.jit(metrics.ridge_accuracy, static_argnames="num_classes")
    for accuracy in (metrics.ridge_accuracy, jitted):
        np.testing.assert_allclose(accuracy(ASKED, TRUTH, X, Y, num_classes=4), wanted, rtol=1e-6)


def test_scale_number_and_offset_do_not_matter():
    first = metrics.fit_ridge(X, Y, num_classes=4)
    moved = metrics.fit_ridge(100 * X - 7, Y, num_classes=4)
    np.testing.assert_allclose(
        metrics.ridge_scores(moved, 100 * ASKED - 7),
        metrics.ridge_scores(first, ASKED),
        atol=1e-3,
    )
    once = metrics.fit_ridge(X, Y, num_classes=4, penalties=(1e-3,))
    twice = metrics.fit_ridge(np.tile(X, (2, 1)), np.tile(Y, 2), num_classes=4, penalties=(1e-3,))
    np.testing.assert_allclose(twice.weights, once.weights, atol=1e-4)


def test_collapsed_features_predict_the_largest_class():
    labels = np.array([0, 1, 1, 1, 2])
    for value in (0.0, 3.0):
        probe = metrics.fit_ridge(np.full((5, 6), value, np.float32), labels, num_classes=4)
        scores = metrics.ridge_scores(probe, np.ones((1, 6), np.float32))
        np.testing.assert_allclose(scores, [[0.2, 0.6, 0.2, 0]], atol=1e-6)


def test_one_class_two_clips_and_a_class_without_clips():
    probe = metrics.fit_ridge(X, 0 * Y, num_classes=1)
    np.testing.assert_allclose(metrics.ridge_scores(probe, ASKED), 1, atol=1e-5)
    assert float(metrics.ridge_accuracy(ASKED, 0 * TRUTH, X, 0 * Y, num_classes=1)) == 1
    probe = metrics.fit_ridge(X[:2], np.array([0, 1]), num_classes=2)
    assert all(jnp.isfinite(x).all() for x in probe)
    probe = metrics.fit_ridge(X, Y, num_classes=6)
    np.testing.assert_allclose(metrics.ridge_scores(probe, ASKED)[:, 4:], 0, atol=1e-6)


def test_of_equal_errors_the_first_penalty_wins():
    assert float(metrics.fit_ridge(X, Y, num_classes=4, penalties=(0.5, 0.5)).penalty) == 0.5


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: metrics.fit_ridge(X[:1], Y[:1], num_classes=4), "1 clip cannot be left out"),
        (lambda: metrics.fit_ridge(X, Y - 1, num_classes=4), r"labels -1\.\.2 are outside 0\.\.3"),
        (lambda: metrics.fit_ridge(X, Y, num_classes=2), r"labels 0\.\.3 are outside 0\.\.1"),
        (lambda: metrics.fit_ridge(X, Y[:3], num_classes=4), "40 features but 3 labels"),
        (lambda: metrics.fit_ridge(X, Y, num_classes=4, penalties=()), "penalties is empty"),
        (lambda: metrics.fit_ridge(X, Y, num_classes=4, penalties=(0.0,)), "penalty=0.0"),
        (
            lambda: metrics.fit_ridge(X, Y, num_classes=4, validation=(ASKED, TRUTH - 1)),
            r"validation labels -1\.\.2 are outside",
        ),
        (
            lambda: metrics.ridge_accuracy(ASKED, TRUTH - 1, X, Y, num_classes=4),
            r"query_labels -1\.\.2 are outside",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(unchecked_shapes, call, message):
    with pytest.raises(InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
