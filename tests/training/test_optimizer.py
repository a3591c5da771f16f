"""Weight decay and learning rate, and that both reach the parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from igm_jax.models import IGM
from igm_jax.training.config_groups import OptimizerConfig
from igm_jax.training.optimizer import decay_mask, learning_rate_schedule, make_optimizer


@pytest.fixture(scope="module")
def params():
    return tiny.random_params(IGM(tiny.config({"model.projector_width": 8}).model))


def by_path(tree):
    return {
        "/".join(entry.key for entry in path): leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


def test_matrices_decay_and_nothing_else(params):
    mask = by_path(decay_mask(params))
    assert mask.keys() == by_path(params).keys()
    kinds = {}
    for name, decays in mask.items():
        kinds.setdefault(name.rsplit("/")[-1], set()).add(decays)
    exempt = {kind: {False} for kind in ("bias", "scale", "temporal", "spatial", "null")}
    assert kinds == {"kernel": {True}, **exempt}
    # Named one by one, so that a renamed layer cannot leave this test empty.
    for name in (
        "encoder/embed/kernel",
        "encoder/blocks/attention/qkv/kernel",
        "encoder/aux/feature/kernel",
        "generator/blocks/norm1/condition/kernel",
        "generator/out/kernel",
        "projector/in/kernel",
    ):
        assert mask[name] is True
    for name in (
        "encoder/blocks/norm1/scale",
        "encoder/norm/bias",
        "encoder/position/temporal",
        "generator/position/spatial",
        "generator/null",
        "generator/blocks/norm1/time/bias",
    ):
        assert mask[name] is False


def test_parameter_of_an_undecided_kind_is_an_error(params):
    with pytest.raises(ValueError, match="no weight-decay rule covers parameter /encoder/gate"):
        decay_mask({"encoder": {"gate": jnp.zeros(3), "bias": jnp.zeros(3)}})


def test_schedule():
    config = OptimizerConfig(learning_rate=1e-2, final_learning_rate=1e-4, warmup_epochs=2.0)
    schedule = learning_rate_schedule(config, total_steps=100, steps_per_epoch=10)
    rates = np.array([float(schedule(i)) for i in range(101)])
    np.testing.assert_allclose(rates[:21], np.arange(21) / 20 * 1e-2, atol=1e-8)
    cosine = 0.5 * (1 + np.cos(np.pi * np.arange(81) / 80))
    np.testing.assert_allclose(rates[20:], 1e-4 + (1e-2 - 1e-4) * cosine, atol=1e-8)


@pytest.mark.parametrize("warmup", [0.0, 0.25, 50.0])
def test_warmup_that_is_none_or_part_of_an_epoch_or_longer_than_the_run(warmup):
    config = OptimizerConfig(warmup_epochs=warmup)
    schedule = learning_rate_schedule(config, total_steps=40, steps_per_epoch=8)
    rates = np.array([float(schedule(i)) for i in range(41)])
    peak = {0: 0, 0.25: 2, 50: 39}[warmup]
    assert rates.argmax() == peak
    np.testing.assert_allclose(rates[[peak, 40]], [1e-3, 1e-5], rtol=1e-5)


def test_run_of_one_step_has_a_schedule():
    schedule = learning_rate_schedule(OptimizerConfig(), total_steps=1, steps_per_epoch=1)
    assert np.isclose(float(schedule(0)), 1e-3)


def test_without_a_gradient_only_the_decay_is_left(params):
    config = OptimizerConfig(weight_decay=0.5, learning_rate=0.01)
    optimizer = make_optimizer(config, optax.constant_schedule(0.01))
    zero = jax.tree.map(jnp.zeros_like, params)

    @jax.jit
    def step(params):
        updates, _ = optimizer.update(zero, optimizer.init(params), params)
        return optax.apply_updates(params, updates)

    before, after, decays = (by_path(x) for x in (params, step(params), decay_mask(params)))
    for name, old in before.items():
        factor = 1 - 0.01 * 0.5 if decays[name] else 1.0
        np.testing.assert_allclose(after[name], factor * old, rtol=1e-6, err_msg=name)


def test_first_updates_against_adamw_of_the_paper():
    """Two steps of clipped AdamW in float64; the second gradient is within the norm, unclipped."""
    config = OptimizerConfig(betas=(0.8, 0.9), clip_norm=1.0, weight_decay=0.1)
    optimizer = make_optimizer(config, optax.constant_schedule(0.05))
    params = {"a": {"kernel": jnp.array([[1.0, -2.0]])}, "b": {"bias": jnp.array([3.0])}}
    gradients = [
        {"a": {"kernel": jnp.array([[3.0, 0.0]])}, "b": {"bias": jnp.array([4.0])}},
        {"a": {"kernel": jnp.array([[0.1, 0.2]])}, "b": {"bias": jnp.array([-0.3])}},
    ]
    w, decay = np.array([1.0, -2.0, 3.0]), np.array([0.1, 0.1, 0.0])
    m = v = np.zeros(3)
    state = optimizer.init(params)
    for i, (g, clip) in enumerate(zip(gradients, (5.0, 1.0)), start=1):
        updates, state = optimizer.update(g, state, params)
        params = optax.apply_updates(params, updates)
        g = np.array([*g["a"]["kernel"][0], *g["b"]["bias"]], np.float64) / clip
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g**2
        step = m / (1 - 0.8**i) / (np.sqrt(v / (1 - 0.9**i)) + 1e-8)
        w = w - 0.05 * (step + decay * w)
    ours = np.array([*params["a"]["kernel"][0], *params["b"]["bias"]])
    np.testing.assert_allclose(ours, w, rtol=1e-5)
