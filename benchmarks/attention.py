"""Times the ways to compute attention over the number of tokens: `python benchmarks/attention.py`.

Forward and backward pass, float32 unless said otherwise. The threshold
`igm_jax.models.attention.BY_HEAD_FROM` rests on it. The last column is PyTorch's fused attention,
where PyTorch is installed.
"""

import statistics
import time
from collections.abc import Callable

import _clone  # noqa: F401
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from igm_jax import cli
from igm_jax.models import Hardware, attention

_TOKENS = flags.DEFINE_list(
    "tokens", ["20", "75", "128", "192", "256", "384", "512", "750"], "Numbers of tokens N."
)
_ROWS = flags.DEFINE_integer("rows", 8, "Rows B, clips times bodies.", lower_bound=1)
_HEADS = flags.DEFINE_integer("heads", 8, "Heads H.", lower_bound=1)
_WIDTH = flags.DEFINE_integer("head_width", 32, "Width K of a head.", lower_bound=1)
_DTYPE = flags.DEFINE_enum(
    "dtype", "float32", ["float32", "bfloat16"], "Precision; default: float32."
)
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Measurements; the median counts.", lower_bound=1)

CANDIDATES: dict[str, Callable] = {
    "at once": attention.at_once,
    "by head": attention.by_head,
    "jax.nn": jax.nn.dot_product_attention,
    "chosen": lambda *qkv: attention.attention(*qkv, Hardware.here()),
}


def jax_call(function: Callable, arrays: list[np.ndarray], dtype: str) -> Callable[[], None]:
    """Computes the gradient of a candidate and waits for it."""
    qkv = [jnp.asarray(x, dtype) for x in arrays]
    gradient = jax.jit(
        jax.grad(lambda *x: function(*x).astype(jnp.float32).sum(), argnums=(0, 1, 2))
    )
    return lambda: jax.block_until_ready(gradient(*qkv))


def torch_call(arrays: list[np.ndarray], dtype: str) -> Callable[[], None] | None:
    """Computes the gradient of PyTorch's attention; None where PyTorch is not installed."""
    try:
        import torch
    except ModuleNotFoundError:
        return None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    qkv = [
        torch.from_numpy(x).transpose(1, 2).to(device, getattr(torch, dtype)).requires_grad_()
        for x in arrays
    ]

    def call() -> None:
        mixed = torch.nn.functional.scaled_dot_product_attention(*qkv)
        torch.autograd.grad(mixed.float().sum(), qkv)
        if device == "cuda":
            torch.cuda.synchronize()

    return call


def milliseconds(call: Callable[[], None], seconds: float = 0.2) -> float:
    """Time of one call, after a warm-up; calls are repeated for about `seconds`."""
    call()
    start = time.perf_counter()
    call()
    count = max(1, round(seconds / (time.perf_counter() - start)))
    start = time.perf_counter()
    for _ in range(count):
        call()
    return 1e3 * (time.perf_counter() - start) / count


def main() -> None:
    """Prints a table in Markdown, one row a number of tokens."""
    dtype, rng = _DTYPE.value, np.random.default_rng(0)
    print("| tokens |", " | ".join(f"{name}, ms" for name in [*CANDIDATES, "PyTorch"]), "|")
    print("|", " | ".join(["---"] * (len(CANDIDATES) + 2)), "|")
    for tokens in map(int, _TOKENS.value):
        shape = (3, _ROWS.value, tokens, _HEADS.value, _WIDTH.value)
        arrays = list(rng.normal(size=shape).astype(np.float32))
        calls = {name: jax_call(f, arrays, dtype) for name, f in CANDIDATES.items()}
        calls["PyTorch"] = torch_call(arrays, dtype)
        rounds = [
            {name: milliseconds(call) if call else float("nan") for name, call in calls.items()}
            for _ in range(_ROUNDS.value)
        ]
        medians = [statistics.median(r[name] for r in rounds) for name in calls]
        print(f"| {tokens} |", " | ".join(f"{x:.2f}" for x in medians), "|", flush=True)


if __name__ == "__main__":
    cli.run(main)
