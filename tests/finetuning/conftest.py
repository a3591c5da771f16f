"""A run that was not trained: the smallest encoder with random parameters, and its data."""

import dataclasses

import jax
import pytest
import tiny

from igm_jax.evaluation.run import Run, init_encoder
from igm_jax.finetuning.config import FinetuneConfig


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    return tiny.write_store(tmp_path_factory.mktemp("finetuning") / "store")


@pytest.fixture(scope="session")
def run(tmp_path_factory, store):
    config = tiny.config({"data.path": str(store.path)})
    reading = dataclasses.replace(tiny.READING)
    params = jax.jit(lambda key: init_encoder(config, key))(jax.random.key(0))
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    folder.mkdir()
    return Run(folder, 10, config, reading, store.meta["sha256"], params)


@pytest.fixture(scope="session")
def config():
    """Three milestones of four steps; more than one rate, to choose from."""
    return FinetuneConfig(
        epochs=6,
        min_steps=12,
        batch_size=8,
        learning_rates=(1e-5, 3e-2),
        warmup_epochs=1.0,
        hidden=16,
        judgements=3,
    )
