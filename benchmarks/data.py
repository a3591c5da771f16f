"""Measures what the data side promises: `python benchmarks/data.py`.

    open      a store of the size of NTU RGB+D 120, in a fresh process, and what a run begins with
    pipeline  training batches at the size of configs/ntu120.py, on two cores
    parse     raw `.skeleton` text, against NumPy's reader of numbers

Prints a Markdown table. Its store, 3.4 GB, is written once and stays in `--work`. Speeds depend on
the machine and on what else it does; `--check` judges only what does not: memory and ratios.

A million clips, 29 GB, are `--only=open --num_clips=1000000`; ten million, without their frames,
`--only=open --num_clips=10000000 --hollow`.
"""

import dataclasses
import json
import os
import pathlib
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import _clone  # noqa: F401
import numpy as np
from absl import flags

from benchmarks import large_store, machine
from igm_jax import cli
from igm_jax.data import SkeletonStore, pipeline, synthetic
from igm_jax.data.formats import ntu_text, ntu_writer
from igm_jax.errors import InputError
from igm_jax.reading import Reading

_ONLY = flags.DEFINE_list("only", ["open", "pipeline", "parse"], "Parts to measure.")
_WORK = flags.DEFINE_string("work", "runs/benchmarks", "Folder for the made-up data; it stays.")
_JSON = flags.DEFINE_string("json", None, "File for the results and facts of the machine.")
_CHECK = flags.DEFINE_bool("check", False, "Exit 1 if memory or a ratio breaks its promise.")
_NUM_CLIPS = flags.DEFINE_integer(
    "num_clips", large_store.NTU120_CLIPS, "Clips of the store.", lower_bound=128
)
_HOLLOW = flags.DEFINE_bool("hollow", False, "A store without frames, for more clips than fit.")
_BATCHES = flags.DEFINE_integer(
    "batches", 40, "Batches in a window of the pipeline.", lower_bound=1
)
_FILES = flags.DEFINE_integer("files", 24, "Files to parse.", lower_bound=1)

_WINDOWS, _REPEATS = 7, 5


@dataclasses.dataclass(frozen=True)
class Row:
    """A figure.

    Attributes:
      what: was measured.
      value: of it.
      unit: of the value.
      below: what it is promised to stay below, if anything.
      at_least: what it is promised to reach, if anything.
      portable: whether the machine does not matter much, so that `--check` may judge it.
    """

    what: str
    value: float
    unit: str
    below: float | None = None
    at_least: float | None = None
    portable: bool = False

    @property
    def holds(self) -> bool | None:
        """Whether the promise is kept; None where there is none."""
        if self.below is not None:
            return self.value < self.below
        return None if self.at_least is None else self.value >= self.at_least

    def cells(self) -> tuple[str, ...]:
        """The four cells of its line in the table."""
        sign, limit = ("<", self.below) if self.below is not None else ("≥", self.at_least)
        promised = "" if limit is None else f"{sign} {limit:,g} {self.unit}"
        digits = 0 if isinstance(self.value, int) or abs(self.value) >= 100 else 2
        holds = {True: "yes", False: "no", None: ""}[self.holds]
        return self.what, f"{self.value:,.{digits}f} {self.unit}", promised, holds


def _store() -> pathlib.Path:
    make = large_store.hollow if _HOLLOW.value else large_store.made
    return make(pathlib.Path(_WORK.value), _NUM_CLIPS.value)


def measure_open() -> Iterator[Row]:
    """A fresh process that opens the store and does what a run does until it trains."""
    script = str(pathlib.Path(__file__).parent / "opening.py")
    command = [sys.executable, script, str(_store()), str(_BATCHES.value)]
    done = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    before = done["import"]
    yield Row("importing igm_jax.data and its pipeline", before["seconds"], "s")
    memory = before["own"] + before["mapped"]
    yield Row("… resident memory, with Python and JAX", memory, "MB")
    yield Row(
        f"opening a store of {_NUM_CLIPS.value:,} clips", done["open"]["seconds"], "s", below=1
    )
    yield _own(done, "open", "… memory of its own on top")
    yield _own(done, "batch", "… and after reading 128 clips")
    yield Row("choosing the training clips of xsub", done["split"]["seconds"], "s")
    yield Row("their statistics", done["statistics"]["seconds"], "s")
    draw = done["draw"]
    what = f"batches of 128 clips that are not in memory, {_cores()}"
    yield Row(what, draw["clips_per_second"], "clips/s")
    yield Row("… read from the disk for a clip", draw["bytes_per_clip"] / 1e3, "kB")
    yield _own(done, "draw", "… memory of its own on top by then")
    mapped = draw["mapped"] - before["mapped"]
    yield Row("… pages of files on top, which processes share", mapped, "MB")


def _own(done: dict[str, dict[str, float]], step: str, what: str) -> Row:
    memory = done[step]["own"] - done["import"]["own"]
    return Row(what, memory, "MB", below=300, portable=True)


def _cores() -> str:
    count = len(os.sched_getaffinity(0))
    return f"{count} core{'s' * (count > 1)}"


def measure_pipeline() -> Iterator[Row]:
    """The median speed of a few windows of batches, the first of them left out."""
    store = SkeletonStore.open(_store())
    everywhere = os.sched_getaffinity(0)
    cores = sorted(everywhere)[:2]
    os.sched_setaffinity(0, cores)  # and so all threads that are started from here on
    try:
        for crops in (1, 2):
            batches = iter(
                pipeline.train_batches(
                    store,
                    np.arange(len(store)),
                    Reading(store.layout, "posture", 120, 2),
                    batch_size=128,
                    min_crop_frames=64,
                    crops=crops,
                    seed=0,
                )
            )
            speeds = []
            for _ in range(1 + _WINDOWS):
                started = time.perf_counter()
                count = sum(len(next(batches)["index"]) for _ in range(_BATCHES.value))
                speeds.append(count / (time.perf_counter() - started))
            what = f"batches of 128 clips, {crops} crop{'s' * (crops > 1)}, {_cores()}"
            yield Row(what, statistics.median(speeds[1:]), "clips/s", at_least=5000)
    finally:
        os.sched_setaffinity(0, everywhere)


def measure_parse() -> Iterator[Row]:
    """From the same bytes, in turn: our arrays, and the bare numbers by NumPy; the best of a few.

    NumPy's one call gives all fields as float64. It does not look for frames, bodies or damage, and
    rounds the IDs of bodies.
    """
    folder = pathlib.Path(_WORK.value) / f"skeletons-{_FILES.value}"
    if not folder.exists():
        ntu_writer.write(folder, synthetic.generate(_FILES.value))
    texts = [path.read_bytes() for path in sorted(folder.iterdir())]
    readers = (ntu_text.parse, lambda text: np.fromstring(text, sep=" "))
    rounds = [[_seconds(read, texts) for read in readers] for _ in range(_REPEATS)]
    ours, numpys = map(min, zip(*rounds))
    megabytes = sum(map(len, texts)) / 1e6
    yield Row("parsing `.skeleton` text, a core", megabytes / ours, "MB/s")
    yield Row("… its numbers alone by `np.fromstring`", megabytes / numpys, "MB/s")
    yield Row("… how much faster", numpys / ours, "times", at_least=2, portable=True)


def _seconds(read: Callable[[bytes], Any], texts: list[bytes]) -> float:
    started = time.thread_time()  # of a core, whatever else is running
    for text in texts:
        read(text)
    return time.thread_time() - started


MEASURES = {"open": measure_open, "pipeline": measure_pipeline, "parse": measure_parse}


def main() -> None:
    """Flags, measures, one table."""
    for name in _ONLY.value:
        if name not in MEASURES:
            raise InputError(f"--only={name} is unknown: choose from {', '.join(MEASURES)}")
    rows = [row for name in _ONLY.value for row in MEASURES[name]()]
    print("| what | measured | promised | holds |\n|---|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row.cells())} |")
    if _JSON.value is not None:
        content = {
            "command": shlex.join(["python", "benchmarks/data.py", *sys.argv[1:]]),
            "machine": machine.facts(),
            "rows": [{**dataclasses.asdict(row), "holds": row.holds} for row in rows],
        }
        pathlib.Path(_JSON.value).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    broken = [row.what for row in rows if row.portable and row.holds is False]
    if _CHECK.value and broken:
        raise InputError(f"broken: {'; '.join(broken)}")


flags.adopt_module_key_flags(cli)  # for --help


if __name__ == "__main__":
    cli.run(main)
