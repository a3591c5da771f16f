"""No test clip, held-out subject or unseen class reaches pre-training or a choice.

Each guard runs twice: on the program as it is, and on one with a leak that is let in on purpose,
which it has to notice. Those of fine-tuning are in tests/finetuning/test_study.py, those of
transfer in tests/evaluation/test_transfer.py.
"""

import dataclasses
import functools
import itertools
import pathlib

import jax
import numpy as np
import pytest
import tiny

from igm_jax import parallel
from igm_jax.data import protocols, unseen
from igm_jax.data.store import SkeletonStore
from igm_jax.evaluation import judge
from igm_jax.evaluation.parts import FeatureSet
from igm_jax.evaluation.run import Run, init_encoder
from igm_jax.training import run_data
from igm_jax.training.evaluate import evaluate

CONFIG = tiny.config({"probe.learning_rates": (1e-6, 0.1, 30.0), "probe.epochs": 8})
UNSEEN = tiny.config({"data.leave_out": ("circle",)})
MESH = parallel.make_mesh(CONFIG.parallel, 1, jax.devices()[:1])


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tiny.write_store(tmp_path_factory.mktemp("leaks") / "store")


@pytest.fixture(autouse=True)
def no_memory_map(monkeypatch):
    """Altered frames are in memory, so there is nothing to read ahead of."""
    monkeypatch.setattr(SkeletonStore, "read_ahead", lambda *_: None)


def altered(store, chosen, *, labels=False, frames=False):
    """The store with other labels or coordinates of some clips."""
    clips, moved = np.array(store.clips), np.array(store.frames)
    if labels:
        clips["label"][chosen] = (clips["label"][chosen] + 1) % 3
    if frames:
        for row in clips[chosen]:
            moved[row["offset"] : row["offset"] + row["length"] * row["bodies"]] *= 3
    return dataclasses.replace(store, clips=clips, frames=moved)


def seen_in_training(store, config=CONFIG):
    """All that pre-training reads: its clips, statistics and two epochs of batches."""
    indices, reading = run_data.prepare(config, store)
    batches = run_data.batches(config, store, indices, reading, MESH)
    count = -(-2 * len(indices) // config.train.batch_size)
    return {
        "indices": indices,
        "reading": reading,
        "batches": [
            (batch["index"], batch["clip"]) for batch in itertools.islice(iter(batches), count)
        ],
    }


def seen_in_choice(store, config=CONFIG):
    """Metrics that choose the best checkpoint, by an encoder of random weights."""
    _, reading = run_data.prepare(config, store)
    params = jax.device_put(
        jax.jit(functools.partial(init_encoder, config))(jax.random.key(0)),
        parallel.replicated(MESH),
    )
    return evaluate(params, config=config, store=store, reading=reading, mesh=MESH)


def equal(one, other):
    same = jax.tree.map(np.array_equal, one, other)
    return all(jax.tree.leaves(same))


def leaking_split(store, protocol, part):
    """Every clip as a clip of each part."""
    return np.arange(len(store))


@pytest.mark.parametrize("leak", [False, True])
def test_test_clips_of_held_out_subjects_reach_no_training(store, monkeypatch, leak):
    """Their coordinates change no statistic and no batch, and no batch has one of them."""
    test = protocols.split(store, "xsub", "test")
    held_out = set(store.clips["subject"][test])
    if leak:
        monkeypatch.setattr(protocols, "split", leaking_split)
    before, after = seen_in_training(store), seen_in_training(altered(store, test, frames=True))
    assert equal(before, after) == (not leak)
    indices = np.concatenate([index for index, _ in before["batches"]])
    assert held_out.isdisjoint(store.clips["subject"][indices]) == (not leak)


@pytest.mark.parametrize("kind", ["labels", "frames"])
@pytest.mark.parametrize("leak", [False, True])
def test_test_clips_reach_no_choice_of_a_checkpoint(store, monkeypatch, kind, leak):
    test = protocols.split(store, "xsub", "test")
    if leak:
        monkeypatch.setattr(protocols, "split", leaking_split)
    other = altered(store, test, **{kind: True})
    assert equal(seen_in_choice(store), seen_in_choice(other)) == (not leak)


@pytest.mark.parametrize("kind", ["labels", "frames"])
@pytest.mark.parametrize("leak", [False, True])
def test_test_clips_reach_no_choice_of_a_rate(store, monkeypatch, kind, leak):
    """The linear probe's rate and temperature. The leak puts test clips in the place of "val"."""
    test, honest = protocols.split(store, "xsub", "test"), judge.labelled
    if leak:
        swapped = lambda f, r, s, part, *rest: honest(  # noqa: E731
            f, r, s, "test" if part == "val" else part, *rest
        )
        monkeypatch.setattr(judge, "labelled", swapped)
    rng = np.random.default_rng(0)
    values = 2 * np.eye(3)[store.clips["label"]] + 0.8 * rng.normal(size=(80, 3))
    run = Run(pathlib.Path(), 10, CONFIG, tiny.READING, data={}, params={})

    def chosen(values, clips):
        row, found = judge.fit_linear(FeatureSet("x", values.astype(np.float32)), run, clips)
        return row["validation_linear"], row["learning_rate"], found.temperature

    other, moved = store, values.copy()
    if kind == "labels":
        other = altered(store, test, labels=True)
    else:
        moved[test] = rng.normal(size=(len(test), 3))
    assert equal(chosen(values, store), chosen(moved, other)) == (not leak)


@pytest.mark.parametrize("leak", [False, True])
def test_unseen_classes_reach_neither_training_nor_choice(store, monkeypatch, leak):
    out = np.flatnonzero(store.clips["label"] == store.class_names.index("circle"))
    if leak:
        monkeypatch.setattr(unseen, "seen_clips", lambda store, indices, leave_out: indices)
    other = altered(store, out, frames=True)
    before, after = seen_in_training(store, UNSEEN), seen_in_training(other, UNSEEN)
    assert equal(before, after) == (not leak)
    assert (not np.isin(before["indices"], out).any()) == (not leak)
    choices = seen_in_choice(store, UNSEEN), seen_in_choice(other, UNSEEN)
    assert equal(*choices) == (not leak)
