"""Everything random of one training step."""

import dataclasses
import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from torch_reference.layers import grid


class Augmentation(NamedTuple):
    """Of each clip: if it is mirrored [B], and its angles about x, y, z [B, 3]."""

    mirrored: Tensor
    angles: Tensor


class Noising(NamedTuple):
    """Of each clip its step t [B] and if its condition is dropped [B]; ε of each row."""

    t: Tensor
    noise: Tensor
    dropped: Tensor


@dataclasses.dataclass(frozen=True)
class Draws:
    """All that a step draws; R = B · M rows.

    Attributes:
      clip: augmentation of the clip that g generates.
      other: augmentation of the second view, which f reads; None with one view.
      order: [R, N] permutations; f sees the head of each. None if nothing is hidden.
      input_noise: [R, T, V, C], unit variance.
      generate: what L_gen draws.
      own: what L_ide draws for itself, or None.
      reencode_order: like `order`, for the generated clips.
      feature_t: t' [B].
      feature_noise: ε' [B, D].
    """

    clip: Augmentation
    other: Augmentation | None
    order: Tensor | None
    input_noise: Tensor
    generate: Noising
    own: Noising | None
    reencode_order: Tensor | None
    feature_t: Tensor
    feature_noise: Tensor

    def to(self, device: torch.device) -> "Draws":
        """The same on another device."""

        def move(x: Any) -> Any:
            if isinstance(x, tuple):
                return type(x)(*map(move, x))
            return x if x is None else x.to(device)

        return Draws(**{f.name: move(getattr(self, f.name)) for f in dataclasses.fields(self)})


def own_steps(objective: Any) -> int:
    """How many steps L_ide draws its own t from."""
    return max(1, round(objective.max_t_share * objective.diffusion_steps))


def feature_steps(objective: Any) -> int:
    """How many steps t' is drawn from."""
    return max(1, round(objective.max_feature_t_share * objective.diffusion_steps))


def draw(config: Any, clips: int, device: torch.device) -> Draws:
    """Fresh draws for a batch of `clips` clips from PyTorch's own generator."""
    o, e, rows = config.objective, config.model.encoder, clips * config.data.bodies
    shape = (rows, e.frames, e.joints, e.channels)
    tokens = math.prod(grid(e))

    def augmentation() -> Augmentation:
        limit = torch.tensor(config.data.rotation, device=device)
        angles = (2 * torch.rand(clips, 3, device=device) - 1) * limit
        return Augmentation(torch.rand(clips, device=device) < config.data.mirror, angles)

    def noising(steps: int) -> Noising:
        dropped = torch.rand(clips, device=device) < o.condition_drop
        t = torch.randint(steps, (clips,), device=device)
        return Noising(t, torch.randn(shape, device=device), dropped)

    def permutations() -> Tensor:
        return torch.rand(rows, tokens, device=device).argsort(dim=1)

    return Draws(
        clip=augmentation(),
        other=augmentation() if config.data.crops == 2 else None,
        order=permutations() if o.mask_ratio > 0 else None,
        input_noise=torch.randn(shape, device=device),
        generate=noising(o.diffusion_steps),
        own=noising(own_steps(o)) if o.own_t else None,
        reencode_order=permutations() if o.reencode_mask_ratio > 0 else None,
        feature_t=torch.randint(feature_steps(o), (clips,), device=device),
        feature_noise=torch.randn(clips, e.width, device=device),
    )
