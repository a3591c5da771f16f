"""What a process pays that opens a store: `python benchmarks/opening.py STORE`, by `data.py`.

Prints JSON: seconds, and resident memory in MB (10⁶ bytes), of which mapped pages are a part though
all processes share them. Peaks, but for what there is after the imports.
"""

import json
import pathlib
import re
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))  # works uninstalled too


def resident(key: str) -> float:
    """VmRSS, resident memory now, or VmHWM, its peak so far; Linux has them."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(re.search(rf"{key}:\s*(\d+) kB", status)[1]) * 1024 / 1e6


started = time.perf_counter()

import numpy as np  # noqa: E402

from igm_jax.data import SkeletonStore, pipeline  # noqa: E402

facts = {"import_s": time.perf_counter() - started, "import_mb": resident("VmRSS")}
started = time.perf_counter()
store = SkeletonStore.open(sys.argv[1])
facts |= {"open_s": time.perf_counter() - started, "open_mb": resident("VmHWM")}
indices = np.linspace(0, len(store) - 1, 128).astype(int)
pipeline.full_clips(store, indices, frames=120, bodies=2, view="posture")
facts |= {"batch_mb": resident("VmHWM")}
print(json.dumps(facts))
