"""The groups of config keys, each a frozen dataclass: the one home of meanings and defaults.

Those of the networks and of the mesh stand beside what they configure, in `igm_jax.models` and
`igm_jax.parallel`. [paper] marks what IGM publishes, [MacDiff], [MAMP] and [ActCLR] what its
relatives do, [ours] a choice that nothing published decides, [open] one that the paper leaves open.
Sizes are the paper's, for NTU; docs/method.md has the evidence for our choices.
"""

import dataclasses
import math

from igm_jax import diffusion
from igm_jax.errors import InputError
from igm_jax.training.config_checks import check_at_least, check_choice


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """The losses, and every choice that they leave open.

    Attributes:
      name: how f is trained: igm, or a baseline that docs/objectives.md lists.
      schedule: noise schedule: inverse_cosine [MacDiff], cosine or linear.
      diffusion_steps: K [MacDiff].
      mask_ratio: share of the tokens hidden from f; 0 conditions g on the pooled feature.
      masking: masked_autoencoding hides single tokens, or joints_and_frames, each in an equal share
        [SkeletonMAE].
      input_noise: σ of the noise on the input of f, in standardised units [MacDiff].
      condition_drop: share of the clips generated without a condition [ours; MacDiff 0.1].
      generation_loss: L_gen is the error of the predicted noise, or with velocity that error over
        ᾱ_t, in which very noisy clips count more [ours].
      feature_weight: λ of L_ide_feat [ours].
      distribution_weight: λ of L_ide_dist [ours].
      entropy_weight: λ of an explicit entropy term, beside the implicit one of L_gen [ours].
      entropy: form of that term: coding_length, or second_order (spectral repulsion).
      distortion: ε of the coding length, also in the log.
      start_epoch: epochs of L_gen alone.
      ramp_epochs: epochs over which all λ then grow linearly; at first x̂0 is noise [ours].
      target_temperature: temperature of P(x) in L_ide_dist [ActCLR: 0.04].
      temperature: temperature of P(x̂0), and of momentum contrast [ActCLR].
      queue_size: Q, reference features, fewer than the clips; 0 = half of them, at most 16,384
        [ours].
      ema_decay: decay of a teacher that makes targets and queue; 0 = f makes them [ours].
      aux_tokens: tell f of z_t', t and t' while it re-encodes [paper: True].
      reencode_mask_ratio: share of the tokens of x̂0 that are hidden from f [ours].
      max_t_share: clips noised beyond max_t_share · K are left out of L_ide [ours].
      max_feature_t_share: t' of the auxiliary tokens is drawn up to max_feature_t_share · K [ours].
      own_t: L_ide draws its own t up to max_t_share · K instead of sharing that of L_gen [open].
      clean_clip: limit of x̂0 in standard deviations [ours].
      clean_gradient: let the gradient of L_ide pass through x̂0 into g [open].
      target_gradient: without a teacher, let L_ide_feat also pull f(x) towards f(x̂0) [open].
      motion_temperature: temperature of motion-aware masking in motion_prediction [MAMP].
      spectral_mu: squared radius of the features in spectral_contrastive [ours].
      magnitude_step: width of the classes of size in displacement_prediction, in standardised units
        [ours].
      mining_start: share of the run after which the second stage begins: positives are mined from
        the queue, or actionlets are used; 1 = never [AimCLR].
      mined_positives: nearest entries of the queue that then count as positives [ours; AimCLR 1].
    """

    name: str = "igm"
    schedule: str = "inverse_cosine"
    diffusion_steps: int = 1000
    mask_ratio: float = 0.9
    masking: str = "tokens"
    input_noise: float = 0.005
    condition_drop: float = 0.0
    generation_loss: str = "noise"
    feature_weight: float = 1.0
    distribution_weight: float = 0.1
    entropy_weight: float = 8.0
    entropy: str = "second_order"
    distortion: float = 0.5
    start_epoch: int = 0
    ramp_epochs: int = 10
    target_temperature: float = 0.05
    temperature: float = 0.1
    queue_size: int = 0
    ema_decay: float = 0.0
    aux_tokens: bool = False
    reencode_mask_ratio: float = 0.9
    max_t_share: float = 0.15
    max_feature_t_share: float = 1.0
    own_t: bool = True
    clean_clip: float = 5.0
    clean_gradient: bool = False
    target_gradient: bool = True
    motion_temperature: float = 0.75
    spectral_mu: float = 16.0
    magnitude_step: float = 0.05
    mining_start: float = 0.5
    mined_positives: int = 10

    def __post_init__(self):
        check_at_least("objective", self, 1, "diffusion_steps", "mined_positives")
        check_at_least("objective", self, 0, "queue_size")
        check_at_least("objective", self, 0, "start_epoch", "ramp_epochs")
        if not 0 <= self.mining_start <= 1:
            raise InputError(f"objective.mining_start={self.mining_start}: must be in [0, 1]")
        if not 0 <= self.ema_decay < 1 or not 0 <= self.condition_drop <= 1:
            raise InputError(
                f"objective.ema_decay={self.ema_decay} must be in [0, 1) and "
                f"condition_drop={self.condition_drop} in [0, 1]"
            )
        check_choice("objective.schedule", self.schedule, diffusion.SCHEDULES)
        check_choice("objective.masking", self.masking, ("tokens", "joints_and_frames"))
        check_choice("objective.generation_loss", self.generation_loss, ("noise", "velocity"))
        check_choice("objective.entropy", self.entropy, ("coding_length", "second_order"))
        for name in (
            "target_temperature",
            "temperature",
            "clean_clip",
            "distortion",
            "motion_temperature",
            "spectral_mu",
            "magnitude_step",
        ):
            if getattr(self, name) <= 0:
                raise InputError(f"objective.{name}={getattr(self, name)}: must be above 0")
        for name in ("feature_weight", "distribution_weight", "entropy_weight", "input_noise"):
            if getattr(self, name) < 0:
                raise InputError(f"objective.{name}={getattr(self, name)}: must not be negative")
        for name in ("max_t_share", "max_feature_t_share"):
            share = getattr(self, name)
            if not 0 < share <= 1:
                raise InputError(f"objective.{name}={share}: must be in (0, 1]")
            if share * self.diffusion_steps < 1:
                raise InputError(
                    f"objective.{name}={share} is less than one of the "
                    f"objective.diffusion_steps={self.diffusion_steps}: set {name} to at least "
                    f"{1 / self.diffusion_steps:.3g}"
                )
        for name in ("mask_ratio", "reencode_mask_ratio"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"objective.{name}={getattr(self, name)}: needs 0 <= ratio < 1")

    @property
    def idempotent(self) -> bool:
        """Whether generated clips are re-encoded."""
        return self.feature_weight > 0 or self.distribution_weight > 0


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with warm-up and cosine decay.

    Attributes:
      learning_rate: peak [MAMP].
      final_learning_rate: end of the cosine [MAMP].
      warmup_epochs: epochs of linear growth [MAMP].
      weight_decay: biases and norms are exempt [MAMP], embeddings too [ours].
      betas: decay of the two moments [MAMP].
      clip_norm: limit of the global gradient norm [ours].
    """

    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-5
    warmup_epochs: float = 20.0
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = 1.0

    def __post_init__(self):
        check_at_least("optimizer", self, 0, "warmup_epochs", "weight_decay", "final_learning_rate")
        if not (0 < self.learning_rate < math.inf and self.clip_norm > 0):
            raise InputError(
                f"optimizer.learning_rate={self.learning_rate} and clip_norm={self.clip_norm} "
                "must be > 0"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"optimizer.betas={self.betas}: must be in [0, 1)")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Length of a run, and how often it logs, evaluates and saves.

    Attributes:
      epochs: length of the run [MacDiff].
      min_epoch_steps: least steps of an epoch. Of few clips, an epoch then passes over all of them
        several times, and warm-up, ramp, KNN and checkpoints keep their share of the run [ours].
      batch_size: global, over all devices [MAMP].
      log_every: steps between two lines of the log.
      knn_every: epochs between two KNN evaluations on the validation clips.
      knn_clips: most clips of each part, fit and val, that KNN reads; of more a fixed sample.
      checkpoint_every: epochs between checkpoints; each KNN saves one as well.
      keep_checkpoints: newest checkpoints that are kept, beside the best by KNN.
      tensorboard: also write TensorBoard events (needs tensorboardX).
    """

    epochs: int = 500
    min_epoch_steps: int = 1
    batch_size: int = 128
    log_every: int = 50
    knn_every: int = 25
    knn_clips: int = 65_536
    checkpoint_every: int = 25
    keep_checkpoints: int = 2
    tensorboard: bool = False

    def __post_init__(self):
        check_at_least(
            "train",
            self,
            1,
            "epochs",
            "min_epoch_steps",
            "batch_size",
            "log_every",
            "knn_every",
            "knn_clips",
            "checkpoint_every",
            "keep_checkpoints",
        )

    def steps_per_epoch(self, num_clips: int) -> int:
        """Whole batches in so many clips; at least `min_epoch_steps`."""
        return max(self.min_epoch_steps, num_clips // self.batch_size)


@dataclasses.dataclass(frozen=True)
class ProbeConfig:
    """Linear probe (MAMP's optimiser and epochs).

    Attributes:
      epochs: length [MAMP].
      batch_size: clips in a step [MAMP].
      learning_rates: one is chosen on validation clips [MAMP: 0.1].
    """

    epochs: int = 100
    batch_size: int = 256
    learning_rates: tuple[float, ...] = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)

    def __post_init__(self):
        check_at_least("probe", self, 1, "epochs", "batch_size")
        if not all(0 < rate < math.inf for rate in self.learning_rates):
            raise InputError(f"probe.learning_rates={self.learning_rates}: must be > 0")
