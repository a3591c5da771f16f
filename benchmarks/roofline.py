"""The least time that a step can take on some hardware: `python benchmarks/roofline.py`.

Each pass of the step needs its FLOPs and the bytes that have to come from memory and go back, with
everything fused that can be: matrix products read and write their operands once, attention never
writes its weights, GELU, residual and modulation ride along. The slower of the two bounds a pass;
a step takes at least the sum. Peaks are the hardware's data sheet's.
"""

import json
import pathlib
import sys
from typing import NamedTuple

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # works uninstalled too

import jax
import jax.numpy as jnp
from absl import flags

from benchmarks import flops, sizes
from igm_jax import cli
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.objectives import build_model

_SIZES = flags.DEFINE_list("sizes", ["nw_ucla", "ntu_masked", "ntu_unmasked"], "Of benchmarks.")
_BATCH = flags.DEFINE_integer("batch", 0, "Clips a step; 0: the config's.", lower_bound=0)
_DTYPE = flags.DEFINE_enum("dtype", "bfloat16", ["float32", "bfloat16"], "Of the networks.")
_PEAK = flags.DEFINE_float("peak_flops", 989e12, "FLOP/s; default: H100 SXM, bfloat16, dense.")
_BANDWIDTH = flags.DEFINE_float("bandwidth", 3.35e12, "Bytes/s of memory; default: H100 SXM.")
_MEASURED = flags.DEFINE_string("measured", None, "Results of train_step.py, set beside.")

FLOAT32 = 4  # bytes


class Bound(NamedTuple):
    """What a part of the step needs."""

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
    patch = e.patch_frames * e.channels
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
    shapes = jax.eval_shape(build_model(config).init, jax.random.key(0), clip)["params"]
    return {name: sum(x.size for x in jax.tree.leaves(tree)) for name, tree in shapes.items()}


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


def main() -> None:
    """Prints a table for each size."""
    measured = {}
    if _MEASURED.value:
        results = json.loads(pathlib.Path(_MEASURED.value).read_text())["results"]
        measured = {(r["size"], r["batch"], r["dtype"]): r["ours"]["ms_per_step"] for r in results}
    for name in _SIZES.value:
        config = sizes.size(name, batch=_BATCH.value, dtype=_DTYPE.value, on_cpu=False)
        parts = bounds(config)
        print(f"\n{name}, {config.train.batch_size} clips, {_DTYPE.value}\n")
        print("| part | GFLOP | GB | least time, ms | bound by |\n| --- | --- | --- | --- | --- |")
        whole = 0.0
        for part in parts:
            seconds = part.seconds(_PEAK.value, _BANDWIDTH.value)
            by = "FLOPs" if part.flops / _PEAK.value >= seconds else "memory"
            print(f"| {part.name} | {part.flops / 1e9:.1f} | {part.bytes / 1e9:.3f} | "
                  f"{1e3 * seconds:.3f} | {by} |")  # fmt: skip
            whole += seconds
        print(f"| step | {sum(p.flops for p in parts) / 1e9:.1f} | "
              f"{sum(p.bytes for p in parts) / 1e9:.3f} | {1e3 * whole:.3f} | |")  # fmt: skip
        took = measured.get((name, config.train.batch_size, _DTYPE.value))
        if took:
            print(f"\nMeasured: {took:.2f} ms, {1e5 * whole / took:.0f} % of the bound's rate.")


if __name__ == "__main__":
    cli.run(main)
