"""Quality of what a run generates, against held-out real clips, as a table over t and steps."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from igm_jax import features, metrics, progress
from igm_jax.data import SkeletonStore, protocols, resize
from igm_jax.errors import InputError
from igm_jax.evaluation.generate import LoadedGenerator
from igm_jax.evaluation.given import Given, given_of_store
from igm_jax.reading import Reading

MOMENTS = 8  # of a clip, in its raw descriptor
NEIGHBOURS = 3  # k of precision and recall


class Described(NamedTuple):
    """What sets of clips are compared by.

    Attributes:
      features: [n, D] of f.
      raw: [n, numbers] of `descriptor`.
    """

    features: np.ndarray
    raw: np.ndarray


def clips_in_a_set(store: SkeletonStore, protocol: str, count: int | None) -> int:
    """Number of test clips in each of two sets; None stands for 256, or half of the test clips.

    Raises:
      InputError: the test split has too few clips for it, or it is too small.
    """
    half = len(protocols.split(store, protocol, "test")) // 2
    size = min(256, half) if count is None else count
    if not NEIGHBOURS < size <= half:
        asked = "" if count is None else f", and {count} are asked for"
        raise InputError(
            f"{store.path} has test clips for two sets of {half}{asked}: quality needs more than "
            f"{NEIGHBOURS} in each"
        )
    return size


def held_out(
    store: SkeletonStore, protocol: str, count: int, seed: int = 0
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """Two disjoint random sets of at most `count` test clips each, of equal size.

    Generated clips get their features from the first set, and both are compared with the second.
    """
    indices = protocols.split(store, protocol, "test")
    size = min(count, len(indices) // 2)
    drawn = np.random.default_rng(seed).permutation(indices)[: 2 * size]
    return np.sort(drawn[:size]), np.sort(drawn[size:])


def quality_table(
    generator: LoadedGenerator,
    store: SkeletonStore,
    *,
    count: int | None = None,
    t_shares: Sequence[float] = (0.01, 0.05, 0.1, 0.2, 0.4, 0.8),
    steps: Sequence[int] = (1, 5, 20, 50),
    mask_ratio: float | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Measures generated clips; the first row is of real clips, measured in the same way.

    Args:
      generator: of the run.
      store: with the data of the run.
      count: clips in each set; None is 256, fewer if the test split is small.
      t_shares: steps of one-step predictions, as shares of K in [0, 1).
      steps: numbers of DDIM steps, conditioned and, if the run trained it, unconditional. The run's
        `most_ddim_steps` stands for larger ones.
      mask_ratio: see `LoadedGenerator.one_step`.
      seed: of the choice of clips, and of the noise.

    Returns:
      Rows with the keys `clips`, `frechet_features`, `frechet_raw`, `precision_%`, `recall_%`,
      `diversity`, `bone_error_%`, `bone_variation_%` and `jerk`; see `judged`.

    Raises:
      InputError: too few test clips, or a share or a number of steps out of range.
    """
    protocol, reading = generator.run.config.data.protocol, generator.run.reading
    size = clips_in_a_set(store, protocol, count)
    chosen, others = held_out(store, protocol, size, seed)
    given, real = (given_of_store(store, part, reading) for part in (chosen, others))
    settings: dict[str, Callable[[], tuple[np.ndarray, Given | None]]] = {
        "real clips": lambda: (given.clip, given)
    }
    drawn = {"mask_ratio": mask_ratio, "seed": seed}
    for t in sorted({round(share * generator.steps) for share in t_shares}):
        settings[f"one step, t={t}"] = lambda t=t: (generator.one_step(given, t, **drawn), given)
    steps = sorted({min(n, generator.most_ddim_steps) for n in steps})
    for n in steps:
        settings[f"DDIM, {n} steps"] = lambda n=n: (generator.sample(given, n, **drawn), given)
    for n in steps if generator.has_unconditional else ():
        settings[f"DDIM, {n} steps, unconditional"] = lambda n=n: (
            generator.unconditional(len(chosen), n, seed=seed),
            None,
        )
    compared_with = described(generator, real.clip, real.present)
    return [
        judged(name, generator, compared_with, *make())
        for name, make in progress.counted(settings.items(), "rows of the table", len(settings))
    ]


def judged(
    name: str,
    generator: LoadedGenerator,
    real: Described,
    clip: Float[np.ndarray, "n M T V C"],
    source: Given | None = None,
) -> dict[str, Any]:
    """One row of the table.

    Fréchet distance, precision, recall and diversity compare features of f. `frechet_raw` compares
    joint positions at `MOMENTS` moments. Clips are read again first, as from a store.

    Args:
      name: of the row.
      generator: whose f makes the features.
      real: as many held-out clips, of `described`.
      clip: clips to judge.
      source: the real clip that each was generated from; None leaves the bone error out.
    """
    layout = generator.run.reading.layout
    present = np.ones(clip.shape[:2], bool) if source is None else source.present
    bodies = clip[present]
    ours = described(generator, clip, present)
    precision, recall = metrics.manifold_precision_recall(
        real.features, ours.features, k=NEIGHBOURS
    )
    row = {
        "clips": name,
        "frechet_features": metrics.frechet_distance(real.features, ours.features),
        "frechet_raw": metrics.frechet_distance(real.raw, ours.raw),
        "precision_%": 100 * float(precision),
        "recall_%": 100 * float(recall),
        "diversity": float(metrics.diversity(ours.features)),
    }
    if layout.bones:
        error = None
        if source is not None:
            found = metrics.bone_length_error(bodies, source.clip[source.present], layout)
            error = float(np.nanmean(np.asarray(found)))
        varied = np.asarray(metrics.bone_length_variation(bodies, layout))
        row |= {"bone_error_%": error, "bone_variation_%": float(np.nanmean(varied))}
    row["jerk"] = float(np.asarray(metrics.mean_jerk(bodies)).mean()) if clip.shape[2] > 3 else None
    return {key: round(x, 4) if isinstance(x, float) else x for key, x in row.items()}


def described(
    generator: LoadedGenerator,
    clip: Float[np.ndarray, "n M T V C"],
    present: Bool[np.ndarray, "n M"],
) -> Described:
    """Features and raw descriptors of real or generated clips."""
    run = generator.run
    batches = features.raw_batches(clip.astype(np.float32), present, run.reading)
    found = features.extract_features(
        run.config.model.encoder, generator.params["encoder"], run.reading, batches
    )
    return Described(found, descriptor(clip, present, run.reading))


def descriptor(
    clip: Float[np.ndarray, "n M T V C"], present: Bool[np.ndarray, "n M"], reading: Reading
) -> Float[np.ndarray, "n numbers"]:
    """Joint positions of the first body at `MOMENTS` moments, in the coordinates of the run.

    Args:
      clip: real or generated clips.
      present: which bodies are there.
      reading: of the run.
    """
    read, _ = resize.resize_clips(clip.astype(np.float32), present, reading)
    body = read[:, 0]
    at = np.linspace(0, body.shape[1] - 1, MOMENTS).round().astype(int)
    return body[:, at].reshape(len(body), -1)
