"""Values of the config that cannot be, and what follows from others."""

import dataclasses
import re

import pytest
import tiny
from commands import ROOT

from configs import custom
from igm_jax.errors import InputError
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.config_data import CAMERAS
from igm_jax.training.mapping import documented, from_mapping
from igm_jax.training.objectives import OBJECTIVES, check_read
from igm_jax.training.program import build_program


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
        ({"optimizer.learning_rate": float("nan")}, "optimizer.learning_rate=nan .* must be > 0"),
        ({"optimizer.betas": (0.9, 1.5)}, r"optimizer.betas=\(0.9, 1.5\): must be in \[0, 1\)"),
        ({"probe.learning_rates": (0.1, -1.0)}, r"probe.learning_rates=\(0.1, -1.0\): must be > 0"),
        ({"data.rotation": (-1.0, 0.0, 0.0)}, r"data.rotation=\(-1.0, .* at least 0"),
        (
            {"model.encoder.frames": 10},
            "model.encoder.frames=10 is not a multiple of model.encoder.patch_frames=4",
        ),
        ({"model.encoder.frames": 0}, "model.encoder.frames=0: must be at least 1"),
        ({"model.encoder.patch_frames": 0}, "model.encoder.patch_frames=0: must be at least 1"),
        ({"model.encoder.gelu": "relu"}, "model.encoder.gelu='relu' is unknown"),
        ({"model.encoder.dtype": "int8"}, "model.encoder.dtype='int8' is unknown"),
        (
            {"model.encoder.layer_norm_epsilon": 0.0},
            "model.encoder.layer_norm_epsilon=0.0: must be > 0",
        ),
        ({"model.encoder.towers": 2}, "model.encoder.towers=2: must be at least 1, and divide"),
        ({"model.adapter.over": "x"}, "model.adapter.over='x' is unknown: choose one of tokens"),
        ({"model.generator.predicts": "x"}, "model.generator.predicts='x' is unknown"),
        (
            {"model.encoder.patch_joints": 4},
            "joints=6 is not a multiple of model.encoder.patch_joints=4: choose 1, 2, 3, 6, or 0",
        ),
        ({"model.encoder.patch_joints": -1}, "patch_joints=-1: choose 1, 2, 3, 6, or 0"),
        (
            {"model.encoder.stretches": 3},
            "model.encoder.stretches=3: a clip of 2 tokens in time has 1 to 2",
        ),
        (
            {"model.generator.heads": 3},
            "model.generator.width=16 is not a multiple of model.generator.heads=3",
        ),
        ({"model.encoder.depth": 0}, "model.encoder.depth=0: must be at least 1"),
        ({"model.generator.mlp_width": 0}, "model.generator.mlp_width=0: must be at least 1"),
        ({"seed": -1}, "seed=-1: must be at least 0"),
        ({"seed": 2**32}, r"seed=4294967296: must be at least 0 and below 2\*\*32"),
        ({"data.streams": ("joint", "joint")}, "name one stream or more, each once"),
        ({"model.adapter.over": "batch"}, "cannot leave absent bodies out"),
        (
            {"model.condition": "all"},
            "model.condition='all' is unknown: choose one of tokens, pooled",
        ),
    ],
)
def test_impossible_value_is_refused(changes, told):
    with pytest.raises(InputError, match=told):
        tiny.config(changes)


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


def test_epoch_of_few_clips_has_its_least_steps():
    train = from_mapping(ExperimentConfig, custom.get_config().to_dict()).train
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
        (
            {"name": "masked_autoencoding", "mask_ratio": 0.01, "masking": "joints_and_frames"},
            "mask_ratio that hides a token",
        ),
        ({"masking": "joints"}, "objective.masking='joints'"),
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
    own = from_mapping(ExperimentConfig, custom.get_config().to_dict())
    assert own.fitted(6, 3, 4).data.bodies == 4
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
    own = [folder / "objectives" / name for name in ("common.py", "igm.py")]
    files = [*folder.glob("*.py"), *own]
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


def test_queue_of_zero_follows_from_the_clips():
    config = tiny.config({"objective.queue_size": 0})
    sizes = [config.with_queue(n).objective.queue_size for n in (1, 30, 40_091)]
    assert sizes == [1, 15, 16_384]
    assert tiny.config().with_queue(30) == tiny.config()  # a size that is set stays
