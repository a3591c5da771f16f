"""Time and memory of a process that trains on a store. Started by `data.py`, with the store's path.

Prints JSON: for each step its seconds and the memory after it, in MB (10⁶ bytes), which is Linux's
account of it: `own` (RssAnon), `mapped` (RssFile: pages of files, which all processes of a machine
share and the system takes back when it needs them). For batches also clips a second, and the bytes
a clip that came from the disk.
"""

import json
import os
import pathlib
import re
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import _clone  # noqa: F401

BATCH, WINDOWS = 128, 5


def account(file: str, key: str) -> int:
    """A number that Linux keeps of this process, in its unit."""
    return int(
        re.search(
            rf"{key}:\s*(\d+)", pathlib.Path(f"/proc/self/{file}").read_text(encoding="utf-8")
        )[1]
    )


def memory() -> dict[str, float]:
    """Resident memory, MB."""
    keys = {"own": "RssAnon", "mapped": "RssFile"}
    return {name: account("status", key) * 1024 / 1e6 for name, key in keys.items()}


def forget(file: pathlib.Path) -> None:
    """Has the system drop what it holds of a file that no process has mapped."""
    with open(file, "rb") as opened:
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def draw(batches: Iterator[Any], count: int) -> dict[str, float]:
    """Median speed of a few windows of batches, after the first batch, and what the disk gave."""
    next(batches)
    before, speeds = account("io", "read_bytes"), []
    for _ in range(WINDOWS):
        started = time.perf_counter()
        for _ in range(count):
            next(batches)
        speeds.append(count * BATCH / (time.perf_counter() - started))
    read = account("io", "read_bytes") - before
    return {
        "clips_per_second": statistics.median(speeds),
        "bytes_per_clip": read / (WINDOWS * count * BATCH),
    }


def main(store_path: str, window: int) -> None:
    """Each step of a start, in the order of a run; the batches come last, of clips not yet read."""
    steps, started = {}, time.perf_counter()

    def done(name: str, **more: float) -> None:
        nonlocal started
        steps[name] = {"seconds": time.perf_counter() - started, **memory(), **more}
        started = time.perf_counter()

    import numpy as np

    from igm_jax.data import SkeletonStore, pipeline, protocols
    from igm_jax.reading import Reading

    done("import")
    forget(pathlib.Path(store_path) / "frames.npy")
    started = time.perf_counter()
    store = SkeletonStore.open(store_path)
    done("open")
    reading = Reading(store.layout, "posture", frames=120, bodies=2)
    pipeline.full_clips(store, np.linspace(0, len(store) - 1, BATCH).astype(int), reading)
    done("batch")
    chosen = protocols.split(store, "xsub", "train")
    done("split")
    pipeline.statistics(store, chosen, reading)
    done("statistics")
    del store
    forget(pathlib.Path(store_path) / "frames.npy")
    store = SkeletonStore.open(store_path)
    started = time.perf_counter()
    batches = pipeline.train_batches(
        store, chosen, reading, batch_size=BATCH, min_crop_frames=64, seed=0
    )
    done("draw", **draw(iter(batches), window))
    print(json.dumps(steps))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
