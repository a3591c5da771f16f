"""Every public function of the pure modules is one that JAX can transform, whatever is fed to it.

One table, and one compiled program for each row: NumPy arrays or JAX's, half precision, 64-bit
mode, derivatives in both directions, `vmap`, and constants that are captured by `jit`.
"""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from public_functions import (
    CHOICES,
    FEATURES,
    KEY,
    LABELS,
    MODULES,
    ON_THE_HOST,
    OTHERS,
    ROWS,
    SCHEDULE,
    STEPS,
    Row,
    by_name,
    dot,
    draw,
    dtypes,
    floats,
    noised,
    public_functions,
)

from igm_jax import augment, diffusion, losses, metrics, skeleton
from igm_jax.errors import InputError
from igm_jax.models import adapter
from igm_jax.training.objectives import OBJECTIVES
from igm_jax.training.program import build_program


def test_the_table_holds_every_public_function():
    public = {f.__qualname__ for module in MODULES for f in public_functions(module)}
    tested = {row.function.__qualname__ for row in ROWS}
    tested |= {row.function.__qualname__ for row in ON_THE_HOST}
    others = {f.__qualname__ for f in OTHERS}
    assert public - tested == others


@by_name
def test_value_and_derivatives(row):
    """One program: value, forward and reverse derivative, and the value of two at once."""
    arrays, others = draw(row), [x + 1 for x in draw(row)]
    direction = [np.cos(x).astype(np.float32) for x in arrays]

    @jax.jit
    def everything(arrays, others, direction):
        value = row(*arrays)
        moved, forward = jax.jvp(lambda *x: floats(row(*x)), arrays, direction)
        _, pull = jax.vjp(lambda *x: floats(row(*x)), *arrays)
        up = [jnp.sin(x + 1) for x in moved]
        products = dot(forward, up), dot(direction, pull(up))
        both = jax.vmap(row)(*(jnp.stack(pair) for pair in zip(arrays, others)))
        return value, products, both, row(*others)

    value, (forward, reverse), both, other = everything(arrays, others, direction)
    assert jnp.isfinite(forward) and jnp.isfinite(reverse)
    np.testing.assert_allclose(forward, reverse, rtol=2e-3, atol=2e-4)
    for a, b, pair in zip(*map(jax.tree.leaves, (value, other, both)), strict=True):
        np.testing.assert_allclose(pair, jnp.stack([a, b]), rtol=2e-4, atol=2e-5)
    with warnings.catch_warnings(action="error"):  # without jit
        if not row.function.__module__.startswith(
            ("igm_jax.models", "igm_jax.masking", "igm_jax.finetuning")
        ):
            arrays = [x.astype(np.float64) for x in arrays]  # as NumPy makes them
            plain = row(*arrays)
        else:
            plain = row(*map(jnp.asarray, arrays))
    for a, b in zip(*map(jax.tree.leaves, (value, plain)), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


@by_name
def test_dtypes(row):
    """That of the arguments or float32 at least; 64-bit mode changes none but those of indices."""

    def of(dtype):
        return [x.dtype for x in floats(jax.eval_shape(row, *draw(row, dtype)))]

    assert set(of(np.float32)) <= {jnp.dtype("float32")}
    for half in (jnp.bfloat16, np.float16):
        assert set(of(half)) <= {jnp.dtype(half if row.keeps else "float32")}
    with jax.numpy_dtype_promotion("strict"):  # no integer becomes a float unasked
        whole = dtypes(jax.eval_shape(row, *draw(row)))
    with jax.enable_x64(True):
        assert set(of(np.float32)) <= {jnp.dtype("float32")}
        assert len(dtypes(jax.eval_shape(row, *draw(row)))) == len(whole)


@by_name
def test_half_precision_loses_no_more_than_its_digits(row):
    """Against float32 of the same rounded numbers; what is computed in between is not rounded."""
    if row.function.__name__ in CHOICES:
        pytest.skip("a choice: it has no error of rounding")
    arrays = draw(row, jnp.bfloat16)
    half, whole = jax.jit(
        lambda *x: (floats(row(*x)), floats(row(*(v.astype(jnp.float32) for v in x))))
    )(*arrays)
    for a, b in zip(half, whole, strict=True):
        scale = float(jnp.abs(b).max())
        np.testing.assert_allclose(a.astype(jnp.float32), b, rtol=0, atol=0.03 * scale)


@pytest.mark.parametrize("row", ON_THE_HOST, ids=lambda row: row.function.__name__)
def test_functions_of_the_host_take_any_array(row):
    """NumPy's and JAX's numbers give one result; half precision is widened before anything else."""
    arrays = draw(row, jnp.bfloat16)
    wanted = row(*(x.astype(np.float64) for x in arrays))
    for other in (arrays, list(map(jnp.asarray, arrays)), [np.float32(x) for x in arrays]):
        np.testing.assert_allclose(row(*other), wanted, rtol=1e-12, atol=1e-12)


# What a row of the table cannot say.


@pytest.mark.parametrize(
    "call",
    [
        lambda x: losses.normalize(x),
        lambda x: adapter.mdff(x, 0.1),
        lambda x: augment.random_rotation(KEY, x[None, None], (0.1, 0.1, 0.1)),
        lambda x: augment.random_shear(KEY, x[None, None], 0.5),
        lambda x: diffusion.add_noise(SCHEDULE, x, STEPS, x),
        lambda x: diffusion.ddim_sample(lambda x, t: x, SCHEDULE, x, num_steps=2),
        lambda x: skeleton.reference_frame(x, tiny.LAYOUT, "body"),
    ],
)
def test_integers_are_refused_where_they_would_be_cut_off(unchecked_shapes, call):
    for x in (np.ones((3, 6, 6, 3), np.int32), jnp.ones((3, 6, 6, 3), jnp.uint8)):
        with pytest.raises(InputError, match=rf"\w+ is of type {x.dtype}: cast it to float32"):
            call(x)


def test_integers_that_are_wide_enough_are_numbers(unchecked_shapes):
    x = np.array([[1, 2], [3, -4]])
    assert losses.feature_idempotency_loss(x, x).tolist() == pytest.approx([-1, -1])
    assert float(metrics.mean_pairwise_cosine(x)) == pytest.approx(-1 / 5**0.5)


def test_zero_vector_of_float64_is_zero():
    """JAX narrows it to float32, which has no number as small as float64's smallest."""
    assert losses.normalize(np.zeros((2, 3))).tolist() == [[0, 0, 0]] * 2


@pytest.mark.parametrize("function", [diffusion.add_noise, diffusion.predict_clean])
def test_noising_over_examples(function):
    """One example and its step under `vmap`, and one step for all, are rows of the batch."""
    x, noise = draw(noised(function))
    batch = function(SCHEDULE, x, STEPS, noise)
    mapped = jax.vmap(function, in_axes=(None, 0, 0, 0))(SCHEDULE, x, STEPS, noise)
    np.testing.assert_allclose(mapped, batch, rtol=1e-6)
    for i in range(3):
        np.testing.assert_allclose(function(SCHEDULE, x, STEPS[i], noise)[i], batch[i], rtol=1e-6)
    with pytest.raises(InputError, match="their first axes"):
        function(SCHEDULE, x, jnp.array([1, 2]), noise)


def test_time_embedding_of_one_step():
    t = jnp.array([2, 5])
    mapped = jax.vmap(lambda t: diffusion.time_embedding(t, 4))(t)
    np.testing.assert_array_equal(mapped, diffusion.time_embedding(t, 4))


def test_traced_eta():
    """A compiled sampler takes any eta, and the derivative by eta is that of differences."""
    x = draw(noised(diffusion.add_noise))[0]

    def sample(eta, key=KEY):
        return diffusion.ddim_sample(
            lambda x, t: jnp.sin(x), SCHEDULE, x, num_steps=4, eta=eta, key=key
        )

    compiled = jax.jit(lambda eta: (sample(eta), jax.jacfwd(lambda e: sample(e).sum())(eta)))
    for eta in (0.0, 0.6):
        value, slope = compiled(eta)
        np.testing.assert_allclose(value, sample(eta), atol=1e-5)
        assert jnp.isfinite(slope)
    step = (compiled(0.61)[0].sum() - compiled(0.59)[0].sum()) / 0.02
    np.testing.assert_allclose(slope, step, rtol=1e-2)
    with pytest.raises(InputError, match="a traced eta draws noise: give a random key"):
        jax.jit(lambda eta: sample(eta, key=None))(0.0)


def test_traced_temperatures():
    x, references = draw(Row(None, (FEATURES, (7, 5))))

    def total(t):
        return (
            losses.similarity_distribution(x, references, t)[0, 0]
            + losses.info_nce_loss(x, x, references, temperature=t).sum()
            + metrics.uniformity(x, t)
            + losses.coding_length(x, t)
        )

    slope = jax.jit(jax.grad(total))(0.5)
    np.testing.assert_allclose(slope, (total(0.51) - total(0.49)) / 0.02, rtol=1e-2)
    vote = functools.partial(metrics.knn_predict, x, x, LABELS, k=3, num_classes=3)
    assert jax.jit(lambda t: vote(temperature=t))(0.1).tolist() == vote(temperature=0.1).tolist()


@pytest.mark.parametrize("collapse", ["everything", "hips", "spine"])
def test_view_of_a_body_without_axes_has_a_finite_gradient(collapse):
    frame = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    frame[{"everything": [0, 1, 2, 3], "hips": [2, 3], "spine": [0, 1]}[collapse]] = 0.5

    def total(frame):
        origin, rotation = skeleton.reference_frame(frame, tiny.LAYOUT, "body")
        return skeleton.in_reference_frame(frame[None], origin, rotation).sum()

    assert jnp.isfinite(jax.grad(total)(jnp.asarray(frame))).all()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_training_step_in_64_bit_mode(name):
    """Traced, not run: the state has the types that it has in 32 bit, before and after a step."""
    changes = {**tiny.changes_for(name), "objective.ema_decay": 0.9}

    def state_types(after):
        config = tiny.config(changes)
        program = build_program(config, tiny.reading_for(config), 16, jax.devices()[:1])
        state = jax.eval_shape(program.init, jax.random.key(0))
        clip = jax.ShapeDtypeStruct((8, 2, 8, 6, 3), jnp.float32)
        raw = {"clip": clip, "present": jax.ShapeDtypeStruct((8, 2), bool)}
        raw |= {"other": clip} if changes["data.crops"] == 2 else {}
        if after:
            state, _ = jax.eval_shape(program.step, state, raw, jax.random.key(0))
        return jax.tree.map(lambda x: (x.shape, x.dtype), state)

    narrow = state_types(after=False)
    with jax.enable_x64(True):
        assert state_types(after=False) == narrow
        assert state_types(after=True) == narrow
