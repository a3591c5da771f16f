"""Advice for a step that does not fit; a run that follows it can begin."""

import jax
import pytest
import tiny

from igm_jax.errors import InputError
from igm_jax.parallel import make_mesh
from igm_jax.training import memory
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.mapping import from_mapping, to_mapping
from igm_jax.training.objectives import OBJECTIVES, check_read


def flags(text):
    """The flags in an advice, by key."""
    words = [word.strip(",;()") for word in text.split()]
    return dict(w.removeprefix("--config.").split("=") for w in words if w.startswith("--config."))


def changed(config, values):
    mapping = to_mapping(config)
    for key, value in values.items():
        *groups, name = key.split(".")
        group = mapping
        for part in groups:
            group = group[part]
        group[name] = type(group[name])(value == "True" if value in ("True", "False") else value)
    return from_mapping(ExperimentConfig, mapping)


@pytest.mark.parametrize("accumulate", [1, 2, 3])
@pytest.mark.parametrize("devices", [1, 2, 4])
def test_advice_makes_a_config_that_fits_the_devices(accumulate, devices):
    sizes = {"train.batch_size": 24}
    config = tiny.config({**sizes, "parallel.accumulate": accumulate})
    told = flags(memory.advice(config, devices))
    assert {"parallel.accumulate", "train.batch_size"} <= told.keys()
    mine = jax.devices()[:devices]
    more = {"parallel.accumulate": told["parallel.accumulate"]}
    less = {"train.batch_size": told["train.batch_size"]}
    for values in (more, less):
        better = changed(config, values)
        make_mesh(better.parallel, better.train.batch_size, mine)
        before, after = (c.train.batch_size // c.parallel.accumulate for c in (config, better))
        assert after < before


def test_advice_leaves_out_what_is_set_already():
    remat = {"model.encoder.remat": True, "model.generator.remat": True}
    assert "remat" in memory.advice(tiny.config(), 1)
    assert "remat" not in memory.advice(tiny.config(remat), 1)
    sizes = {"train.batch_size": 8, "parallel.accumulate": 8}
    told = memory.advice(tiny.config({**remat, **sizes}), 1)
    assert "smaller networks" in told and not flags(told)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_advice_names_no_key_that_the_objective_ignores(name):
    told = flags(memory.advice(tiny.config(tiny.changes_for(name)), 1))
    check_read(name, told)
    assert "model.encoder.remat" in told


def test_other_errors_stay_what_they_are():
    for error in (InputError("no"), jax.errors.JaxRuntimeError("INTERNAL: no")):
        with (
            pytest.raises(type(error), match="no"),
            memory.one_line_out_of_memory(str),
        ):
            raise error
