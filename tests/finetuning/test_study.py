"""Fine-tuning from end to end: it resumes exactly, and the test clips have no part in it."""

import dataclasses
import json
import os
import shutil
import signal

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

import igm_jax
from igm_jax import features, run_folder
from igm_jax.data import protocols
from igm_jax.data.few_labels import few_labels_of
from igm_jax.errors import InputError
from igm_jax.evaluation.encoder import encoder_run
from igm_jax.evaluation.mamp import mamp_logits
from igm_jax.evaluation.run import load_run
from igm_jax.finetuning import head, loop, study
from igm_jax.finetuning.config import FinetuneConfig
from igm_jax.finetuning.labels import labelled
from igm_jax.finetuning.study import Choice, choose, finetune, parent_of
from igm_jax.prediction.predictor import load_predictor
from igm_jax.training.log import RunLog

ONE = jax.devices()[:1]


def go(run, store, folder, config, **rest):
    return finetune(run, store, folder, config, devices=ONE, **rest)


def weights(folder):
    """All numbers of the state that was trained on the training part."""
    trial = folder / "subset-0" / "train"
    state = trial / "checkpoints" / str(run_folder.newest_step(trial)) / "state"
    return jax.tree.leaves(ocp.PyTreeCheckpointer().restore(state.absolute()))


def result(folder, seed=0):
    return run_folder.read_json(folder / f"subset-{seed}" / "result.json")


def altered(store, part, path, *, labels=False, frames=False):
    """A copy of the store with other labels or coordinates of one part, and the same checksums."""
    chosen = protocols.split(store, "xsub", part)
    clips = np.array(store.clips)
    if labels:
        clips["label"][chosen] = (clips["label"][chosen] + 1) % 3
    if frames:
        shutil.copytree(store.path, path)
        moved = np.load(path / "frames.npy")
        for clip in clips[chosen]:
            rows = slice(clip["offset"], clip["offset"] + clip["length"] * clip["bodies"])
            moved[rows] += 7
        np.save(path / "frames.npy", moved)
        frames = np.load(path / "frames.npy", mmap_mode="r")
        return dataclasses.replace(store, clips=clips, frames=frames)
    return dataclasses.replace(store, clips=clips)


@pytest.fixture(scope="module")
def finished(run, store, config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "finetune"
    assert go(run, store, folder, config) == "finished"
    return folder


def test_what_a_run_leaves(finished, run, store, config):
    row = result(finished)
    assert list(row) == [
        "subset",
        "clips",
        "learning_rate",
        "epochs",
        "validation_finetune",
        "test_finetune",
    ]
    test = labelled(run, store, "test")
    with np.load(finished / "subset-0" / "scores.npz") as scores:  # without pickle
        assert scores["logits"].shape == (len(test), 3)
        assert scores["names"].tolist() == store.clips["name"][test.indices].tolist()
        assert scores["class_names"].tolist() == list(store.class_names)
        hits = scores["logits"].argmax(axis=1) == store.clips["label"][test.indices]
        np.testing.assert_array_equal(scores["labels"], store.clips["label"][test.indices])
    assert row["test_finetune"] == round(100 * hits.mean(), 2)
    saved = run_folder.read_json(finished / "config.json")
    assert saved["parent"] == parent_of(run) and saved["parent"]["step"] == 10
    results = run_folder.read_json(finished / "results.json")
    assert results["rows"] == [row] and results["deviation"] == {}
    assert results["mean"]["test_finetune"] == row["test_finetune"]
    trials = {p.name for p in (finished / "subset-0").glob("*/metrics.jsonl") for p in [p.parent]}
    assert trials == {"fit-1e-05", "fit-0.03", "train"}
    for line in (finished / "subset-0" / "train" / "metrics.jsonl").read_text().splitlines():
        assert "val_accuracy" not in json.loads(line)


def test_choice_is_the_best_on_validation(finished, config):
    judged = [
        (rate, [r["val_accuracy"] for r in run_folder.read_reports(path / "metrics.jsonl")])
        for rate in config.learning_rates
        for path in [finished / "subset-0" / f"fit-{rate:g}"]
    ]
    choice, row = choose(judged), result(finished)
    assert row["learning_rate"] == choice.learning_rate
    assert row["validation_finetune"] == round(100 * choice.accuracy, 2)
    trained = run_folder.newest_step(finished / "subset-0" / "train")
    total = config.total_steps(row["clips"], 8)
    assert trained == config.milestones(total)[choice.milestone]
    assert row["epochs"] == round(trained / (row["clips"] // 8), 2)


def test_the_saved_head_gives_the_test_scores(finished, run, store, config):
    """From raw clips, without the pre-training run, and calibrated by the trial that chose it."""
    predictor = load_predictor(finished)
    with np.load(finished / "subset-0" / "scores.npz") as scores:
        logits, names = scores["logits"], scores["names"].tolist()
    position = {str(name): i for i, name in enumerate(store.clips["name"])}
    clips = [store[position[name]] for name in names]
    np.testing.assert_allclose(predictor.logits(clips), logits, atol=1e-4)
    np.testing.assert_allclose(predictor.logits(clips[:1]), logits[:1], atol=1e-4)
    head = predictor.head
    assert head.class_names == store.class_names
    judged = [
        (report["val_accuracy"], report["step"], -rate, report["temperature"])
        for rate in config.learning_rates
        for report in run_folder.read_reports(
            finished / "subset-0" / f"fit-{rate:g}" / "metrics.jsonl"
        )
    ]
    assert head.temperature == max(judged)[-1]
    length = store.clips["length"][labelled(run, store, "train").indices]
    assert head.lengths == (length.min(), int(np.median(length)), length.max())
    for name in ("subset-7", "linear_probe.npz"):
        with pytest.raises(InputError, match=rf"has no head {name}: choose one of subset-0"):
            load_predictor(finished, head=name)
        with pytest.raises(InputError, match=rf"one subset .* has no {name}: leave it out"):
            load_predictor(finished / "subset-0", head=name)
    with pytest.raises(InputError, match="has one checkpoint"):
        load_predictor(finished, which=10)


def test_the_encoder_alone_is_that_of_the_head(finished, run, store):
    """`load_encoder` reads the run or a subset in it, and other commands say what to give."""
    predictor, clip = load_predictor(finished), store[0].frames[None]
    tuned = igm_jax.load_encoder(finished)
    of_subset = igm_jax.load_encoder(finished / "subset-0")
    params = jax.tree.leaves(predictor.run.params)
    for ours, theirs in zip(jax.tree.leaves(encoder_run(finished).params), params, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    batches = features.raw_batches(clip, np.ones(clip.shape[:2], bool), run.reading)
    encoder = run.config.model.encoder
    expected = features.extract_features(encoder, predictor.run.params, run.reading, batches)
    np.testing.assert_allclose(tuned.encode(clip), expected, atol=1e-5)
    np.testing.assert_array_equal(of_subset.encode(clip), tuned.encode(clip))
    assert tuned.info["step"] == predictor.run.step
    with pytest.raises(InputError, match="has one checkpoint: not best"):
        igm_jax.load_encoder(finished, "best")
    with pytest.raises(InputError, match=r"is a fine-tuned run, .* give its pre-training"):
        load_run(finished)


def test_a_run_that_is_not_finished_has_no_encoder(tmp_path):
    run_folder.write_json(tmp_path / "config.json", {"parent": {}})
    with pytest.raises(InputError, match=r"subset-0 has no trained head.*finetune\.py"):
        igm_jax.load_encoder(tmp_path)


def test_out_of_memory_says_what_to_set(run, store, config, tmp_path, monkeypatch):
    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")

    monkeypatch.setattr(study, "train", full)
    with pytest.raises(MemoryError) as caught:
        go(run, store, tmp_path / "finetune", config)
    assert str(caught.value) == (
        "out of memory: 8 clips at once on a device do not fit: set --config.batch_size=4, which "
        "is another run, in another --run folder (RESOURCE_EXHAUSTED: Out of memory allocating 9 "
        "bytes.)"
    )


def test_advice_counts_labels_devices_and_generated_clips():
    config = FinetuneConfig(batch_size=48, generated=0.5)
    told = config.memory_advice(clips=20, devices=4)
    assert "5 clips at once" in told and "batch_size=8 or --config.generated=0" in told
    config = dataclasses.replace(config, generated=0.0)
    assert "smaller encoder" in config.memory_advice(clips=4, devices=4)


def test_more_points_than_steps(run, store, config, tmp_path, monkeypatch):
    """Each point has its accuracy, and the final training ends at the one that is chosen."""
    short = dataclasses.replace(
        config, epochs=1, min_steps=0, warmup_epochs=0.5, judgements=8, learning_rates=(1e-3,)
    )
    lengths, judged = [], iter([0.2, 0.9, 0.5])  # of the first schedule, of three steps
    monkeypatch.setattr(loop, "accuracy", lambda *_: next(judged))
    train = study.train

    def spying(*trial):
        lengths.append(len((trained := train(*trial)).accuracies))
        return trained

    monkeypatch.setattr(study, "train", spying)
    assert go(run, store, tmp_path / "run", short) == "finished"
    assert short.milestones(3) == [1, 1, 1, 2, 2, 2, 3, 3]
    assert lengths == [8, 0]
    # The sixth point is the last of step 2; of five steps it is the fourth.
    assert short.total_steps(result(tmp_path / "run")["clips"], 8) == 5
    assert run_folder.newest_step(tmp_path / "run" / "subset-0" / "train") == 4


def test_the_head_is_there_before_the_judgement(run, store, quick, tmp_path, monkeypatch):
    """A failure of the judgement costs no trained head."""

    def failing(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(study, "predicted", failing)
        with pytest.raises(KeyboardInterrupt):
            go(run, store, tmp_path / "run", quick)
    assert load_predictor(tmp_path / "run").head.temperature > 0
    assert not (tmp_path / "run" / "subset-0" / "result.json").exists()
    assert go(run, store, tmp_path / "run", quick) == "finished"
    assert result(tmp_path / "run")["test_finetune"] >= 0


def test_a_schedule_that_min_steps_makes_longer_is_told(run, store, quick, tmp_path, capfd):
    longer = dataclasses.replace(quick, epochs=1, warmup_epochs=0.5, min_steps=9)
    go(run, store, tmp_path / "longer", longer)
    assert "steps, fewer than min_steps=9, which sets" in capfd.readouterr().err
    go(run, store, tmp_path / "as it is", dataclasses.replace(longer, min_steps=0))
    assert "min_steps" not in capfd.readouterr().err


def test_choose_prefers_the_latest_milestone_and_then_the_first_rate():
    assert choose([(1.0, [0.5, 0.5]), (2.0, [0.5, 0.5])]) == Choice(1.0, 1, 0.5)
    assert choose([(1.0, [0.5, 0.4]), (2.0, [0.1, 0.5])]) == Choice(2.0, 1, 0.5)


@pytest.mark.parametrize("kind", ["labels", "frames"])
def test_test_clips_reach_neither_training_nor_choices(
    finished, run, store, config, tmp_path, kind
):
    """Other labels or coordinates of the test clips change the test accuracy and nothing else."""
    other = altered(store, "test", tmp_path / "store", **{kind: True})
    assert go(run, other, tmp_path / "run", config) == "finished"
    for a, b in zip(weights(finished), weights(tmp_path / "run"), strict=True):
        np.testing.assert_array_equal(a, b)
    before, after = result(finished), result(tmp_path / "run")
    assert {k for k in before if before[k] != after[k]} <= {"test_finetune"}
    with (
        np.load(finished / "subset-0" / "scores.npz") as a,
        np.load(tmp_path / "run" / "subset-0" / "scores.npz") as b,
    ):
        changed = "labels" if kind == "labels" else "logits"
        assert (a[changed] != b[changed]).any()


def test_the_leak_tests_see_a_leak(finished, run, store, config, tmp_path, monkeypatch):
    """Test clips that are put into training on purpose change the weights."""
    honest = study.labelled

    def leaking(run, store, part, *rest):
        return honest(run, store, "test" if part == "train" else part, *rest)

    monkeypatch.setattr(study, "labelled", leaking)
    other = altered(store, "test", tmp_path / "store", labels=True)
    for name, leaked in (("a", store), ("b", other)):
        assert go(run, leaked, tmp_path / name, config) == "finished"
    pairs = zip(weights(tmp_path / "a"), weights(tmp_path / "b"), strict=True)
    assert any((a != b).any() for a, b in pairs)


def test_only_the_subset_trains(run, store, config, tmp_path, monkeypatch):
    """Labels and coordinates outside the subset, the validation and the test are never read."""
    seen, gather = set(), study.train

    def spying(trial, *rest):
        seen.update(trial.known.indices.tolist())
        return gather(trial, *rest)

    monkeypatch.setattr(study, "train", spying)
    one = dataclasses.replace(config, learning_rates=(1e-3,), epochs=2, min_steps=2, judgements=1)
    assert go(run, store, tmp_path / "run", one, labels="10%", subsets=(3,)) == "finished"
    allowed = few_labels_of(store, "xsub", "train", "10%", 3)
    assert seen == set(allowed.tolist())
    assert len(seen) == result(tmp_path / "run", 3)["clips"] == 4


def test_interrupted_run_goes_on_bit_for_bit(finished, run, store, config, tmp_path, monkeypatch):
    folder, advance, stops = tmp_path / "run", RunLog.advance, iter([2, 4, 7])
    stop = [next(stops)]

    def hooked(self, step):
        advance(self, step)
        if step == stop[0]:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(RunLog, "advance", hooked)
    ends = []
    while not ends or ends[-1] != "finished":
        ends.append(go(run, store, folder, config))
        stop[0] = next(stops, None)
    assert ends == ["SIGTERM"] * 3 + ["finished"]
    for a, b in zip(weights(finished), weights(folder), strict=True):
        np.testing.assert_array_equal(a, b)
    assert result(folder) == result(finished)
    for name in ("fit-1e-05", "fit-0.03", "train"):
        lines = [(x / "subset-0" / name / "metrics.jsonl").read_text() for x in (finished, folder)]
        assert lines[0] == lines[1]


@pytest.fixture(scope="module")
def of_stretches(run):
    """The run with features of two stretches of a clip."""
    encoder = dataclasses.replace(run.config.model.encoder, stretches=2)
    model = dataclasses.replace(run.config.model, encoder=encoder)
    return dataclasses.replace(run, config=dataclasses.replace(run.config, model=model))


@pytest.fixture(scope="module")
def quick(config):
    """One rate and one milestone."""
    return dataclasses.replace(config, learning_rates=(1e-3,), epochs=2, min_steps=2, judgements=1)


def test_the_head_reads_the_stretches_of_the_features(of_stretches, store, quick, tmp_path):
    """In its weights, in what is saved with them, and in an export."""
    go(of_stretches, store, tmp_path / "run", quick)
    saved = run_folder.read_json(tmp_path / "run" / "subset-0" / "head.json")
    encoder, tuned = of_stretches.config.model.encoder, load_predictor(tmp_path / "run").head
    assert saved["stretches"] == 2
    assert tuned.tensors["head.fc1.weight"].shape == (16, 2 * 6 * encoder.width)  # of six joints
    tokens = np.random.default_rng(0).normal(size=(2, encoder.num_tokens, encoder.width))
    present = np.ones((1, 2), bool)
    ours = tuned.logits(tuned.params, jnp.asarray(tokens, jnp.float32), jnp.asarray(present))
    theirs = mamp_logits(tuned.tensors, tokens, present, encoder)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_a_head_of_an_older_version_reads_one_mean(
    run, of_stretches, store, quick, tmp_path, monkeypatch
):
    """Its head.json has no `stretches`, whatever the features of the run have."""
    go(run, store, tmp_path / "run", quick)
    expected = load_predictor(tmp_path / "run").logits([store[0]])
    path = tmp_path / "run" / "subset-0" / "head.json"
    facts = run_folder.read_json(path)
    run_folder.write_json(path, {k: v for k, v in facts.items() if k != "stretches"})
    read = head.finetuned_run

    def of_another_version(*names):
        return dataclasses.replace(read(*names), config=of_stretches.config)

    monkeypatch.setattr(head, "finetuned_run", of_another_version)
    np.testing.assert_array_equal(load_predictor(tmp_path / "run").logits([store[0]]), expected)


def test_subsets_differ_and_more_can_follow(run, store, quick, tmp_path):
    go(run, store, tmp_path / "run", quick, labels="10%", subsets=(0,))
    first = result(tmp_path / "run")
    go(run, store, tmp_path / "run", quick, labels="10%", subsets=(0, 1, 2))
    assert result(tmp_path / "run") == first
    results = run_folder.read_json(tmp_path / "run" / "results.json")
    values = [row["test_finetune"] for row in results["rows"]]
    assert [row["subset"] for row in results["rows"]] == [0, 1, 2]
    assert results["mean"]["test_finetune"] == pytest.approx(np.mean(values), abs=0.01)
    assert results["deviation"]["test_finetune"] == pytest.approx(np.std(values, ddof=1), abs=0.01)
    go(run, store, tmp_path / "run", quick, labels="10%", subsets=(10,))
    again = run_folder.read_json(tmp_path / "run" / "results.json")
    assert [row["subset"] for row in again["rows"]] == [0, 1, 2, 10]
    assert again["rows"][:3] == results["rows"]
    (tmp_path / "run" / "config.json").unlink()  # then nothing says whose results these are
    with pytest.raises(InputError, match="is missing: put it back"):
        go(run, store, tmp_path / "run", quick, labels="10%", subsets=(0,))
    clips = [labelled(run, store, "train", "10%", s).indices.tolist() for s in range(3)]
    assert clips[0] != clips[1] != clips[2]


def test_a_folder_of_an_older_version_can_be_added_to(finished, run, store, config, tmp_path):
    """Its config.json lacks the keys that are new since."""
    folder = shutil.copytree(finished, tmp_path / "run")
    saved = run_folder.read_json(folder / "config.json")
    del saved["config"]["generated_weight"], saved["stretches"]
    run_folder.write_json(folder / "config.json", saved)
    assert go(run, store, folder, config) == "finished"
    assert result(folder) == result(finished)


def test_refusals_are_one_line(finished, run, of_stretches, store, config, tmp_path):
    with pytest.raises(InputError, match=r"another config \(config.epochs: 6 → 7\): choose"):
        go(run, store, finished, dataclasses.replace(config, epochs=7))
    with pytest.raises(InputError, match=r"stretches: 1 → 2"):
        go(of_stretches, store, finished, config)
    with pytest.raises(InputError, match=r"parent.step: 10 → 11"):
        go(dataclasses.replace(run, step=11), store, finished, config)
    with pytest.raises(InputError, match="holds a run already"):
        go(run, store, finished, config, resume="never")
    (tmp_path / "config.json").write_text('{"name": "tiny"}', encoding="utf-8")
    with pytest.raises(InputError, match="holds a pre-training run"):
        go(run, store, tmp_path, config)
    with pytest.raises(InputError, match=r"labels=1%-plain, subset 0: 1 clips .* leave 2 classes"):
        go(run, store, tmp_path / "x", config, labels="1%-plain")
    clips = np.array(store.clips)
    clips["label"][protocols.split(store, "xsub", "train")] = -1
    with pytest.raises(InputError, match="no clip of part 'fit' has a label"):
        go(run, dataclasses.replace(store, clips=clips), tmp_path / "x", config)
    clips = np.array(store.clips)
    clips["label"][protocols.split(store, "xsub", "test")] = -1
    with pytest.raises(InputError, match="no clip of part 'test' has a label"):
        go(run, dataclasses.replace(store, clips=clips), tmp_path / "x", config)
    clips = store.clips[protocols.split(store, "xsub", "train")]
    with pytest.raises(InputError, match="part 'test' of protocol 'xsub' is empty"):
        go(run, dataclasses.replace(store, clips=clips), tmp_path / "x", config)
    name = dataclasses.replace(run.config.objective, name="spectral_contrastive")
    without = dataclasses.replace(
        run.config, objective=name, data=dataclasses.replace(run.config.data, crops=2)
    )
    with pytest.raises(InputError, match="has no generator: leave --generated out"):
        go(
            dataclasses.replace(run, config=without),
            store,
            tmp_path / "x",
            dataclasses.replace(config, generated=0.5),
        )
    assert not (tmp_path / "x").exists()


def test_too_few_clips_for_the_devices(run, store, config, tmp_path):
    with pytest.raises(InputError, match=r"\d labelled clips .* cannot be split over 8 devices"):
        finetune(run, store, tmp_path / "x", config, labels="10%", devices=jax.devices())
