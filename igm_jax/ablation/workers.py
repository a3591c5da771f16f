"""Executes the runs of an ablation as processes, each on its own CPUs and GPUs."""

import contextlib
import itertools
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import TextIO

from igm_jax import locking
from igm_jax.ablation.plan import PROBES, Job, last_step, probe_rows
from igm_jax.errors import STOPPED, InputError


class Processes:
    """Runs the commands of jobs and passes SIGINT and SIGTERM to the active ones.

    Args:
      experiments: folder of the scripts.
      workers: how many run side by side.
      gpus: the GPUs that are shared out among them, as CUDA_VISIBLE_DEVICES names them.

    Attributes:
      stopped: the signal that ended it early, or None.
    """

    def __init__(self, experiments: pathlib.Path, workers: int, gpus: Sequence[str] = ()):
        self._experiments, self._workers = experiments, workers
        self._environments = gpu_environments(workers, gpus)
        self._worker = threading.local()  # `environment` of the children of this thread
        self._children: set[subprocess.Popen] = set()
        self._stop = threading.Event()
        self._lock = threading.RLock()  # a signal comes before a child is started, or after
        self.stopped: signal.Signals | None = None

    def run(self, jobs: Sequence[Job], ended: Callable[[Job, str | None], None]) -> None:
        """Runs the open steps of `jobs`; call it from the main thread.

        Args:
          jobs: in the order in which they start.
          ended: called for each job when it ends, with None or with what went wrong. After a
            signal it is not called any more.
        """
        old = {n: signal.signal(n, self._pass_on) for n in (signal.SIGINT, signal.SIGTERM)}
        shares = iter(zip(_cpu_shares(self._workers), self._environments))
        try:
            with futures.ThreadPoolExecutor(
                self._workers, initializer=lambda: self._begin(*next(shares))
            ) as pool:
                running = {pool.submit(self._finish, job): job for job in jobs}
                try:
                    for future in futures.as_completed(running):
                        problem = future.result()
                        if not self.stopped:
                            ended(running[future], problem)
                except BaseException:
                    self._pass_on(signal.SIGTERM)
                    raise
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def _begin(self, cpus: set[int], environment: dict[str, str]) -> None:
        """Assigns CPUs and GPUs to this thread and to the processes that it starts."""
        _pin_thread(cpus)
        self._worker.environment = environment

    def _pass_on(self, number: int, _: object = None) -> None:
        with self._lock:
            self.stopped = signal.Signals(number)
            self._stop.set()
            for child in self._children:
                child.send_signal(number)

    def _finish(self, job: Job) -> str | None:
        """Completes a run; returns None, or the reason of a failure."""
        path = job.log
        if self._stop.is_set():
            return None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # A path that is no UTF-8 stands in the log byte by byte.
            with (
                self._alone(job),
                path.open("a", encoding="utf-8", errors="surrogateescape") as log,
            ):
                if all(probe_rows(job, probe) for probe in PROBES):
                    return None  # done by whoever had the lock
                for script, flags in job.commands.items():
                    if script in PROBES and probe_rows(job, script):
                        continue
                    code = self._call(script, flags, log)
                    if code or last_step(job) is None:
                        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
                        last = next((line for line in reversed(lines) if line.strip()), "")
                        return _problem(script, code, last)
        except (InputError, OSError) as error:
            return str(error)
        return None

    @contextlib.contextmanager
    def _alone(self, job: Job) -> Iterator[None]:
        """Waits until no other process uses this run, then locks it.

        A command that was killed may have left its pre-training behind, which holds the run folder.
        """
        told = False
        with contextlib.ExitStack() as stack:
            while not self._stop.is_set():
                try:
                    stack.enter_context(locking.exclusive(job.log, "works on this run"))
                    break
                except InputError as error:
                    told = self._wait(str(error), told)
            while not self._stop.is_set() and locking.is_held(job.folder):
                told = self._wait(f"{job.folder}: an earlier start still trains it", told)
            yield

    def _wait(self, reason: str, told: bool) -> bool:
        if not told:
            print(f"{reason}: waiting for it", file=sys.stderr)
        self._stop.wait(0.5)
        return True

    def _call(self, script: str, flags: Sequence[str], log: TextIO) -> int:
        command = [sys.executable, str(self._experiments / f"{script}.py"), *flags]
        with self._lock:
            if self._stop.is_set():
                return -1
            print(f"$ {shlex.join(command)}", file=log, flush=True)
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | self._worker.environment,
                # Ctrl-C in a terminal goes to its whole process group; passed on as well, it would
                # arrive twice, which tells pre-training not to save.
                process_group=0,
            )
            self._children.add(child)
        code = child.wait()
        with self._lock:
            self._children.discard(child)
        return code


def _problem(script: str, code: int, last: str) -> str:
    if code == STOPPED:
        return f"{script}.py was stopped before its end, the same command resumes it: {last}"
    return f"{script}.py ended with exit code {code} before its end: {last}"


def gpu_environments(workers: int, gpus: Sequence[str]) -> list[dict[str, str]]:
    """Environment variables of each worker, so that no two share a GPU.

    Args:
      workers: how many run side by side.
      gpus: names of the GPUs, as CUDA_VISIBLE_DEVICES has them; none on a machine without.

    Raises:
      InputError: there are fewer GPUs than workers.

    >>> gpu_environments(2, ["0", "1", "2"])
    [{'CUDA_VISIBLE_DEVICES': '0'}, {'CUDA_VISIBLE_DEVICES': '1,2'}]
    """
    if not gpus or workers == 1:
        return [{}] * workers
    if workers > len(gpus):
        raise InputError(
            f"--workers={workers}, but there are {len(gpus)} GPUs, and a run needs one to itself: "
            f"use --workers={len(gpus)}"
        )
    bounds = [i * len(gpus) // workers for i in range(workers + 1)]
    shares = [gpus[a:b] for a, b in itertools.pairwise(bounds)]
    return [{"CUDA_VISIBLE_DEVICES": ",".join(share)} for share in shares]


def find_gpus(workers: int) -> list[str]:
    """Names of the GPUs that a run would use, as a short-lived process finds them.

    This process must not open them itself: it would take memory from its runs.

    Args:
      workers: one worker leaves all devices to its run, and nothing is asked.

    Raises:
      InputError: JAX finds no device at all, or a TPU, which serves one process at a time.
    """
    if workers == 1:
        return []
    code = "import jax; print(jax.default_backend(), jax.local_device_count())"
    env = os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    asked = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, encoding="utf-8", check=False
    )
    if asked.returncode:
        reason = (asked.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"JAX finds no device for --workers={workers}: {reason}")
    platform, count = asked.stdout.split()[-2:]
    if platform == "tpu":
        raise InputError(f"--workers={workers}: a TPU serves one process: use --workers=1")
    if platform == "cpu":
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = named.split(",") if named else [str(i) for i in range(int(count))]
    return [name.strip() for name in names][: int(count)]


def _cpu_shares(workers: int) -> list[set[int]]:
    """Divides the CPUs of this process among workers; empty sets if the system cannot pin."""
    if not hasattr(os, "sched_getaffinity"):
        return [set()] * workers
    cpus = sorted(os.sched_getaffinity(0))
    n = len(cpus)
    bounds = [(i * n // workers, (i + 1) * n // workers) for i in range(workers)]
    return [set(cpus[a : max(b, a + 1)]) for a, b in bounds]  # too few are used twice


def _pin_thread(cpus: set[int]) -> None:
    """Pins this thread and the processes that it starts to their CPUs."""
    if cpus:
        os.sched_setaffinity(0, cpus)
