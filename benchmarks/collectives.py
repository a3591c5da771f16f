"""Collectives of a step on many devices: by formula, and in the compiled program."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import jax

from benchmarks import flops
from benchmarks.bounds import FLOAT32
from benchmarks.tracing import trace_step
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.program import Program
from igm_jax.training.state import TrainState

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# Groups of one device each, in both ways to write them: nothing travels.
_ALONE = r"replica_groups=(\{\{\d+\}(,\{\d+\})*\}|\[\d+,1\]<=)"
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4}


def collectives(config: ExperimentConfig, state: TrainState) -> dict[str, int]:
    """Bytes of the results of the collectives of an IGM step, on each device, by kind.

    Parameters and teacher that are cut at rest are gathered once a step. The gradient is summed
    over devices once a step, in float32, after all passes and micro-batches. That of a cut array
    is scattered over the devices that cut it, and summed over the others. Of the clips only pooled
    features travel: to the log, to the queue, and where the objective compares those of a batch.
    Scalars are left out.

    Args:
      config: the experiment.
      state: `Program.restore_target`.

    Raises:
      ValueError: what else compares the clips of a batch: a projector, the coding length, an
        adapter over the batch. Or another objective.
    """
    o = config.objective
    compared = o.entropy_weight > 0
    if (
        "projector" in state.params
        or config.model.adapter.over == "batch"
        or (compared and o.entropy != "second_order")
    ):
        raise ValueError("no formula for a projector, coding length or adapter over the batch")
    aux = any(p.aux for p in flops.passes(config))
    trained = [x for network in state.params.values() for x in _read(network, aux)]
    taught = [x for network in state.teacher.values() for x in _read(network, aux=False)]
    whole = sum(x.size for x in trained if x.sharding.is_fully_replicated)
    cut = sum(x.size for x in trained) - whole
    gathered = cut + sum(x.size for x in taught if not x.sharding.is_fully_replicated)
    mesh = trained[0].sharding.mesh
    scattered = cut // mesh.shape["fsdp"]
    features = config.train.batch_size * config.model.encoder.width
    numbers = {
        "all-reduce": whole + (mesh.shape["data"] > 1) * scattered + compared * features,
        "all-gather": gathered + (2 + compared) * features,
        "reduce-scatter": scattered,
    }
    return {kind: FLOAT32 * number for kind, number in numbers.items() if number}


def _read(network: Mapping[str, Any], aux: bool) -> list[jax.ShapeDtypeStruct]:
    """The parameters that a pass reads: the embedding of aux tokens only where it gets some."""
    return jax.tree.leaves({k: v for k, v in network.items() if aux or k != "aux"})


def compiled_collectives(hlo: str) -> dict[str, int]:
    """Bytes of the results of all collectives in a compiled program, by kind.

    What a loop does counts as often as the loop runs. Of an asynchronous pair, the start counts.
    A TPU spreads one collective over a chain of fusions, which all repeat it; it counts once.

    >>> compiled_collectives("%a = (f32[2,3]{1,0}, bf16[4]{0}) all-reduce(%b, %c), channel_id=1")
    {'all-reduce': 32}
    """
    found: Counter[str] = Counter()
    for (kind, _), size in collectives_by_dtype(hlo).items():
        found[kind] += size
    return dict(found)


def collectives_by_dtype(hlo: str) -> dict[tuple[str, str], int]:
    """`compiled_collectives`, by kind and dtype."""
    computations, entry = _computations(hlo)
    found: Counter[tuple[str, str]] = Counter()
    first: dict[str, str] = {}  # chain → the first line of it

    def is_new(line: str) -> bool:
        chain = re.search(r'chain_id="(\d+)"', line)
        return not chain or first.setdefault(chain[1], line) == line

    def count(name: str, times: int) -> None:
        for line in computations.get(name, ()):
            match = re.search(rf"= (.*?) ({'|'.join(KINDS)})(-start)?\(", line)
            if match and not re.search(_ALONE, line) and is_new(line):
                arrays = re.findall(r"([a-z]+\d*)\[([\d,]*)\]", match[1])
                if match[3] and match[2] in ("all-gather", "reduce-scatter"):
                    arrays = arrays[len(arrays) // 2 :]  # the start also returns its operands
                for dtype, shape in arrays:
                    size = _BYTES[dtype] * math.prod(int(n) for n in shape.split(",") if n)
                    found[match[2], dtype] += times * size
            for called, more in _calls(line, computations):
                count(called, times * more)

    count(entry, 1)
    return dict(found)


def _computations(hlo: str) -> tuple[dict[str, list[str]], str]:
    """The lines of each computation of a program, and the name of its entry."""
    computations: dict[str, list[str]] = {"": []}
    name = entry = ""
    for line in hlo.splitlines():
        head = re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\{$", line)
        if head:
            name = head[2]
            entry = name if head[1] else entry
            computations[name] = []
        elif "=" in line:
            computations[name].append(line)
    return computations, entry


def _calls(line: str, computations: Mapping[str, list[str]]) -> list[tuple[str, int]]:
    """Computations that an instruction calls, and how often."""
    called = re.findall(r"(?:calls|to_apply|body|async_computation)=%?([\w.\-]+)", line)
    called += re.findall(r"%?([\w.\-]+)", "".join(re.findall(r"computations=\{(.*?)\}", line)))
    if " while(" not in line:
        return [(name, 1) for name in called]
    known = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
    if known:
        return [(name, int(known[1])) for name in called]
    # Otherwise the condition compares a counter, which starts at 0, with its one constant.
    condition = re.search(r"condition=%?([\w.\-]+)", line)
    lines = computations.get(condition[1], ()) if condition else ()
    bounds = [int(n) for x in lines for n in re.findall(r"s32\[\].* constant\((\d+)\)", x)]
    if len(bounds) != 1:
        raise ValueError(f"a loop without a known number of rounds: {line.strip()[:120]}")
    return [(name, bounds[0]) for name in called]


def compile_step(config: ExperimentConfig, program: Program) -> str:
    """The compiled program of the train step, as text."""
    return trace_step(config, program).lower().compile().as_text()
