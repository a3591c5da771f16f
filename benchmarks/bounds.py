"""The least that a step needs of some hardware: FLOPs, and bytes to and from memory.

Each pass needs its FLOPs and the bytes that have to come from memory and go back, with everything
fused that can be: matrix products read and write their operands once, attention never writes its
weights, GELU, residual and modulation ride along. The slower of the two bounds a pass; a step takes
at least the sum.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from benchmarks import flops
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.objectives import build_model

FLOAT32 = 4  # bytes


class Bound(NamedTuple):
    """FLOPs and memory traffic of a part of the step."""

    name: str
    flops: int
    bytes: int

    def seconds(self, peak_flops: float, bandwidth: float) -> float:
        """The least time at these rates."""
        return max(self.flops / peak_flops, self.bytes / bandwidth)


def block_numbers(tokens: int, width: int, mlp_width: int) -> int:
    """Numbers of one row that a transformer block reads and writes."""
    norms = 2 * 2 * width
    attention = (width + 3 * width) + (3 * width + width) + (width + 2 * width)
    mlp = (width + mlp_width) + (mlp_width + 2 * width)
    return tokens * (norms + attention + mlp)


def numbers(p: flops.Pass, config: ExperimentConfig) -> int:
    """Numbers of one row that a forward pass reads and writes; weights come on top."""
    e, g = config.model.encoder, config.model.generator
    patch = e.patch_numbers
    if p.network == "adapter":
        return 2 * p.tokens * e.width
    if p.network == "encoder":
        tokens = p.tokens + 2 * p.aux
        ends = p.tokens * (patch + e.width) + 2 * tokens * e.width
        return ends + e.depth * block_numbers(tokens, e.width, e.mlp_width)
    modulation = (2 * g.depth + 1) * p.tokens * (e.width + 2 * 2 * g.width)
    ends = e.num_tokens * (2 * patch + 4 * g.width)
    return ends + modulation + g.depth * block_numbers(e.num_tokens, g.width, g.mlp_width)


def parameters(config: ExperimentConfig) -> dict[str, int]:
    """Number of parameters of each network."""
    e = config.model.encoder
    clip = jax.ShapeDtypeStruct((1, e.frames, e.joints, e.channels), jnp.float32)
    shapes = jax.eval_shape(
        build_model(config.objective.name, config.model).init, jax.random.key(0), clip
    )["params"]
    return {name: sum(x.size for x in jax.tree.leaves(tree)) for name, tree in shapes.items()}


def least_seconds(config: ExperimentConfig, peak_flops: float, bandwidth: float) -> float:
    """The least time of a step on hardware of these peaks, by its data sheet."""
    return sum(b.seconds(peak_flops, bandwidth) for b in bounds(config))


def bounds(config: ExperimentConfig) -> list[Bound]:
    """Every pass of the step, and the optimiser."""
    rows = config.data.bodies * config.train.batch_size
    width = jnp.dtype(config.model.encoder.dtype).itemsize
    count = parameters(config)
    found = []
    for p in flops.passes(config):
        moved = rows * numbers(p, config) * width + count.get(p.network, 0) * FLOAT32
        found.append(Bound(p.name, rows * flops.of_pass(p, config), p.times * moved))
    # AdamW reads gradient, parameter and two moments, and writes all but the gradient.
    total = sum(count.values())
    return [*found, Bound("optimiser", 0, 7 * total * FLOAT32)]
