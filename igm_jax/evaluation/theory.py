"""Measures the theory of IGM on the features and the generator of a run, along its training.

The features are those that the losses see: unit length, mean over all tokens. Only clips of the
training split are read. Error is that of a ridge probe from its part "fit" to "val".

The augmentation graph has the clips as nodes. Its positives are drawn as L_ide draws them: g makes
a clip x̂0 in one step from step t < max_t_share · K, and x̂0 stands for the real clip that it is
nearest to (`metrics.positive_pairs`). Clips are whole and not augmented.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from igm_jax import losses, metrics, run_folder
from igm_jax.data import SkeletonStore, pipeline, protocols, unseen
from igm_jax.errors import InputError
from igm_jax.evaluation.generate import LoadedGenerator, generator_of
from igm_jax.evaluation.generation_quality import descriptor
from igm_jax.evaluation.given import given_of_store
from igm_jax.evaluation.run import Run, init_encoder, load_run
from igm_jax.features import clip_batches, extract_features
from igm_jax.models import IGM

DISTORTIONS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
KEPT = 512  # eigenvalues and singular values that are saved


@dataclasses.dataclass(frozen=True)
class Stage:
    """A run at one point of its training.

    Attributes:
      run: with the parameters of f at that point.
      generator: the same with g; None if the objective or the checkpoint has no generator.
      untrained: whether no training has changed the parameters.
    """

    run: Run
    generator: LoadedGenerator | None
    untrained: bool = False

    @property
    def name(self) -> str:
        """`untrained`, `step 450`, or `imported weights`, which are step 0 of their run."""
        if self.untrained:
            return "untrained"
        return f"step {self.run.step}" if self.run.step else "imported weights"


def stages(run: Run, most: int) -> list[Stage]:
    """The untrained networks and at most `most` of the kept checkpoints, up to that of the run.

    Args:
      run: the run at its last point.
      most: ≥ 1; of more checkpoints, equally distant ones and the last are taken.

    Raises:
      InputError: `most` below 1.
    """
    if most < 1:
        raise InputError(f"--checkpoints={most}: give at least 1")
    steps = [step for step in run_folder.checkpoint_steps(run.folder) if step <= run.step]
    places = np.linspace(0, len(steps) - 1, most + 1)[1:].round().astype(int)
    chosen = sorted({steps[i] for i in places} | {run.step})
    trained = [dataclasses.replace(load_run(run.folder, s), places=run.places) for s in chosen]
    return [
        _untrained(run),
        *(Stage(r, generator_of(r) if _generates(r) else None) for r in trained),
    ]


def _generates(run: Run) -> bool:
    imported = run.step == 0  # such a checkpoint holds an encoder alone
    igm = run.config.objective.name == "igm"
    return igm and "joint" in run.reading.streams and not imported


def _untrained(run: Run) -> Stage:
    key, c = jax.random.key(run.config.seed), run.config.model.encoder
    if not _generates(run):
        params = jax.jit(lambda key: init_encoder(run.config, key))(key)
        return Stage(dataclasses.replace(run, step=0, params=params), None, untrained=True)
    clip = jnp.zeros((1, c.frames, c.joints, c.channels))
    params = jax.jit(IGM(run.config.model).init)(key, clip)["params"]
    encoder = {name: params["encoder"][name] for name in run.params}
    fresh = dataclasses.replace(run, step=0, params=encoder)
    generator = LoadedGenerator(fresh, {**params, "encoder": encoder})
    return Stage(fresh, generator, untrained=True)


def seen_features(stage: Stage, store: SkeletonStore, indices: Int[np.ndarray, " n"]) -> Any:
    """Features [n, D] of whole clips, as the losses pool them."""
    run = stage.run
    encoder = dataclasses.replace(run.config.model.encoder, stretches=1)
    batches = clip_batches(store, indices, run.reading)
    return jnp.asarray(extract_features(encoder, run.params, run.reading, batches))


def expansion(
    unit: Float[jax.Array, "n D"], distortions: Sequence[float] = DISTORTIONS
) -> list[dict[str, Any]]:
    """Coding length and its parts for each clip, in nats, for each distortion ε.

    Args:
      unit: unit features.
      distortions: values of ε.

    Returns:
      Rows with `distortion`, `coding_length` L, `first` and `second` term, `residual` R, with
      L = first + second − R, and `radius` λ‖ZᵀZ‖₂; the series converges where it is below 1.
    """
    rows = []
    for distortion in distortions:
        parts = metrics.coding_length_parts(unit, distortion)
        of_clip = {
            "coding_length": parts.total,
            "first": parts.first,
            "second": parts.second,
            "residual": parts.residual,
        }
        row = {name: _rounded(value / len(unit)) for name, value in of_clip.items()}
        rows.append({"distortion": distortion, **row, "radius": _rounded(parts.radius)})
    return rows


def least_distortion(unit: Float[jax.Array, "n D"]) -> float:
    """The ε above which the series of the coding length converges, √(D/n · ‖ZᵀZ‖₂).

    For unit features it is at least 1, their length: ‖ZᵀZ‖₂ ≥ n / min(n, D).
    """
    return float(jnp.sqrt(metrics.coding_length_parts(unit, 1.0).radius))


def graph(
    stage: Stage,
    store: SkeletonStore,
    indices: Int[np.ndarray, " n"],
    features: Float[jax.Array, "n D"],
    *,
    draws: int,
    seed: int = 0,
) -> dict[str, Any]:
    """The augmentation graph that g draws, and how the features factorise it.

    Args:
      stage: with a generator.
      store: data of the run.
      indices: the clips.
      features: of these clips.
      draws: generated clips for each; their t are equally distant.
      seed: of the noise.

    Returns:
      `own_%`: generated clips that are nearest to their own clip; `squares` Σ λ_i², `tail`
      Σ_{i>D} λ_i², `impurity_%` α, `error` ‖A − FFᵀ‖²_F of unit features times the best factor,
      and `singular_values`. Labels below 0 leave α out.
    """
    generator = stage.generator
    assert generator is not None, "a stage without a generator has no graph"
    c, reading = stage.run.config.objective, stage.run.reading
    given = given_of_store(store, indices, reading)
    real = jnp.asarray(descriptor(given.clip, given.present, reading))
    steps = max(1, round(c.max_t_share * c.diffusion_steps))
    origins, pairs = np.arange(len(indices)), []
    for draw in range(draws):
        t = int((draw + 0.5) * steps / draws)
        made = descriptor(generator.one_step(given, t, seed=seed + draw), given.present, reading)
        pairs.append(metrics.positive_pairs(jnp.asarray(made), real, origins))
    pairs = jnp.concatenate(pairs)
    joint = metrics.pair_distribution(pairs, len(indices))
    values = metrics.singular_values(metrics.normalized_adjacency(joint))
    labels, unit = store.clips["label"][indices], losses.normalize(features)
    impurity = None
    if (labels >= 0).all():
        impurity = _rounded(100 * metrics.cluster_impurity(joint, labels.astype(np.int32)))
    return {
        "own_%": _rounded(100 * (pairs[:, 0] == pairs[:, 1]).mean()),
        "squares": _rounded(metrics.tail_sum(values, 0)),
        "tail": _rounded(metrics.tail_sum(values, features.shape[1])),
        "impurity_%": impurity,
        "error": _rounded(metrics.factorization_error(joint, unit, rescale=True)),
        "singular_values": [_rounded(x) for x in values[:KEPT]],
    }


def measure(
    stage: Stage, store: SkeletonStore, *, clips: int = 1024, draws: int = 6, seed: int = 0
) -> dict[str, Any]:
    """All measurements of one stage.

    Args:
      stage: of `stages`.
      store: data of the run.
      clips: most clips that are read; of more a fixed sample.
      draws: see `graph`; 0 leaves the graph out.
      seed: of the noise of g.

    Returns:
      `name`, `step`, `clips`, `width`, `effective_rank`, `covariance_rank`, `least_distortion`,
      `probe_error_%`, `expansion` (rows), `spectrum` (eigenvalues of the covariance of unit
      features) and `graph`, or None without a generator.
    """
    data = stage.run.config.data
    indices = protocols.split(store, data.protocol, "train")
    indices = pipeline.sample(unseen.seen_clips(store, indices, data.leave_out), clips)
    features = seen_features(stage, store, indices)
    unit = losses.normalize(features)
    spectrum = metrics.covariance_spectrum(unit)
    drawn = None
    if draws and stage.generator:
        drawn = graph(stage, store, indices, features, draws=draws, seed=seed)
    return {
        "name": stage.name,
        "step": stage.run.step,
        "clips": len(indices),
        "width": features.shape[1],
        "effective_rank": _rounded(metrics.effective_rank(features)),
        "covariance_rank": _rounded(metrics.spectrum_rank(spectrum)),
        "least_distortion": _rounded(least_distortion(unit)),
        "probe_error_%": _probe_error(stage, store),
        "expansion": expansion(unit, sorted({*DISTORTIONS, stage.run.config.objective.distortion})),
        "spectrum": [_rounded(x) for x in spectrum[:KEPT]],
        "graph": drawn,
    }


def _probe_error(stage: Stage, store: SkeletonStore) -> float | None:
    """Error of a ridge probe of the same features on validation clips, in %."""
    data, parts = stage.run.config.data, []
    for part in ("fit", "val"):
        chosen = unseen.seen_clips(
            store, protocols.split(store, data.protocol, part), data.leave_out
        )
        chosen = chosen[store.clips["label"][chosen] >= 0]
        if len(chosen) < 2:
            return None
        labels = jnp.asarray(store.clips["label"][chosen].astype(np.int32))
        parts.append((seen_features(stage, store, chosen), labels))
    (features, labels), (asked, truth) = parts
    classes = len(store.class_names)
    right = metrics.ridge_accuracy(asked, truth, features, labels, num_classes=classes)
    return round(100 * (1 - float(right)), 2)


def _rounded(x: Any) -> float:
    return float(f"{float(x):.5g}")
