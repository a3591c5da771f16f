"""Schedules against float64, noising and its inverse, DDIM against cases solved by hand."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from igm_jax import diffusion
from igm_jax.errors import InputError

ALPHA_BAR = diffusion.alpha_bar("cosine", 50)
T = jnp.array([0, 3, 25, 49])


def _normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


# Schedules.


def _reference_schedule(name, k):
    """The published definitions, one step at a time in Python floats."""
    values, product = [], 1.0
    for t in range(k):
        tau = (t + 1) / k
        position = t / (k - 1) if k > 1 else 0
        beta = 1000 / k * (1e-4 + position * (0.02 - 1e-4))
        product *= 1 - min(beta, 0.999)
        cosine = math.cos((tau + 0.008) / 1.008 * math.pi / 2) ** 2
        cosine /= math.cos(0.008 / 1.008 * math.pi / 2) ** 2
        value = {"linear": product, "cosine": cosine, "inverse_cosine": 2 * (1 - tau) - cosine}
        values.append(min(max(value[name], 1e-4), 0.9999))
    return values


@pytest.mark.parametrize("name", diffusion.SCHEDULES)
@pytest.mark.parametrize("k", [1, 4, 50, 1000])
def test_schedule_equals_float64_reference(name, k):
    schedule = diffusion.alpha_bar(name, k)
    assert schedule.dtype == jnp.float32
    np.testing.assert_allclose(schedule, _reference_schedule(name, k), rtol=1e-7, atol=0)


@pytest.mark.parametrize("name", diffusion.SCHEDULES)
@pytest.mark.parametrize("k", [10, 100, 1000])
def test_schedule_decreases_except_where_clipped(name, k):
    schedule = np.asarray(diffusion.alpha_bar(name, k))
    lowest, highest = np.float32(1e-4), np.float32(0.9999)
    assert schedule.min() >= lowest and schedule.max() <= highest
    inside = (schedule > lowest) & (schedule < highest)
    assert (np.diff(schedule)[inside[1:] | inside[:-1]] < 0).all()
    assert (np.diff(schedule) <= 0).all()


def test_schedule_landmarks():
    """Known values, so that a slip shared by the code and the reference above shows."""
    linear = diffusion.alpha_bar("linear", 1000)
    np.testing.assert_allclose(linear[0], 1 - 1e-4, rtol=1e-7)
    np.testing.assert_allclose(linear[499], 0.0786, atol=1e-4)
    assert linear[-1] == np.float32(1e-4)  # 4.04e-5 before the clip
    cosine = diffusion.alpha_bar("cosine", 1000)
    inverse = diffusion.alpha_bar("inverse_cosine", 1000)
    np.testing.assert_allclose(cosine[499], 0.4939, atol=1e-4)
    # The two mirror each other at 1 − τ.
    straight = 1 - np.arange(1, 1001) / 1000
    middle = slice(10, 980)
    np.testing.assert_allclose((cosine + inverse)[middle] / 2, straight[middle], atol=1e-6)
    assert inverse[100] < cosine[100] and inverse[900] > cosine[900]
    assert cosine[-1] == inverse[-1] == np.float32(1e-4)


def test_linear_schedule_keeps_its_noise_when_shortened():
    long, short = diffusion.alpha_bar("linear", 1000), diffusion.alpha_bar("linear", 100)
    np.testing.assert_allclose(short, long[9::10], atol=0.01)


def test_unknown_schedules_are_refused():
    with pytest.raises(
        InputError, match=r"schedule='sigmoid' is unknown.*linear, cosine, inverse_"
    ):
        diffusion.alpha_bar("sigmoid", 10)
    with pytest.raises(InputError, match="num_steps=0"):
        diffusion.alpha_bar("linear", 0)


# Noising and conversions.


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_add_noise_equals_loops(transform):
    x, noise = _normal(0, 4, 3, 2), _normal(1, 4, 3, 2)
    rows = []
    for b, t in enumerate(T):
        share = float(ALPHA_BAR[t])
        rows.append(
            math.sqrt(share) * np.float64(x[b]) + math.sqrt(1 - share) * np.float64(noise[b])
        )
    x_t = transform(diffusion.add_noise)(ALPHA_BAR, x, T, noise)
    np.testing.assert_allclose(x_t, rows, atol=1e-6)


@pytest.mark.parametrize("shape", [(4,), (4, 5), (4, 6, 3, 2)])
@pytest.mark.parametrize("name", diffusion.SCHEDULES)
def test_noising_is_undone(shape, name):
    schedule = diffusion.alpha_bar(name, 50)
    x, noise = _normal(0, *shape), _normal(1, *shape)
    x_t = diffusion.add_noise(schedule, x, T, noise)
    # Dividing by √ᾱ, at least 0.01, amplifies the rounding of x_t 100 times.
    np.testing.assert_allclose(diffusion.predict_clean(schedule, x_t, T, noise), x, atol=1e-4)


FUNCTIONS = [diffusion.add_noise, diffusion.predict_clean]


@pytest.mark.parametrize("fn", FUNCTIONS)
@pytest.mark.parametrize("bad", [-1, 50])
def test_steps_outside_the_schedule(fn, bad):
    """A concrete step raises; a traced one spoils its own example with NaN, and no other."""
    x, t = jnp.ones((2, 3)), jnp.array([bad, 7])
    with pytest.raises(InputError, match=r"outside 0\.\.49"):
        fn(ALPHA_BAR, x, t, x)
    out = jax.jit(fn)(ALPHA_BAR, x, t, x)
    assert jnp.isnan(out[0]).all() and jnp.isfinite(out[1]).all()


@pytest.mark.parametrize("fn", FUNCTIONS)
def test_shapes_must_agree(unchecked_shapes, fn):
    x = jnp.ones((4, 3))
    with pytest.raises(InputError, match=r"\(1, 3\)"):
        fn(ALPHA_BAR, x, T, x[:1])
    with pytest.raises(InputError, match=r"t \(1,\)"):
        fn(ALPHA_BAR, x, T[:1], x)


# DDIM.


def _point_mass(point):
    """The denoiser that knows all data to be `point`: its prediction of x_0 is always right."""

    def denoise(x, t):
        share = ALPHA_BAR[t][:, None]
        return (x - jnp.sqrt(share) * point[None]) / jnp.sqrt(1 - share)

    return denoise


def _gaussian(mean, std):
    """The best denoiser for data from N(mean, std²): E[ε | x_t], linear in x_t."""

    def denoise(x, t):
        share = ALPHA_BAR[t][:, None]
        return jnp.sqrt(1 - share) * (x - jnp.sqrt(share) * mean) / (share * std**2 + 1 - share)

    return denoise


@pytest.mark.parametrize("num_steps", [1, 7, 50])
@pytest.mark.parametrize("eta", [0.0, 0.6])
def test_ddim_recovers_a_point_mass(num_steps, eta):
    point = jnp.array([1.0, -2.0, 0.5])
    sample = diffusion.ddim_sample(
        _point_mass(point),
        ALPHA_BAR,
        _normal(0, 4, 3),
        num_steps=num_steps,
        eta=eta,
        key=jax.random.key(1),
    )
    np.testing.assert_allclose(sample, jnp.broadcast_to(point, (4, 3)), atol=1e-4)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_ddim_samples_a_gaussian(eta):
    schedule = ALPHA_BAR
    sample = diffusion.ddim_sample(
        _gaussian(3.0, 0.5),
        schedule,
        _normal(0, 20000, 1),
        num_steps=50,
        eta=eta,
        key=jax.random.key(1),
    )
    np.testing.assert_allclose(sample.mean(), 3.0, atol=0.05)
    np.testing.assert_allclose(sample.std(), 0.5, atol=0.05)


@pytest.mark.parametrize("clip", [None, 0.8])
def test_ddim_equals_loops(clip):
    """The update of Song et al., equation by equation in float64, with its own noise put in."""
    x_T, key, eta, steps = _normal(0, 2, 3), jax.random.key(5), 0.7, [49, 33, 16, 0]
    denoise = _gaussian(1.0, 0.5)
    sample = diffusion.ddim_sample(
        denoise, ALPHA_BAR, x_T, num_steps=4, eta=eta, key=key, clip=clip
    )
    x = np.float64(x_T)
    for i, t in enumerate(steps):
        now = float(ALPHA_BAR[t])
        after = float(ALPHA_BAR[steps[i + 1]]) if i < 3 else 1.0
        eps = np.float64(denoise(jnp.asarray(x, jnp.float32), jnp.array([t, t])))
        sigma = eta * math.sqrt((1 - after) / (1 - now)) * math.sqrt(1 - now / after)
        clean = (x - math.sqrt(1 - now) * eps) / math.sqrt(now)
        if clip is not None:
            assert np.abs(clean).max() > clip
            clean = np.clip(clean, -clip, clip)
            eps = (x - math.sqrt(now) * clean) / math.sqrt(1 - now)
        draw = np.float64(jax.random.normal(jax.random.fold_in(key, t), x.shape))
        x = math.sqrt(after) * clean + math.sqrt(1 - after - sigma**2) * eps + sigma * draw
    np.testing.assert_allclose(sample, x, atol=1e-5)


def test_ddim_with_eta_one_over_all_steps_is_ddpm():
    """Ancestral sampling: posterior mean of x_{t−1} given x_t and x̂_0, variance β̃_t."""
    k = 20
    schedule = diffusion.alpha_bar("linear", k)
    denoise = lambda x, t: 0.3 * x + 0.01 * t[:, None]  # any function will do  # noqa: E731
    x_T, key = _normal(0, 3, 2), jax.random.key(4)
    sample = diffusion.ddim_sample(denoise, schedule, x_T, num_steps=k, eta=1.0, key=key)
    x = np.float64(x_T)
    bars = np.append(1.0, np.float64(schedule))  # bars[t + 1] is ᾱ_t
    for t in range(k - 1, -1, -1):
        now, after = bars[t + 1], bars[t]
        beta = 1 - now / after
        eps = 0.3 * x + 0.01 * t
        clean = (x - np.sqrt(1 - now) * eps) / np.sqrt(now)
        mean = beta * np.sqrt(after) * clean + (1 - after) * np.sqrt(1 - beta) * x
        variance = beta * (1 - after) / (1 - now)
        draw = np.float64(jax.random.normal(jax.random.fold_in(key, t), x.shape))
        x = mean / (1 - now) + np.sqrt(variance) * draw
    np.testing.assert_allclose(sample, x, rtol=1e-4, atol=1e-4)


def test_ddim_randomness():
    @functools.partial(jax.jit, static_argnames="eta")
    def sample(key, eta):
        return diffusion.ddim_sample(
            _gaussian(0.0, 0.5), ALPHA_BAR, _normal(0, 2, 3), num_steps=5, eta=eta, key=key
        )

    one, two = jax.random.key(1), jax.random.key(2)
    np.testing.assert_array_equal(sample(one, eta=0.0), sample(two, eta=0.0))
    np.testing.assert_array_equal(sample(one, eta=0.0), sample(None, eta=0.0))
    np.testing.assert_array_equal(sample(one, eta=1.0), sample(one, eta=1.0))
    assert (sample(one, eta=1.0) != sample(two, eta=1.0)).all()


def test_ddim_is_traced_once_and_jit_changes_nothing():
    traces = []

    def denoise(x, t):
        assert t.shape == x.shape[:1] and jnp.issubdtype(t.dtype, jnp.integer)
        traces.append(t)
        return 0.5 * x

    def sample(x_T, alpha_bar, key):
        return diffusion.ddim_sample(denoise, alpha_bar, x_T, num_steps=50, eta=0.5, key=key)

    arguments = _normal(0, 2, 3), ALPHA_BAR, jax.random.key(0)
    jitted = jax.jit(sample)(*arguments)
    assert len(traces) == 1
    np.testing.assert_allclose(jitted, sample(*arguments), rtol=1e-4)


def test_ddim_keeps_the_dtype():
    x_T = _normal(0, 2, 3).astype(jnp.bfloat16)
    sample = diffusion.ddim_sample(lambda x, t: x.astype(jnp.float32), ALPHA_BAR, x_T, num_steps=3)
    assert sample.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_steps": 0}, r"num_steps=0 is outside 1\.\.50"),
        ({"num_steps": 51}, r"num_steps=51 is outside 1\.\.50"),
        ({"num_steps": 5, "eta": 0.5}, "give a random key"),
        ({"num_steps": 5, "eta": 1.5}, r"eta=1\.5"),
    ],
)
def test_ddim_refuses(options, message):
    with pytest.raises(InputError, match=message):
        diffusion.ddim_sample(lambda x, t: x, ALPHA_BAR, jnp.ones((2, 3)), **options)


def test_ddim_refuses_a_denoiser_that_changes_the_shape(unchecked_shapes):
    with pytest.raises(InputError, match=r"\(2, 3\) to \(1, 3\)"):
        diffusion.ddim_sample(lambda x, t: x[:1], ALPHA_BAR, jnp.ones((2, 3)), num_steps=2)


# Time embedding.


@pytest.mark.parametrize("width", [2, 6, 64])
def test_time_embedding_equals_loops(width):
    t = [0, 1, 17, 999]
    half = width // 2
    wanted = [
        [math.cos(s * 10000 ** (-i / half)) for i in range(half)]
        + [math.sin(s * 10000 ** (-i / half)) for i in range(half)]
        for s in t
    ]
    # Angles up to 999 carry a rounding of 6e-5 in float32.
    for dtype in (jnp.int32, jnp.float32):
        np.testing.assert_allclose(
            diffusion.time_embedding(jnp.array(t, dtype), width), wanted, atol=1e-4
        )


def test_time_embedding_tells_all_steps_apart():
    table = diffusion.time_embedding(jnp.arange(1000), 64)
    distance = jnp.abs(table[:-1] - table[1:]).max(axis=-1)
    assert distance.min() > 0.4


@pytest.mark.parametrize("width", [0, 7])
def test_time_embedding_refuses_odd_widths(width):
    with pytest.raises(InputError, match=f"width={width}"):
        diffusion.time_embedding(jnp.arange(3), width)
