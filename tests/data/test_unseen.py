"""Unseen classes: which clips train, and that a class that is left out reaches no part of it."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny

from igm_jax import parallel
from igm_jax.data import SkeletonStore, protocols, unseen
from igm_jax.errors import InputError
from igm_jax.evaluation.judge import evaluate_knn
from igm_jax.evaluation.parts import FeatureSet
from igm_jax.evaluation.run import Run, open_store
from igm_jax.training import evaluate, run_data

CONFIG = tiny.config({"data.leave_out": ("circle",)})
CIRCLE = tiny.CLASS_NAMES.index("circle")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tiny.write_store(tmp_path_factory.mktemp("unseen") / "store")


def with_larger_people(store, chosen):
    """The same store, with the people of the chosen clips three times as large."""
    frames = np.array(store.frames)
    for clip in store.clips[chosen]:
        rows = clip["bodies"] * clip["length"]
        frames[clip["offset"] : clip["offset"] + rows] *= 3
    return dataclasses.replace(store, frames=frames)


def test_clips_of_other_classes_with_a_label_are_seen(store):
    everything, clips = np.arange(80), np.array(store.clips)
    clips["label"][::4] = -1
    sparse = dataclasses.replace(store, clips=clips)
    seen = unseen.seen_clips(sparse, everything[::-1], ["circle"])
    wanted = [i for i in range(79, -1, -1) if i % 4 and store.clips["label"][i] != CIRCLE]
    assert list(seen) == wanted
    np.testing.assert_array_equal(unseen.seen_clips(sparse, everything, ()), everything)


def test_labels_of_a_few_classes_are_renumbered(store):
    few = unseen.only_classes(store, ["jerk", "swing"])
    assert few.class_names == ("swing", "jerk")
    np.testing.assert_array_equal(few.clips["label"], np.array([0, -1, 1])[store.clips["label"]])
    assert store.class_names == tiny.CLASS_NAMES and store.clips["label"].max() == 2
    clips = np.array(store.clips)
    clips["label"][:5] = -1
    sparse = dataclasses.replace(store, clips=clips)
    assert (unseen.only_classes(sparse, ["jerk"]).clips["label"][:5] == -1).all()


@pytest.mark.parametrize(
    ("names", "told"),
    [(("jump",), "has no class 'jump'"), (tiny.CLASS_NAMES, "data.leave_out names all 3 classes")],
)
def test_classes_that_cannot_be_left_out(store, names, told):
    with pytest.raises(InputError, match=told):
        run_data.prepare(tiny.config({"data.leave_out": names}), store)


def test_a_class_without_a_training_clip_cannot_be_left_out(store):
    """Only test clips show it, so a run would leave out nothing."""
    train, clips = protocols.split(store, CONFIG.data.protocol, "train"), np.array(store.clips)
    clips["label"][train] = np.where(clips["label"][train] == CIRCLE, -1, clips["label"][train])
    without = dataclasses.replace(store, clips=clips)
    with pytest.raises(InputError, match="class 'circle' has no training clip in"):
        run_data.prepare(CONFIG, without)


def test_clips_and_statistics_of_pretraining_have_no_unseen_class(store, monkeypatch):
    """Other frames of unseen clips change nothing; without `leave_out` they would."""
    monkeypatch.setattr(SkeletonStore, "read_ahead", lambda *_: None)  # it is no file any more
    indices, reading = run_data.prepare(CONFIG, store)
    train = protocols.split(store, "xsub", "train")
    assert list(indices) == [i for i in train if store.clips["label"][i] != CIRCLE]
    changed = with_larger_people(store, np.flatnonzero(store.clips["label"] == CIRCLE))
    same_indices, same_reading = run_data.prepare(CONFIG, changed)
    np.testing.assert_array_equal(same_indices, indices)
    assert same_reading == reading
    everything = tiny.config()
    assert run_data.prepare(everything, changed)[1] != run_data.prepare(everything, store)[1]


def test_choice_of_the_best_checkpoint_sees_no_unseen_class(store, monkeypatch):
    """Features and labels of unseen clips may be anything; without `leave_out` they count."""
    values = np.random.default_rng(0).normal(size=(80, 4)).astype(np.float32)
    of_circle = store.clips["label"] == CIRCLE
    mesh = parallel.make_mesh(CONFIG.parallel, 8, jax.devices()[:1])
    monkeypatch.setattr(evaluate.features, "clip_batches", lambda store, chosen, _: chosen)

    def measured(config, features):
        monkeypatch.setattr(
            evaluate.features, "extract_features", lambda c, p, reading, i, mesh: features[i]
        )
        return evaluate.evaluate({}, config=config, store=store, reading=tiny.READING, mesh=mesh)

    other = values.copy()
    other[of_circle] = 9
    assert measured(CONFIG, other) == measured(CONFIG, values)
    assert measured(tiny.config(), other) != measured(tiny.config(), values)


def test_run_is_judged_on_the_classes_that_it_did_not_see(store, tmp_path):
    config = tiny.config(
        {
            "data.leave_out": ("circle", "jerk"),
            "data.path": str(store.path),
            "data.dataset": store.dataset,
        }
    )
    run = Run(tmp_path, 10, config, tiny.READING, data=store.meta["sha256"], params={})
    labels = store.clips["label"]
    values = np.where(labels == CIRCLE, 1.0, -1.0)[:, None] * np.ones((1, 2), np.float32)
    features = FeatureSet("one bit", values.astype(np.float32))
    judged = {
        classes: evaluate_knn(features, asked, open_store(asked), ks=(1,))
        for classes in ("all", "unseen")
        for asked in [dataclasses.replace(run, classes=classes)]
    }
    assert judged["unseen"]["test_knn_1"] == 100
    assert judged["all"]["test_knn_1"] < 100
    assert judged["unseen"]["details"]["knn_1"]["class_names"] == ["circle", "jerk"]
    unseen_run = dataclasses.replace(run, classes="unseen")
    assert unseen_run.results("knn.json").name == "knn-unseen.json"
    assert unseen_run.judged_on == "xsub, unseen classes"
    plain = dataclasses.replace(unseen_run, config=tiny.config({"data.path": str(store.path)}))
    with pytest.raises(InputError, match="was trained on all classes"):
        open_store(plain)
    with pytest.raises(InputError, match=r"--classes=seen of .* has swing alone, so all answers"):
        open_store(dataclasses.replace(run, classes="seen"))
