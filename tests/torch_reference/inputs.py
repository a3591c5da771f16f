"""From joint coordinates to what f reads: mirrored, turned, streams side by side, standardised."""

from typing import Any

import torch
from torch import Tensor

from torch_reference.draws import Augmentation


def rotation(angles: Tensor) -> Tensor:
    """R_z R_y R_x [B, 3, 3] of angles [B, 3] about x, y, z in radians."""
    one, zero = torch.ones_like(angles[:, 0]), torch.zeros_like(angles[:, 0])
    (cx, cy, cz), (sx, sy, sz) = angles.cos().unbind(1), angles.sin().unbind(1)

    def matrix(*entries: Tensor) -> Tensor:
        return torch.stack(entries, dim=1).view(-1, 3, 3)

    about_x = matrix(one, zero, zero, zero, cx, -sx, zero, sx, cx)
    about_y = matrix(cy, zero, sy, zero, one, zero, -sy, zero, cy)
    about_z = matrix(cz, -sz, zero, sz, cz, zero, zero, zero, one)
    return about_z @ about_y @ about_x


def augment(clip: Tensor, draw: Augmentation, pairs: Any) -> Tensor:
    """Mirrors some clips [B, M, T, V, 3] (x → −x, left and right exchanged), then turns each."""
    partner = torch.arange(clip.shape[-2], device=clip.device)
    for left, right in pairs:
        partner[left], partner[right] = right, left
    sign = torch.tensor([-1.0, 1.0, 1.0], device=clip.device)
    mirrored = clip[..., partner, :] * sign
    clip = torch.where(draw.mirrored[:, None, None, None, None], mirrored, clip)
    return torch.einsum("bij,bmtvj->bmtvi", rotation(draw.angles), clip)


def standardise(clip: Tensor, reading: Any) -> Tensor:
    """Joints [..., T, V, C] → their streams [..., T, V, C · S], less `mean`, over `std`."""

    def stream(name: str) -> Tensor:
        if name == "bone":
            parents = [j if p < 0 else p for j, p in enumerate(reading.layout.parents)]
            return clip - clip[..., parents, :]
        if name == "motion":
            step = clip.diff(dim=-3)
            return torch.cat([step, torch.zeros_like(clip[..., :1, :, :])], dim=-3)
        return clip

    x = torch.cat([stream(name) for name in reading.streams], dim=-1)
    return (x - clip.new_tensor(reading.mean)) / clip.new_tensor(reading.std)
