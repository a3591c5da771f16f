import jax
import numpy as np

from igm_jax import masking

KEY = jax.random.key(0)


def test_random_order():
    order = np.asarray(jax.jit(masking.random_order, static_argnums=(1, 2))(KEY, 400, 7))
    np.testing.assert_array_equal(np.sort(order, axis=1), np.tile(np.arange(7), (400, 1)))
    np.testing.assert_array_equal(order, masking.random_order(KEY, 400, 7))
    assert len({tuple(row) for row in order}) > 350
    # Every token is as likely as every other one to stand at the head.
    count = np.bincount(order[:, :3].ravel(), minlength=7)
    np.testing.assert_allclose(count, 400 * 3 / 7, rtol=0.25)


def test_num_visible():
    assert [masking.num_visible(750, r) for r in (0.0, 0.5, 0.9, 0.95)] == [750, 375, 75, 38]
    assert masking.num_visible(12, 0.99) == 1
    for n in range(1, 30):
        for ratio in np.linspace(0, 0.99, 34):
            assert 1 <= masking.num_visible(n, float(ratio)) <= n
