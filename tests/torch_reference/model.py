"""Encoder f, adapter h and generator g."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torch_reference.layers import (
    EPSILON,
    Attention,
    Block,
    Mlp,
    Position,
    grid,
    patchify,
    select,
    time_embedding,
    token_numbers,
    unpatchify,
)


class Aux(NamedTuple):
    """z_t' [B, D], t' [B] and t [B], which f is told when it reads a generated clip."""

    noisy_feature: Tensor
    feature_t: Tensor
    clip_t: Tensor


class AuxTokens(nn.Module):
    """W z_t' + emb(t'), and emb(t)."""

    def __init__(self, width: int):
        super().__init__()
        self.feature = nn.Linear(width, width)
        self.feature_time = nn.Linear(width, width)
        self.clip_time = nn.Linear(width, width)

    def forward(self, aux: Aux) -> Tensor:
        """[B, 2, D]."""
        width = aux.noisy_feature.shape[-1]
        feature = self.feature(aux.noisy_feature)
        feature = feature + self.feature_time(time_embedding(aux.feature_t, width))
        time = self.clip_time(time_embedding(aux.clip_t, width))
        return torch.stack([feature, time], dim=1)


class Encoder(nn.Module):
    """f: clips [B, T, V, C] → features of the visible tokens [B, n, D]."""

    def __init__(self, c: Any):
        super().__init__()
        self.grid = grid(c)
        self.position = Position(*self.grid, c.width)
        self.embed = nn.Linear(token_numbers(c), c.width)
        self.aux = AuxTokens(c.width)
        self.blocks = nn.ModuleList(Block(c.width, c.heads, c.mlp_width) for _ in range(c.depth))
        self.norm = nn.LayerNorm(c.width, eps=EPSILON)

    def forward(self, clip: Tensor, visible: Tensor | None = None, aux: Aux | None = None):
        """`visible` [B, n] are the indices of the tokens that f may see; None shows all."""
        patches, position = patchify(clip, *self.grid), self.position()
        if visible is not None:
            patches, position = select(patches, visible), position[visible]
        x = self.embed(patches) + position
        if aux is not None:
            x = torch.cat([x, self.aux(aux)], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, : patches.shape[1]])


def mdff(z: Tensor, eta: float, temperature: float) -> Tensor:
    """h: (1 + η) z − η softmax(ẑẑᵀ / τ) z."""
    unit = F.normalize(z, dim=-1)
    similarity = (unit @ unit.transpose(-1, -2) / temperature).softmax(dim=-1)
    return (1 + eta) * z - eta * similarity @ z


class Condition(NamedTuple):
    """Condition of g: distinct features of a clip [B, S, D], and which one each token has [B, N].

    `which` None says that all tokens have the one feature there is.
    """

    features: Tensor
    which: Tensor | None


def adapt(tokens: Tensor, visible: Tensor | None, num_tokens: int, c: Any) -> Condition:
    """Tokens of f → condition of g; visible tokens have their own, hidden ones the pooled one."""
    if c.adapter.over == "tokens":
        tokens = mdff(tokens, c.adapter.eta, c.adapter.temperature)
        pooled = tokens.mean(dim=1)
    else:
        mean = tokens.mean(dim=1)
        pooled = mdff(mean, c.adapter.eta, c.adapter.temperature)
        tokens = tokens + (pooled - mean)[:, None]
    if visible is None or c.condition == "pooled":
        return Condition(pooled[:, None], None)
    b, n = visible.shape
    which = torch.full((b, num_tokens), n, device=visible.device)
    which.scatter_(1, visible, torch.arange(n, device=visible.device).expand(b, n))
    return Condition(torch.cat([tokens, pooled[:, None]], dim=1), which)


class AdaLN(nn.Module):
    """z_s · (t_s · LN(x) + t_b) + z_b."""

    def __init__(self, width: int, feature_width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=EPSILON, elementwise_affine=False)
        self.time = nn.Linear(width, 2 * width)
        self.condition = nn.Linear(feature_width, 2 * width)

    def forward(self, x: Tensor, condition: Condition, time: Tensor) -> Tensor:
        """Tokens [B, N, D], features [B, S, E], time [B, D] → [B, N, D]."""
        t_scale, t_shift = self.time(time)[:, None].chunk(2, dim=-1)
        z = self.condition(condition.features)
        if condition.which is not None:
            z = select(z, condition.which)
        z_scale, z_shift = z.chunk(2, dim=-1)
        return z_scale * (t_scale * self.norm(x) + t_shift) + z_shift


class GeneratorBlock(nn.Module):
    """Transformer block with AdaLN."""

    def __init__(self, c: Any, feature_width: int):
        super().__init__()
        self.norm1 = AdaLN(c.width, feature_width)
        self.attention = Attention(c.width, c.heads)
        self.norm2 = AdaLN(c.width, feature_width)
        self.mlp = Mlp(c.width, c.mlp_width)

    def forward(self, x: Tensor, condition: Condition, time: Tensor) -> Tensor:
        """[B, N, D] → [B, N, D]."""
        x = x + self.attention(self.norm1(x, condition, time))
        return x + self.mlp(self.norm2(x, condition, time))


class Generator(nn.Module):
    """g(x_t, h(z), t) → ε̂.

    `each_token` projects the condition of every token, as networks with AdaLN usually do, though
    all hidden tokens of a clip have the same one.
    """

    each_token = False

    def __init__(self, c: Any, encoder: Any):
        super().__init__()
        self.clip, self.width = (encoder.frames, encoder.joints, encoder.channels), c.width
        self.grid = grid(encoder)
        self.position = Position(*self.grid, c.width)
        self.null = nn.Parameter(torch.randn(encoder.width) * 0.02)
        self.embed = nn.Linear(token_numbers(encoder), c.width)
        self.time = nn.Linear(c.width, c.width)
        self.blocks = nn.ModuleList(GeneratorBlock(c, encoder.width) for _ in range(c.depth))
        self.norm = AdaLN(c.width, encoder.width)
        self.out = nn.Linear(c.width, token_numbers(encoder))

    def forward(self, noisy_clip: Tensor, condition: Condition, t: Tensor, dropped: Tensor):
        """[B, T, V, C], t [B]; clips that are `dropped` [B] are generated without a condition."""
        features = torch.where(dropped[:, None, None], self.null, condition.features)
        condition = condition._replace(features=features)
        if self.each_token and condition.which is not None:
            condition = Condition(select(features, condition.which), None)
        x = self.embed(patchify(noisy_clip, *self.grid)) + self.position()
        time = F.silu(self.time(time_embedding(t, self.width)))
        for block in self.blocks:
            x = block(x, condition, time)
        out = self.out(self.norm(x, condition, time))
        return unpatchify(out, *self.grid, self.clip)


class Projector(nn.Module):
    """Linear, batch normalisation without parameters, GELU, linear."""

    def __init__(self, feature_width: int, width: int):
        super().__init__()
        self.hidden = nn.Linear(feature_width, width)
        self.norm = nn.BatchNorm1d(width, affine=False, track_running_stats=False)
        self.out = nn.Linear(width, width)

    def forward(self, z: Tensor) -> Tensor:
        """[B, D] → [B, E]."""
        return self.out(F.gelu(self.norm(self.hidden(z)), approximate="tanh"))


class Featurizer(nn.Module):
    """f and the projector: what makes features, and what a teacher is a copy of."""

    def __init__(self, c: Any):
        super().__init__()
        self.encoder = Encoder(c.encoder)
        self.projector = (
            Projector(c.encoder.width, c.projector_width) if c.projector_width else nn.Identity()
        )


class IGM(Featurizer):
    """f, g and the projector."""

    def __init__(self, c: Any):
        super().__init__(c)
        self.config = c
        self.generator = Generator(c.generator, c.encoder)
