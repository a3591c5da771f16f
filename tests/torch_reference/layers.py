"""Layers that the encoder and the generator share."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-6  # of every LayerNorm


def grid(encoder: Any) -> tuple[int, int]:
    """Tokens of a clip in time, and tokens at each time."""
    return encoder.frames // encoder.patch_frames, encoder.joints // (
        encoder.patch_joints or encoder.joints
    )


def token_numbers(encoder: Any) -> int:
    """Numbers in a token."""
    clip = encoder.frames * encoder.joints * encoder.channels
    return clip // math.prod(grid(encoder))


def patchify(clip: Tensor, steps: int, groups: int) -> Tensor:
    """[B, T, V, C] → [B, steps · groups, P]: some frames of neighbouring joints, joints fastest."""
    b, t, v, c = clip.shape
    patches = clip.view(b, steps, t // steps, groups, v // groups, c).transpose(2, 3)
    return patches.reshape(b, steps * groups, -1)


def unpatchify(patches: Tensor, steps: int, groups: int, clip: tuple[int, int, int]) -> Tensor:
    """The inverse of `patchify`, for clips [T, V, C]."""
    frames, joints, channels = clip
    x = patches.view(-1, steps, groups, frames // steps, joints // groups, channels)
    return x.transpose(2, 3).reshape(-1, frames, joints, channels)


def select(tokens: Tensor, index: Tensor) -> Tensor:
    """Tokens [B, N, D] at `index` [B, n] → [B, n, D]."""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))


class Position(nn.Module):
    """A learned vector of each patch in time, plus one of each patch of joints."""

    def __init__(self, steps: int, groups: int, width: int):
        super().__init__()
        self.temporal = nn.Parameter(torch.randn(steps, width) * 0.02)
        self.spatial = nn.Parameter(torch.randn(groups, width) * 0.02)

    def forward(self) -> Tensor:
        """[N, D]."""
        return (self.temporal[:, None] + self.spatial).flatten(0, 1)


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, D] → [B, N, D]."""
        b, n, d = x.shape
        qkv = self.qkv(x).view(b, n, 3, self.heads, d // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).reshape(b, n, d))


class Mlp(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.hidden = nn.Linear(width, hidden)
        self.out = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] → [..., D]."""
        return self.out(F.gelu(self.hidden(x), approximate="tanh"))


class Block(nn.Module):
    """Pre-LN transformer block."""

    def __init__(self, width: int, heads: int, mlp_width: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPSILON)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=EPSILON)
        self.mlp = Mlp(width, mlp_width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, N, D] → [B, N, D]."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


def time_embedding(t: Tensor, width: int, max_period: float = 10000.0) -> Tensor:
    """[B] → [B, D]: cosines, then sines, at frequencies from 1 down to nearly 1 / max_period."""
    half = width // 2
    exponent = torch.arange(half, dtype=torch.float64, device=t.device) / half
    angles = t.float()[:, None] * (max_period**-exponent).float()
    return torch.cat([angles.cos(), angles.sin()], dim=-1)
