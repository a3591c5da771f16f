"""The config files, and the strict way from them to dataclasses."""

import dataclasses
import importlib
import json
import pathlib
import re
import sys

import jax
import jax.numpy as jnp
import pytest
import tiny
from absl import flags
from commands import ROOT, output
from ml_collections import config_flags

from configs import base
from igm_jax.data.protocols import PROTOCOLS
from igm_jax.errors import InputError
from igm_jax.reading import Reading
from igm_jax.skeleton import KINECT20, NTU25
from igm_jax.training.config import ExperimentConfig, differences
from igm_jax.training.config_data import CAMERAS, Augmentation, DataConfig
from igm_jax.training.config_groups import ObjectiveConfig
from igm_jax.training.mapping import documented, from_mapping, nearest, to_mapping
from igm_jax.training.objectives import OBJECTIVES, check_read
from igm_jax.training.older_runs import config_of_run
from igm_jax.training.program import build_program

CONFIGS = sorted(
    p.stem
    for p in (ROOT / "configs").glob("*.py")
    if p.stem not in ("base", "__init__", "paper_literal")
)


def load(name, variant=None):
    return importlib.import_module(f"configs.{name}").get_config(variant)


def protocols_of(name):
    return tuple(PROTOCOLS[load(name).data.dataset])


def all_variants():
    for name in CONFIGS:
        for protocol in (None, *protocols_of(name)):
            yield name, protocol
            yield name, f"{protocol}-smoke" if protocol else "smoke"


def flat(mapping, prefix=""):
    out = {}
    for key, value in mapping.items():
        if isinstance(value, dict):
            out |= flat(value, f"{prefix}{key}.")
        else:
            out[prefix + key] = list(value) if isinstance(value, tuple) else value
    return out


# The files


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


def test_there_is_a_config_for_each_data_set_of_the_paper_and_the_embedded_one():
    assert {"synthetic", "nw_ucla", "ntu60", "ntu120"} <= set(CONFIGS)


@pytest.mark.parametrize(("name", "variant"), list(all_variants()))
def test_every_variant_parses_and_its_program_builds(name, variant):
    values = load(name, variant)
    config = from_mapping(ExperimentConfig, values.to_dict()).fitted(17, 4, 2)
    smoke, protocol = "smoke" in (variant or ""), (variant or "").split("-")[0]
    assert config.data.protocol == (
        protocol if protocol in protocols_of(name) else protocols_of(name)[0]
    )
    assert config.name.endswith("-smoke") == smoke
    assert (config.train.epochs <= 2) == smoke

    program = build_program(config, tiny.READING, num_clips=10_000)
    state = jax.eval_shape(program.init, jax.random.key(0))
    encoder = state.params["encoder"]["position"]["spatial"]
    assert encoder.shape == (config.model.encoder.grid[1], config.model.encoder.width)
    queue = config.with_queue(10_000).objective.queue_size
    assert state.queue.shape == (queue, config.model.encoder.width) and queue > 0
    assert program.total_steps == config.train.epochs * (10_000 // config.train.batch_size)


@pytest.mark.parametrize("name", CONFIGS)
def test_step_of_every_config_keeps_the_shapes_of_its_state(name):
    config = from_mapping(ExperimentConfig, load(name).to_dict()).fitted(6, 4, 2)
    streams, channels = config.data.streams, config.model.encoder.channels
    layout = {6: tiny.LAYOUT, 20: KINECT20, 25: NTU25}[config.model.encoder.joints]
    frames, one = config.model.encoder.frames, (1.0,) * channels
    reading = Reading(layout, config.data.coordinates, frames, 1, streams, (0.0,) * channels, one)
    program = build_program(config, reading, num_clips=1000)
    state = jax.eval_shape(program.init, jax.random.key(0))
    e, d, b = config.model.encoder, config.data, config.train.batch_size
    batch = {
        "clip": jax.ShapeDtypeStruct(
            (b, d.bodies, e.frames, e.joints, channels // len(streams)), jnp.float32
        ),
        "present": jax.ShapeDtypeStruct((b, d.bodies), bool),
    }
    if d.crops == 2:
        batch["other"] = batch["clip"]
    after, metrics = jax.eval_shape(program.step, state, batch, jax.random.key(0))
    shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)  # noqa: E731
    assert shapes(after) == shapes(state)
    assert metrics.pop("features").shape == (b, e.width)
    assert {x.shape for x in metrics.values()} == {()}
    assert {"loss", "loss_gen", "loss_feat", "loss_dist", "cos_aux", "grad_norm"} <= set(metrics)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("variant", ["xside", "smok", "xsub-xview", "xsub-smoke-fast"])
def test_unknown_variant_is_refused(name, variant):
    with pytest.raises(ValueError, match=f"variant '{variant}' is unknown: use one of (x|split)"):
        load(name, variant)


@pytest.mark.parametrize("name", CONFIGS)
def test_paper_literal_is_another_config_with_every_part_in_use(name):
    ours, literal = (
        from_mapping(ExperimentConfig, c.to_dict())
        for c in (load(name), load("paper_literal", name))
    )
    o = literal.objective
    assert literal.name == f"paper-literal-{ours.name}"
    assert (o.feature_weight, o.distribution_weight, o.entropy_weight) == (1, 1, 0)
    assert o.aux_tokens and o.mask_ratio == 0.9 and literal.data.crops == 1
    assert literal.model.encoder.patch_frames == 4
    same = ("dataset", "path", "protocol", "bodies", "min_crop_frames")
    assert {k: getattr(literal.data, k) for k in same} == {k: getattr(ours.data, k) for k in same}
    assert load("paper_literal", f"{name}-smoke").train.epochs <= 2


def test_paper_literal_of_nothing_known_is_refused():
    assert load("paper_literal").name == "paper-literal-nw_ucla"
    with pytest.raises(
        ValueError, match="variant 'kinetics' is unknown: use one of custom, mamp_npz, ntu120"
    ):
        load("paper_literal", "kinetics")


# Mapping ↔ dataclass


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


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"data.coordinates": "side"}, "data.coordinates='side' is unknown: choose one of camera"),
        ({"data.pretrain_split": "test"}, "data.pretrain_split='test' is unknown"),
        ({"data.crop": (0.0, 1.0)}, "needs 0 < low <= high <= 1"),
        ({"objective.schedule": "sine"}, "objective.schedule='sine' is unknown"),
        ({"objective.entropy": "shannon"}, "objective.entropy='shannon' is unknown"),
        ({"objective.mask_ratio": 1.0}, "objective.mask_ratio=1.0: needs 0 <= ratio < 1"),
        ({"objective.reencode_mask_ratio": -0.1}, "reencode_mask_ratio=-0.1"),
        ({"data.bodies": -1}, "data.bodies=-1: must be at least 0"),
        ({"train.log_every": 0}, "train.log_every=0: must be at least 1"),
        ({"train.epochs": -1}, "train.epochs=-1: must be at least 1"),
        ({"probe.batch_size": 0}, "probe.batch_size=0: must be at least 1"),
        (
            {"objective.max_t_share": 0.0005},
            "max_t_share=0.0005 is less than one of .*at least 0.001",
        ),
        ({"optimizer.warmup_epochs": -1}, "optimizer.warmup_epochs=-1.0: must be at least 0"),
        ({"objective.diffusion_steps": 0}, "objective.diffusion_steps=0: must be at least 1"),
        ({"objective.ema_decay": 1.0}, r"objective.ema_decay=1.0 must be in \[0, 1\)"),
        ({"objective.condition_drop": 1.5}, r"condition_drop=1.5 in \[0, 1\]"),
        ({"optimizer.learning_rate": 0.0}, "optimizer.learning_rate=0.0 .* must be > 0"),
        ({"model.encoder.frames": 10}, "frames=10 is not a multiple of patch_frames=4"),
        (
            {"model.encoder.patch_joints": 4},
            "joints=6 is not a multiple of patch_joints=4: choose 1, 2, 3, 6, or 0 for all joints",
        ),
        ({"model.encoder.patch_joints": -1}, "patch_joints=-1: choose 1, 2, 3, 6, or 0"),
        ({"model.encoder.stretches": 3}, "stretches=3: a clip of 2 tokens in time has 1 to 2"),
        ({"model.generator.heads": 3}, "generator width=16 is not a multiple of heads=3"),
        ({"model.adapter.over": "batch"}, "cannot leave absent bodies out"),
        ({"model.condition": "all"}, "condition='all' is unknown"),
    ],
)
def test_impossible_value_is_refused(changes, told):
    with pytest.raises(InputError, match=told):
        tiny.config(changes)


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


@pytest.mark.parametrize(("name", "variant"), list(all_variants()))
def test_every_config_is_long_enough_for_its_phases(name, variant):
    literal = load("paper_literal", f"{name}-{variant}" if variant else name)
    for content in (load(name, variant), literal):
        config = from_mapping(ExperimentConfig, content.to_dict())
        epochs, objective = config.train.epochs, config.objective
        assert config.optimizer.warmup_epochs < epochs
        assert objective.start_epoch + objective.ramp_epochs <= epochs
        config.check_length()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"optimizer.warmup_epochs": 2}, "warmup_epochs=2 is not less than train.epochs=2.*=0.2"),
        ({"objective.start_epoch": 2}, "start_epoch=2 is not less than train.epochs=2"),
        ({"objective.ramp_epochs": 3}, "ramp_epochs=3 together are more than train.epochs=2"),
    ],
)
def test_phases_longer_than_the_run(changes, told):
    with pytest.raises(InputError, match=told):
        tiny.config(changes).check_length()
    none = {"feature_weight": 0, "distribution_weight": 0}  # nothing is held back
    if "warmup" not in told:
        alone = {f"objective.{k}": v for k, v in none.items()}
        tiny.config({**changes, **alone}).check_length()


def test_a_short_run_is_told_all_that_it_needs_at_once():
    changes = {"optimizer.warmup_epochs": 10, "objective.ramp_epochs": 10, "train.epochs": 5}
    with pytest.raises(InputError, match=r"warmup_epochs=10 .*\.ramp_epochs=10 ") as error:
        tiny.config(changes).check_length()
    flags = dict(re.findall(r"--config\.([a-z_.]+)=([\d.]+)", str(error.value)))
    assert flags == {"optimizer.warmup_epochs": "0.5", "objective.ramp_epochs": "2"}
    mended = {"optimizer.warmup_epochs": 0.5, "objective.ramp_epochs": 2}
    tiny.config({**changes, **mended}).check_length()


def test_camera_decides_what_is_not_set():
    by_camera = {"data.crop": None, "data.mirror": None, "data.rotation": None}
    for camera, expected in CAMERAS.items():
        data = tiny.config({**by_camera, "data.camera": camera}).data
        assert data.augmentation == expected
        assert data.mirror is None and data.spelled_out().augmentation == expected
        assert data.spelled_out().crop == expected.crop
    one = tiny.config({**by_camera, "data.camera": "moving", "data.mirror": 0.0}).data
    assert one.augmentation == dataclasses.replace(CAMERAS["moving"], mirror=0.0)
    with pytest.raises(
        InputError, match=r"data\.camera='hand' is unknown: choose one of fixed, mov"
    ):
        tiny.config({"data.camera": "hand"})
    with pytest.raises(InputError, match=r"'data\.mirror' needs float, not 'no'"):
        tiny.config({"data.mirror": "no"})


def test_camera_of_each_config():
    """The values are those that the known data sets were tuned with."""
    fixed = {"utd_mhad", "custom"}
    for name in CONFIGS:
        data = from_mapping(ExperimentConfig, load(name).to_dict()).data
        assert data.camera == ("fixed" if name in fixed else "moving")
        assert data.augmentation == CAMERAS[data.camera]
    still = DataConfig(crop=(0.7, 1.0), mirror=0.0, rotation=(0.3, 0.3, 0.3))
    turning = DataConfig(crop=(0.5, 1.0), mirror=0.5, rotation=(0.3, 1.2, 0.3))
    assert still.augmentation == CAMERAS["fixed"] and turning.augmentation == CAMERAS["moving"]
    literal = from_mapping(ExperimentConfig, load("paper_literal", "nw_ucla").to_dict()).data
    assert literal.augmentation == Augmentation((0.5, 1.0), 0.0, (0.3, 0.3, 0.3))


@pytest.mark.parametrize(
    ("flags_", "expected"),
    [
        ((), ((0.5, 1.0), 0.5, (0.3, 1.2, 0.3))),
        (("--config.data.camera=fixed",), ((0.7, 1.0), 0.0, (0.3, 0.3, 0.3))),
        (
            ("--config.data.mirror=0.25", "--config.data.camera=fixed"),
            ((0.7, 1.0), 0.25, (0.3, 0.3, 0.3)),
        ),
        (
            ("--config.data.crop=(0.6, 1)", "--config.data.rotation=(0.1,0.2,0)"),
            ((0.6, 1.0), 0.5, (0.1, 0.2, 0.0)),
        ),
    ],
)
def test_flags_of_the_camera_and_of_its_keys(flags_, expected):
    """In any order, and on top of a config file."""
    path = pathlib.Path(__file__).parents[2] / "configs" / "nw_ucla.py"
    argv = ["pretrain.py", f"--config={path}", *flags_]
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file(
        "config", None, lock_config=True, flag_values=values, sys_argv=argv
    )
    values(argv)
    data = from_mapping(ExperimentConfig, holder.value.to_dict()).data
    assert dataclasses.astuple(data.augmentation) == expected


def test_epoch_of_few_clips_has_its_least_steps():
    train = from_mapping(ExperimentConfig, load("custom").to_dict()).train
    assert train.steps_per_epoch(100) * train.epochs == 3000
    assert train.steps_per_epoch(64 * 15) == 15 and train.steps_per_epoch(64 * 40) == 40
    program = build_program(tiny.config({"train.min_epoch_steps": 7}), tiny.READING, num_clips=16)
    assert (program.steps_per_epoch, program.total_steps) == (7, 14)
    with pytest.raises(InputError, match=r"train\.min_epoch_steps=0: must be at least 1"):
        tiny.config({"train.min_epoch_steps": 0})


def test_configs_are_frozen_and_hashable():
    config = tiny.config()
    assert len({config, tiny.config()}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"name": "spectral_contrastive"}, "'spectral_contrastive' needs data.crops=2"),
        ({"name": "momentum_contrast"}, r"needs data.crops=2 and a teacher \(objective.ema_decay"),
        ({"name": "motion_prediction", "mask_ratio": 0}, "needs objective.mask_ratio that hides"),
        ({"name": "masked_autoencoding", "mask_ratio": 0.01}, "mask_ratio that hides a token"),
        ({"name": "contrast"}, "objective.name='contrast' is unknown"),
        ({"max_t_share": 1.5}, "max_t_share=1.5: must be in .0, 1."),
        ({"max_feature_t_share": 0.0}, "max_feature_t_share=0.0: must be in .0, 1."),
        ({"spectral_mu": 0.0}, "spectral_mu=0.0: must be above 0"),
        ({"entropy_weight": -1.0}, "entropy_weight=-1.0: must not be negative"),
    ],
)
def test_objective_that_cannot_be_is_refused(changes, told):
    with pytest.raises(InputError, match=told):
        tiny.config({f"objective.{key}": value for key, value in changes.items()})


def test_what_is_left_to_the_data_is_taken_from_it():
    changes = {"objective.name": "masked_autoencoding"}
    stated = tiny.config({**changes, "model.encoder.joints": 0, "model.encoder.channels": 0})
    assert stated.fitted(6, 3, 2) == tiny.config({**changes, "model.encoder.channels": 3})
    assert tiny.config().fitted(17, 4, 5) == tiny.config()
    assert tiny.config({"data.bodies": 0}).fitted(6, 3, 5) == tiny.config({"data.bodies": 5})
    custom = from_mapping(ExperimentConfig, load("custom").to_dict())
    assert custom.fitted(6, 3, 4).data.bodies == 4
    with pytest.raises(InputError, match="mask_ratio that hides a token"):
        tiny.config({**changes, "model.encoder.joints": 0, "objective.mask_ratio": 0.1}).fitted(
            1, 3, 1
        )


def test_masked_prediction_reads_the_joints_of_one_view():
    changes = {"objective.name": "masked_autoencoding", "data.crops": 2}
    changes |= {"data.streams": ("joint", "bone"), "model.projector_width": 8}
    told = r"streams=.* and data\.crops=1 and model\.projector_width=0"
    with pytest.raises(InputError, match=told):
        tiny.config(changes)


def test_keys_that_an_objective_ignores_are_refused_when_they_are_set():
    set_by_hand = ["train.epochs", "objective.mask_ratio", "model.encoder.depth"]
    for name in OBJECTIVES:
        check_read(name, set_by_hand)
    check_read("igm", ["model.adapter.eta", "model.generator.depth", "objective.feature_weight"])
    with pytest.raises(InputError, match=r"ignores model\.adapter\.eta, objective\.f"):
        check_read("motion_prediction", ["objective.feature_weight", "model.adapter.eta"])
    with pytest.raises(InputError, match=r"ignores objective\.spectral_mu"):
        check_read("igm", ["objective.spectral_mu"])


def test_igm_reads_the_keys_that_it_says():
    """So that a key of another objective is refused, as a name that its code does not hold."""
    folder = ROOT / "igm_jax" / "training"
    files = [*folder.glob("*.py"), folder / "objectives" / "igm.py"]
    code = "".join(p.read_text(encoding="utf-8") for p in files if "config" not in p.name)
    keys = [k.removeprefix("objective.") for k in OBJECTIVES["igm"].reads if k != "model"]
    assert not [key for key in keys if not re.search(rf"\.{key}\b", code)]


def test_every_key_of_the_objectives_is_read_by_one_of_them():
    keys = {key for key, _, _ in documented(ExperimentConfig())}
    reads = set().union(*(objective.reads for objective in OBJECTIVES.values()))
    for read in reads:
        assert any(key == read or key.startswith(f"{read}.") for key in keys), read
    of_objectives = {key for key in keys if key.startswith("objective.")}
    assert of_objectives - reads == {"objective.name"}


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


def test_queue_of_zero_follows_from_the_clips():
    config = tiny.config({"objective.queue_size": 0})
    sizes = [config.with_queue(n).objective.queue_size for n in (1, 30, 40_091)]
    assert sizes == [1, 15, 16_384]
    assert tiny.config().with_queue(30) == tiny.config()  # a size that is set stays
