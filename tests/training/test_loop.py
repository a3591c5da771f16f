"""A run from beginning to end: interrupted, resumed, refused, diverged."""

import dataclasses
import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from igm_jax import parallel
from igm_jax.data import SkeletonStore, pipeline, protocols
from igm_jax.errors import DivergedError, InputError
from igm_jax.evaluation.run import load_run
from igm_jax.training import checkpoint, evaluate, loop, run_data
from igm_jax.training import program as programs
from igm_jax.training.checkpoint import Checkpoints
from igm_jax.training.log import RunLog
from igm_jax.training.loop import pretrain
from igm_jax.training.stopping import Stopping

# 5 steps an epoch; reports, checkpoints and KNN do not fall on the same steps.
CONFIG = tiny.config(
    {
        "objective.ema_decay": 0.9,
        "train.epochs": 3,
        "train.log_every": 4,
        "train.knn_every": 2,
        "train.checkpoint_every": 1,
    }
)
ONE = jax.devices()[:1]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tiny.write_store(tmp_path_factory.mktemp("data") / "store")


@pytest.fixture(scope="module")
def traces():
    """How often the step was traced, for all tests of this file together."""
    return []


@pytest.fixture(scope="module", autouse=True)
def compile_once(traces):
    """Runs of configs that differ only in when to report and save share a compiled program."""
    plain, step = programs.build_program, programs.train_step

    @functools.cache
    def build(config, reading, num_clips):
        return plain(config, reading, num_clips, ONE)

    def shared(config, reading, num_clips, devices):
        assert devices == ONE
        same = dict.fromkeys(
            ("log_every", "knn_every", "knn_clips", "checkpoint_every", "keep_checkpoints"), 1
        )
        config = dataclasses.replace(
            config, name="", train=dataclasses.replace(config.train, **same)
        )
        return build(config, reading, num_clips)

    def counted(*args, **kwargs):
        traces.append(1)
        return step(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "build_program", shared)
        patch.setattr(programs, "train_step", counted)
        yield


@pytest.fixture(scope="module")
def whole(store, tmp_path_factory):
    """The folder of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert pretrain(CONFIG, store, folder, devices=ONE) == "finished"
    return folder


def at_step(monkeypatch, step, action):
    """Does `action` when this step is done."""
    advance = RunLog.advance

    def hooked(self, done):
        advance(self, done)
        if done == step:
            action()

    monkeypatch.setattr(RunLog, "advance", hooked)


def send(number):
    return lambda: os.kill(os.getpid(), number)


def steps_in(folder):
    return sorted(int(p.name) for p in (folder / "checkpoints").iterdir() if p.name.isdigit())


def lines(folder):
    """metrics.jsonl without what only the clock decides."""
    return [
        {k: v for k, v in json.loads(line).items() if k != "clips_per_second"}
        for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]


def saved(folder, store):
    """The newest state, and the place in the data."""
    indices, reading = run_data.prepare(CONFIG, store)
    program = loop.build_program(CONFIG, reading, len(indices), ONE)
    batches = run_data.batches(CONFIG, store, indices, reading, program.mesh)
    with Checkpoints(folder) as checkpoints:
        step = checkpoints.latest_step
        state, iterator = checkpoints.restore(step, program.restore_target, iter(batches))
        return step, jax.device_get(state), iterator.get_state()


def assert_same_run(folder, whole, store):
    """Bit for bit: the last checkpoint, the place in the data, and every line of the log."""
    (step_a, state_a, data_a), (step_b, state_b, data_b) = saved(folder, store), saved(whole, store)
    assert (step_a, data_a) == (step_b, data_b) and step_a == 15
    assert jax.tree.structure(state_a) == jax.tree.structure(state_b)
    jax.tree.map(np.testing.assert_array_equal, state_a, state_b)
    assert lines(folder) == lines(whole)


# The run


def test_run_folder_of_a_whole_run(whole, store, traces):
    assert {p.name for p in whole.iterdir()} == {
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "checkpoints",
    }
    config = json.loads((whole / "config.json").read_text())
    assert config["train"]["epochs"] == 3 and config["data"]["crop"] == [0.5, 1.0]
    environment = json.loads((whole / "environment.json").read_text())
    assert environment["versions"]["jax"] == jax.__version__ and environment["cpus"] > 0
    assert steps_in(whole) == [10, 15]
    reports = lines(whole)
    assert [(x["step"], "loss" in x) for x in reports] == [
        (4, True),
        (8, True),
        (10, False),
        (12, True),
        (15, True),
        (15, False),
    ]
    for report in reports:
        assert all(np.isfinite(v) for v in report.values())
    named = {
        "step",
        "epoch",
        "loss",
        "loss_gen",
        "loss_feat",
        "loss_dist",
        "learning_rate",
        "grad_norm",
        "cos_aux",
        "cos_generated",
        "mean_cosine",
        "effective_rank",
        "coding_length",
        "residual",
        "second_term",
        "radius",
    }
    assert reports[0].keys() == named
    assert {"val_knn_1", "val_knn_20", "val_ridge", "val_effective_rank"} < reports[2].keys()
    assert reports[0]["epoch"] == 0.8
    assert len(traces) == 1
    # Nothing is left to do, nor done again.
    before = (whole / "metrics.jsonl").read_bytes()
    assert pretrain(CONFIG, store, whole, devices=ONE) == "finished"
    assert (whole / "metrics.jsonl").read_bytes() == before and steps_in(whole) == [10, 15]


def test_reports_are_means_over_their_steps(whole, store, tmp_path):
    every = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, log_every=1))
    pretrain(every, store, tmp_path / "run", devices=ONE)
    single = [x for x in lines(tmp_path / "run") if "loss" in x]
    assert [x["step"] for x in single] == list(range(1, 16))
    report = [x for x in lines(whole) if "loss" in x][1]  # steps 5 to 8
    for name in ("loss", "loss_gen", "loss_feat", "loss_dist", "cos_aux", "grad_norm"):
        np.testing.assert_allclose(report[name], np.mean([x[name] for x in single[4:8]]), rtol=1e-6)
    for name in ("learning_rate", "effective_rank", "mean_cosine", "epoch"):
        assert report[name] == single[7][name]


def test_interrupted_twice_is_the_same_run(whole, store, tmp_path, monkeypatch, traces):
    """Between two reports, between two epochs, by both signals."""
    handlers = [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)]
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        at_step(patch, 5, send(signal.SIGTERM))
        assert pretrain(CONFIG, store, folder, devices=ONE) == "SIGTERM"
    assert steps_in(folder) == [5, 6]
    with monkeypatch.context() as patch:
        at_step(patch, 10, send(signal.SIGINT))
        assert pretrain(CONFIG, store, folder, devices=ONE) == "SIGINT"
    assert steps_in(folder) == [10, 11]
    assert [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)] == handlers
    assert pretrain(CONFIG, store, folder, devices=ONE) == "finished"
    assert_same_run(folder, whole, store)
    assert len(traces) == 1


def test_goes_on_with_the_statistics_it_began_with(store, tmp_path, monkeypatch):
    """Which are not read off the data again, whatever would come out today."""
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        at_step(patch, 5, send(signal.SIGTERM))
        pretrain(CONFIG, store, folder, devices=ONE)
    begun = checkpoint.restore_meta(folder, 6)["reading"]
    monkeypatch.setattr(pipeline, "statistics", None)
    assert pretrain(CONFIG, store, folder, devices=ONE) == "finished"
    assert checkpoint.restore_meta(folder, 15)["reading"] == begun


def test_signal_in_the_last_step_is_too_late(store, tmp_path, monkeypatch):
    at_step(monkeypatch, 14, send(signal.SIGTERM))
    assert pretrain(CONFIG, store, tmp_path / "run", devices=ONE) == "finished"


def test_second_ctrl_c_means_now(store):
    with Stopping(loop.build_program(CONFIG, *_reading(store), ONE).mesh) as stopping:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopping.agreed() == "SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def killed(store, folder, step):
    """A run that dies without a word after this step."""

    class Killed(BaseException):
        pass

    def die():
        raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        at_step(patch, step, die)
        pretrain(CONFIG, store, folder, devices=ONE)


def test_killed_in_mid_write_is_the_same_run(whole, store, tmp_path):
    """Lines after the last checkpoint are cut off, and written again on the way."""
    folder = tmp_path / "run"
    killed(store, folder, 8)
    assert steps_in(folder) == [5]
    assert [x["step"] for x in lines(folder)] == [4, 8]
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 9, "loss": 1.0}\n{"step": 10, "val_kn')
    assert pretrain(CONFIG, store, folder, devices=ONE) == "finished"
    assert_same_run(folder, whole, store)


@pytest.mark.parametrize("resume", ["auto", "never"])
def test_killed_before_the_first_checkpoint_starts_again(whole, store, tmp_path, resume):
    folder = tmp_path / "run"
    killed(store, folder, 4)
    assert steps_in(folder) == [] and len(lines(folder)) == 1
    # It has nothing to lose, so it need not have had this config.
    (folder / "config.json").write_text('{"seed": 5}')
    assert pretrain(CONFIG, store, folder, resume=resume, devices=ONE) == "finished"
    assert (folder / "config.json").read_text() == (whole / "config.json").read_text()
    assert_same_run(folder, whole, store)


def test_best_checkpoint_by_knn_is_kept(store, tmp_path, monkeypatch):
    accuracy = iter([0.2, 0.9, 0.5, 0.4, 0.3])
    evaluated = lambda *_, **__: {"val_knn_1": next(accuracy), "val_knn_20": 1.0}  # noqa: E731
    monkeypatch.setattr(loop, "evaluate", evaluated)
    train = dataclasses.replace(CONFIG.train, epochs=5, knn_every=1, keep_checkpoints=1)
    config = dataclasses.replace(CONFIG, train=train)
    # The step itself is of no interest here, and another number of epochs another program.
    program = loop.build_program(CONFIG, *_reading(store), ONE)
    program = dataclasses.replace(program, total_steps=25)
    monkeypatch.setattr(loop, "build_program", lambda *_: program)
    pretrain(config, store, tmp_path / "run", devices=ONE)
    assert steps_in(tmp_path / "run") == [10, 25]


def _reading(store):
    indices, reading = run_data.prepare(CONFIG, store)
    return reading, len(indices)


# What is refused


def everything(folder):
    return {p: p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("changes", "resume", "told"),
    [
        ({"seed": 1}, "auto", r"run of another config \(seed: 0 → 1\): choose another --run"),
        ({"objective.max_t_share": 0.5}, "auto", r"\(objective.max_t_share: 0.9 → 0.5\)"),
        (
            {
                "seed": 1,
                "data.bodies": 1,
                "train.epochs": 9,
                "data.coordinates": "camera",
                "data.shear": 0.1,
            },
            "auto",
            r"\(data.bodies: 2 → 1; data.coordinates: .*; data.shear: .*; seed: 0 → 1 …\)",
        ),
        ({}, "never", "holds a run already: choose another --run, or --resume=auto"),
    ],
)
def test_run_folder_that_is_taken(whole, store, changes, resume, told):
    settings = {
        "objective.ema_decay": 0.9,
        "train.epochs": 3,
        "train.log_every": 4,
        "train.knn_every": 2,
    }
    before = everything(whole)
    with pytest.raises(InputError, match=told):
        pretrain(tiny.config({**settings, **changes}), store, whole, resume=resume, devices=ONE)
    assert everything(whole) == before


def test_run_goes_on_with_its_own_data_only(whole, store, tmp_path):
    other = tiny.write_store(tmp_path / "store", seed=1)
    before = everything(whole)
    with pytest.raises(InputError, match=r"store is not the data that .*run was trained on"):
        pretrain(CONFIG, other, whole, devices=ONE)
    assert everything(whole) == before
    copy = tiny.write_store(tmp_path / "copy")  # the same clips in another place
    assert pretrain(CONFIG, copy, whole, devices=ONE) == "finished"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"model.encoder.joints": 25},
            r"store has 6 joints \(tiny6\) of 3 channels, but the config says .*joints=25",
        ),
        ({"model.encoder.channels": 2}, "channels=2"),
        (
            {"train.batch_size": 48, "objective.queue_size": 48},
            "has 40 clips to pre-train on, fewer than train.batch_size=48: set .* to 40 or less",
        ),
        (
            {"train.batch_size": 32, "objective.queue_size": 32, "data.pretrain_split": "fit"},
            "has 30 clips to pre-train on",
        ),
        ({"data.protocol": "xset"}, "protocol 'xset' is unknown for data set 'synthetic'"),
    ],
)
def test_data_that_does_not_fit_leaves_no_folder(store, tmp_path, changes, told):
    with pytest.raises(InputError, match=told):
        pretrain(tiny.config(changes), store, tmp_path / "run", devices=ONE)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"train.epochs": 1, "optimizer.warmup_epochs": 1}, "warmup_epochs=1 is not less .*=0.1,"),
        ({"objective.ramp_epochs": 3}, "ramp_epochs=3 together are more .*epochs=2.*ramp_epochs=1"),
        ({"objective.queue_size": 48}, "queue_size=48 is more than the 40 clips .*queue_size=20"),
    ],
)
def test_run_shorter_than_its_phases_is_not_begun(store, tmp_path, changes, told):
    with pytest.raises(InputError, match=told):
        pretrain(tiny.config(changes), store, tmp_path / "run", devices=ONE)
    assert not (tmp_path / "run").exists()


def test_bookkeeping_makes_no_other_run(whole, store, tmp_path):
    """Settings of logging, checkpoints and probes, and paths of data and run."""
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "checkpoints" / "15")
    shutil.copytree(store.path, tmp_path / "moved")
    changes = {"log_every": 1, "knn_every": 3, "keep_checkpoints": 1}
    config = dataclasses.replace(
        CONFIG,
        name="renamed",
        data=dataclasses.replace(CONFIG.data, path=str(tmp_path / "moved")),
        train=dataclasses.replace(CONFIG.train, **changes),
        probe=dataclasses.replace(CONFIG.probe, epochs=7),
    )
    moved = SkeletonStore.open(tmp_path / "moved")
    assert pretrain(config, moved, folder, devices=ONE) == "finished"
    mine, theirs = (saved(f, store)[1] for f in (folder, whole))
    jax.tree.map(np.testing.assert_array_equal, mine, theirs)


def test_held_folder_is_refused_and_untouched(whole, store):
    """By a process that ends, and the lock with it."""
    code = (
        "import pathlib, sys\nfrom igm_jax import locking\n"
        f"with locking.exclusive(pathlib.Path({str(whole)!r}), 'trains'):\n"
        "    print('held', flush=True)\n    sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    holder = subprocess.Popen([sys.executable, "-c", code], **pipes)
    assert holder.stdout.readline() == "held\n"
    before = everything(whole)
    told = rf"run: process {holder.pid} on host {socket.gethostname()} trains this run: wait for it"
    with pytest.raises(InputError, match=told):
        pretrain(CONFIG, store, whole, devices=ONE)
    assert everything(whole) == before
    holder.kill()
    holder.communicate()
    assert pretrain(CONFIG, store, whole, devices=ONE) == "finished"


def test_damaged_config_is_told(whole, store, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    text = (folder / "config.json").read_text()
    for damaged in (text[:50], "[]", ""):
        (folder / "config.json").write_text(damaged)
        with pytest.raises(InputError, match=r"config.json is damaged"):
            pretrain(CONFIG, store, folder, devices=ONE)


def test_compilation_is_not_in_the_rate_of_the_first_report(store, tmp_path, monkeypatch):
    program = loop.build_program(CONFIG, *_reading(store), ONE)
    calls = []

    def slow_at_first(state, batch, key):
        calls.append(1)
        if len(calls) == 1:
            time.sleep(2)  # as a compiler does
        return program.step(state, batch, key)

    slow = dataclasses.replace(program, step=slow_at_first)
    monkeypatch.setattr(loop, "build_program", lambda *_: slow)
    pretrain(CONFIG, store, tmp_path / "run", devices=ONE)
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["step"] == 4 and first["clips_per_second"] > 4 * 8 / 2


def test_out_of_memory_says_what_to_set(store, tmp_path, monkeypatch):
    program = loop.build_program(CONFIG, *_reading(store), ONE)

    def too_large(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.")

    large = dataclasses.replace(program, step=too_large)
    monkeypatch.setattr(loop, "build_program", lambda *_: large)
    with pytest.raises(MemoryError) as caught:
        pretrain(CONFIG, store, tmp_path / "run", devices=ONE)
    message = str(caught.value)
    assert "8 clips at once on a device do not fit" in message
    assert "--config.parallel.accumulate=2" in message and "batch_size=4" in message
    assert "allocating 9 bytes" in message


def test_file_in_place_of_the_run_folder(store, tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(OSError, match="run"):
        pretrain(CONFIG, store, tmp_path / "run", devices=ONE)
    assert (tmp_path / "run").read_text() == "mine"


@pytest.mark.parametrize("metric", ["loss_dist", "grad_norm"])
def test_what_is_not_finite_stops_the_run(whole, store, tmp_path, monkeypatch, metric):
    """With step, clips and config; the last good checkpoint resumes as if nothing had happened."""
    program = loop.build_program(CONFIG, *_reading(store), ONE)
    clip_names = []

    def poisoned(state, batch, key):
        step = int(state.step) + 1
        state, values = program.step(state, batch, key)
        return state, values | ({metric: jnp.nan} if step == 7 else {})

    def noted(self, step, values, clip_index, window):
        if step == 7:
            clip_names.extend(store.clips["name"][clip_index])
        return collect(self, step, values, clip_index, window)

    collect, folder = loop._Loop._collect, tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(loop._Loop, "_collect", noted)
        patch.setattr(loop, "build_program", lambda *_: dataclasses.replace(program, step=poisoned))
        with pytest.raises(DivergedError) as caught:
            pretrain(CONFIG, store, folder, devices=ONE)
    message = str(caught.value)
    assert f"{metric} not finite at step 7" in message and "checkpoint is step 5" in message
    assert str(folder / "config.json") in message
    assert len(clip_names) == 8 and message.endswith(", ".join(clip_names))
    assert steps_in(folder) == [5]
    assert pretrain(CONFIG, store, folder, devices=ONE) == "finished"
    assert_same_run(folder, whole, store)


def test_run_that_was_copied_goes_on_elsewhere(whole, store, tmp_path):
    """Nothing in a run folder knows where it lies."""
    folder = tmp_path / "elsewhere"
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "checkpoints" / "15")
    assert pretrain(CONFIG, store, folder, devices=ONE) == "finished"
    assert_same_run(folder, whole, store)


# Data of its own kind


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
    assert "note: validation shares people with training\n" in capsys.readouterr().err
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
