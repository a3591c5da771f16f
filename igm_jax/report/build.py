"""Reads a run, its data and its results for the page and the figures."""

import time
from collections.abc import Callable
from typing import NamedTuple

from igm_jax.data import SkeletonStore
from igm_jax.errors import InputError
from igm_jax.evaluation.generate import generator_of
from igm_jax.evaluation.run import Run, open_store
from igm_jax.report import maps, player, results


class RunReport(NamedTuple):
    """Everything that a page shows of one run.

    Attributes:
      run: the run.
      store: its data.
      curves: see `results.curves`.
      tables: see `results.tables`.
      confusions: see `results.confusions`.
      map: the test clips that are shown.
      clips: the same clips for the player.
      no_generator: why nothing is generated; "" if something is.
    """

    run: Run
    store: SkeletonStore
    curves: list[results.Chart]
    tables: list[results.Table]
    confusions: list[results.Confusion]
    map: maps.FeatureMap
    clips: player.Clips
    no_generator: str

    @property
    def name(self) -> str:
        """Name of the run folder."""
        return self.run.folder.resolve().name

    def class_name(self, row: int) -> str:
        """Class of a clip of the map; "unlabelled" if it has none."""
        label = int(self.store.clips["label"][self.map.indices[row]])
        return self.store.class_names[label] if label >= 0 else "unlabelled"


def describe(
    run: Run,
    *,
    clips: int = 600,
    generate: int = 12,
    seed: int = 0,
    report: Callable[[str], None] = lambda line: None,
) -> RunReport:
    """Computes features, map and generated clips of a run, and reads its results.

    Args:
      run: the run.
      clips: most test clips on the map; of more, a sample is shown.
      generate: how many of them are generated from.
      seed: of the noise.
      report: is given a line of progress for each part.

    Raises:
      InputError: the data that the run was trained on is not found, or has too few test clips.
    """
    store, start = open_store(run), time.perf_counter()

    def said(line: str) -> None:
        report(f"{run.folder}: {line}, {time.perf_counter() - start:.0f} s")

    # What may be damaged is read before what takes long.
    read = results.curves(run), results.tables(run), results.confusions(run)
    shown = maps.feature_map(run, store, most=clips)
    said(f"{len(shown.indices)} of {shown.total} test clips on the map")
    try:
        generator, reason = generator_of(run), ""
    except InputError as error:  # another objective, or no joint positions
        generator, reason = None, str(error)
    made = player.show_clips(run, store, shown.indices, generator, count=generate, seed=seed)
    said(reason or f"{len(made.generated)} clips generated")
    return RunReport(
        run,
        store,
        *read,
        shown,
        made,
        reason,
    )
