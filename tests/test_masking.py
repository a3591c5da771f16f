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


def test_joints_and_frames_are_hidden_in_equal_shares():
    assert masking.visible_grid((30, 25), 0.64) == (18, 15)  # 40 % of both, as SkeletonMAE
    assert masking.visible_grid((13, 1), 0.3) == (9, 1)  # a whole pose has no joint to hide
    assert masking.visible_grid((1, 5), 0.6) == (1, 2)
    for grid in ((4, 6), (13, 1), (1, 5), (30, 25)):
        for ratio in np.linspace(0, 0.99, 34):
            steps, groups = masking.visible_grid(grid, float(ratio))
            assert 1 <= steps <= grid[0] and 1 <= groups <= grid[1]
            hidden = 1 - steps * groups / (grid[0] * grid[1])
            assert abs(hidden - ratio) <= 1 / min(n for n in grid if n > 1)
    assert masking.visible_grid((4, 6), 0.0) == (4, 6)
    assert masking.visible_tokens("joints_and_frames", (30, 25), 0.64) == 18 * 15
    assert masking.visible_tokens("tokens", (30, 25), 0.9) == 75


def test_joints_and_frames_are_hidden_as_a_whole():
    order = np.asarray(masking.joints_and_frames_order(KEY, 400, (4, 3), (3, 2)))
    np.testing.assert_array_equal(np.sort(order, axis=1), np.tile(np.arange(12), (400, 1)))
    seen = np.zeros((400, 12), bool)
    np.put_along_axis(seen, order[:, :6], True, axis=1)
    seen = seen.reshape(400, 4, 3)
    frames, joints = seen.any(axis=2), seen.any(axis=1)
    np.testing.assert_array_equal(seen, frames[:, :, None] & joints[:, None, :])
    assert (frames.sum(axis=1) == 3).all() and (joints.sum(axis=1) == 2).all()
    # Every frame and every joint is as likely as any other, in whatever pair.
    np.testing.assert_allclose(frames.mean(axis=0), 3 / 4, atol=0.1)
    np.testing.assert_allclose(joints.mean(axis=0), 2 / 3, atol=0.1)
    pairs = {(tuple(a), tuple(b)) for a, b in zip(frames, joints)}
    assert len(pairs) == 4 * 3
