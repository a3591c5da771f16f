"""A run on another data set: its weights read clips that are mapped onto its joints."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest
import tiny

import igm_jax
from igm_jax.data import pipeline, protocols
from igm_jax.data.formats import raw_files
from igm_jax.data.store import Clip, SkeletonStore
from igm_jax.errors import InputError
from igm_jax.evaluation import export, judge, suite
from igm_jax.evaluation.embed import embed
from igm_jax.evaluation.parts import FeatureSet
from igm_jax.evaluation.run import load_run, open_store
from igm_jax.evaluation.table import save_rows
from igm_jax.evaluation.transfer import OF_THE_DATA, check_given, described, transfer
from igm_jax.features import clip_batches, extract_features
from igm_jax.finetuning.config import FinetuneConfig
from igm_jax.finetuning.study import finetune
from igm_jax.prediction import watch
from igm_jax.prediction.predictor import load_predictor
from igm_jax.skeleton import Layout
from igm_jax.training.config_data import DataConfig

# The joints of `tiny.LAYOUT` in another order and under other names, and a joint more.
ORDER = (5, 3, 0, 1, 2, 4)
OTHER = Layout(
    "other7",
    ("RHand", "RHip", "pelvis", "thorax", "LHip", "LHand", "tail"),
    (3, 2, -1, 2, 2, 3, 2),
    origin=2,
)
TUNING = FinetuneConfig(
    epochs=1, min_steps=2, batch_size=30, learning_rates=(1e-3,), warmup_epochs=0.5, hidden=8,
    judgements=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def run(finished):
    return load_run(finished.folder)


@pytest.fixture(scope="module")
def same(finished, tmp_path_factory):
    """The clips of the run in the other layout, in centimetres."""

    def clips():
        for i in range(len(finished.store)):
            clip = finished.store[i]
            frames = 100 * clip.frames[:, :, ORDER]
            frames = np.concatenate([frames, 7 + 0 * frames[:, :, :1]], axis=2)
            yield dataclasses.replace(clip, frames=np.ascontiguousarray(frames))

    path = tmp_path_factory.mktemp("transfer") / "elsewhere"
    SkeletonStore.write(
        path, clips(), layout=OTHER, class_names=tiny.CLASS_NAMES, source="tests",
        dataset="synthetic",
    )  # fmt: skip
    return SkeletonStore.open(path)


@pytest.fixture(scope="module")
def moved(run, same):
    return transfer(run, same, dataclasses.replace(run.config.data, path=str(same.path)))


@pytest.fixture(scope="module")
def tuned(moved, same, tmp_path_factory):
    """The run, fine-tuned on the other layout for two steps."""
    folder = tmp_path_factory.mktemp("tuned") / "finetune"
    assert finetune(moved, same, folder, TUNING, devices=jax.devices()[:1]) == "finished"
    return folder


def features(run, store):
    batches = clip_batches(store, np.arange(len(store)), run.reading)
    return extract_features(run.config.model.encoder, run.params, run.reading, batches)


def test_other_order_names_and_units_change_no_feature(run, moved, finished, same):
    """The same people in the same motion: statistics undo the units, the map undoes the order."""
    assert described(moved)["transfer"]["joints"]["averaged"] == {}
    assert described(moved)["transfer"]["joints"]["not_read"] == ["tail"]
    np.testing.assert_allclose(features(moved, same), features(run, finished.store), atol=2e-4)


def test_a_tuned_run_reads_raw_clips_of_the_new_layout(tuned, same):
    """Files, arrays and streams have the joints of the new data, as its store has."""
    predictor = load_predictor(tuned)
    run, read = predictor.run, raw_files.read_clips([same.path], OTHER, None)
    found = embed(run, read)
    expected = features(run, same)
    np.testing.assert_allclose(found.features, expected, atol=1e-5)
    encode, info = igm_jax.load_encoder(tuned)
    np.testing.assert_allclose(encode(same[0].frames[None])[0], expected[0], atol=1e-5)
    assert (info["layout"], info["joints"]) == (OTHER, 7)
    with pytest.raises(InputError, match=r"with V=7 \(other7\)"):
        encode(np.ones((1, 4, 6, 3), np.float32))  # the joints of the parent
    with np.load(tuned / "subset-0" / "scores.npz") as scores:
        logits, names = scores["logits"], scores["names"].tolist()
    clips = [same[same.clips["name"].tolist().index(name)] for name in names]
    np.testing.assert_allclose(predictor.logits(clips), logits, atol=1e-4)
    watch.warm_up(predictor)
    (answer,) = watch.watch(predictor, same[1].frames.swapaxes(0, 1), same[1].frames.shape[1], 99)
    np.testing.assert_allclose(
        answer.probabilities, predictor.probabilities([same[1]])[0], atol=1e-6
    )


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("min_crop_frames", 3, r"min_crop_frames: 4 → 3"),
        ("bodies", 1, r"bodies: 2 → 1"),
        ("shear", 0.5, r"shear: 0\.0 → 0\.5"),
        ("crop", (0.9, 1.0), r"crop: \[0\.5, 1\.0\] → \[0\.9, 1\.0\]"),
        ("mirror", 0.5, r"mirror: 0\.0 → 0\.5"),
        ("rotation", (0.1, 0.1, 0.1), r"rotation: \[0\.3, 0\.3, 0\.3\] → "),
    ],
)
def test_other_settings_of_the_new_data_are_another_tuned_run(tuned, run, same, key, value, told):
    other = transfer(run, same, dataclasses.replace(run.config.data, **{key: value}))
    with pytest.raises(InputError, match=rf"another config \(parent.transfer.settings.{told}"):
        finetune(other, same, tuned, TUNING, devices=jax.devices()[:1])


def test_the_map_is_inside_the_exported_function(tuned, monkeypatch):
    monkeypatch.setattr(export, "_LENGTHS", (1, 13))
    predictor = load_predictor(tuned)
    run, head = predictor.run, predictor.head
    encode = jax.jit(functools.partial(export.outputs_of_raw, run=run, head=head))
    assert export.clip_shape(run, 4, 9) == (4, 2, 9, 7, 3)
    assert export.largest_difference(run, head, encode) < 1e-4


def test_statistics_are_those_of_the_new_training_split_alone(run, moved, same):
    """Other test clips change nothing that the run reads; other training clips do."""
    for part, equal in (("test", True), ("train", False)):
        frames = np.array(same.frames)
        for row in same.clips[protocols.split(same, "xsub", part)]:
            frames[row["offset"] : row["offset"] + row["length"] * row["bodies"]] *= 3
        with pytest.MonkeyPatch.context() as patch:  # no memory map to read ahead of
            patch.setattr(SkeletonStore, "read_ahead", lambda *_: None)
            changed = dataclasses.replace(same, frames=frames)
            again = transfer(run, changed, run.config.data)
        assert (again.reading == moved.reading) == equal


def test_the_leak_test_sees_a_leak(run, moved, same, monkeypatch):
    """Statistics over all clips are not those of the training split."""
    honest = pipeline.statistics
    everything = np.arange(len(same))
    monkeypatch.setattr(
        pipeline, "statistics", lambda store, _, reading: honest(store, everything, reading)
    )
    assert transfer(run, same, run.config.data).reading != moved.reading


def others_of_one_name(moved):
    """Other data that files of results cannot tell from this by their names."""

    def read(**changes):
        data = dataclasses.replace(moved.config.data, **changes)
        return dataclasses.replace(moved, config=dataclasses.replace(moved.config, data=data))

    other = dataclasses.replace(moved, data={"frames.npy": "other"})
    return other, read(protocol="xview"), read(bodies=1)


def test_what_is_not_possible_on_one_data_set_may_be_on_the_next(moved, same, monkeypatch):
    """Features are not computed, and 5 ways of 3 classes are refused for each data set afresh."""
    tried = []

    def refuse(features, run, store):
        tried.append(run)
        raise InputError("too few classes")

    only = {"knn": suite.PROTOCOLS["knn"]._replace(judge=refuse)}
    monkeypatch.setattr(suite, "PROTOCOLS", only)
    monkeypatch.setattr(suite, "SUITES", {"quick": ("knn",)})
    features = FeatureSet("any", np.zeros((len(same), 2), np.float32))
    monkeypatch.setattr(judge, "feature_sets", lambda *_, **__: [features])
    monkeypatch.setattr(suite, "open_store", lambda _: same)
    for run in (moved, *others_of_one_name(moved)):
        for _ in range(2):  # the second command knows
            suite.run_suite(run, "quick")
        assert tried == [run]
        tried.clear()
    moved.results("evaluation.json").unlink()


def test_protocols_take_it_and_keep_its_results_apart(run, moved, same, capsys):
    assert moved.params is run.params and open_store(moved).path == same.path
    assert moved.judged_on == "elsewhere, xsub"
    path = moved.results("knn.json")
    assert path.name == "knn-elsewhere.json"
    rows = judge.evaluate(moved, judge.evaluate_knn, baselines=True)
    save_rows(path, moved, rows)
    saved = json.loads(path.read_text())["transfer"]
    assert saved == described(moved)["transfer"]
    assert saved["settings"]["bodies"] == moved.reading.bodies
    assert suite.done_rows(moved, suite.PROTOCOLS["knn"]) == json.loads(path.read_text())["rows"]
    for other in others_of_one_name(moved):
        assert suite.done_rows(other, suite.PROTOCOLS["knn"]) is None
        save_rows(path, other, rows)
        told = f"{path}: replaced results on other data of this name (protocol xsub, 2 bodies)\n"
        assert capsys.readouterr().err == told
        path.unlink()
        save_rows(path, moved, rows)
        save_rows(path, moved, rows)
        assert capsys.readouterr().err == ""
    path.unlink()
    assert described(run) == {} and run.results("knn.json").name == "knn.json"


def test_the_new_data_decides_what_is_its_own(run, same):
    data = DataConfig(
        dataset="synthetic", protocol="xview", bodies=1, camera="fixed", min_crop_frames=3,
        coordinates="camera", streams=("bone",), leave_out=("jerk",),
    )  # fmt: skip
    moved = transfer(run, same, data)
    kept = moved.config.data
    assert (kept.protocol, kept.bodies, kept.min_crop_frames) == ("xview", 1, 3)
    assert kept.augmentation == data.augmentation and moved.reading.bodies == 1
    assert (kept.coordinates, kept.streams, kept.leave_out) == ("body", ("joint",), ())
    assert moved.origin is run
    fields = {field.name for field in dataclasses.fields(DataConfig)}
    assert fields >= OF_THE_DATA


def test_refusals_are_one_line(run, same, tmp_path):
    data = run.config.data
    with pytest.raises(InputError, match="--classes=unseen and --transfer exclude each other"):
        transfer(dataclasses.replace(run, classes="unseen"), same, data)
    with pytest.raises(InputError, match="streams joint and no others: leave it out, or choose"):
        check_given(run, {"data.camera": 1, "data.streams": ("bone",)})
    for key in ("data.coordinates", "seed", "path", "model.encoder.depth"):
        with pytest.raises(InputError, match=f"transfer.{key} is decided by"):
            check_given(run, {key: 1})
    check_given(run, {"data.camera": "fixed", "data.path": "x"})
    with pytest.raises(InputError, match="protocol 'split' is unknown"):
        transfer(run, same, dataclasses.replace(data, protocol="split"))

    def written(name, layout, channels):
        clip = Clip("a", np.zeros((1, 4, layout.num_joints, channels), np.float32), label=0)
        SkeletonStore.write(
            tmp_path / name, [clip], layout=layout, class_names=("x",), source="tests"
        )
        return SkeletonStore.open(tmp_path / name)

    with pytest.raises(InputError, match=r"has 2 coordinates for each joint, but .* reads 3"):
        transfer(run, written("flat", tiny.LAYOUT, 2), data)
    names = dataclasses.replace(tiny.LAYOUT, joints=tuple("abcdef"), name="letters")
    with pytest.raises(InputError, match=r"'letters' .* no joint in common by name"):
        transfer(run, written("letters", names, 3), data)
