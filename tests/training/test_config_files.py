"""The config files: every variant, its length, its camera, and the literal paper."""

import dataclasses
import importlib
import pathlib

import jax
import jax.numpy as jnp
import pytest
import tiny
from absl import flags
from commands import ROOT
from ml_collections import config_flags

from igm_jax.data.protocols import PROTOCOLS
from igm_jax.reading import Reading
from igm_jax.skeleton import KINECT20, NTU25
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.config_data import CAMERAS, Augmentation, DataConfig
from igm_jax.training.mapping import from_mapping
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


@pytest.mark.parametrize(("name", "variant"), list(all_variants()))
def test_every_config_is_long_enough_for_its_phases(name, variant):
    literal = load("paper_literal", f"{name}-{variant}" if variant else name)
    for content in (load(name, variant), literal):
        config = from_mapping(ExperimentConfig, content.to_dict())
        epochs, objective = config.train.epochs, config.objective
        assert config.optimizer.warmup_epochs < epochs
        assert objective.start_epoch + objective.ramp_epochs <= epochs
        config.check_length()


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
