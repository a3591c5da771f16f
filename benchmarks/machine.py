"""On what a figure was measured."""

import importlib.metadata
import os
import pathlib
import platform
from typing import Any

# Those of them that are installed: a machine for the GPU figures has no grain.
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "grain", "numpy", "torch")


def facts() -> dict[str, Any]:
    """Hardware and versions, as plain JSON types."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [x.partition(":")[2].strip() for x in lines if x.startswith("model name")]
    flags = next((x.partition(":")[2].split() for x in lines if x.startswith("flags")), [])
    installed = {x.metadata["Name"] for x in importlib.metadata.distributions()}
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "vector": [x for x in ("avx2", "avx512f", "amx_tile") if x in flags],
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {x: importlib.metadata.version(x) for x in _PACKAGES if x in installed},
    }
