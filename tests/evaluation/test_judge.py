"""How features are judged, and that the test clips have no part in any choice."""

import dataclasses
import functools
import json
import shutil

import jax
import numpy as np
import pytest
import tiny

from igm_jax import metrics, run_folder
from igm_jax.data import SkeletonStore, pipeline, protocols
from igm_jax.data.few_labels import few_labels_of
from igm_jax.errors import InputError
from igm_jax.evaluation import frozen, judge, parts
from igm_jax.evaluation.judge import (
    FeatureSet,
    evaluate,
    evaluate_knn,
    evaluate_linear,
    feature_sets,
)
from igm_jax.evaluation.run import Run, init_encoder, load_run
from igm_jax.evaluation.scores import load_scores
from igm_jax.evaluation.table import save_rows
from igm_jax.reading import Reading

RATES = (1e-6, 0.1, 30.0)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tiny.write_store(tmp_path_factory.mktemp("protocol") / "store")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of which only the config is looked at."""
    config = tiny.config({"probe.learning_rates": RATES, "probe.epochs": 8})
    folder = tmp_path_factory.mktemp("run")
    return Run(folder, 10, config, tiny.READING, data={}, params={})


@pytest.fixture(scope="module")
def telling(store):
    """Features that tell the class of most clips."""
    rng = np.random.default_rng(0)
    values = 2 * np.eye(3)[store.clips["label"]] + 0.8 * rng.normal(size=(80, 3))
    return FeatureSet("telling", values.astype(np.float32))


def test_what_cannot_be_judged_is_told_before_features(run, store, monkeypatch):
    def computed(*_, **__):
        raise AssertionError("features were computed")

    monkeypatch.setattr(judge, "feature_sets", computed)
    monkeypatch.setattr(judge, "open_store", lambda run: store)
    refused = {
        "labels=1%-plain": functools.partial(parts.check_labels, labels="1%-plain", subset=0),
        "--ways=50: the test clips have 3 classes": functools.partial(
            frozen.few_shot_episodes, ways=50
        ),
        "class '(swing|circle|jerk)' has [0-9]+ test clips, and 99 shots": functools.partial(
            frozen.few_shot_episodes, ways=2, shots=(99,)
        ),
    }
    for told, check in refused.items():
        with pytest.raises(InputError, match=told):
            evaluate(run, evaluate_knn, baselines=False, check=check)
    clips = np.array(store.clips)
    clips["label"] = -1
    unlabelled = dataclasses.replace(store, clips=clips)
    monkeypatch.setattr(judge, "open_store", lambda run: unlabelled)
    with pytest.raises(InputError, match=r"no clip of part 'train' .* has a label"):
        evaluate(run, evaluate_knn, baselines=False, check=parts.check_labels)


def relabelled(store, part, seed=0):
    """The same store with random labels in one part."""
    clips = np.array(store.clips)
    chosen = protocols.split(store, "xsub", part)
    clips["label"][chosen] = np.random.default_rng(seed).integers(0, 3, len(chosen))
    return dataclasses.replace(store, clips=clips)


def test_linear_probe_reads_telling_features_and_nothing_from_noise(telling, run, store):
    row = evaluate_linear(telling, run, store)
    assert list(row) == [
        "features",
        "learning_rate",
        "validation_linear",
        "test_linear",
        "test_linear_interval",
        "test_linear_best_epoch",
        "details",
    ]
    low, high = row["test_linear_interval"]
    assert 60 < low < row["test_linear"] < high <= 100 and high - low < 30
    assert row["features"] == "telling" and row["learning_rate"] in RATES[1:]
    assert 80 < row["test_linear"] <= row["test_linear_best_epoch"] <= 100
    noise = FeatureSet("noise", np.random.default_rng(1).normal(size=(80, 3)).astype(np.float32))
    assert evaluate_linear(noise, run, store)["test_linear"] < 60


def test_rate_is_chosen_without_the_test_clips(telling, run, store):
    """Other test labels, other test features: the choice and its accuracy stay."""
    chosen = ("learning_rate", "validation_linear")
    row = evaluate_linear(telling, run, store)
    other_labels = evaluate_linear(telling, run, relabelled(store, "test"))
    assert [other_labels[k] for k in chosen] == [row[k] for k in chosen]
    assert other_labels["test_linear"] < row["test_linear"] - 20
    values = telling.values.copy()
    values[protocols.split(store, "xsub", "test")] = 7
    other_features = evaluate_linear(FeatureSet("x", values), run, store)
    assert [other_features[k] for k in chosen] == [row[k] for k in chosen]


def test_rate_is_the_best_on_the_validation_clips(telling, run, store):
    """Validation clips that nothing but an untrained probe gets right make it choose that one."""
    clips = np.array(store.clips)
    val = protocols.split(store, "xsub", "val")
    predicted = telling.values[val].argmax(axis=1)
    clips["label"][val] = (predicted + 1) % 3
    misled = dataclasses.replace(store, clips=clips)
    assert evaluate_linear(telling, run, store)["learning_rate"] != RATES[0]
    assert evaluate_linear(telling, run, misled)["learning_rate"] == RATES[0]


def test_knn_against_a_loop(telling, run, store):
    row = evaluate_knn(telling, run, store, ks=(1, 5))
    unit = telling.values / np.linalg.norm(telling.values, axis=1, keepdims=True)
    label = store.clips["label"]
    for name, reference, queries in (("validation", "fit", "val"), ("test", "train", "test")):
        known, asked = (protocols.split(store, "xsub", part) for part in (reference, queries))
        hits = {1: 0, 5: 0}
        for i in asked:
            nearest = known[np.argsort(-(unit[known] @ unit[i]))]
            hits[1] += label[nearest[0]] == label[i]
            votes = np.bincount(label[nearest[:5]], minlength=3)
            closeness = np.bincount(label[nearest[:5]], unit[nearest[:5]] @ unit[i], minlength=3)
            hits[5] += np.argmax(np.where(votes == votes.max(), closeness, -9)) == label[i]
        for k in (1, 5):
            assert row[f"{name}_knn_{k}"] == round(100 * hits[k] / len(asked), 2)
    assert set(evaluate_knn(telling, run, store)) == {
        "features",
        "validation_knn_1",
        "validation_knn_20",
        "test_knn_1",
        "test_knn_1_interval",
        "test_knn_20",
        "test_knn_20_interval",
        "details",
    }


def test_knn_counts_the_five_classes_with_most_votes(telling, run, store):
    """Eight classes, by the position of a clip, against a loop. No vote is no hit."""
    clips = np.array(store.clips)
    clips["label"] = np.arange(80) // 4 % 8
    many = dataclasses.replace(store, clips=clips, class_names=tuple("abcdefgh"))
    details = evaluate_knn(telling, run, many, ks=(1, 6))["details"]
    assert "top_5" not in details["knn_1"]
    unit = telling.values / np.linalg.norm(telling.values, axis=1, keepdims=True)
    known, asked = (protocols.split(many, "xsub", part) for part in ("train", "test"))
    hits = 0
    for i in asked:
        cosine = unit[known] @ unit[i]
        voters = clips["label"][known[np.argsort(-cosine)[:6]]]
        votes = {c: ((voters == c).sum(), np.sort(cosine)[-6:][voters[::-1] == c].sum())
                 for c in set(voters)}  # fmt: skip
        hits += clips["label"][i] in sorted(votes, key=votes.get, reverse=True)[:5]
    assert details["knn_6"]["top_5"] == round(100 * hits / len(asked), 2)


def test_details_hold_the_confusion_of_the_test_clips(telling, run, store):
    test = protocols.split(store, "xsub", "test")
    counts = np.bincount(store.clips["label"][test], minlength=3)
    for judged, name, accuracy in (
        (evaluate_knn(telling, run, store), "knn_1", "test_knn_1"),
        (evaluate_linear(telling, run, store), "linear", "test_linear"),
    ):
        details = judged["details"][name]
        confusion = np.array(details["confusion"])
        np.testing.assert_array_equal(confusion.sum(axis=1), counts)
        assert judged[accuracy] == round(100 * np.trace(confusion) / len(test), 2)
        shares = 100 * np.diag(confusion) / counts
        np.testing.assert_allclose(details["class_accuracy"], shares, atol=0.01)
        np.testing.assert_allclose(details["balanced_accuracy"], shares.mean(), atol=0.01)
        assert details["class_names"] == list(tiny.CLASS_NAMES)
        assert "top_5" not in details  # of three classes
        json.dumps(judged)


def test_head_and_temperature_are_made_without_the_test_clips(telling, run, store):
    """Other test labels change no weight; other validation labels change the temperature."""
    row, found = judge.fit_linear(telling, run, store)
    right = found.scores.argmax(axis=1) == found.labels
    assert row["test_linear"] == round(100 * right.mean(), 2)
    test = protocols.split(store, "xsub", "test")
    assert list(found.clips) == list(store.clips["name"][test])
    _, other = judge.fit_linear(telling, run, relabelled(store, "test"))
    jax.tree.map(np.testing.assert_array_equal, other.head, found.head)
    assert other.temperature == found.temperature
    np.testing.assert_array_equal(other.scores, found.scores)
    _, misled = judge.fit_linear(telling, run, relabelled(store, "val"))
    assert misled.temperature != found.temperature


def test_only_the_encoder_of_the_run_leaves_its_head(telling, run, store):
    path = run.folder / run_folder.probe_scores("10%")
    row = evaluate_linear(telling, run, store, labels="10%", save=True)
    assert not path.exists()
    trained = dataclasses.replace(telling, trained=True)
    assert evaluate_linear(trained, run, store, labels="10%") == row and not path.exists()
    assert evaluate_linear(trained, run, store, labels="10%", save=True) == row
    found, (_, made) = load_scores(path), judge.fit_linear(telling, run, store, "10%")
    for field in dataclasses.fields(made):
        read, wanted = (getattr(x, field.name) for x in (found, made))
        jax.tree.map(np.testing.assert_array_equal, read, wanted)
    assert found.streams == "joint" and found.step == 10


def test_clips_without_a_label_have_no_part(telling, run, store):
    """Whatever their features are; and K is at most the number of clips with one."""
    clips, values = np.array(store.clips), telling.values.copy()
    unlabelled = np.arange(80) % 5 > 0
    clips["label"][unlabelled] = -1
    sparse = dataclasses.replace(store, clips=clips)
    assert (clips["label"][protocols.split(sparse, "xsub", "train")] >= 0).sum() < 20
    for evaluate_one in (evaluate_knn, evaluate_linear):
        row = evaluate_one(telling, run, sparse)
        values[unlabelled] = 7
        assert evaluate_one(FeatureSet("telling", values), run, sparse) == row
        assert (
            row["test_linear" if evaluate_one is evaluate_linear else "test_knn_1"] > 40
        )  # of 3 classes


def test_judging_without_labels_is_refused(telling, run, store):
    clips = np.array(store.clips)
    clips["label"][protocols.split(store, "xsub", "test")] = -1
    with pytest.raises(InputError, match="no clip of part 'test' of protocol 'xsub' has a label"):
        evaluate_knn(telling, run, dataclasses.replace(store, clips=clips))


def test_a_validation_that_shares_people_is_told_in_each_row(telling, run, store, monkeypatch):
    clips = np.array(store.clips)
    clips["split"], clips["subject"] = 2 - clips["subject"] % 2, 0
    hidden = dataclasses.replace(store, clips=clips, meta={**store.meta, "dataset": "mamp_npz"})
    by_split = tiny.config({"data.protocol": "split", "probe.learning_rates": RATES})
    monkeypatch.setattr(judge, "feature_sets", lambda *_, **__: [telling])
    for opened, config, told in (
        (hidden, by_split, {"validation shares people with training"}),
        (store, run.config, set()),
    ):
        monkeypatch.setattr(judge, "open_store", lambda run, opened=opened: opened)
        (row,) = evaluate(dataclasses.replace(run, config=config), evaluate_knn, baselines=False)
        assert {row[key] for key in row if key == "note"} == told


def test_feature_sets_and_their_baselines(finished):
    run, store = load_run(finished.folder), finished.store
    (alone,) = feature_sets(run, store, baselines=False)
    sets = feature_sets(run, store, baselines=True)
    assert [s.name for s in sets] == [
        "pre-trained, step 10",
        "untrained encoder",
        "joint coordinates, 32 frames",
    ]
    trained, untrained, raw = (s.values for s in sets)
    np.testing.assert_array_equal(alone.values, trained)
    assert trained.shape == untrained.shape == (80, 16)
    assert np.abs(trained - untrained).max() > 1e-2
    clips, _ = pipeline.full_clips(store, np.arange(80), Reading(store.layout, "body", 32, 2))
    np.testing.assert_array_equal(raw, clips.reshape(80, -1))


def test_features_of_a_damaged_store_are_refused(finished, tmp_path):
    """One frame is NaN, as checksums would tell, which opening a store does not compare."""
    store, copy = finished.store, tmp_path / "store"
    shutil.copytree(store.path, copy)
    frames = np.load(copy / "frames.npy", mmap_mode="r+")
    frames[store.clips["offset"][7] + 1, 0] = np.nan
    frames.flush()
    damaged = SkeletonStore.open(copy)
    name = str(store.clips["name"][7])
    with pytest.raises(InputError, match=rf"of 1 of 80 clips, such as '{name}', are not finite"):
        feature_sets(load_run(finished.folder), damaged, baselines=False)


def test_whitened_features_follow_the_training_clips_alone(finished):
    run, store = load_run(finished.folder), finished.store
    run = dataclasses.replace(run, whiten=True)
    plain, whitened = feature_sets(run, store, baselines=False)
    assert whitened.name == "pre-trained, step 10, whitened"
    assert plain.trained and not whitened.trained  # no head of it is saved
    training = protocols.split(store, run.config.data.protocol, "train")
    fitted = metrics.fit_whitening(plain.values[training])
    np.testing.assert_array_equal(whitened.values, metrics.whiten(fitted, plain.values))
    assert plain.augmented is not None and whitened.augmented is not None
    cropped = plain.augmented(training, 0)
    np.testing.assert_allclose(
        whitened.augmented(training, 0), metrics.whiten(fitted, cropped), rtol=1e-5, atol=1e-5
    )


def test_unfinished_run_is_named_so_in_table_and_file(finished, tmp_path):
    """Its checkpoint is step 5 of 10, and it has no later one."""
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    shutil.rmtree(folder / "checkpoints" / "10")
    run = load_run(folder)
    (alone,) = feature_sets(run, finished.store, baselines=False)
    assert alone.name == "pre-trained, step 5 of 10, unfinished"
    save_rows(folder / "x.json", run, [])
    assert json.loads((folder / "x.json").read_text()) == {
        "step": 5,
        "total_steps": 10,
        "unfinished": True,
        "protocol": "xsub",
        "rows": [],
    }


def test_augmented_probe_trains_on_new_crops_and_rotations(finished):
    run, store = load_run(finished.folder), finished.store
    (features,) = feature_sets(run, store, baselines=False)
    indices = np.arange(20)
    first, again, second = (features.augmented(indices, epoch) for epoch in (0, 0, 1))
    assert first.shape == (20, 16)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - second).max() > 1e-2
    assert np.abs(first - features.values[indices]).max() > 1e-2
    # Without rotations, and with crops that leave nothing out, they are the cached features.
    data = dataclasses.replace(run.config.data, crop=(1.0, 1.0), rotation=(0.0, 0.0, 0.0))
    still = dataclasses.replace(run, config=dataclasses.replace(run.config, data=data))
    (unmoved,) = feature_sets(still, store, baselines=False)
    np.testing.assert_allclose(unmoved.augmented(indices, 3), features.values[indices], atol=1e-5)
    rows = [evaluate_linear(f, still, store, augmented=True) for f in (features, unmoved)]
    assert rows[0] != rows[1] and rows[1] == evaluate_linear(unmoved, still, store)


def test_features_without_crops_of_their_own_cannot_be_augmented(telling, run, store):
    with pytest.raises(InputError, match="'telling' are those of whole clips alone"):
        evaluate_linear(telling, run, store, augmented=True)


def test_a_run_is_judged_on_its_own_data_only(run, store):
    config = tiny.config({"data.path": str(store.path), "data.dataset": store.dataset})
    same = dataclasses.replace(run, config=config, data=store.meta["sha256"])
    judged = evaluate(
        dataclasses.replace(same, params=init_encoder(config, jax.random.key(0))),
        lambda features, run, store: {"clips": len(features.values)},
        baselines=True,
    )
    assert judged == 3 * [{"clips": len(store)}]
    other = dataclasses.replace(same, data={"frames.npy": "0"})
    with pytest.raises(InputError, match=r"is not the data that .* was trained on"):
        evaluate(other, evaluate_knn, baselines=False)


def test_few_labels_train_the_probe_and_all_validation_clips_choose(telling, run, store):
    """Features outside the few of the training part, and labels there, change nothing."""
    row = evaluate_linear(telling, run, store, labels="10%")
    parts = {p: protocols.split(store, "xsub", p) for p in ("train", "val")}
    few = few_labels_of(store, "xsub", "train", "10%", run.config.seed)
    unused = np.setdiff1d(parts["train"], np.concatenate([few, parts["val"]]))
    assert len(unused) > 10
    values = telling.values.copy()
    values[unused] = 7
    assert evaluate_linear(FeatureSet("telling", values), run, store, labels="10%") == row
    assert evaluate_linear(FeatureSet("telling", values), run, store) != row


def test_a_share_that_leaves_a_class_empty_is_refused(telling, run, store):
    """As finetune.py refuses it: a probe cannot learn a class without a clip."""
    with pytest.raises(InputError, match=r"labels=1%-plain, subset 0: 1 clips .* leave 2 classes"):
        evaluate_linear(telling, run, store, labels="1%-plain", subset=0)


def test_the_subset_has_a_seed_of_its_own(telling, run, store):
    """Without one it is the run's; features outside the subset of another seed change nothing."""
    few = {"labels": "10%"}
    row = evaluate_linear(telling, run, store, **few, subset=run.config.seed)
    assert row == evaluate_linear(telling, run, store, **few)
    parts = {p: protocols.split(store, "xsub", p) for p in ("train", "val")}
    used = few_labels_of(store, "xsub", "train", "10%", 7)
    unused = np.setdiff1d(parts["train"], np.concatenate([used, parts["val"]]))
    values = telling.values.copy()
    values[unused] = 7
    noisy = FeatureSet("telling", values)
    assert evaluate_linear(noisy, run, store, **few, subset=7) == evaluate_linear(
        telling, run, store, **few, subset=7
    )
