"""Results of `train_step.py`: as a table, and against earlier ones."""

from typing import Any

from igm_jax.errors import InputError

# The ratio is PyTorch's time over ours, the median of the rounds.
COLUMNS = (
    "size", "clips a step", "ours, ms", "ours, clips/s", "GFLOP/s", "MFU", "of the bound", "GiB",
    "compile, s", "PyTorch, ms", "clips/s", "GFLOP/s", "GiB", "ratio",
)  # fmt: skip

# What has to be equal in results that are compared.
SAME = ("size", "batch", "dtype", "compiled", "each_token", "platform")


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


HEAD = _line(*COLUMNS) + "\n" + _line(*["---"] * len(COLUMNS))


def row(r: dict[str, Any]) -> str:
    """One size as a line of Markdown under `HEAD`."""

    def side(x: dict[str, Any] | None, ours: bool) -> list[str]:
        if x is None:
            return ["-"] * 4
        shares = [f"{100 * x[k]:.1f} %" if x[k] else "-" for k in ("mfu", "of_bound")]
        return [
            f"{x['ms_per_step']:.1f}",
            f"{x['clips_per_second']:.1f}",
            f"{x['flops_per_second'] / 1e9:.0f}",
            *(shares if ours else []),
            f"{x['peak_bytes'] / 2**30:.2f}",
            *([f"{x['compile_seconds']:.0f}"] if ours else []),
        ]

    ratio = f"{r['ratio']:.2f}" if r["ratio"] else "-"
    cells = (r["size"], str(r["batch"]), *side(r["ours"], True), *side(r.get("torch"), False))
    return _line(*cells, ratio)


def fallen(now: list[dict[str, Any]], before: list[dict[str, Any]], margin: float) -> list[str]:
    """Which ratios fell by more than `margin` (0.1 is a tenth) since an earlier result.

    Args:
      now: results of this run.
      before: results to hold them against.
      margin: share of the earlier ratio that may be lost.

    Returns:
      One line for each size that fell.

    Raises:
      InputError: they have no size in common, so that nothing would be compared.
    """
    key = lambda r: tuple(r[x] for x in SAME)  # noqa: E731
    old = {key(r): r["ratio"] for r in before if r.get("ratio")}
    pairs = [(r, old[key(r)]) for r in now if r.get("ratio") and key(r) in old]
    if not pairs:
        raise InputError(
            "--before: that file has no size, batch, precision and platform in common with this"
        )
    return [
        f"{r['size']}: {r['ratio']:.2f} times as fast as PyTorch, was {ratio:.2f}"
        for r, ratio in pairs
        if r["ratio"] < (1 - margin) * ratio
    ]
