"""The table of objectives: IGM, and the baselines that it is compared with.

Every objective is one pure function with the arguments of `igm_objective`. Encoder, data, optimiser
and train step are the same for all of them. To add one, write its function and a row of the table.
"""

import dataclasses
from collections.abc import Callable, Iterable

import flax.linen as nn
from jax.sharding import Mesh

from igm_jax.errors import InputError
from igm_jax.models import (
    IGM,
    Colorizer,
    Contrastive,
    DisplacementModel,
    Hardware,
    IGMConfig,
    MaskedAutoencoder,
    PromptedAutoencoder,
    SequenceAutoencoder,
    StreamContrastive,
)
from igm_jax.training.config_data import DataConfig
from igm_jax.training.config_groups import ObjectiveConfig, TrainConfig
from igm_jax.training.mapping import nearest
from igm_jax.training.objectives import requirements
from igm_jax.training.objectives.actionlet import actionlet_contrast
from igm_jax.training.objectives.colorization import colorization
from igm_jax.training.objectives.common import ClipBatch, ObjectiveOutput, feature_diagnostics
from igm_jax.training.objectives.contrastive import (
    coding_rate,
    momentum_contrast,
    spectral_contrastive,
)
from igm_jax.training.objectives.displacement import displacement_prediction
from igm_jax.training.objectives.distillation import mutual_distillation
from igm_jax.training.objectives.extreme import extreme_contrast
from igm_jax.training.objectives.igm import igm_objective
from igm_jax.training.objectives.masked import masked_autoencoding, motion_prediction
from igm_jax.training.objectives.masked_contrast import masked_contrast
from igm_jax.training.objectives.mining import positive_mining
from igm_jax.training.objectives.motion import motion_contrast

__all__ = [
    "OBJECTIVES",
    "ClipBatch",
    "Objective",
    "ObjectiveOutput",
    "build_model",
    "check",
    "check_read",
    "feature_diagnostics",
    "has_stages",
    "is_ramped",
    "reads_key",
    "reads_queue",
]


@dataclasses.dataclass(frozen=True)
class Objective:
    """One way to train f.

    Attributes:
      loss: pure function with the arguments and the result of `igm_objective`.
      model: the networks that it trains.
      reads: keys of the groups `objective` and `model` that it reads, beside
        `objective.distortion` (the log) and `model.encoder`, which all read. Groups stand for all
        of their keys.
      needs: requirements on the rest of the config.
      extreme: whether it reads a copy of each clip under extreme augmentations.
      mixed: least and most frames, as shares of a clip, that come from another clip in the mixed
        copy that it reads (`augment.mix_clips`); None if it reads none.
    """

    loss: Callable
    model: type[nn.Module]
    reads: frozenset[str]
    needs: requirements.Needs = requirements.nothing
    extreme: bool = False
    mixed: tuple[float, float] | None = None


_SHARED = {"objective.mask_ratio", "objective.input_noise"}
_QUEUE = {"objective.temperature", "objective.queue_size", "objective.ema_decay"}
_MINING = {"objective.mining_start", "objective.mined_positives"}
_NOT_OF_IGM = {
    "name", "motion_temperature", "spectral_mu", "magnitude_step", "mining_start",
    "mined_positives", "masking",
}  # fmt: skip
_IGM_KEYS = {
    f"objective.{field.name}"
    for field in dataclasses.fields(ObjectiveConfig)
    if field.name not in _NOT_OF_IGM
}

OBJECTIVES: dict[str, Objective] = {
    "igm": Objective(igm_objective, IGM, frozenset(_IGM_KEYS | {"model"})),
    "masked_autoencoding": Objective(
        masked_autoencoding,
        MaskedAutoencoder,
        frozenset(_SHARED | {"model.generator", "objective.masking"}),
        requirements.masked,
    ),
    "motion_prediction": Objective(
        motion_prediction,
        MaskedAutoencoder,
        frozenset(_SHARED | {"model.generator", "objective.motion_temperature"}),
        requirements.masked,
    ),
    "displacement_prediction": Objective(
        displacement_prediction,
        DisplacementModel,
        frozenset(_SHARED | {"objective.magnitude_step"}),
        requirements.joints,
    ),
    "colorization": Objective(
        colorization,
        Colorizer,
        frozenset(_SHARED | {"model.generator.width"}),
        requirements.colours,
    ),
    "spectral_contrastive": Objective(
        spectral_contrastive,
        Contrastive,
        frozenset(_SHARED | {"model.projector_width", "objective.spectral_mu"}),
        requirements.negatives,
    ),
    "coding_rate": Objective(
        coding_rate,
        Contrastive,
        frozenset(_SHARED | {"model.projector_width"}),
        requirements.negatives,
    ),
    "momentum_contrast": Objective(
        momentum_contrast,
        Contrastive,
        frozenset(_SHARED | _QUEUE | {"model.projector_width"}),
        requirements.teacher,
    ),
    "motion_contrast": Objective(
        motion_contrast,
        SequenceAutoencoder,
        frozenset(_SHARED | _QUEUE | {"model.projector_width", "model.generator.width"}),
        requirements.motion,
    ),
    "positive_mining": Objective(
        positive_mining,
        Contrastive,
        frozenset(
            _SHARED | _QUEUE | _MINING | {"model.projector_width", "objective.target_temperature"}
        ),
        requirements.mining,
    ),
    "extreme_contrast": Objective(
        extreme_contrast,
        Contrastive,
        frozenset(_SHARED | _QUEUE | _MINING | {"model.projector_width"}),
        requirements.mining,
        extreme=True,
    ),
    "mutual_distillation": Objective(
        mutual_distillation,
        StreamContrastive,
        frozenset(_SHARED | _QUEUE | {"model.projector_width", "objective.target_temperature"}),
        requirements.streams,
    ),
    "actionlet_contrast": Objective(
        actionlet_contrast,
        Contrastive,
        frozenset(
            _SHARED
            | _QUEUE
            | {
                "model.projector_width",
                "objective.mining_start",
                "objective.target_temperature",
            }
        ),
        requirements.mixed,
        extreme=True,
        mixed=(1 / 4, 5 / 12),  # [ActCLR] three to five of twelve blocks of four frames
    ),
    "masked_contrast": Objective(
        masked_contrast,
        PromptedAutoencoder,
        frozenset(
            _SHARED
            | _QUEUE
            | {"model.projector_width", "model.generator", "objective.target_temperature"}
        ),
        requirements.masked_contrast,
        mixed=(7 / 16, 11 / 16),  # [PCM³]
    ),
}


def check(o: ObjectiveConfig, d: DataConfig, m: IGMConfig, t: TrainConfig) -> None:
    """Refuses an experiment that its objective cannot train.

    Requirements that depend on the data are checked once the config is fitted to it.

    Raises:
      InputError: an unknown objective, or a requirement that is not met.
    """
    if o.name not in OBJECTIVES:
        raise InputError(
            f"objective.name={o.name!r} is unknown{nearest(o.name, OBJECTIVES)}: choose one of "
            f"{', '.join(OBJECTIVES)}"
        )
    chosen = OBJECTIVES[o.name]
    required = chosen.needs(o, d, m, t)
    if chosen.model is not StreamContrastive:
        required |= {"model.encoder.towers=1": m.encoder.towers == 1}
    missing = [requirement for requirement, is_met in required.items() if not is_met]
    if missing:
        raise InputError(f"objective.name={o.name!r} needs {' and '.join(missing)}")


def is_ramped(o: ObjectiveConfig) -> bool:
    """Whether `start_epoch` and `ramp_epochs` delay a loss."""
    has_weight = o.idempotent or o.entropy_weight > 0
    return has_weight and "objective.ramp_epochs" in OBJECTIVES[o.name].reads


def has_stages(o: ObjectiveConfig) -> bool:
    """Whether the loss has a second stage, which begins at `mining_start`."""
    return "objective.mining_start" in OBJECTIVES[o.name].reads


def reads_queue(o: ObjectiveConfig) -> bool:
    """Whether a loss compares with the features of earlier clips."""
    reads = OBJECTIVES[o.name].reads
    unweighted = "objective.distribution_weight" not in reads
    return "objective.queue_size" in reads and (unweighted or o.distribution_weight > 0)


def reads_key(name: str, key: str) -> bool:
    """Whether an objective reads a key of the config, such as `"objective.feature_weight"`."""
    reads = {*OBJECTIVES[name].reads, "objective.name", "objective.distortion", "model.encoder"}
    return not key.startswith(("objective.", "model.")) or any(
        key == read or key.startswith(f"{read}.") for read in reads
    )


def check_read(name: str, keys: Iterable[str]) -> None:
    """Refuses keys that somebody set by hand and that the objective would ignore.

    Args:
      name: a key of `OBJECTIVES`.
      keys: keys of the config, such as `"objective.feature_weight"`.

    Raises:
      InputError: names the keys.
    """
    ignored = [key for key in keys if not reads_key(name, key)]
    if ignored:
        raise InputError(
            f"objective.name={name!r} ignores {', '.join(sorted(ignored))}: leave it out, or "
            "choose an objective that reads it"
        )


def build_model(
    name: str,
    config: IGMConfig,
    micro_batches: int = 1,
    hardware: Hardware | None = None,
    mesh: Mesh | None = None,
) -> nn.Module:
    """Builds the encoder with the generator, decoder or projector of the objective.

    Args:
      name: a key of `OBJECTIVES`.
      config: sizes.
      micro_batches: see `Backbone`.
      hardware: the devices that the networks are compiled for; those of this process by default.
      mesh: see `Backbone`.
    """
    hardware = hardware or Hardware.here()
    return OBJECTIVES[name].model(config, micro_batches=micro_batches, hardware=hardware, mesh=mesh)
