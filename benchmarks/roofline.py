"""The least time that a step can take on some hardware: `python benchmarks/roofline.py`.

Prints what `benchmarks.bounds` computes; peaks are the hardware's data sheet's.
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # works uninstalled too

from absl import flags

from benchmarks import sizes
from benchmarks.bounds import bounds
from igm_jax import cli

_SIZES = flags.DEFINE_list("sizes", ["nw_ucla", "ntu_masked", "ntu_unmasked"], "Of benchmarks.")
_BATCH = flags.DEFINE_integer("batch", 0, "Clips a step; 0: the config's.", lower_bound=0)
_DTYPE = flags.DEFINE_enum("dtype", "bfloat16", ["float32", "bfloat16"], "Of the networks.")
_PEAK = flags.DEFINE_float("peak_flops", 989e12, "FLOP/s; default: H100 SXM, bfloat16, dense.")
_BANDWIDTH = flags.DEFINE_float("bandwidth", 3.35e12, "Bytes/s of memory; default: H100 SXM.")
_MEASURED = flags.DEFINE_string("measured", None, "Results of train_step.py, set beside.")


def main() -> None:
    """Prints a table for each size."""
    measured = {}
    if _MEASURED.value:
        results = json.loads(pathlib.Path(_MEASURED.value).read_text(encoding="utf-8"))["results"]
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
