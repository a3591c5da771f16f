"""Runs of earlier versions are read, or refused in one line."""

import dataclasses

import pytest
import tiny

from igm_jax.errors import InputError
from igm_jax.training.config import differences
from igm_jax.training.config_data import CAMERAS
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


def test_removed_key_within_two_groups():
    for skip in (False, True):
        values = older()
        values["model"]["generator"] = {**values["model"]["generator"], "skip": skip}
        before = repr(values)
        if skip:
            with pytest.raises(InputError, match=r"model.generator.skip, which .* no longer has"):
                config_of_run(values)
        else:
            assert config_of_run(values) == CONFIG
        assert repr(values) == before


def test_run_from_before_the_camera_keeps_its_augmentation_and_is_the_same_run():
    """Its values were spelled out, and stay what they were under any preset."""
    values = older()
    del values["data"]["camera"]
    values["data"] |= {"crop": [0.7, 1.0], "mirror": 0.0, "rotation": [0.3, 0.3, 0.3]}
    old = config_of_run(values)
    assert old.data.augmentation == CAMERAS["fixed"]
    plain = {"data.crop": None, "data.mirror": None, "data.rotation": None}
    new = tiny.config({**plain, "data.camera": "fixed"}).spelled_out()
    assert differences(to_mapping(old), to_mapping(new)) == []
    other = tiny.config({**plain, "data.camera": "moving"}).spelled_out()
    assert [line.split(":")[0] for line in differences(to_mapping(old), to_mapping(other))] == [
        "data.crop",
        "data.mirror",
        "data.rotation",
    ]


def test_reading_of_a_run_that_saved_its_parts():
    new = dataclasses.replace(tiny.READING, bodies=2)
    parts = {k: v for k, v in new.to_dict().items() if k in ("layout", "streams", "mean", "std")}
    assert reading_of_run({"config": older(), "inputs": parts, "bodies": 2}) == new
    assert reading_of_run({"config": to_mapping(CONFIG), "reading": new.to_dict()}) == new
