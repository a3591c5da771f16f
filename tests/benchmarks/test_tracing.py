"""The counted matrix products against hand-made programs, and against the formulas of IGM."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import cost, flops, sizes
from benchmarks.tracing import matrix_products
from igm_jax.ablation.grids import GRIDS

X, W = jnp.zeros((3, 4)), jnp.zeros((4, 4))
PRODUCT = 2 * 3 * 4 * 4


def counted(function, *inputs):
    return matrix_products(jax.make_jaxpr(function)(*inputs).jaxpr)


def scanned(x, w):
    return jax.lax.scan(lambda c, _: (jnp.tanh(c @ w), None), x, None, length=5)[0]


def test_every_product_counts_as_often_as_it_is_executed():
    assert counted(jnp.matmul, X, W) == PRODUCT
    assert counted(jax.vmap(jnp.matmul), jnp.stack([X] * 7), jnp.stack([W] * 7)) == 7 * PRODUCT
    assert counted(scanned, X, W) == 5 * PRODUCT
    assert counted(jax.jit(scanned), X, W) == 5 * PRODUCT
    # Forward, and two products backward.
    assert counted(jax.grad(lambda w: scanned(X, w).sum()), W) == 3 * 5 * PRODUCT
    again = jax.checkpoint(scanned, policy=jax.checkpoint_policies.nothing_saveable)
    assert counted(jax.grad(lambda w: again(X, w).sum()), W) == 4 * 5 * PRODUCT


def test_the_most_expensive_branch_counts():
    def function(x):
        return jax.lax.cond(x.sum() > 0, lambda x: x @ W @ W, lambda x: x @ W, x)

    assert counted(function, X) == 2 * PRODUCT


def test_programs_that_cannot_be_counted_are_refused():
    with pytest.raises(ValueError, match="unknown length"):
        counted(lambda x: jax.lax.while_loop(lambda x: x.sum() > 0, lambda x: x @ W, x), X)
    with pytest.raises(ValueError, match="convolutions"):
        counted(lambda x: jnp.convolve(x, x), jnp.zeros(5))


@pytest.mark.parametrize("size", ["smoke", "nw_ucla"])
def test_igm_is_near_its_formula(size):
    config = sizes.size(size)
    expected = flops.train_step(config) / config.train.batch_size
    assert cost.cost(config).products == pytest.approx(expected, rel=0.03)


def test_rows_of_the_poster_are_counted():
    for row in ("GL-Transformer", "CRRL", "PCM3"):
        found = cost.cost(sizes.read("configs/utd_mhad.py:smoke", GRIDS["poster"][row]))
        assert 0 < found.encoder <= found.networks, row
        # Each of them reads at least one copy of each clip with a gradient.
        assert found.products > 0 and found.seconds is None, row


def test_one_stage_of_actclr_is_computed_at_a_time():
    """Not a weighted sum of both, in which the first stage costs as much as the second."""

    def products(start: float) -> float:
        changes = GRIDS["poster"]["ActCLR"] | {"objective.mining_start": start}
        return cost.cost(sizes.read("configs/utd_mhad.py:smoke", changes)).products

    first, both, second = products(1.0), products(0.5), products(0.0)
    assert first < second / 2
    assert both == (first + second) / 2


def test_steps_are_timed():
    for row in ("CMD", "ActCLR"):
        found = cost.cost(sizes.read("configs/utd_mhad.py:smoke", GRIDS["poster"][row]), steps=2)
        assert found.seconds > 0, row
