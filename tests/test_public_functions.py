"""Every public function of the pure modules is one that JAX can transform, whatever is fed to it.

One table, and one compiled program for each row: NumPy arrays or JAX's, half precision, 64-bit
mode, derivatives in both directions, `vmap`, and constants that are captured by `jit`.
"""

import functools
import inspect
import types
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from igm_jax import augment, diffusion, losses, masking, metrics, precision, skeleton
from igm_jax.errors import InputError
from igm_jax.finetuning.model import joint_features
from igm_jax.finetuning.step import smoothed_cross_entropy
from igm_jax.models import Hardware, adapter, attention, blocks, encoder, layers
from igm_jax.reading import Reading
from igm_jax.training.objectives import OBJECTIVES
from igm_jax.training.program import build_program

KEY = jax.random.key(7)
# NumPy's, and constants of JAX: `jit` captures both.
SCHEDULE, STEPS = np.asarray(diffusion.alpha_bar("cosine", 10)), jnp.array([0, 3, 9])
FEATURES, CLIPS, FRAMES = (4, 5), (3, 2, 8, 6, 3), (2, 6, 3)


class Row(NamedTuple):
    """A public function, the shapes of its arrays of floats, and all else that it is given.

    Attributes:
      function: the function.
      shapes: of its leading arguments.
      rest: the arguments behind them, none of which is differentiated.
      options: keyword arguments.
      keeps: whether the result has the dtype of the arguments, or else float32 at least.
    """

    function: Any
    shapes: tuple[tuple[int, ...], ...]
    rest: tuple[Any, ...] = ()
    options: Mapping[str, Any] = types.MappingProxyType({})
    keeps: bool = False

    def __call__(self, *arrays):
        return self.function(*arrays, *self.rest, **self.options)


def given(function, *position, **fixed):
    """`function` with its arrays of floats first: a schedule, steps and keys stand before them."""

    @functools.wraps(function)
    def call(*arrays, **options):
        arguments = list(arrays)
        for i, value in sorted(zip(position, fixed["values"])):
            arguments.insert(i, value)
        return function(*arguments, **options)

    return call


def noised(function):
    return Row(
        given(function, 0, 2, values=(SCHEDULE, STEPS)), ((*CLIPS[:1], 4, 2),) * 2, keeps=True
    )


def keyed(function, shape, *rest, keeps=True):
    return Row(given(function, 0, values=(KEY,)), (shape,), rest, keeps=keeps)


def squared(function, shape, *rest, **options):
    """`function` of what cannot be negative."""
    call = functools.wraps(function)(lambda x, *rest, **options: function(x * x, *rest, **options))
    return Row(call, (shape,), rest, options)


def reference_kernel(query, key, value, tokens):
    """The kernel that `attention.padded` calls: JAX's own, which any device has."""
    return jax.nn.dot_product_attention(
        query, key, value, query_seq_lengths=tokens, key_value_seq_lengths=tokens
    )


def public_functions(module):
    return [
        function
        for name, function in vars(module).items()
        if inspect.isfunction(function)
        and function.__module__ == module.__name__
        and not name.startswith("_")
    ]


PAIR, LABELS, TEMPERATURE = (FEATURES,) * 2, jnp.array([0, 1, 2, 1]), jnp.float32(0.5)
VIEW = (tiny.LAYOUT, "body")
PROBE = metrics.RidgeProbe(jnp.ones((5, 3)), jnp.ones(3), jnp.ones(()), jnp.ones(1))
WHITENING = metrics.Whitening(jnp.ones(5), jnp.eye(5))
ROWS = [
    Row(losses.normalize, (FEATURES,), keeps=True),
    Row(losses.noise_prediction_loss, (CLIPS, CLIPS)),
    Row(losses.feature_idempotency_loss, PAIR),
    Row(losses.similarity_distribution, (FEATURES, (7, 5)), (TEMPERATURE,)),
    Row(losses.distribution_idempotency_loss, (FEATURES, FEATURES, (7, 5))),
    Row(losses.info_nce_loss, (FEATURES, FEATURES, (7, 5))),
    Row(losses.positive_log_probabilities, (FEATURES, FEATURES, (7, 5))),
    Row(losses.mined_similarity_loss, (*PAIR, (7, 5)), options={"positives": 2}),
    Row(
        losses.mutual_distillation_loss, ((3, *FEATURES), (3, *FEATURES), (3, 7, 5)),
        options={"nearest": 4},
    ),
    Row(losses.spectral_contrastive_loss, PAIR),
    Row(losses.coding_length, (FEATURES,), (0.7,)),
    Row(losses.coding_rate_reduction, ((3, 2, 5),), (0.7,)),
    Row(losses.coding_length_series, (FEATURES,), (0.7, 3)),
    Row(losses.coding_length_residual, (FEATURES,), (0.7,)),
    *map(noised, (diffusion.add_noise, diffusion.predict_clean)),
    Row(
        given(diffusion.ddim_sample, 0, 1, values=(lambda x, t: 0.5 * x, SCHEDULE)),
        ((3, 4),), options={"num_steps": 4, "eta": 0.5, "key": KEY}, keeps=True,
    ),
    Row(diffusion.time_embedding, ((3,),), (6,)),
    Row(metrics.effective_rank, (FEATURES,)),
    Row(metrics.mean_pairwise_cosine, (FEATURES,)),
    Row(metrics.alignment, PAIR),
    Row(precision.dot, (FEATURES, (5, 2)), keeps=True),
    Row(precision.float32, (FEATURES,)),
    Row(metrics.uniformity, (FEATURES,)),
    Row(metrics.top_k_accuracy, (FEATURES,), (LABELS, 2)),
    Row(metrics.knn_predict, PAIR, (LABELS,), {"k": 2, "num_classes": 3}),
    Row(metrics.knn_ranks, PAIR, (LABELS,), {"k": 2, "num_classes": 3}),
    Row(
        given(metrics.knn_accuracy, 1, values=(LABELS,)), PAIR, (LABELS,),
        {"k": 2, "num_classes": 3, "temperature": TEMPERATURE},
    ),
    Row(metrics.fit_ridge, (FEATURES,), (LABELS,), {"num_classes": 3, "penalties": (0.1,)}),
    Row(metrics.fit_whitening, (FEATURES,), (), {"shrinkage": 0.1}),
    Row(given(metrics.whiten, 0, values=(WHITENING,)), (FEATURES,)),
    Row(given(metrics.ridge_scores, 0, values=(PROBE,)), (FEATURES,)),
    Row(
        given(metrics.ridge_accuracy, 1, values=(LABELS,)), PAIR, (LABELS,),
        {"num_classes": 3, "penalties": (0.1,)},
    ),
    Row(given(metrics.retrieval, 1, values=(LABELS,)), PAIR, (LABELS,), {"ks": (1, 3)}),
    Row(metrics.retrieval_within, (FEATURES,), (LABELS % 2,), {"ks": (1, 3)}),
    Row(metrics.few_shot_accuracy, (FEATURES,), (jnp.array([[[0, 1], [2, 3]]]),), {"shots": 1}),
    keyed(metrics.kmeans, FEATURES, 2, keeps=False),
    Row(metrics.covariance_spectrum, (FEATURES,)),
    squared(metrics.spectrum_rank, (4,)),
    Row(metrics.coding_length_parts, (FEATURES,), (0.7,)),
    Row(given(metrics.positive_pairs, 2, values=(LABELS,)), (FEATURES, (7, 5))),
    squared(metrics.overlap_distribution, FEATURES),
    squared(metrics.normalized_adjacency, (4, 4)),
    Row(metrics.singular_values, ((4, 4),)),
    Row(metrics.tail_sum, ((4,),), (2,)),
    squared(metrics.cluster_impurity, (4, 4), LABELS),
    squared(metrics.factorization_error, (4, 4), jnp.ones((4, 2)), rescale=True),
    Row(metrics.manifold_precision_recall, PAIR, options={"k": 2}),
    Row(metrics.diversity, (FEATURES,)),
    Row(metrics.bone_lengths, (FRAMES,), (tiny.LAYOUT,)),
    Row(metrics.bone_length_error, (CLIPS, CLIPS), (tiny.LAYOUT,)),
    Row(metrics.bone_length_variation, (CLIPS,), (tiny.LAYOUT,)),
    Row(metrics.mean_jerk, (CLIPS,), (30.0,)),
    Row(skeleton.reference_frame, (FRAMES,), VIEW, keeps=True),
    Row(skeleton.moving_origin, ((2, 1, 3), (2, 8, 6, 3)), (tiny.LAYOUT, "posture"), keeps=True),
    Row(skeleton.in_reference_frame, ((2, 8, 6, 3), (2, 1, 3), (2, 3, 3)), keeps=True),
    Row(skeleton.from_reference_frame, ((2, 8, 6, 3), (2, 1, 3), (2, 3, 3)), keeps=True),
    Row(skeleton.bone_stream, (FRAMES,), (tiny.LAYOUT,), keeps=True),
    Row(skeleton.motion_stream, (CLIPS,), keeps=True),
    Row(skeleton.select_stream, (CLIPS,), (tiny.LAYOUT, "bone"), keeps=True),
    Row(skeleton.concat_streams, (CLIPS,), (tiny.LAYOUT, skeleton.STREAMS), keeps=True),
    Row(Reading.__call__.__get__(tiny.READING), (CLIPS,)),
    Row(augment.rotation_matrix, ((4, 3),), keeps=True),
    keyed(augment.random_rotation, CLIPS, (0.5, 0.5, 0.5)),
    keyed(augment.random_shear, CLIPS, 0.5),
    keyed(augment.random_mirror, CLIPS, ((2, 3), (4, 5)), 0.5),
    keyed(augment.random_time_shift, CLIPS, 0.25),
    keyed(augment.random_noise, CLIPS, 0.01, 0.5),
    keyed(augment.random_blur, CLIPS, (0.1, 2.0), 0.5),
    keyed(augment.random_flattening, CLIPS, 0.5),
    keyed(augment.extreme, CLIPS, ((2, 3), (4, 5))),
    keyed(
        augment.mix_clips, CLIPS, np.ones((3, 2), bool), tiny.LAYOUT.body_parts, (2, 3), (0.4, 0.7)
    ),
    Row(given(masking.motion_aware_order, 0, values=(KEY,)), ((3, 6, 4),), ((2, 3), 0.75)),
    Row(adapter.mdff, ((3, *FEATURES),), (0.3,), keeps=True),
    Row(adapter.adapt, ((3, *FEATURES),), (adapter.AdapterConfig(over="batch"),), keeps=True),
    Row(given(attention.attention, 3, values=(Hardware("tpu"),)), ((2, 5, 2, 4),) * 3, keeps=True),
    Row(
        given(attention.padded, 0, 4, values=(reference_kernel, 4)), ((2, 5, 2, 4),) * 3,
        keeps=True,
    ),
    Row(attention.at_once, ((2, 5, 2, 4),) * 3, keeps=True),
    Row(attention.by_head, ((2, 5, 2, 4),) * 3, keeps=True),
    Row(joint_features, ((6, 4, 5),), (2, jnp.array([[True, False]] * 3)), keeps=True),
    Row(smoothed_cross_entropy, (FEATURES,), (LABELS, 0.1)),
    Row(encoder.pool, ((6, 4, 5),), (jnp.array([[True, False]] * 3),), keeps=True),
    Row(encoder.stretch_means, ((3, 12, 5),), (4, 2), keeps=True),
    keyed(blocks.drop_path, (3, 4, 5), 0.3),
    Row(layers.patchify, ((2, 8, 6, 3),), (layers.Patch(4),), keeps=True),
    Row(layers.unpatchify, ((2, 12, 12),), (layers.Patch(4), 6), keeps=True),
]  # fmt: skip
# Choices have no error of rounding.
CHOICES = {
    "top_k_accuracy", "knn_predict", "knn_ranks", "knn_accuracy", "retrieval", "retrieval_within",
    "few_shot_accuracy", "kmeans", "ridge_accuracy",
    "positive_pairs", "manifold_precision_recall",
}  # fmt: skip
by_name = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.function.__name__)

# Public, and no functions of arrays of floats, or of the host: `ON_THE_HOST` has a test of its own.
OTHERS = {
    diffusion.alpha_bar, masking.num_visible, masking.random_order, masking.random_subset,
    metrics.draw_episodes, metrics.pair_distribution, metrics.confusion_matrix,
    metrics.class_accuracy, metrics.balanced_accuracy, metrics.adjusted_rand_index,
    metrics.normalized_mutual_information, attention.fused, layers.apply,
    layers.check_transformer, layers.dense, layers.flat, blocks.by_rows,
    blocks.keep_products, blocks.scan_blocks, precision.of,
}  # fmt: skip
MODULES = (
    losses.igm, losses.contrastive, losses.theory, diffusion, metrics.spread, metrics.knn,
    metrics.classification, metrics.intervals,
    metrics.spectrum, metrics.graph, metrics.ridge, metrics.retrieval, metrics.few_shot,
    metrics.clustering, metrics.whitening,
    metrics.generation, skeleton, augment, masking, precision, adapter, attention, blocks,
    encoder, layers,
)  # fmt: skip

# Functions of arrays of floats that NumPy computes in float64.
ON_THE_HOST = [
    Row(metrics.calibrated_probabilities, (FEATURES,)),
    Row(metrics.negative_log_likelihood, (FEATURES,), (LABELS,)),
    Row(metrics.fit_temperature, (FEATURES,), (LABELS,)),
    Row(
        functools.wraps(metrics.expected_calibration_error)(
            lambda x, y: metrics.expected_calibration_error(0 * x + 0.25, y)
        ),
        ((4, 4),), (LABELS,),
    ),
    Row(metrics.bootstrap_interval, ((9,),), options={"draws": 20}),
    Row(metrics.mean_and_interval, ((9,),)),
    Row(metrics.frechet_distance, (FEATURES, (7, 5))),
]  # fmt: skip


def draw(row, dtype=np.float32, lead=()):
    rng = np.random.default_rng(1)
    return [rng.normal(size=(*lead, *shape)).astype(dtype) for shape in row.shapes]


def dtypes(tree):
    return [x.dtype for x in jax.tree.leaves(tree)]


def dot(a, b):
    return sum(jnp.vdot(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def floats(tree):
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]


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
