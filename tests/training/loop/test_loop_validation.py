"""Data without labels, and the validation during training."""

import dataclasses

import numpy as np
import pytest
import tiny
from loop_world import (
    CONFIG,
    ONE,
    lines,
)

from igm_jax import parallel
from igm_jax.data import protocols
from igm_jax.evaluation.run import load_run
from igm_jax.training import evaluate
from igm_jax.training.loop import pretrain


def test_labels_are_not_needed_and_sizes_are_those_of_the_data(store, tmp_path, capsys):
    """Nor people, but then it is said what a validation is worth."""
    encoder = {"model.encoder.joints": 0, "model.encoder.channels": 0}
    config = tiny.config({**encoder, "train.epochs": 1, "data.protocol": "split"})
    clips = np.array(store.clips)
    clips["split"], clips["subject"], clips["label"] = 2 - clips["subject"] % 2, 0, -1
    meta = {**store.meta, "dataset": "mamp_npz"}
    unlabelled = dataclasses.replace(store, clips=clips, meta=meta)
    folder = tmp_path / "run"
    assert pretrain(config, unlabelled, folder, devices=ONE) == "finished"
    measured = {"val_knn_1", "val_ridge", "val_effective_rank"} & lines(folder)[-1].keys()
    assert measured == {"val_effective_rank"}
    told = capsys.readouterr().err
    assert "note: validation shares people with training; no probe can judge this run: " in told
    assert "no clip of part 'train' of protocol 'split' has a label\n" in told
    run = load_run(folder)
    assert (run.config.model.encoder.joints, run.config.model.encoder.channels) == (6, 3)
    # The same command knows its own run again.
    assert pretrain(config, unlabelled, folder, devices=ONE) == "finished"


def test_ridge_probe_in_training_sees_no_test_clip(store, monkeypatch):
    """Other labels of test clips and of unlabelled ones change nothing; those of `val` do."""
    values = np.random.default_rng(0).normal(size=(80, 4)).astype(np.float32)
    values += 4 * np.eye(3, 4, dtype=np.float32)[store.clips["label"]]
    monkeypatch.setattr(evaluate.features, "clip_batches", lambda store, chosen, _: chosen)
    monkeypatch.setattr(
        evaluate.features, "extract_features", lambda config, params, reading, i, mesh: values[i]
    )

    mesh = parallel.make_mesh(CONFIG.parallel, 8, ONE)

    def measured(part=None):
        clips = np.array(store.clips)
        if part:
            chosen = protocols.split(store, "xsub", part)
            clips["label"][chosen] = (clips["label"][chosen] + 1) % 3
        other = dataclasses.replace(store, clips=clips)
        return evaluate.evaluate({}, config=CONFIG, store=other, reading=tiny.READING, mesh=mesh)

    base = measured()
    assert base["val_ridge"] > 0.5 and measured("test") == base
    assert measured("val")["val_ridge"] < base["val_ridge"] - 0.3
    assert measured("fit")["val_ridge"] < base["val_ridge"] - 0.3


def test_clips_without_a_label_do_not_count_in_validation(store, tmp_path):
    """Some of every part: an accuracy of 0 to 1 over the others."""
    clips = np.array(store.clips)
    clips["label"][::3] = -1
    config = tiny.config({"train.epochs": 1})
    pretrain(config, dataclasses.replace(store, clips=clips), tmp_path / "run", devices=ONE)
    count = (clips["label"][protocols.split(store, "xsub", "val")] >= 0).sum()
    for name in ("val_knn_1", "val_ridge"):
        accuracy = lines(tmp_path / "run")[-1][name]
        assert accuracy * count == pytest.approx(round(accuracy * count), abs=1e-4)


def test_knn_looks_at_no_more_clips_than_it_may(store, tmp_path, monkeypatch):
    clip_batches, seen = evaluate.features.clip_batches, []

    def spied(store, indices, reading):
        seen.append(indices)
        return clip_batches(store, indices, reading)

    monkeypatch.setattr(evaluate.features, "clip_batches", spied)
    config = tiny.config({"train.epochs": 1, "train.knn_clips": 3})
    pretrain(config, store, tmp_path / "run", devices=ONE)
    assert [len(indices) for indices in seen] == [3, 3]
    for part, indices in zip(("fit", "val"), seen):
        everything = protocols.split(store, "xsub", part)
        assert len(everything) > 3 and np.isin(indices, everything).all()
