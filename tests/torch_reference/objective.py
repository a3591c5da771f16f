"""L_gen + ramp · (λ_feat L_ide_feat + λ_dist L_ide_dist + λ_entropy L_entropy)."""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from torch_reference.draws import Draws, Noising
from torch_reference.layers import grid
from torch_reference.model import IGM, Aux, Condition, Featurizer, adapt


class Result(NamedTuple):
    """The loss, its terms by name, features [B, D] of the clips and unit targets [B, E]."""

    loss: Tensor
    terms: dict[str, Tensor]
    features: Tensor
    references: Tensor


def alpha_bar(name: str, steps: int) -> Tensor:
    """Share of signal after each of `steps` steps [K], clipped to [1e-4, 0.9999]."""
    time = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    if name == "linear":
        beta = torch.linspace(1e-4, 0.02, steps, dtype=torch.float64) * (1000 / steps)
        share = (1 - beta.clamp(max=0.999)).cumprod(0)
    else:
        cosine = ((time + 0.008) / 1.008 * math.pi / 2).cos() ** 2
        cosine = cosine / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
        share = cosine if name == "cosine" else 2 * (1 - time) - cosine
    return share.clamp(1e-4, 0.9999).float()


def add_noise(share: Tensor, x: Tensor, noise: Tensor) -> Tensor:
    """√ᾱ x + √(1−ᾱ) ε, ᾱ [B] of each row."""
    share = share.view(-1, *[1] * (x.dim() - 1))
    return share.sqrt() * x + (1 - share).sqrt() * noise


def predict_clean(share: Tensor, x_t: Tensor, noise: Tensor) -> Tensor:
    """(x_t − √(1−ᾱ) ε) / √ᾱ."""
    share = share.view(-1, *[1] * (x_t.dim() - 1))
    return (x_t - (1 - share).sqrt() * noise) / share.sqrt()


def mean_where(x: Tensor, where: Tensor) -> Tensor:
    """Mean of the entries that count; 0 if none does."""
    return (x * where).sum() / where.sum().clamp(min=1)


def pool(tokens: Tensor, present: Tensor) -> Tensor:
    """Tokens of the rows [B·M, n, D] → clips [B, D]: mean over tokens, then present bodies."""
    bodies = tokens.mean(dim=1).view(*present.shape, -1)
    weight = present[..., None].to(bodies.dtype)
    return (bodies * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


def hide(order: Tensor | None, ratio: float) -> Tensor | None:
    """The tokens [R, n] that stay visible."""
    return None if order is None else order[:, : max(1, round(order.shape[1] * (1 - ratio)))]


def generate(
    model: IGM,
    clip: Tensor,
    present: Tensor,
    condition: Condition,
    d: Noising,
    share: Tensor,
    limit: float,
) -> tuple[Tensor, Tensor]:
    """L_gen, and the clean clip that the predicted noise implies, clipped to ± limit."""
    bodies = present.shape[1]
    t, dropped = (x.repeat_interleave(bodies) for x in (d.t, d.dropped))
    x_t = add_noise(share[t], clip, d.noise)
    predicted = model.generator(x_t, condition, t, dropped).float()
    error = (predicted - d.noise).square().mean(dim=(1, 2, 3))
    clean = predict_clean(share[t], x_t, predicted).clamp(-limit, limit)
    return mean_where(error, present.flatten()), clean


def kl_of_similarities(
    z: Tensor, z_hat: Tensor, queue: Tensor, target_temperature: float, temperature: float
) -> Tensor:
    """KL(softmax(cos(z, queue) / τ') ‖ softmax(cos(ẑ, queue) / τ)) [B]; z and queue constant."""
    queue = F.normalize(queue, dim=-1)
    target = F.normalize(z.detach(), dim=-1) @ queue.T / target_temperature
    log_p = F.log_softmax(F.normalize(z_hat, dim=-1) @ queue.T / temperature, dim=-1)
    target = F.log_softmax(target, dim=-1)
    return F.kl_div(log_p, target, reduction="none", log_target=True).sum(dim=-1)


def entropy_loss(unit: Tensor, o: Any) -> Tensor:
    """Mean squared cosine of different clips, or minus the coding length per clip."""
    b, d = unit.shape
    if o.entropy == "second_order":
        square = (unit @ unit.T).square()
        return (square.sum() - square.diagonal().sum()) / (b * (b - 1))
    gram = torch.eye(d, device=unit.device) + d / (b * o.distortion**2) * unit.T @ unit
    return -(b + d) / 2 * torch.linalg.slogdet(gram).logabsdet / b


def target_feature(
    model: IGM,
    teacher: Featurizer | None,
    z: Tensor,
    noisy: Tensor,
    present: Tensor,
    visible: Tensor | None,
    o: Any,
) -> Tensor:
    """The projected feature that a generated clip is held to."""
    idempotent = o.feature_weight > 0 or o.distribution_weight > 0
    if idempotent and teacher is not None:
        with torch.no_grad():
            return teacher.projector(pool(teacher.encoder(noisy, visible), present))
    target = model.projector(z)
    return target if o.target_gradient else target.detach()


def igm_loss(
    model: IGM,
    teacher: Featurizer | None,
    queue: Tensor,
    clip: Tensor,
    other: Tensor | None,
    present: Tensor,
    d: Draws,
    o: Any,
    share: Tensor,
    ramp: float,
) -> Result:
    """The whole objective.

    Args:
      model: f, g and the projector.
      teacher: makes the targets; None lets f make them.
      queue: [Q, E] unit reference features.
      clip: [R, T, V, C], the rows that g generates.
      other: another view of them that f reads; None lets f read `clip`.
      present: [B, M].
      d: all randomness.
      o: the config's `objective`.
      share: ᾱ [K].
      ramp: weight in [0, 1] of all but L_gen.
    """
    c, bodies = model.config, present.shape[1]
    tokens_in_clip = math.prod(grid(c.encoder))

    read = (clip if other is None else other) + o.input_noise * d.input_noise
    visible = hide(d.order, o.mask_ratio)
    tokens = model.encoder(read, visible)
    z = pool(tokens, present)
    condition = adapt(tokens, visible, tokens_in_clip, c)
    loss_gen, clean = generate(model, clip, present, condition, d.generate, share, o.clean_clip)

    target = target_feature(model, teacher, z, read, present, visible, o)

    terms, loss = {"loss_gen": loss_gen}, loss_gen
    if o.feature_weight > 0 or o.distribution_weight > 0:
        noising = d.generate
        if o.own_t:
            noising = d.own
            with torch.set_grad_enabled(o.clean_gradient):
                _, clean = generate(model, clip, present, condition, noising, share, o.clean_clip)
        if not o.clean_gradient:
            clean = clean.detach()
        noisy_feature = add_noise(
            share[d.feature_t], F.normalize(z.detach(), dim=-1), d.feature_noise
        )
        aux = None
        if o.aux_tokens:
            aux = Aux(noisy_feature, d.feature_t, noising.t)
            aux = Aux(*(x.repeat_interleave(bodies, dim=0) for x in aux))
        z_hat = pool(
            model.encoder(clean, hide(d.reencode_order, o.reencode_mask_ratio), aux), present
        )
        valid = ~noising.dropped & (noising.t <= o.max_t_share * o.diffusion_steps)
        projected = model.projector(z_hat)
        feat = -F.cosine_similarity(target, projected, dim=-1)
        dist = kl_of_similarities(target, projected, queue, o.target_temperature, o.temperature)
        terms["loss_feat"], terms["loss_dist"] = mean_where(feat, valid), mean_where(dist, valid)
        terms["cos_generated"] = mean_where(F.cosine_similarity(z, z_hat, dim=-1), valid)
        terms["cos_aux"] = F.cosine_similarity(z, noisy_feature, dim=-1).mean()
        loss = loss + ramp * (
            o.feature_weight * terms["loss_feat"] + o.distribution_weight * terms["loss_dist"]
        )
    if o.entropy_weight > 0:
        terms["loss_entropy"] = entropy_loss(F.normalize(model.projector(z), dim=-1), o)
        loss = loss + ramp * o.entropy_weight * terms["loss_entropy"]
    terms["loss"] = loss
    terms = {name: value.detach() for name, value in terms.items()}
    return Result(loss, terms, z.detach(), F.normalize(target.detach(), dim=-1))
