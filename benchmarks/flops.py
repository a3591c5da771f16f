"""Model FLOPs of a training step by formula: 2 for a multiply-add, matrix products only.

Compilers count the body of a scan once, so nothing is asked of them. What a formula leaves out
(norms, softmax, GELU, optimiser) is a few per cent of the FLOPs, though not of the time. Work that
the mathematics does not need, such as recomputed activations, is not counted.
"""

from typing import NamedTuple

from igm_jax import masking
from igm_jax.models import AdapterConfig, EncoderConfig, GeneratorConfig
from igm_jax.training.config import ExperimentConfig


def blocks(tokens: int, depth: int, width: int, mlp_width: int) -> int:
    """Forward pass of `depth` transformer blocks over `tokens` tokens of one row."""
    linear = tokens * (4 * width**2 + 2 * width * mlp_width)
    attention = 2 * tokens**2 * width  # logits, and their mean of the values
    return 2 * depth * (linear + attention)


def encoder(c: EncoderConfig, tokens: int, aux: bool = False) -> int:
    """The encoder over `tokens` visible tokens of one row, forward; `aux` adds its two tokens."""
    embed = 2 * tokens * c.patch_numbers * c.width + aux * 2 * 3 * c.width**2
    return embed + blocks(tokens + 2 * aux, c.depth, c.width, c.mlp_width)


def adapter(c: AdapterConfig, tokens: int, width: int) -> int:
    """The adapter over the tokens of one row, forward; over the batch it costs next to nothing."""
    return 4 * tokens**2 * width if c.over == "tokens" else 0


def generator(g: GeneratorConfig, e: EncoderConfig, features: int) -> int:
    """The generator over one row, forward, given `features` distinct features."""
    n, norms = e.num_tokens, 2 * g.depth + 1
    ends = 2 * 2 * n * e.patch_numbers * g.width + 2 * g.width**2
    modulation = 2 * norms * 2 * g.width * (features * e.width + g.width)
    return ends + modulation + blocks(n, g.depth, g.width, g.mlp_width)


class Pass(NamedTuple):
    """One network over one row of a step.

    Attributes:
      name: what it is for.
      network: encoder, adapter or generator.
      tokens: that the encoder or adapter sees; distinct features that the generator is given.
      times: 1 for a forward pass alone, 3 with a backward pass.
      aux: the encoder has its two more tokens.
    """

    name: str
    network: str
    tokens: int
    times: int = 3
    aux: bool = False


def passes(config: ExperimentConfig) -> list[Pass]:
    """The passes of the IGM step over each of its rows.

    Raises:
      ValueError: the objective is another one.
    """
    o, e = config.objective, config.model.encoder
    if o.name != "igm":
        raise ValueError(f"no formula for the objective {o.name!r}")
    seen = masking.num_visible(e.num_tokens, o.mask_ratio)
    features = seen + 1 if o.mask_ratio > 0 and config.model.condition == "tokens" else 1
    found = [
        Pass("read", "encoder", seen),
        Pass("adapt", "adapter", seen),
        Pass("generate", "generator", features),
    ]
    if o.idempotent:
        if o.own_t:
            found.append(Pass("own t", "generator", features, 3 if o.clean_gradient else 1))
        again = masking.num_visible(e.num_tokens, o.reencode_mask_ratio)
        found.append(Pass("read again", "encoder", again, aux=o.aux_tokens))
        if o.ema_decay > 0:
            found.append(Pass("target", "encoder", seen, 1))
    return found


def of_pass(p: Pass, config: ExperimentConfig) -> int:
    """One row, as often as the pass counts."""
    m = config.model
    if p.network == "encoder":
        return p.times * encoder(m.encoder, p.tokens, p.aux)
    if p.network == "adapter":
        return p.times * adapter(m.adapter, p.tokens, m.encoder.width)
    return p.times * generator(m.generator, m.encoder, p.tokens)


def train_step(config: ExperimentConfig) -> int:
    """The IGM step of `train.batch_size` clips: a backward pass counts as two forward passes."""
    rows = config.data.bodies * config.train.batch_size
    return rows * sum(of_pass(p, config) for p in passes(config))
