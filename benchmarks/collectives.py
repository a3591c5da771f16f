"""Collectives of a step on many devices: by formula, and in the compiled program."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import flops
from benchmarks.bounds import FLOAT32
from igm_jax import parallel
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.program import Program
from igm_jax.training.state import TrainState

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4}


def collectives(config: ExperimentConfig, state: TrainState) -> dict[str, int]:
    """Bytes of the arrays that the collectives of an IGM step work on, by kind.

    The gradient of every pass is summed over all devices, before the passes are added up: that of f
    twice, since it reads the clip and what g made of it. What is cut at rest is gathered, once a
    step. Of the clips only pooled features travel: to the log, to the queue, and where the
    objective compares those of a batch. Scalars are left out.

    Args:
      config: the experiment.
      state: `Program.restore_target`.

    Raises:
      ValueError: another objective, or what else compares the clips of a batch: a projector, the
        coding length, an adapter over the batch.
    """
    o = config.objective
    compared = o.entropy_weight > 0
    if (
        "projector" in state.params
        or config.model.adapter.over == "batch"
        or (compared and o.entropy != "second_order")
    ):
        raise ValueError("no formula for a projector, coding length or adapter over the batch")
    passes = flops.passes(config)
    summed = sum(
        _gradient(p, config, state.params[p.network])
        for p in passes
        if p.times == 3 and p.network in state.params
    )
    aux = any(p.aux for p in passes)
    read = [x for network in state.params.values() for x in _read(network, aux)]
    read += [x for network in state.teacher.values() for x in _read(network, aux=False)]
    gathered = sum(x.size for x in read if not x.sharding.is_fully_replicated)
    features = config.train.batch_size * config.model.encoder.width
    return {
        "all-reduce": FLOAT32 * (summed + compared * features),
        "all-gather": FLOAT32 * (gathered + (2 + compared) * features),
    }


def _gradient(p: flops.Pass, config: ExperimentConfig, network: Mapping[str, Any]) -> int:
    """Numbers in the gradients of a pass, as they are when they are summed over the devices."""
    g, tokens = config.model.generator, config.model.encoder.num_tokens
    position = network["position"]
    # One position a token; it becomes that of a step plus that of a joint after the sum.
    count = sum(x.size for x in _read(network, p.aux)) + tokens * position["spatial"].shape[-1]
    count -= sum(x.size for x in position.values())
    if p.network == "generator" and p.tokens > 1:
        # The condition is projected twice: the pooled feature, and those of the visible tokens.
        count += (2 * g.depth + 1) * (config.model.encoder.width + 1) * 2 * g.width
    return count


def _read(network: Mapping[str, Any], aux: bool) -> list[jax.ShapeDtypeStruct]:
    """The parameters that a pass reads: the embedding of aux tokens only where it gets some."""
    return jax.tree.leaves({k: v for k, v in network.items() if aux or k != "aux"})


def compiled_collectives(hlo: str) -> dict[str, int]:
    """Bytes of the results of all collectives in a compiled program, by kind.

    Loops and asynchronous pairs are not looked into: the program has to be one for CPU, which has
    the latter not, and where the blocks are unrolled.

    >>> compiled_collectives("%a = (f32[2,3]{1,0}, bf16[4]{0}) all-reduce(%b, %c), channel_id=1")
    {'all-reduce': 32}
    """
    found: Counter[str] = Counter()
    for line in hlo.splitlines():
        match = re.search(rf"= (.*?) ({'|'.join(KINDS)})\(", line)
        if match:
            for dtype, shape in re.findall(r"([a-z]+\d*)\[([\d,]*)\]", match[1]):
                found[match[2]] += _BYTES[dtype] * math.prod(int(n) for n in shape.split(",") if n)
    return dict(found)


def compile_step(config: ExperimentConfig, program: Program) -> str:
    """The compiled program of the train step, as text; no array is made."""
    e, rows = config.model.encoder, (config.train.batch_size, config.data.bodies)
    split = parallel.split_batch(program.mesh)
    clip = jax.ShapeDtypeStruct((*rows, e.frames, e.joints, 3), jnp.float32, sharding=split)
    raw = {"clip": clip, "present": jax.ShapeDtypeStruct(rows, bool, sharding=split)}
    if config.data.crops == 2:
        raw["other"] = clip
    key = jax.eval_shape(lambda: jax.random.key(0))
    return program.step.lower(program.restore_target, raw, key).compile().as_text()
