"""One training step: augmentation, loss, gradients, clipping, AdamW, teacher and queue."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from torch_reference.draws import Draws
from torch_reference.inputs import augment, standardise
from torch_reference.model import IGM, Featurizer
from torch_reference.objective import Result, alpha_bar, igm_loss
from torch_reference.weights import state_dict


def learning_rate(step: int, c: Any, total_steps: int, steps_per_epoch: int) -> float:
    """Linear warm-up from 0, then a cosine from the peak to the final rate."""
    warmup = min(round(c.warmup_epochs * steps_per_epoch), total_steps - 1)
    if step < warmup:
        return c.learning_rate * step / warmup
    share = min(1.0, (step - warmup) / (total_steps - warmup))
    cosine = (1 + math.cos(math.pi * share)) / 2
    return c.final_learning_rate + (c.learning_rate - c.final_learning_rate) * cosine


def decays(name: str, module: nn.Module) -> bool:
    """Weights of linear layers decay; biases, norms and embeddings do not."""
    parent, _, leaf = name.rpartition(".")
    return leaf == "weight" and isinstance(module.get_submodule(parent), nn.Linear)


class Trainer:
    """A model with its optimiser, teacher and queue.

    Args:
      config: the experiment.
      reading: how f reads a clip.
      params: linen parameters to start from.
      queue: [Q, E] unit reference features to start from.
      total_steps: length of the run.
      steps_per_epoch: turns epochs into steps.
      device: where it runs.
      compiled: `torch.compile` the loss.
    """

    def __init__(
        self,
        config: Any,
        reading: Any,
        params: Mapping[str, Any],
        queue: Any,
        *,
        total_steps: int,
        steps_per_epoch: int,
        device: str = "cpu",
        compiled: bool = False,
    ):
        self.config, self.reading, self.device = config, reading, torch.device(device)
        self.total_steps, self.steps_per_epoch, self.step_count = total_steps, steps_per_epoch, 0
        self.model = IGM(config.model)
        self.model.load_state_dict(state_dict(params))
        self.model.to(self.device)
        self.queue = torch.tensor(queue).to(self.device)
        o, c = config.objective, config.optimizer
        self.share = alpha_bar(o.schedule, o.diffusion_steps).to(self.device)
        self.teacher = None
        if o.ema_decay > 0:
            self.teacher = Featurizer(config.model).to(self.device).requires_grad_(False)
            taught = self.model.state_dict()
            self.teacher.load_state_dict({name: taught[name] for name in self.teacher.state_dict()})
        groups = {True: [], False: []}
        for name, parameter in self.model.named_parameters():
            groups[decays(name, self.model)].append(parameter)
        self.optimizer = torch.optim.AdamW(
            [
                {"params": groups[True], "weight_decay": c.weight_decay},
                {"params": groups[False], "weight_decay": 0.0},
            ],
            lr=c.learning_rate,
            betas=c.betas,
        )
        self.loss = torch.compile(igm_loss) if compiled else igm_loss

    @property
    def ramp(self) -> float:
        """Weight of all but L_gen at this step."""
        o = self.config.objective
        start, length = (epochs * self.steps_per_epoch for epochs in (o.start_epoch, o.ramp_epochs))
        return min(max((self.step_count - start) / max(1, length), 0.0), 1.0)

    def gradients(
        self, clip: Tensor, present: Tensor, draws: Draws, other: Tensor | None = None
    ) -> Result:
        """Leaves the gradients of the loss in the parameters.

        Args:
          clip: [B, M, T, V, C] joints in the units of the store.
          present: [B, M].
          draws: all randomness.
          other: like `clip`, the second view; None with one view.
        """
        pairs = self.reading.layout.pairs

        def rows(clip: Tensor, draw: Any) -> Tensor:
            return standardise(augment(clip, draw, pairs), self.reading).flatten(0, 1)

        self.optimizer.zero_grad()
        half = self.config.model.encoder.dtype == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            result = self.loss(
                self.model,
                self.teacher,
                self.queue,
                rows(clip, draws.clip),
                None if other is None else rows(other, draws.other),
                present,
                draws,
                self.config.objective,
                self.share,
                self.ramp,
            )
        result.loss.backward()
        for parameter in self.model.parameters():
            if parameter.grad is None:  # PyTorch would not decay what the loss does not reach
                parameter.grad = torch.zeros_like(parameter)
        return result

    def step(
        self, clip: Tensor, present: Tensor, draws: Draws, other: Tensor | None = None
    ) -> dict[str, Tensor]:
        """One step with the arguments of `gradients`; returns the terms of the loss."""
        result = self.gradients(clip, present, draws, other)
        c = self.config.optimizer
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), c.clip_norm)
        rate = learning_rate(self.step_count, c, self.total_steps, self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        with torch.no_grad():
            self._teach()
            start = self.step_count * len(result.references) % len(self.queue)
            self.queue[start : start + len(result.references)] = result.references
        self.step_count += 1
        return {**result.terms, "grad_norm": norm}

    def _teach(self) -> None:
        """Moves the teacher towards the model."""
        if self.teacher is None:
            return
        model = dict(self.model.named_parameters())
        for name, parameter in self.teacher.named_parameters():
            parameter.lerp_(model[name], 1 - self.config.objective.ema_decay)
