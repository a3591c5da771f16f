"""Runs all protocols on one run: features are computed once, and finished protocols are kept."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

from igm_jax import run_folder
from igm_jax.arguments import check_choice
from igm_jax.data import SkeletonStore
from igm_jax.errors import InputError
from igm_jax.evaluation import frozen, judge, table
from igm_jax.evaluation.parts import FeatureSet
from igm_jax.evaluation.run import Run, open_store


class Evaluation(NamedTuple):
    """How a suite runs one protocol.

    Attributes:
      judge: as for `judge.evaluate`.
      file: its results in the run folder.
      measures: name in the summary → column of its rows.
      settings: those that the file has to name, where the command has flags for them.
      needs: further columns; files of older versions lack them.
      beside: other files that it writes.
    """

    judge: Callable[[FeatureSet, Run, SkeletonStore], dict[str, Any]]
    file: str
    measures: dict[str, str]
    settings: dict[str, Any] | None = None
    needs: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()


_FEW_SHOT = {"ways": 5, "shots": [1, 5], "queries": None, "episodes": 600}

# In the order in which they run: those that take seconds come first.
PROTOCOLS = {
    "knn": Evaluation(
        judge.evaluate_knn,
        run_folder.KNN,
        {"KNN, K=1": "test_knn_1", "KNN, K=20": "test_knn_20"},
        needs=("test_knn_1_interval", "details"),
    ),
    "ridge": Evaluation(
        frozen.evaluate_ridge, run_folder.RIDGE, {"ridge probe, closed form": "test_ridge"}
    ),
    "retrieval": Evaluation(
        frozen.evaluate_retrieval,
        run_folder.RETRIEVAL,
        {
            "retrieval of training clips, mAP": "test_map",
            "retrieval of training clips, recall@1": "test_recall_1",
            "retrieval of training clips, recall@5": "test_recall_5",
            "retrieval of training clips, recall@10": "test_recall_10",
            "retrieval within test, mAP": "within_map",
            "retrieval within test, recall@1": "within_recall_1",
        },
    ),
    "few_shot": Evaluation(
        functools.partial(frozen.evaluate_few_shot, **_FEW_SHOT),
        run_folder.FEW_SHOT,
        {
            f"5-way {k}-shot, {name}": f"test_{k}_shot_{key}"
            for k in _FEW_SHOT["shots"]
            for name, key in (("prototype", "prototype"), ("nearest", "knn"))
        },
        settings=_FEW_SHOT,
    ),
    "kmeans": Evaluation(
        frozen.evaluate_kmeans,
        run_folder.KMEANS,
        {"k-means, 100 ARI": "test_ari", "k-means, 100 NMI": "test_nmi"},
    ),
    "linear_probe": Evaluation(
        functools.partial(judge.evaluate_linear, save=True),
        run_folder.linear_probe(),
        {"linear probe": "test_linear"},
        needs=("test_linear_interval", "details"),
        beside=(run_folder.probe_scores(),),
    ),
}

# Name → protocols.
SUITES = {
    "paper": tuple(PROTOCOLS),
    "quick": tuple(name for name in PROTOCOLS if name != "linear_probe"),
}


def run_suite(
    run: Run,
    suite: str = "paper",
    *,
    baselines: bool = False,
    report: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Runs every protocol of a suite that is not done at this checkpoint, and saves its rows.

    A protocol that the data does not allow, such as 5-way episodes of 3 classes, is named with the
    reason, and the others run.

    Args:
      run: the run.
      suite: a key of `SUITES`.
      baselines: see `judge.feature_sets`.
      report: is given a line of progress for each protocol.

    Returns:
      What is written to `run_folder.EVALUATION`: the step, `results` (protocol → its rows, of
      which each protocol's own file has the details too), `not_possible` (protocol → reason) and
      `table` (rows of `summary`).

    Raises:
      InputError: unknown suite, or the data that the run was trained on is not found.
    """
    check_choice("suite", suite, SUITES)
    store = open_store(run)
    # Nothing is computed if all is done.
    sets = functools.cache(lambda: judge.feature_sets(run, store, baselines=baselines))
    before = run_folder.read_json(run.results(run_folder.EVALUATION)) or {}
    # Nor if the rest was not possible at this checkpoint and on this data.
    known = before.get("step") == run.step and table.is_of(before, run)
    refused = before.get("not_possible", {}) if known else {}
    results, not_possible = {}, {}
    for name in SUITES[suite]:
        protocol = PROTOCOLS[name]
        rows = done_rows(run, protocol, baselines=baselines)
        if rows is not None:
            report(f"{name}: done at step {run.step}")
        elif name in refused:
            not_possible[name] = refused[name]
            continue
        else:
            try:
                rows = judge.judged_rows(protocol.judge, sets(), run, store)
            except InputError as error:
                not_possible[name] = str(error)
                report(f"{name}: not possible: {error}")
                continue
            table.save_rows(run.results(protocol.file), run, rows, protocol.settings)
            report(f"{name}: saved {run.results(protocol.file).name}")
        results[name] = [{k: v for k, v in row.items() if k != "details"} for row in rows]
    content = {
        **table.header(run),
        "classes": run.classes,
        "suite": suite,
        "results": results,
        "not_possible": not_possible,
        "table": summary(results),
    }
    run_folder.write_json(run.results(run_folder.EVALUATION), content)
    return content


def done_rows(
    run: Run, protocol: Evaluation, *, baselines: bool = False
) -> list[dict[str, Any]] | None:
    """Saved rows of a protocol, or None if they are not of this checkpoint and these settings.

    Args:
      run: the run.
      protocol: the protocol.
      baselines: whether those of the baselines are needed. With `run.whiten` those of the whitened
        features are needed too.
    """
    saved = run_folder.read_json(run.results(protocol.file))
    if saved is None or not all(run.results(name).exists() for name in protocol.beside):
        return None
    rows, names = saved.get("rows", []), {*protocol.measures.values(), *protocol.needs}
    whitened = [row for row in rows if row["features"].endswith(judge.WHITENED)]
    same = (
        saved.get("step") == run.step
        and table.is_of(saved, run)
        and saved.get("settings") == protocol.settings
        and len(rows) - len(whitened) >= (3 if baselines else 1)
        and (whitened or not run.whiten)
        and all(names <= row.keys() for row in rows)
    )
    return rows if same else None


def summary(results: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """One row for each measure: its value for each feature set, and the interval of the first.

    Args:
      results: protocol → its rows, the first of which is that of the run's encoder.

    Returns:
      Rows with `measure`, then one key for each feature set, with `95 % interval` behind the first.
    """
    names = max(
        ([row["features"] for row in rows] for rows in results.values()), key=len, default=[]
    )
    made = []
    for protocol, rows in results.items():
        for measure, column in PROTOCOLS[protocol].measures.items():
            values = {r["features"]: "-" if r[column] is None else r[column] for r in rows}
            first, *others = names
            made.append(
                {
                    "measure": measure,
                    first: values[rows[0]["features"]],
                    "95 % interval": rows[0].get(f"{column}_interval") or "-",
                    **{name: values.get(name, "-") for name in others},
                }
            )
    return made
