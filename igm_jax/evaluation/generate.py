"""Loads the generator of a run, and generates clips with it."""

import dataclasses
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float32

from igm_jax import progress
from igm_jax.errors import InputError
from igm_jax.evaluation import inpainting, sampling
from igm_jax.evaluation.given import Given, given_of_clips
from igm_jax.evaluation.run import Run, checked_clips, load_run, present_bodies
from igm_jax.models import IGM
from igm_jax.training import checkpoint

BATCH_SIZE = 64  # clips in one call of the networks


@dataclasses.dataclass(frozen=True)
class LoadedGenerator:
    """The generator of a run with its encoder; `load_generator` makes it.

    Clips go in and come out as float32 [B, M, T, V, C] in metres (or the units of the training
    data), in the coordinates of the run and resized to its T frames. `read` makes such clips from
    raw ones, and `Given.placed_back` undoes the coordinates. A seed and the position of a clip
    decide its noise, so the size of a batch does not.

    Attributes:
      run: the run.
      params: parameters of f and g, `{"encoder": …, "generator": …}`.
    """

    run: Run
    params: Any

    @property
    def has_unconditional(self) -> bool:
        """Whether the run trained generation without a condition."""
        return self.run.config.objective.condition_drop > 0

    @property
    def advice(self) -> str:
        """Why generated clips keep much of their noise, with what to set; "" if they need not."""
        config, encoder = self.run.config.model.generator, self.run.config.model.encoder
        numbers = encoder.patch_numbers
        if config.predicts == "clip" or numbers <= config.width:
            return ""
        return (
            f"a token has {numbers} numbers and the generator a width of {config.width}, so it "
            "cannot predict all noise, and clips keep the rest: to generate, train with "
            "--config.model.generator.predicts=clip --config.objective.generation_loss=velocity"
        )

    @property
    def steps(self) -> int:
        """K, steps of the noise schedule."""
        return self.run.config.objective.diffusion_steps

    @property
    def most_ddim_steps(self) -> int:
        """Steps of the schedule from which DDIM chooses: those with a share of signal ≥ 0.02."""
        return self._setting(None).first_step + 1

    def read(self, clips: Any, present: Any = None) -> Given:
        """Reads raw clips; takes the same arguments as `encode` of `load_encoder`."""
        reading = self.run.reading
        channels = self.run.config.model.encoder.channels // len(reading.streams)
        clips = checked_clips(clips, reading.source_layout, channels)
        return given_of_clips(clips, present_bodies(clips, present), reading)

    def one_step(
        self, given: Given, t: int, *, mask_ratio: float | None = None, seed: int = 0
    ) -> Float32[np.ndarray, "B M T V C"]:
        """Noises clips to step t and predicts them in one step, x̂0, from their own features.

        Args:
          given: real clips.
          t: step in 0 … K−1; more noise for a larger one.
          mask_ratio: None conditions g on one pooled feature of each body. A share in [0, 1] hides
            as many tokens from f, as in training: visible tokens condition g one by one if
            `model.condition` says so. With 0 nothing is hidden, and g would copy the tokens, so
            the pooled feature conditions it, as in training. It is the same as None.
          seed: of noise and masks.

        Raises:
          InputError: t or mask_ratio is out of range.
        """
        setting, step = self._setting(mask_ratio), self._step(t)
        return self._batches(
            given.clip,
            given.present,
            lambda clip, index: sampling.one_step(
                self.params, clip, index, seed, step, setting=setting
            ),
        )

    def noised(self, given: Given, t: int, *, seed: int = 0) -> Float32[np.ndarray, "B M T V C"]:
        """The noised clips x_t that `one_step` reads with the same t and seed.

        Raises:
          InputError: t is out of range.
        """
        setting, step = self._setting(None), self._step(t)
        return self._batches(
            given.clip,
            given.present,
            lambda clip, index: sampling.noised(clip, index, seed, step, setting=setting),
        )

    def sample(
        self,
        given: Given,
        num_steps: int,
        *,
        mask_ratio: float | None = None,
        seed: int = 0,
    ) -> Float32[np.ndarray, "B M T V C"]:
        """Samples clips from noise by DDIM, conditioned on the features of real ones.

        Args:
          given: real clips.
          num_steps: evaluations of g, in 1 … `most_ddim_steps`.
          mask_ratio: see `one_step`.
          seed: of noise and masks.

        Raises:
          InputError: an argument is out of range.
        """
        setting = self._setting(mask_ratio, num_steps)
        return self._batches(
            given.clip,
            given.present,
            lambda clip, index: sampling.sample(self.params, clip, index, seed, setting=setting),
        )

    def inpaint(
        self,
        given: Given,
        hidden: Bool[np.ndarray, "T V"],
        num_steps: int,
        *,
        pose: Float32[np.ndarray, "V C"],
        start: int | None = None,
        mask_ratio: float | None = None,
        seed: int = 0,
    ) -> Float32[np.ndarray, "B M T V C"]:
        """Generates the hidden joints or frames of real clips, and keeps all others.

        Nothing of what is hidden is read: f reads `inpainting.filled` in its place, and g the noise
        of DDIM. The frame of reference counts as known, and in `posture` the path of its origin.

        Args:
          given: real clips.
          hidden: True where hidden; `inpainting.hidden_part` makes it.
          num_steps: evaluations of g, in 1 … `most_ddim_steps`, or 1 … start + 1.
          pose: mean pose of the training clips, of `inpainting.mean_pose`.
          start: step t at which DDIM starts from the guess of `inpainting.filled`; None starts
            from noise.
          mask_ratio: see `one_step`.
          seed: of noise and masks.

        Raises:
          InputError: an argument is out of range, or everything or nothing is hidden.

        References:
          Lugmayr et al., RePaint (CVPR 2022), without resampling; Meng et al., SDEdit (ICLR 2022),
          for `start`.
        """
        c = self.run.config.model.encoder
        if hidden.shape != (c.frames, c.joints) or hidden.all() or not hidden.any():
            raise InputError(
                f"hidden is {list(hidden.shape)}, True at {hidden.mean():.0%}: it has to be "
                f"[T, V] = {[c.frames, c.joints]}, True at some places and False at others"
            )
        if start is not None:
            self._step(start)
        setting = self._setting(mask_ratio, num_steps, start=start)
        known = inpainting.known_streams(hidden, self.run.reading)
        made = self._batches(
            inpainting.filled(given.clip, hidden, pose, self.run.reading.layout),
            given.present,
            lambda guess, index: sampling.inpaint(
                self.params, guess, known, index, seed, setting=setting
            ),
        )
        return np.where(hidden[..., None], made, given.clip)

    def unconditional(
        self, count: int, num_steps: int, *, seed: int = 0
    ) -> Float32[np.ndarray, "B 1 T V C"]:
        """Samples clips of one body from noise alone.

        Args:
          count: B.
          num_steps: evaluations of g, in 1 … `most_ddim_steps`.
          seed: of the noise.

        Raises:
          InputError: the run did not train it, or an argument is out of range.
        """
        if not self.has_unconditional:
            raise InputError(
                f"{self.run.folder} was trained with objective.condition_drop=0, so it cannot "
                "generate without a condition: give clips, or train with "
                "--config.objective.condition_drop=0.1"
            )
        if count < 1:
            raise InputError(f"count={count}: generate at least one clip")
        c, setting = self.run.config.model.encoder, self._setting(None, num_steps, False)
        channels = c.channels // len(self.run.reading.streams)
        return self._batches(
            np.zeros((count, 1, c.frames, c.joints, channels), np.float32),
            np.ones((count, 1), bool),
            lambda clip, index: sampling.sample(self.params, clip, index, seed, setting=setting),
        )

    def _step(self, t: int) -> jax.Array:
        if not 0 <= t < self.steps:
            raise InputError(f"t={t} is outside 0..{self.steps - 1}, the steps of the run")
        return jnp.int32(t)

    def _setting(
        self,
        mask_ratio: float | None,
        num_steps: int = 1,
        conditioned: bool = True,
        start: int | None = None,
    ) -> sampling.Setting:
        if mask_ratio is not None and not 0 <= mask_ratio <= 1:
            raise InputError(f"mask_ratio={mask_ratio} is outside 0..1")
        c, reading = self.run.config, self.run.reading
        setting = sampling.Setting(
            c.model, c.objective, reading, mask_ratio or None, num_steps, conditioned, start
        )
        if not 1 <= num_steps <= setting.first_step + 1:
            raise InputError(
                f"{num_steps} DDIM steps are outside 1..{setting.first_step + 1}: DDIM starts at "
                f"t={setting.first_step}"
            )
        return setting

    def _batches(
        self, clips: np.ndarray, present: np.ndarray, make: Callable[[np.ndarray, np.ndarray], Any]
    ) -> Float32[np.ndarray, "B M T V C"]:
        """Calls `make(clips, positions)` on batches of one size, and joins the results."""
        count, parts = len(clips), []
        size = min(BATCH_SIZE, count)
        starts = range(0, count, size)
        for start in progress.counted(starts, "batches of generated clips", len(starts)):
            index = np.arange(start, start + size)
            rows = np.minimum(index, count - 1)  # fills the last batch with its last clip
            parts.append(np.asarray(make(clips[rows], index))[: count - start])
        clip = np.concatenate(parts)
        return np.where(present[..., None, None, None], clip, np.float32(0))


def load_generator(folder: str | pathlib.Path, which: str | int = "last") -> LoadedGenerator:
    """Loads the generator of a run, and the encoder whose features it reads.

    Args:
      folder: of a pre-training run with objective igm.
      which: "last", "best" by validation KNN, or a step.

    Raises:
      InputError: no such run, an objective without a generator, or a run that reads no joint
        positions.

    References:
      Song et al., DDIM (ICLR 2021), for `LoadedGenerator.sample`.
    """
    return generator_of(load_run(folder, which))


def generator_of(run: Run) -> LoadedGenerator:
    """Like `load_generator`, for a run whose encoder is loaded."""
    objective, streams = run.config.objective.name, run.reading.streams
    if objective != "igm":
        raise InputError(
            f"{run.folder} has the objective {objective}, which has no generator: choose one with "
            "objective.name=igm"
        )
    if "joint" not in streams:
        raise InputError(
            f"{run.folder} reads the streams {', '.join(streams)}, from which joint positions do "
            "not follow: choose a run with joint in data.streams"
        )
    c = run.config.model.encoder
    clip = jax.ShapeDtypeStruct((1, c.frames, c.joints, c.channels), jnp.float32)
    shapes = jax.eval_shape(IGM(run.config.model).init, jax.random.key(0), clip)["params"]
    wanted = {"generator": shapes["generator"]}
    params = checkpoint.restore_params(run.folder, run.step, wanted)
    return LoadedGenerator(run, {"encoder": run.params, **params})
