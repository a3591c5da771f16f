"""A predictor that was not trained: random networks and a random head."""

import functools
import pathlib

import jax
import numpy as np
import pytest
import tiny

from igm_jax.evaluation.head import Head, linear_logits
from igm_jax.evaluation.linear_probe import LinearHead
from igm_jax.evaluation.run import Run, init_encoder
from igm_jax.prediction.predictor import Predictor


@pytest.fixture(scope="session")
def predictor():
    config = tiny.config()
    params = jax.jit(lambda key: init_encoder(config, key))(jax.random.key(0))
    run = Run(pathlib.Path("tiny"), 10, config, tiny.READING, {}, params)
    rng, width = np.random.default_rng(0), config.model.encoder.feature_width
    weights = LinearHead(
        rng.normal(size=(width, 3)).astype(np.float32), np.zeros(3), np.zeros(width), np.ones(width)
    )
    head = Head(
        params=weights,
        logits=functools.partial(linear_logits, config.model.encoder),
        class_names=tiny.CLASS_NAMES,
        temperature=2.0,
        lengths=(6, 12, 19),
        origin="random head",
        tensors={},
    )
    return Predictor(run, head)


@pytest.fixture(scope="session")
def clips():
    return list(tiny.clips(12))
