"""Table of all public functions of the pure modules, with the shapes of their arguments."""

import functools
import inspect
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from igm_jax import augment, diffusion, losses, masking, metrics, precision, skeleton
from igm_jax.finetuning.model import joint_features
from igm_jax.finetuning.step import smoothed_cross_entropy
from igm_jax.models import Hardware, adapter, attention, blocks, encoder, layers
from igm_jax.reading import Reading

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
    squared(precision.root, (4,))._replace(keeps=True),
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
    Row(losses.theory.scaled_spectrum, (FEATURES,), (0.7,)),
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
    Row(joint_features, ((6, 4, 5),), (2, 2, jnp.array([[True, False]] * 3)), keeps=True),
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
    masking.visible_tokens, masking.visible_grid, masking.joints_and_frames_order,
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
