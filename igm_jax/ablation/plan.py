"""Plans ablations: rows of config overrides with seeds become runs, and their results are read.

The run folders hold all state. Open jobs and results are read from them each time, so an
interrupted command can resume, and a table can be made at any time.
"""

import ast
import dataclasses
import functools
import itertools
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from igm_jax import run_folder
from igm_jax.ablation.grids import GRIDS
from igm_jax.data import SkeletonStore, open_dataset, protocols
from igm_jax.errors import InputError
from igm_jax.training import objectives, run_data
from igm_jax.training.config import BOOKKEEPING, ExperimentConfig, differences
from igm_jax.training.mapping import from_mapping, nearest, to_mapping
from igm_jax.training.older_runs import config_of_run

# Script → its results in the run folder.
PROBES = {"linear_probe": run_folder.linear_probe(), "knn": run_folder.KNN}

# Column → the probe, and the key of its first row that holds the accuracy on a split.
COLUMNS = {
    "linear": ("linear_probe", "{}_linear"),
    "KNN K=1": ("knn", "{}_knn_1"),
    "KNN K=20": ("knn", "{}_knn_20"),
}


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of an ablation.

    Attributes:
      row: name of the row.
      overrides: config key → value, as the row sets it.
      seed: its seed.
      folder: its run folder.
      config: the experiment.
      flags: command-line flags of experiments/pretrain.py that produce `config`.
    """

    row: str
    overrides: dict[str, Any]
    seed: int
    folder: pathlib.Path
    config: ExperimentConfig
    flags: tuple[str, ...]

    @property
    def log(self) -> pathlib.Path:
        """Log file of the commands of this run."""
        return self.folder.with_name(self.folder.name + ".log")

    @property
    def commands(self) -> dict[str, list[str]]:
        """Script → flags, in the order in which they run."""
        run, data = f"--run={self.folder}", f"--data={self.config.data.path}"
        return {"pretrain": [*self.flags, run]} | {probe: [run, data] for probe in PROBES}


def parse_grid(text: str) -> dict[str, dict[str, Any]]:
    """Parses a grid into row name → config key → value.

    Args:
      text: a key of `GRIDS`; FILE.json with {row: {key: value}}; or KEY=VALUE,VALUE;KEY=VALUE,….

    Raises:
      InputError: none of the three, or two rows whose folders would have the same name.

    >>> parse_grid("train.epochs=5,10")
    {'epochs=5': {'train.epochs': 5}, 'epochs=10': {'train.epochs': 10}}
    """
    if text.endswith(".json"):
        try:
            content = pathlib.Path(text).read_text(encoding="utf-8")
            rows = json.loads(content, object_pairs_hook=_once)
        except ValueError as error:
            raise InputError(f"--grid={text}: {error}") from error
    elif "=" in text:
        rows = _product(text)
    elif text in GRIDS:
        rows = GRIDS[text]
    else:
        raise InputError(
            f"--grid={text} is unknown{nearest(text, GRIDS)}: choose one of "
            f"{', '.join(GRIDS)}, or give KEY=VALUE,VALUE;… or FILE.json"
        )
    if not isinstance(rows, dict) or not all(isinstance(row, dict) for row in rows.values()):
        raise InputError(f"--grid={text}: needs {{row name: {{config key: value}}}}")
    slugs = {slug(name) for name in rows} - {""}
    if not rows or len(slugs) < len(rows):
        raise InputError(f"--grid={text}: its row names make no distinct folders: {list(rows)}")
    return rows


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; `json` alone would keep the last of several equal names."""
    names = [name for name, _ in pairs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{sorted(twice)[0]!r} is there twice: rename one")
    return dict(pairs)


def _product(text: str) -> dict[str, dict[str, Any]]:
    choices: dict[str, list[str]] = {}
    for part in text.split(";"):
        key, equals, values = (x.strip() for x in part.partition("="))
        # Commas within brackets belong to a tuple.
        words = [v.strip() for v in re.split(r",(?![^(\[]*[)\]])", values)]
        if not equals or key in choices or len(set(words)) < len(words):
            raise InputError(f"--grid: {part!r} is no KEY=VALUE,VALUE,… or says something twice")
        choices[key] = words
    short = {key: key.rpartition(".")[2] for key in choices}
    if len(set(short.values())) < len(short):  # encoder.depth and generator.depth
        short = {key: key for key in choices}
    rows = {}
    for words in itertools.product(*choices.values()):
        row = dict(zip(choices, words))
        name = " ".join(f"{short[k]}={v}" for k, v in row.items())
        rows[name] = {k: _literal(v) for k, v in row.items()}
    return rows


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text  # a bare word


def slug(name: str) -> str:
    """Turns a row name into a folder name.

    >>> slug("L_gen alone")
    'l_gen-alone'
    """
    return re.sub(r"[^\w.=-]+", "-", name.lower()).strip("-.")


def plan(
    config: ExperimentConfig,
    rows: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
    out: pathlib.Path,
    *,
    config_file: str,
    given: Mapping[str, Any],
) -> list[Job]:
    """Lists a job for every row and seed, seed by seed, so early tables compare equal seeds.

    Args:
      config: what the config file and the flags say.
      rows: see `parse_grid`.
      seeds: one run each; they take the place of `config.seed`.
      out: OUT/<row>/seed<k> are the run folders.
      config_file: what `--config` says.
      given: config key → value of those set by flags; a row has the last word.

    Raises:
      InputError: an override that does not fit the config (names the row), a run folder with a
        run of another config (names it), or a folder of another grid.
    """
    there = {path.parents[1].name for path in out.glob(f"*/seed*/{run_folder.CONFIG}")}
    if there and not there & {slug(name) for name in rows}:
        raise InputError(
            f"{out} holds the runs of another grid ({', '.join(sorted(there))}), and ensemble.py "
            "adds all runs of a folder: choose another --out"
        )
    jobs = []
    for seed, (name, overrides) in itertools.product(seeds, rows.items()):
        try:
            if "seed" in {**given, **overrides}:
                raise InputError("config key 'seed' is set by --seeds")
            mine = _replaced(config, {**overrides, "seed": seed}).spelled_out()
            mine.check_length()
            objectives.check_read(mine.objective.name, {**given, **overrides})
        except InputError as error:
            raise InputError(f"row {name!r}: {error}") from error
        # As the config has them: 0 is 0.0 there, and a list a tuple.
        typed = {k: functools.reduce(getattr, k.split("."), mine) for k in overrides}
        flags = [f"--config.{k}={v}" for k, v in {**given, **typed, "seed": seed}.items()]
        folder = out / slug(name) / f"seed{seed}"
        for other in jobs:
            if other.seed == seed and _same(other.config, mine):
                keys = ", ".join(sorted({**other.overrides, **typed}))
                raise InputError(
                    f"rows {other.row!r} and {name!r} give the same run: the config has their "
                    f"values already, or they change no number: change {keys}"
                )
        jobs.append(Job(name, typed, seed, folder, mine, (f"--config={config_file}", *flags)))
        _check_folder(jobs[-1])
    return jobs


def _same(a: ExperimentConfig, b: ExperimentConfig) -> bool:
    # What is bookkeeping changes no number, so such rows would be the same run twice.
    ignored = BOOKKEEPING - {"probe", "data.path"}
    return not differences(to_mapping(a), to_mapping(b), ignored=ignored)


def _replaced(config: ExperimentConfig, overrides: Mapping[str, Any]) -> ExperimentConfig:
    mapping = to_mapping(config)
    for name, value in overrides.items():
        *groups, key = name.split(".")
        group = mapping
        for part in groups:
            group = group.setdefault(part, {})
            if not isinstance(group, dict):
                raise InputError(f"config has no key {name!r}: {part!r} is no group of keys")
        if isinstance(group.get(key), dict):
            # It would put the rest of the group back to its defaults.
            raise InputError(f"config key {name!r}: set the keys of a group one by one")
        group[key] = value
    return from_mapping(ExperimentConfig, mapping)


def _check_folder(job: Job) -> None:
    saved = run_folder.read_json(job.folder / run_folder.CONFIG)
    saved = {} if saved is None else to_mapping(config_of_run(saved))
    # The probes' settings do not make another run, but they make another row of the table.
    ignored = BOOKKEEPING - {"probe"}
    changed = differences(saved, to_mapping(job.config), ignored=ignored)
    if changed and _is_run(job):
        raise InputError(
            f"{job.folder} holds a run of another config ({'; '.join(changed[:4])}"
            f"{' …' if len(changed) > 4 else ''}): choose another --out"
        )


def _is_run(job: Job) -> bool:
    # Like experiments/pretrain.py, this overwrites a run that has no checkpoint yet.
    results = any((job.folder / file).exists() for file in PROBES.values())
    return results or bool(run_folder.newest_step(job.folder))


def check_data(jobs: Sequence[Job]) -> None:
    """Refuses folders whose runs were trained on other data than the jobs now name.

    A store that is not where the config says is no problem here: finished runs need none. Runs of
    versions that did not write the checksums of their data are taken as they are.

    Raises:
      InputError: a run of other data (names it), or a damaged store.
    """
    stores: dict[tuple[str, str], SkeletonStore] = {}
    for job in jobs:
        place = job.config.data.dataset, job.config.data.path
        # Not from the checkpoint: reading one starts JAX, which holds the devices of the runs.
        saved = run_folder.read_json(job.folder / run_folder.ENVIRONMENT) or {}
        if not _is_run(job) or "data" not in saved or not pathlib.Path(place[1]).exists():
            continue
        if place not in stores:
            stores[place] = open_dataset(*place)
        if stores[place].meta["sha256"] != saved["data"]:
            raise InputError(
                f"{job.folder} was trained on other data than that of {place[1]}: choose another "
                "--out"
            )


def check_clips(jobs: Sequence[Job]) -> None:
    """Refuses rows that do not fit their data, before any of them runs.

    Raises:
      InputError: no store, a damaged one, or a row that does not fit it (names the row).
    """
    stores: dict[tuple[str, str], SkeletonStore] = {}
    for job in jobs:
        place = job.config.data.dataset, job.config.data.path
        if place not in stores:
            stores[place] = open_dataset(*place)
        if _is_run(job):
            continue
        store = stores[place]
        try:
            config = run_data.fitted(job.config, store)
            config.check_length(len(run_data.training_clips(config, store)))
            if problem := protocols.unjudged(store, config.data.protocol):
                raise InputError(f"its probes cannot judge it: {problem}")
        except InputError as error:
            raise InputError(f"row {job.row!r}: {error}") from error


def last_step(job: Job) -> int | None:
    """The step at which the last epoch ended, or None if it has not."""
    ends = [
        r["step"]
        for r in run_folder.read_reports(job.folder / run_folder.METRICS)
        if r.get("epoch", 0) >= job.config.train.epochs
    ]
    return ends[-1] if ends else None


def probe_rows(job: Job, probe: str) -> list[dict[str, Any]] | None:
    """Returns the rows of a probe after the last epoch, or None if it has not run."""
    saved = run_folder.read_json(job.folder / PROBES[probe])
    return saved["rows"] if saved and saved["step"] == last_step(job) else None


def measured(job: Job, split: str) -> dict[str, float] | None:
    """Column → value of a finished run on `split`, "validation" or "test"; else None."""
    rows = {}
    for probe in PROBES:
        found = probe_rows(job, probe)
        if not found:
            return None
        rows[probe] = found
    values = {name: rows[probe][0][key.format(split)] for name, (probe, key) in COLUMNS.items()}
    ranks = [
        r["val_effective_rank"]
        for r in run_folder.read_reports(job.folder / run_folder.METRICS)
        if "val_effective_rank" in r
    ]
    return values | ({"effective rank": ranks[-1]} if ranks else {})
