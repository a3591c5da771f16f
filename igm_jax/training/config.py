"""The experiment as frozen dataclasses, and the strict way from a config file to them.

`configs/base.py` lists every key once with its meaning and its default; a test holds the two
together. A ConfigDict never gets past `from_mapping`.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from igm_jax import diffusion, masking, skeleton
from igm_jax.data.sessions import BATCHES
from igm_jax.errors import InputError
from igm_jax.models import EncoderConfig, IGMConfig
from igm_jax.parallel import ParallelConfig

OBJECTIVE_NAMES = (
    "igm", "masked_autoencoding", "motion_prediction", "spectral_contrastive", "momentum_contrast",
)  # fmt: skip


def _choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"{name}={value!r} is unknown: choose one of {', '.join(choices)}")


def _at_least(group: str, config: Any, least: int, *names: str) -> None:
    for name in names:
        if getattr(config, name) < least:
            raise InputError(f"{group}.{name}={getattr(config, name)}: must be at least {least}")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which clips, and how they are cut. Comments on every key: configs/base.py."""

    dataset: str = "synthetic"
    path: str = "data/synthetic"
    protocol: str = "xsub"
    pretrain_split: str = "train"
    view: str = "posture"
    streams: tuple[str, ...] = ("joint", "motion")
    bodies: int = 1
    crop: tuple[float, float] = (0.5, 1.0)
    min_crop_frames: int = 64
    crops: int = 2
    batches: str = "mixed"
    mirror: float = 0.5
    shear: float = 0.0
    rotation: tuple[float, float, float] = (0.3, 1.2, 0.3)

    def __post_init__(self):
        _choice("data.view", self.view, skeleton.VIEWS)
        _choice("data.batches", self.batches, BATCHES)
        for stream in self.streams:
            _choice("data.streams", stream, skeleton.STREAMS)
        _at_least("data", self, 0, "bodies")
        _at_least("data", self, 1, "min_crop_frames")
        if self.crops not in (1, 2) or not 0 <= self.mirror <= 1 or self.shear < 0:
            raise InputError(
                f"data.crops={self.crops} must be 1 or 2, data.mirror={self.mirror} in [0, 1] and "
                f"data.shear={self.shear} at least 0"
            )
        _choice("data.pretrain_split", self.pretrain_split, ("train", "fit"))
        if not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise InputError(f"data.crop={self.crop}: needs 0 < low <= high <= 1")


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """The losses and every choice they leave open. Comments on every key: configs/base.py."""

    name: str = "igm"
    schedule: str = "inverse_cosine"
    diffusion_steps: int = 1000
    mask_ratio: float = 0.9
    input_noise: float = 0.005
    condition_drop: float = 0.0
    feature_weight: float = 4.0
    distribution_weight: float = 0.0
    entropy_weight: float = 8.0
    entropy: str = "second_order"
    distortion: float = 0.5
    start_epoch: int = 0
    ramp_epochs: int = 10
    target_temperature: float = 0.05
    temperature: float = 0.1
    queue_size: int = 16384
    ema_decay: float = 0.0
    aux_tokens: bool = False
    reencode_mask_ratio: float = 0.9
    max_t: float = 0.15
    own_t: bool = True
    clean_clip: float = 5.0
    clean_gradient: bool = False
    target_gradient: bool = True
    motion_temperature: float = 0.75
    spectral_mu: float = 4.0

    def __post_init__(self):
        _choice("objective.name", self.name, OBJECTIVE_NAMES)
        _at_least("objective", self, 1, "diffusion_steps", "queue_size")
        _at_least("objective", self, 0, "start_epoch", "ramp_epochs")
        if not 0 <= self.ema_decay < 1 or not 0 <= self.condition_drop <= 1:
            raise InputError(
                f"objective.ema_decay={self.ema_decay} must be in [0, 1) and "
                f"condition_drop={self.condition_drop} in [0, 1]"
            )
        _choice("objective.schedule", self.schedule, diffusion.SCHEDULES)
        _choice("objective.entropy", self.entropy, ("coding_length", "second_order"))
        for name in (
            "target_temperature", "temperature", "clean_clip", "distortion", "motion_temperature",
            "spectral_mu",
        ):  # fmt: skip
            if getattr(self, name) <= 0:
                raise InputError(f"objective.{name}={getattr(self, name)}: must be above 0")
        for name in ("feature_weight", "distribution_weight", "entropy_weight", "input_noise"):
            if getattr(self, name) < 0:
                raise InputError(f"objective.{name}={getattr(self, name)}: must not be negative")
        if not 0 < self.max_t <= 1:
            raise InputError(f"objective.max_t={self.max_t}: needs 0 < max_t <= 1")
        if self.max_t * self.diffusion_steps < 1:
            raise InputError(
                f"objective.max_t={self.max_t} is less than one of the "
                f"objective.diffusion_steps={self.diffusion_steps}: set max_t to at least "
                f"{1 / self.diffusion_steps:.3g}"
            )
        for name in ("mask_ratio", "reencode_mask_ratio"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"objective.{name}={getattr(self, name)}: needs 0 <= ratio < 1")

    @property
    def idempotent(self) -> bool:
        """Whether generated clips are re-encoded at all."""
        return self.feature_weight > 0 or self.distribution_weight > 0

    @property
    def ramped(self) -> bool:
        """Whether there is a loss that `start_epoch` and `ramp_epochs` hold back."""
        return self.name == "igm" and (self.idempotent or self.entropy_weight > 0)

    @property
    def reads_queue(self) -> bool:
        """Whether a loss compares with the features of earlier clips."""
        igm = self.name == "igm" and self.distribution_weight > 0
        return igm or self.name == "momentum_contrast"


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with warm-up and cosine decay. Comments on every key: configs/base.py."""

    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-5
    warmup_epochs: float = 20.0
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = 1.0

    def __post_init__(self):
        _at_least("optimizer", self, 0, "warmup_epochs", "weight_decay", "final_learning_rate")
        if self.learning_rate <= 0 or self.clip_norm <= 0:
            raise InputError(
                f"optimizer.learning_rate={self.learning_rate} and clip_norm={self.clip_norm} "
                "must be > 0"
            )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Length of the run and what is done along it. Comments on every key: configs/base.py."""

    epochs: int = 500
    batch_size: int = 128
    log_every: int = 50
    knn_every: int = 25
    knn_clips: int = 65_536
    checkpoint_every: int = 25
    keep_checkpoints: int = 2
    tensorboard: bool = False

    def __post_init__(self):
        _at_least(
            "train", self, 1, "epochs", "batch_size", "log_every", "knn_every", "knn_clips",
            "checkpoint_every", "keep_checkpoints",
        )  # fmt: skip

    def steps_per_epoch(self, num_clips: int) -> int:
        """Whole batches in so many clips; at least one."""
        return max(1, num_clips // self.batch_size)


@dataclasses.dataclass(frozen=True)
class ProbeConfig:
    """Linear probe (MAMP's optimiser and epochs). Comments on every key: configs/base.py."""

    epochs: int = 100
    batch_size: int = 256
    learning_rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)

    def __post_init__(self):
        _at_least("probe", self, 1, "epochs", "batch_size")


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """Everything a run depends on; with the data it determines the result.

    What changes no number beyond its rounding is not a part of what a run is: `BOOKKEEPING`.
    """

    name: str = "base"
    seed: int = 0
    data: DataConfig = DataConfig()
    model: IGMConfig = IGMConfig(encoder=EncoderConfig(channels=6))  # of data.streams together
    objective: ObjectiveConfig = ObjectiveConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    parallel: ParallelConfig = ParallelConfig()
    probe: ProbeConfig = ProbeConfig()

    def __post_init__(self):
        if self.model.adapter.over == "batch" and self.data.bodies > 1:
            raise InputError(
                'model.adapter.over="batch" filters all rows of the batch alike and cannot leave '
                'absent bodies out: use "tokens", or data.bodies=1'
            )
        self._check_objective()
        queue, batch = self.objective.queue_size, self.train.batch_size
        if queue < batch or queue % batch:
            raise InputError(
                f"objective.queue_size={queue} is not a multiple of train.batch_size={batch}: use "
                f"{max(1, queue // batch) * batch}"
            )

    def check_length(self, clips: int | None = None) -> None:
        """Refuses to begin a run that ends before its own phases do.

        Not part of the config's own checks: runs that were begun can always be read.

        Args:
          clips: in the pre-training split, if that is known.
        """
        o, epochs, warmup = self.objective, self.train.epochs, self.optimizer.warmup_epochs
        if warmup >= epochs:
            raise InputError(
                f"optimizer.warmup_epochs={warmup:g} is not less than train.epochs={epochs}, so "
                "the learning rate would never decay: set "
                f"--config.optimizer.warmup_epochs={epochs / 10:g}, or more epochs"
            )
        if o.ramped and o.start_epoch >= epochs:
            raise InputError(
                f"objective.start_epoch={o.start_epoch} is not less than train.epochs={epochs}, so "
                f"L_gen would stay alone: set --config.objective.start_epoch={epochs // 10}, or "
                "all weights but L_gen's to 0"
            )
        if o.ramped and o.start_epoch + o.ramp_epochs > epochs:
            raise InputError(
                f"objective.start_epoch={o.start_epoch} and objective.ramp_epochs={o.ramp_epochs} "
                f"together are more than train.epochs={epochs}, so the weights would never be "
                f"reached: set --config.objective.ramp_epochs={(epochs - o.start_epoch) // 2}, or "
                "more epochs"
            )
        if clips is not None and o.reads_queue and o.queue_size > clips:
            batch = self.train.batch_size
            raise InputError(
                f"objective.queue_size={o.queue_size} is more than the {clips} clips to pre-train "
                "on, so a clip would be compared with older features of itself: set "
                f"--config.objective.queue_size={max(1, clips // 2 // batch) * batch}"
            )

    def fitted(self, joints: int, channels: int, bodies: int) -> "ExperimentConfig":
        """This with the numbers of the data where model.encoder or data.bodies says 0.

        Args:
          joints: V.
          channels: of all streams together.
          bodies: M, the most that a clip of the store has.
        """
        encoder = self.model.encoder
        encoder = dataclasses.replace(
            encoder, joints=encoder.joints or joints, channels=encoder.channels or channels
        )
        return dataclasses.replace(
            self,
            data=dataclasses.replace(self.data, bodies=self.data.bodies or bodies),
            model=dataclasses.replace(self.model, encoder=encoder),
        )

    def _check_objective(self) -> None:
        """What the objective cannot do without; what depends on the data, once it is `fitted`."""
        o, tokens = self.objective, self.model.encoder.num_tokens
        hidden = tokens - masking.num_visible(tokens, o.mask_ratio)
        masked = {
            # A motion of motions is no target, and a bone shows the hidden joint at its other end.
            "data.streams=('joint',)": self.data.streams == ("joint",),
            "data.crops=1": self.data.crops == 1,
            "model.projector_width=0": self.model.projector_width == 0,
            "objective.mask_ratio that hides a token": hidden > 0 or not self.model.encoder.joints,
        }
        views = {"data.crops=2": self.data.crops == 2}
        negatives = {"train.batch_size above 1": self.train.batch_size > 1}
        teacher = {"a teacher (objective.ema_decay above 0)": o.ema_decay > 0}
        needs = {
            "masked_autoencoding": masked,
            "motion_prediction": masked,
            "spectral_contrastive": views | negatives,
            "momentum_contrast": views | teacher,
        }
        missing = [what for what, is_there in needs.get(o.name, {}).items() if not is_there]
        if missing:
            raise InputError(f"objective.name={o.name!r} needs {' and '.join(missing)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for an error message, or nothing if no known name is near."""
    match = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {match[0]!r}?)" if match else ""


def from_mapping(cls: type, values: Mapping[str, Any], prefix: str = "") -> Any:
    """Builds a (nested) frozen dataclass from a mapping, refusing what does not fit.

    Args:
      cls: the dataclass.
      values: key → value; nested dataclasses are nested mappings. Keys left out keep their default.
      prefix: name of this part, for messages.

    Returns:
      An instance of `cls`.

    Raises:
      InputError: an unknown key (naming the nearest known one) or a value of another type.
    """
    hints = typing.get_type_hints(cls)
    fields = {f.name: hints[f.name] for f in dataclasses.fields(cls)}
    kwargs = {}
    for key, value in values.items():
        if key not in fields:
            raise InputError(f"config has no key {prefix + key!r}{nearest(key, fields)}")
        kwargs[key] = _convert(fields[key], value, prefix + key)
    return cls(**kwargs)


def _convert(kind: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise InputError(f"config key {name!r} is a group of keys, not {value!r}")
        return from_mapping(kind, value, name + ".")
    if isinstance(kind, types.GenericAlias):  # tuple[float, float] or tuple[float, ...]
        items = typing.get_args(kind)
        if not isinstance(value, list | tuple) or not value:
            raise InputError(f"config key {name!r} needs a tuple of numbers, not {value!r}")
        if items[-1] is Ellipsis:
            items = items[:1] * len(value)
        if len(items) != len(value):
            raise InputError(f"config key {name!r} needs {len(items)} numbers, not {value!r}")
        return tuple(_convert(item, v, name) for item, v in zip(items, value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        raise InputError(f"config key {name!r} needs {kind.__name__}, not {value!r}")
    return value


def to_mapping(config: Any) -> dict[str, Any]:
    """Plain JSON types (tuples become lists); `from_mapping` is the inverse."""
    plain = lambda v: list(v) if isinstance(v, tuple) else v  # noqa: E731
    return {
        f.name: to_mapping(v) if dataclasses.is_dataclass(v) else plain(v)
        for f in dataclasses.fields(config)
        for v in [getattr(config, f.name)]
    }


# Keys and groups that change no number of a training run beyond its rounding: with other values of
# these it is the same run. What its data is, the checksums say and not the path.
BOOKKEEPING = frozenset(
    {
        "name",
        "data.path",
        "model.encoder.remat",
        "model.generator.remat",
        "train.log_every",
        "train.knn_every",
        "train.checkpoint_every",
        "train.keep_checkpoints",
        "train.tensorboard",
        "parallel",
        "probe",
    }
)


def differences(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    prefix: str = "",
    ignored: Collection[str] = BOOKKEEPING,
) -> list[str]:
    """`"key: old → new"` for every leaf in which two configs differ as experiments.

    Args:
      old: a config in plain JSON types.
      new: another.
      prefix: name of this part, for the lines.
      ignored: keys and groups that do not count.
    """
    lines = []
    for key in sorted(old.keys() | new.keys()):
        a, b, name = old.get(key), new.get(key), prefix + key
        if name in ignored:
            continue
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differences(a, b, f"{name}.", ignored)
        elif a != b:
            lines.append(f"{name}: {a!r} → {b!r}")
    return lines
