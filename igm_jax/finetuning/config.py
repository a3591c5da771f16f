"""Settings of fine-tuning: the one home of their meanings and defaults.

[MAMP] marks what MAMP publishes for NTU RGB+D, [MacDiff] what MacDiff does, and [ours] a choice
that nothing published decides.
"""

import dataclasses

from igm_jax.arguments import check_seed
from igm_jax.errors import InputError
from igm_jax.parallel import ParallelConfig
from igm_jax.training.config_groups import OptimizerConfig


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
    """All settings of fine-tuning, beside the pre-training run and the labels.

    Clips are read, cropped, mirrored, sheared and rotated as the pre-training run says.

    Attributes:
      seed: head, order of the clips, augmentation and dropout follow from it; subset s adds s.
      epochs: length of the schedule [MAMP].
      min_steps: few labels make short epochs; the schedule has at least this many steps [ours].
      batch_size: global, over all devices; at most the labelled clips [MAMP].
      learning_rates: peaks; validation clips choose one [ours; MAMP 3e-4].
      final_learning_rate: end of the cosine [MAMP].
      warmup_epochs: epochs of linear growth [MAMP].
      weight_decay: biases, norms and embeddings are exempt [ours].
      betas: decay of the two moments [ours].
      clip_norm: limit of the global gradient norm [ours].
      layer_decay: factor on the rate of each block from the head downwards; from scratch all learn
        at one rate [MAMP].
      drop_path: rate of the last block; it grows linearly from 0 at the first [MAMP].
      dropout: share of the pooled features that the head does not see [MAMP 0.3 in the blocks].
      label_smoothing: share of each label that all classes get alike [MAMP].
      hidden: width of the head's hidden layer [MAMP].
      judgements: points of the schedule, equally far apart, at which validation clips are judged
        and the state is saved; one of them is chosen [ours].
      generated: also train on clips that g makes from noise at this share of K; 0 = off
        [MacDiff 0.5].
      generated_weight: weight of such a clip, that of a real one being 1 [ours].
      parallel: see `ParallelConfig`.
    """

    seed: int = 0
    epochs: int = 100
    min_steps: int = 500
    batch_size: int = 48
    learning_rates: tuple[float, ...] = (3e-4, 1e-3)
    final_learning_rate: float = 1e-5
    warmup_epochs: float = 5.0
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = 1.0
    layer_decay: float = 0.8
    drop_path: float = 0.3
    dropout: float = 0.3
    label_smoothing: float = 0.1
    hidden: int = 2048
    judgements: int = 10
    generated: float = 0.0
    generated_weight: float = 1.0
    parallel: ParallelConfig = ParallelConfig()

    def __post_init__(self):
        check_seed(self.seed)
        for name, least in (
            ("epochs", 1),
            ("min_steps", 0),
            ("batch_size", 1),
            ("hidden", 1),
            ("judgements", 1),
            ("generated_weight", 0),
        ):
            if getattr(self, name) < least:
                raise InputError(f"{name}={getattr(self, name)}: must be at least {least}")
        for name in ("drop_path", "dropout", "label_smoothing", "generated"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)}: must be in [0, 1)")
        if not 0 < self.layer_decay <= 1:
            raise InputError(f"layer_decay={self.layer_decay}: must be in (0, 1]")
        if self.warmup_epochs >= self.epochs:
            raise InputError(
                f"warmup_epochs={self.warmup_epochs:g} is not less than epochs={self.epochs}: set "
                f"--config.warmup_epochs={self.epochs / 20:g}, or more epochs"
            )
        if self.parallel.accumulate != 1:
            raise InputError(
                f"parallel.accumulate={self.parallel.accumulate}: fine-tuning has no micro-batches,"
                " set a smaller batch_size"
            )
        for rate in self.learning_rates:
            self.optimizer(rate)

    def optimizer(self, learning_rate: float) -> OptimizerConfig:
        """Settings of AdamW for one of the rates.

        Raises:
          InputError: a value that does not fit.
        """
        return OptimizerConfig(
            learning_rate,
            self.final_learning_rate,
            self.warmup_epochs,
            self.weight_decay,
            self.betas,
            self.clip_norm,
        )

    def total_steps(self, clips: int, batch_size: int) -> int:
        """Length of the schedule for so many labelled clips."""
        return max(self.epochs * max(1, clips // batch_size), self.min_steps)

    def memory_advice(self, clips: int, devices: int) -> str:
        """Settings that reduce the memory of a step, as `training.memory.advice` for pre-training.

        Args:
          clips: labelled clips, of which a batch holds no more.
          devices: how many share a batch.
        """
        at_once = min(self.batch_size, clips) // devices
        told = f"out of memory: {at_once} clips at once on a device do not fit: "
        changes = [f"--config.batch_size={at_once // 2 * devices}"] if at_once > 1 else []
        if self.generated:
            changes.append("--config.generated=0")
        if not changes:
            return told + "nothing is left to set but a pre-training run of a smaller encoder"
        return f"{told}set {' or '.join(changes)}, which is another run, in another --run folder"

    def milestones(self, total_steps: int) -> list[int]:
        """The steps of the `judgements` points; the last is the end of the schedule.

        Several points may be one step of a short schedule. They stay apart, so that a point is the
        same share of the schedules of `fit` and `train`, which differ in length.

        >>> FinetuneConfig(judgements=4).milestones(10)
        [2, 5, 8, 10]
        >>> FinetuneConfig(judgements=4).milestones(3)
        [1, 2, 2, 3]
        """
        count = self.judgements
        return [max(1, round(total_steps * (i + 1) / count)) for i in range(count)]
