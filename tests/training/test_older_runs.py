"""Runs of earlier versions are read, or refused in one line."""

import dataclasses

import pytest
import tiny

from igm_jax.errors import InputError
from igm_jax.training.mapping import to_mapping
from igm_jax.training.older_runs import config_of_run, reading_of_run

CONFIG = tiny.config()


def older(**changes):
    """The config as it was written before keys were renamed."""
    values = to_mapping(CONFIG)
    values["data"]["view"] = values["data"].pop("coordinates")
    values["objective"]["max_t"] = values["objective"].pop("max_t_share")
    for name, value in changes.items():
        values["objective"][name] = value
    return values


def test_renamed_keys_are_read():
    assert config_of_run(older()) == config_of_run(to_mapping(CONFIG)) == CONFIG


def test_removed_keys_are_read_where_they_did_nothing():
    assert config_of_run(older(centre_features=False)) == CONFIG
    with pytest.raises(InputError, match="centre_features, which this version no longer has"):
        config_of_run(older(centre_features=True))


def test_reading_of_a_run_that_saved_its_parts():
    new = dataclasses.replace(tiny.READING, bodies=2)
    parts = {k: v for k, v in new.to_dict().items() if k in ("layout", "streams", "mean", "std")}
    assert reading_of_run({"config": older(), "inputs": parts, "bodies": 2}) == new
    assert reading_of_run({"config": to_mapping(CONFIG), "reading": new.to_dict()}) == new
