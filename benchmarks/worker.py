"""Worker processes that take training steps, one for each side of a measurement.

Parent and worker exchange lines of JSON. The first line is the job; the worker answers with facts
about itself once it is ready. Each further line is a number of steps; the worker takes them and
answers how long they took. In between it sleeps in `readline`, so that its threads do not disturb
the other side.
"""

import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

_ROOT = pathlib.Path(__file__).resolve().parent.parent


class WorkerError(RuntimeError):
    """A worker ended before its time; its own message is on stderr."""


class Worker:
    """The parent's side of a process that runs `python -m MODULE`."""

    def __init__(self, module: str, job: dict[str, Any]):
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        self.name, self.ready = module, self._ask(job)

    def run(self, steps: int) -> dict[str, Any]:
        """Takes `steps` steps: `seconds`, `cpu_seconds` of all threads, and the last `loss`."""
        return self._ask({"steps": steps})

    def close(self) -> dict[str, Any]:
        """Ends the process: its `peak_bytes`."""
        answer = self._ask({"steps": 0})
        self._process.communicate(timeout=60)
        return answer

    def kill(self) -> None:
        """Ends the process at once, if it still runs."""
        self._process.kill()
        self._process.wait()

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # then there is no answer either
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(f"{self._process.args[-1]} ended with code {self._process.wait()}")
        return json.loads(line)


# What it took to get ready; takes one step and returns its loss; peak memory, 0 for the process's.
Prepared = tuple[dict[str, Any], Callable[[], float], Callable[[], int]]


def serve(prepare: Callable[[dict[str, Any]], Prepared]) -> None:
    """The worker's side; `prepare` makes of the job what it serves."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not be taken for an answer

    def answer(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=answers, flush=True)

    job = json.loads(sys.stdin.readline())
    if job["threads"]:
        # The last ones: the first serves the interrupts.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-job["threads"] :])
    ready, step, peak_bytes = prepare(job)
    answer(ready)
    for line in sys.stdin:
        steps = json.loads(line)["steps"]
        if not steps:
            answer({"peak_bytes": peak_bytes() or _peak_resident_bytes()})
            return
        start, cpu_start = time.perf_counter(), time.process_time()
        for _ in range(steps):
            loss = step()
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
        answer({"seconds": seconds, "cpu_seconds": cpu, "loss": loss})


def random_batch(config: Any, seed: int = 0, bodies: float = 0.0) -> dict[str, np.ndarray]:
    """`clip`, `present`, and `other` where there are two views.

    Args:
      config: `ExperimentConfig`, or anything with its attributes.
      seed: of the noise.
      bodies: mean number of bodies of a clip, from 1 to M; 0: every body is present.
    """
    e, b = config.model.encoder, config.train.batch_size
    shape = (config.data.crops, b, config.data.bodies, e.frames, e.joints)
    clip, *other = np.random.default_rng(seed).normal(size=(*shape, 3)).astype(np.float32)
    present = np.ones((b, config.data.bodies), bool)
    if bodies:
        present[:, 1:].flat[round(b * (bodies - 1)) :] = False
    raw = {"clip": clip, "present": present}
    return raw | {"other": other[0]} if other else raw


def _peak_resident_bytes() -> int:
    """The most memory that this process held; 0 where the system does not say (not Linux)."""
    status = pathlib.Path("/proc/self/status")
    if not status.exists():
        return 0
    (line,) = (x for x in status.read_text(encoding="utf-8").splitlines() if x.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
