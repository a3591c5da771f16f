"""On what a figure was measured."""

import importlib.metadata
import os
import pathlib
import platform
import re
from typing import Any


def facts() -> dict[str, Any]:
    """Hardware and versions, as plain JSON types."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    model = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text()) if cpuinfo.exists() else None
    packages = ("numpy", "jax", "grain")
    return {
        "processor": model[1] if model else platform.machine(),
        "cpus": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "versions": {package: importlib.metadata.version(package) for package in packages},
    }
