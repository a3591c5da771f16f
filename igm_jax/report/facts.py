"""Facts of a run: data, networks, environment and settings, and how runs differ."""

import json
from collections.abc import Sequence
from typing import Any

import jax

from igm_jax import run_folder
from igm_jax.data import SkeletonStore, protocols, summary
from igm_jax.evaluation.run import Run
from igm_jax.report import results
from igm_jax.training.mapping import documented

Pairs = list[tuple[str, str]]


def training(run: Run, store: SkeletonStore) -> Pairs:
    """Facts of the training: clips, networks, steps and seed."""
    c = run.config
    encoder, objective = c.model.encoder, c.objective
    clips = {
        part: len(protocols.split(store, c.data.protocol, part))
        for part in (c.data.pretrain_split, "test")
    }
    size = sum(x.size for x in jax.tree.leaves(run.params))
    width = f"{encoder.depth} blocks of width {encoder.width}, {encoder.num_tokens} tokens a clip"
    if encoder.towers > 1:
        width = f"{encoder.towers} towers, each of {width}"
    most = int(store.clips["bodies"].max())
    bodies = f"{c.data.bodies} of up to {most} bodies" if c.data.bodies < most else f"{most} bodies"
    losses = f", {objective.diffusion_steps} steps of noise" if objective.name == "igm" else ""
    return [
        ("data set", f"{store.dataset}, {store.layout.num_joints} joints, {c.data.protocol}"),
        ("clips", ", ".join(f"{count:,} in {part}" for part, count in clips.items())),
        ("classes", f"{len(store.class_names)}" if store.class_names else "no labels"),
        ("reads", f"{encoder.frames} frames, streams {'+'.join(c.data.streams)}, "
                  f"{'one body' if most == 1 else bodies}, {c.data.coordinates} coordinates"),
        ("encoder", f"{size:,} parameters: {width}"),
        ("objective", f"{objective.name}{losses}"),
        ("progress", f"{run.progress}, {c.train.epochs} epochs, batches of {c.train.batch_size}"),
        ("seed", str(c.seed)),
    ]  # fmt: skip


def data(store: SkeletonStore) -> Pairs:
    """Facts of the store."""
    return [(name, str(value)) for name, value in summary.overview(store).items()]


def environment(run: Run) -> Pairs:
    """Versions, commit and devices that the run was trained with."""
    saved = run_folder.read_json(run.folder / run_folder.ENVIRONMENT) or {}
    versions = saved.pop("versions", {})
    saved.pop("data", None)  # checksums of the store, which the page describes elsewhere
    return [(name, _text(value)) for name, value in {**saved, **versions}.items()]


def settings(run: Run) -> list[tuple[str, str, str]]:
    """Every key of the config: `(key, value, meaning)`."""
    return [(key, _text(value), meaning) for key, value, meaning in documented(run.config)]


def differences(runs: Sequence[Run]) -> list[list[str]]:
    """Results of runs, and keys whose values differ: `[name, value of each run …]`."""
    found = [{title: value for value, title in results.numbers(run)} for run in runs]
    names = dict.fromkeys(name for numbers in found for name in numbers)
    rows = [[name, *(numbers.get(name, "-") for numbers in found)] for name in names]
    tables = [{key: value for key, value, _ in settings(run)} for run in runs]
    keys = [[key, *(table[key] for table in tables)] for key in tables[0]]
    keys.append(["checkpoint", *(run.progress for run in runs)])
    return rows + [row for row in keys if len(set(row[1:])) > 1]


def _text(value: Any) -> str:
    """A value as a person writes it.

    >>> _text((0.5, 1.0)), _text("igm"), _text(None)
    ('0.5, 1.0', 'igm', 'none')
    """
    if isinstance(value, tuple | list):
        return ", ".join(map(_text, value))
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return value if isinstance(value, str) else json.dumps(value)
