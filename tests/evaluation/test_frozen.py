"""Ridge, retrieval, few-shot and clusters of frozen features; test clips choose nothing."""

import dataclasses

import numpy as np
import pytest
import tiny
from sklearn.metrics import average_precision_score

from igm_jax.data import protocols
from igm_jax.errors import InputError
from igm_jax.evaluation import frozen
from igm_jax.evaluation.parts import FeatureSet, mean_columns
from igm_jax.evaluation.run import Run

FEW_SHOT = {"ways": 2, "shots": [1, 3], "queries": 4, "episodes": 30}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tiny.write_store(tmp_path_factory.mktemp("frozen") / "store")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return Run(folder, 10, tiny.config(), tiny.READING, data={}, params={})


@pytest.fixture(scope="module")
def telling(store):
    rng = np.random.default_rng(0)
    values = 2 * np.eye(3)[store.clips["label"]] + 0.8 * rng.normal(size=(80, 3))
    return FeatureSet("telling", values.astype(np.float32))


def relabelled(store, part):
    clips = np.array(store.clips)
    chosen = protocols.split(store, "xsub", part)
    clips["label"][chosen] = np.random.default_rng(0).integers(0, 3, len(chosen))
    return dataclasses.replace(store, clips=clips)


def moved(features, store, part):
    """The same features, those of one part replaced."""
    values = features.values.copy()
    values[protocols.split(store, "xsub", part)] = 7
    return dataclasses.replace(features, values=values)


def test_penalty_is_chosen_without_validation_and_test_clips(telling, run, store):
    row = frozen.evaluate_ridge(telling, run, store)
    assert row["test_ridge"] > 80 and row["details"]["ridge"]["confusion"]
    chosen = ("penalty", "validation_ridge")
    for other in (
        frozen.evaluate_ridge(telling, run, relabelled(store, "test")),
        frozen.evaluate_ridge(moved(telling, store, "test"), run, store),
    ):
        assert [other[k] for k in chosen] == [row[k] for k in chosen]
        assert other["test_ridge"] < row["test_ridge"] - 20


def test_retrieval_against_a_loop(telling, run, store):
    row = frozen.evaluate_retrieval(telling, run, store, ks=(1, 5))
    label = store.clips["label"]
    unit = telling.values / np.linalg.norm(telling.values, axis=1, keepdims=True)
    train, test = (protocols.split(store, "xsub", part) for part in ("train", "test"))
    for name, gallery_of in (
        ("test", lambda i: train),
        ("within", lambda i: test[test != i]),
    ):
        precision, recall = [], {1: [], 5: []}
        for i in test:
            gallery = gallery_of(i)
            cosine, right = unit[gallery] @ unit[i], label[gallery] == label[i]
            precision.append(average_precision_score(right, cosine))
            for k in recall:
                recall[k].append(right[np.argsort(-cosine)[:k]].any())
        np.testing.assert_allclose(row[f"{name}_map"], 100 * np.mean(precision), atol=0.01)
        low, high = row[f"{name}_map_interval"]
        assert low < row[f"{name}_map"] < high
        for k in recall:
            assert row[f"{name}_recall_{k}"] == round(100 * np.mean(recall[k]), 2)


def test_a_class_without_other_clips_is_left_out_of_retrieval_and_counted(telling, run, store):
    """And of more neighbours than clips, all are taken."""
    clips = np.array(store.clips)
    test = protocols.split(store, "xsub", "test")
    clips["label"][test] = 0
    clips["label"][test[0]] = 2
    train = protocols.split(store, "xsub", "train")
    clips["label"][train] = -1
    clips["label"][train[:3]] = 0
    lonely = dataclasses.replace(store, clips=clips)
    row = frozen.evaluate_retrieval(telling, run, lonely)
    assert row["details"]["left_out"] == {"test": 1, "within": 1}
    assert row["test_recall_10"] == 100
    # One half may be possible without the other.
    clips["label"][test] = 1
    row = frozen.evaluate_retrieval(telling, run, dataclasses.replace(store, clips=clips))
    assert row["test_map"] is row["test_map_interval"] is row["test_recall_5"] is None
    assert row["within_map"] == row["within_recall_1"] == 100
    clips["label"][test] = -1
    clips["label"][test[0]] = 0
    row = frozen.evaluate_retrieval(telling, run, dataclasses.replace(store, clips=clips))
    assert row["test_map"] > 0 and row["within_map"] is row["within_recall_10"] is None
    assert row["details"]["left_out"] == {"test": 0, "within": 1}
    clips["label"][test[0]] = 1
    with pytest.raises(InputError, match="no test clip has another clip of its class"):
        frozen.evaluate_retrieval(telling, run, dataclasses.replace(store, clips=clips))


def test_few_shot_against_a_loop_and_without_the_training_clips(telling, run, store):
    row = frozen.evaluate_few_shot(telling, run, store, **FEW_SHOT)
    test = protocols.split(store, "xsub", "test")
    label = store.clips["label"][test]
    unit = telling.values[test]
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    hits, seed = [], run.config.seed
    drawn = frozen.metrics.draw_episodes(label, ways=2, shots=3, queries=4, episodes=30, seed=seed)
    for episode in drawn:
        known, asked = episode[:, :3], episode[:, 3:].ravel()
        centres = unit[known].mean(axis=1)
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        predicted = label[known[:, 0]][(unit[asked] @ centres.T).argmax(axis=1)]
        hits.append((predicted == label[asked]).mean())
    np.testing.assert_allclose(row["test_3_shot_prototype"], 100 * np.mean(hits), atol=0.01)
    half = 196 * np.std(hits, ddof=1) / 30**0.5
    wanted = [100 * np.mean(hits) - half, 100 * np.mean(hits) + half]
    np.testing.assert_allclose(row["test_3_shot_prototype_interval"], wanted, atol=0.02)
    assert row["test_1_shot_prototype"] == row["test_1_shot_knn"]
    for other in (moved(telling, store, "train"), telling):
        opened = relabelled(store, "train") if other is telling else store
        assert frozen.evaluate_few_shot(other, run, opened, **FEW_SHOT) == row


def test_few_shot_takes_as_many_queries_as_the_smallest_class_has(telling, run, store):
    clips = np.array(store.clips)
    test = protocols.split(store, "xsub", "test")
    rare = test[clips["label"][test] == 1]
    clips["label"][rare[4:]] = -1
    sparse = dataclasses.replace(store, clips=clips)
    how = {"ways": 3, "shots": [1], "episodes": 5}
    assert frozen.evaluate_few_shot(telling, run, sparse, **how)["queries"] == 3
    with pytest.raises(InputError, match="class 'circle' has 4 test clips"):
        frozen.evaluate_few_shot(telling, run, sparse, **how, queries=4)
    with pytest.raises(InputError, match="--ways=5: the test clips have 3 classes"):
        frozen.evaluate_few_shot(telling, run, store)


def test_one_class_has_no_episodes(telling, run, store):
    clips = np.array(store.clips)
    clips["label"][clips["label"] != 1] = -1
    alone = dataclasses.replace(store, clips=clips)
    with pytest.raises(InputError, match="the test clips have one class, so there are no few-shot"):
        frozen.evaluate_few_shot(telling, run, alone)


def test_clusters_of_the_test_clips_need_no_training_clip(telling, run, store):
    row = frozen.evaluate_kmeans(telling, run, store)
    assert 50 < row["test_ari"] <= 100 and 50 < row["test_nmi"] <= 100
    assert frozen.evaluate_kmeans(moved(telling, store, "train"), run, store) == row
    random = frozen.evaluate_kmeans(telling, run, relabelled(store, "test"))
    assert random["test_ari"] < 15


def test_interval_of_one_clip_is_none():
    assert mean_columns("x", np.array([True])) == {"x": 100.0, "x_interval": None}
