"""The experiment as one frozen dataclass, its checks, and what makes two of them the same run.

A ConfigDict never gets past `mapping.from_mapping`.
"""

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from igm_jax.arguments import check_seed
from igm_jax.errors import InputError
from igm_jax.models import EncoderConfig, IGMConfig
from igm_jax.parallel import ParallelConfig
from igm_jax.training import objectives
from igm_jax.training.config_data import DataConfig
from igm_jax.training.config_groups import (
    ObjectiveConfig,
    OptimizerConfig,
    ProbeConfig,
    TrainConfig,
)


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """All settings of a run; with the data they determine the result.

    Settings in `BOOKKEEPING` change numbers by rounding only and do not identify a run.

    Attributes:
      name: the run folder is runs/<name>.
      seed: initial weights, data order, augmentation and noise follow from it.
      data: see `DataConfig`.
      model: see `IGMConfig`.
      objective: see `ObjectiveConfig`.
      optimizer: see `OptimizerConfig`.
      train: see `TrainConfig`.
      parallel: see `ParallelConfig`; where a step is computed changes no number.
      probe: see `ProbeConfig`.
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
        check_seed(self.seed)
        if self.model.adapter.over == "batch" and self.data.bodies > 1:
            raise InputError(
                'model.adapter.over="batch" filters all rows of the batch alike and cannot leave '
                'absent bodies out: use "tokens", or data.bodies=1'
            )
        objectives.check(self.objective, self.data, self.model, self.train)

    def check_length(self, clips: int | None = None) -> None:
        """Refuses a run that is shorter than its warm-up, start or ramp.

        This is not a check of the config itself, so that old runs can always be read.

        Args:
          clips: in the pre-training split, if that is known.
        """
        short = list(self._longer_than_the_run())
        if short:
            problems, flags = zip(*short)
            raise InputError(
                f"{', and '.join(problems)}: set {' '.join(flags)}, or more train.epochs"
            )
        o = self.objective
        if clips is not None and objectives.reads_queue(o) and o.queue_size > clips:
            raise InputError(
                f"objective.queue_size={o.queue_size} is more than the {clips} clips to pre-train "
                "on, so a clip would be compared with older features of itself: set "
                f"--config.objective.queue_size={max(1, clips // 2)}"
            )

    def _longer_than_the_run(self) -> Iterator[tuple[str, str]]:
        """Yields (problem, flag that mends it) for each schedule that does not fit the epochs."""
        o, epochs, warmup = self.objective, self.train.epochs, self.optimizer.warmup_epochs
        if warmup >= epochs:
            yield (
                f"optimizer.warmup_epochs={warmup:g} is not less than train.epochs={epochs}, so "
                "the learning rate would never decay",
                f"--config.optimizer.warmup_epochs={epochs / 10:g}",
            )
        if not objectives.is_ramped(o):
            return
        start = o.start_epoch
        if start >= epochs:
            start = epochs // 10
            yield (
                f"objective.start_epoch={o.start_epoch} is not less than train.epochs={epochs}, so "
                "L_gen would stay alone",
                f"--config.objective.start_epoch={start}",
            )
        if start + o.ramp_epochs > epochs:
            yield (
                f"objective.start_epoch={start} and objective.ramp_epochs={o.ramp_epochs} "
                f"together are more than train.epochs={epochs}, so the weights would never be "
                "reached",
                f"--config.objective.ramp_epochs={(epochs - start) // 2}",
            )

    def spelled_out(self) -> "ExperimentConfig":
        """The same experiment, with every key set that another one decides."""
        return dataclasses.replace(self, data=self.data.spelled_out())

    def with_queue(self, clips: int) -> "ExperimentConfig":
        """Replaces a zero in objective.queue_size, by the number of clips to pre-train on."""
        queue = self.objective.queue_size or max(1, min(clips // 2, 16384))
        objective = dataclasses.replace(self.objective, queue_size=queue)
        return dataclasses.replace(self, objective=objective)

    def fitted(self, joints: int, channels: int, bodies: int) -> "ExperimentConfig":
        """Replaces zeros in model.encoder and data.bodies by the numbers of the data.

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


# Keys and groups that change numbers by rounding only. With other values it is the same run.
# Checksums identify the data, not the path. data.camera only names values that are compared.
BOOKKEEPING = frozenset(
    {
        "name",
        "data.path",
        "data.camera",
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
    """Lists `"key: old → new"` for every setting in which two experiments differ.

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
