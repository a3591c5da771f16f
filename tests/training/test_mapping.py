"""The strict way between mappings and dataclasses."""

import json
import sys

import pytest
import tiny
from commands import ROOT, output

from configs import base
from igm_jax.errors import InputError
from igm_jax.training.config import ExperimentConfig, differences
from igm_jax.training.config_data import DataConfig
from igm_jax.training.config_groups import ObjectiveConfig
from igm_jax.training.mapping import documented, from_mapping, nearest, to_mapping
from igm_jax.training.older_runs import config_of_run


def flat(mapping, prefix=""):
    out = {}
    for key, value in mapping.items():
        if isinstance(value, dict):
            out |= flat(value, f"{prefix}{key}.")
        else:
            out[prefix + key] = list(value) if isinstance(value, tuple) else value
    return out


def test_every_key_says_what_it_means():
    keys = flat(base.get_config().to_dict())
    found = {key: meaning for key, _, meaning in documented(ExperimentConfig())}
    assert found.keys() == keys.keys()
    assert all(len(meaning.split()) > 0 for meaning in found.values())


def test_keys_are_listed_without_docstrings():
    """`python -OO` drops them, and every command that lists its keys must still start."""
    code = "from igm_jax.finetuning.config import FinetuneConfig as C\n"
    code += "from igm_jax.training.mapping import documented; print(*documented(C()))"
    printed = output(ROOT, sys.executable, "-OO", "-c", code)
    assert "('seed', 0, '')" in printed


def test_unknown_key_names_the_nearest():
    with pytest.raises(InputError, match=r"'objective.mask_rati' \(did you mean 'mask_ratio'\?"):
        from_mapping(ExperimentConfig, {"objective": {"mask_rati": 0.5}})
    with pytest.raises(InputError, match=r"no key 'trian' \(did you mean 'train'\?\)"):
        from_mapping(ExperimentConfig, {"trian": {}})
    with pytest.raises(InputError, match=r"no key 'model.encoder.qqq'$"):
        from_mapping(ExperimentConfig, {"model": {"encoder": {"qqq": 1}}})
    assert nearest("qqq", ["width"]) == ""


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"seed": 1.5}, "'seed' needs int, not 1.5"),
        ({"seed": True}, "'seed' needs int, not True"),
        ({"seed": "1"}, "'seed' needs int, not '1'"),
        ({"name": 3}, "'name' needs str, not 3"),
        ({"train": {"tensorboard": 1}}, "'train.tensorboard' needs bool, not 1"),
        ({"objective": {"max_t_share": True}}, "'objective.max_t_share' needs float, not True"),
        ({"objective": {"max_t_share": None}}, "'objective.max_t_share' needs float, not None"),
        ({"objective": 1.0}, "'objective' is a group of keys, not 1.0"),
        ({"data": {"crop": "(0.5, 1.0)"}}, r"'data.crop' needs a tuple of numbers, not '\(0.5"),
        ({"data": {"streams": "joint"}}, "'data.streams' needs a tuple of names, not 'joint'"),
        ({"data": {"crop": "ab"}}, "'data.crop' needs a tuple of numbers, not 'ab'"),
        ({"data": {"crop": 0.5}}, "'data.crop' needs a tuple of numbers, not 0.5"),
        ({"data": {"crop": (0.5, 0.7, 1.0)}}, "'data.crop' needs 2 numbers"),
        ({"data": {"crop": (0.5, "1")}}, "'data.crop' needs float, not '1'"),
        ({"probe": {"learning_rates": ()}}, "'probe.learning_rates' needs a tuple of numbers"),
    ],
)
def test_wrong_type_is_refused(values, told):
    with pytest.raises(InputError, match=f"config key {told}"):
        from_mapping(ExperimentConfig, values)


def test_round_trip_through_json():
    config = tiny.config(
        {
            "seed": 7,
            "data.crop": (0.25, 0.75),
            "probe.learning_rates": (0.5,),
            "objective.clean_gradient": True,
            "model.projector_width": 32,
        }
    )
    text = json.dumps(to_mapping(config))
    assert from_mapping(ExperimentConfig, json.loads(text)) == config
    assert from_mapping(ExperimentConfig, {}) == ExperimentConfig()


def test_keys_left_out_keep_the_default_of_the_whole():
    """The default encoder of an experiment reads two streams, and one alone by its own default."""
    config = from_mapping(ExperimentConfig, {"model": {"condition": "pooled", "encoder": {}}})
    assert config.model.condition == "pooled"
    assert config.model.encoder == ExperimentConfig().model.encoder


def test_whole_numbers_are_floats_where_floats_are_meant():
    objective = from_mapping(ObjectiveConfig, {"feature_weight": 2})
    assert type(objective.feature_weight) is float
    data = from_mapping(DataConfig, {"crop": [1, 1]})
    assert data.crop == (1.0, 1.0) and {type(x) for x in data.crop} == {float}


def test_differences_names_each_leaf_once():
    a = to_mapping(tiny.config())
    assert differences(a, a) == []
    b = to_mapping(tiny.config({"seed": 3, "objective.max_t_share": 0.5}))
    assert differences(a, b) == ["objective.max_t_share: 0.9 → 0.5", "seed: 0 → 3"]
    # A run of an older version lacks a key, or has one that is gone.
    del b["objective"]["max_t_share"]
    b["objective"]["old"] = 1
    assert differences(b, a) == [
        "objective.max_t_share: None → 0.9",
        "objective.old: 1 → None",
        "seed: 3 → 0",
    ]


def test_what_changes_no_number_makes_no_difference():
    a = to_mapping(tiny.config())
    changes = {"name": "x", "data.path": "y", "parallel.accumulate": 2, "probe.epochs": 9}
    changes |= {"model.encoder.remat": True, "model.generator.remat": True}
    train = {"log_every": 9, "knn_every": 9, "checkpoint_every": 9, "keep_checkpoints": 9}
    changes |= {f"train.{k}": v for k, v in train.items()} | {"train.tensorboard": True}
    b = to_mapping(tiny.config(changes))
    assert differences(a, b) == []
    assert len(differences(a, b, ignored=())) == len(changes)


@pytest.mark.parametrize("names", [(), ("circle", "jerk")])
def test_classes_that_are_left_out_survive_the_file(names):
    config = tiny.config({"data.leave_out": names})
    read = from_mapping(ExperimentConfig, json.loads(json.dumps(to_mapping(config))))
    assert read == config and read.data.leave_out == names
    with pytest.raises(InputError, match=r"'data\.leave_out' needs a tuple"):
        tiny.config({"data.leave_out": "circle"})


def test_config_of_an_earlier_run_is_read():
    """Keys that were removed are dropped where they did nothing; added ones get their defaults."""
    values = to_mapping(tiny.config())
    earlier = {k: dict(v) if isinstance(v, dict) else v for k, v in values.items()}
    del earlier["data"]["batches"]
    earlier["objective"] |= {"centre_features": False, "target_sees_all": False}
    assert config_of_run(earlier) == tiny.config()
    assert "centre_features" in earlier["objective"], "the caller's mapping stays"
    earlier["objective"]["centre_features"] = True
    with pytest.raises(InputError, match=r"trained with objective\.centre_features, which this"):
        config_of_run(earlier)
