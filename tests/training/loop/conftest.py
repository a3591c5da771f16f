"""Data and the finished run of the tests of the loop; all share a compiled program."""

import dataclasses
import functools

import pytest
import tiny
from loop_world import (
    CONFIG,
    ONE,
)

from igm_jax.training import loop
from igm_jax.training import program as programs
from igm_jax.training.loop import pretrain


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
