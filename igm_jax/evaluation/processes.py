"""The runs of an ablation as processes: side by side, each on its own CPUs, stopped as one."""

import fcntl
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import TextIO

from igm_jax.evaluation.ablation import PROBES, Job, last_step, probe_rows


class Processes:
    """Runs the commands of jobs; SIGINT and SIGTERM meanwhile are passed to the ones in flight.

    Args:
      experiments: folder of the scripts.
      workers: how many run side by side.

    Attributes:
      stopped: the signal that ended it early, or None.
    """

    def __init__(self, experiments: pathlib.Path, workers: int):
        self._experiments, self._workers = experiments, workers
        self._children: set[subprocess.Popen] = set()
        self._stop = threading.Event()
        self.stopped: signal.Signals | None = None

    def run(self, jobs: Sequence[Job], ended: Callable[[Job, str | None], None]) -> None:
        """Runs what of `jobs` is still to do; to be called from the main thread.

        Args:
          jobs: in the order in which they start.
          ended: called for each job when it ends, with None or with what went wrong. After a
            signal it is not called any more.
        """
        old = {n: signal.signal(n, self._pass_on) for n in (signal.SIGINT, signal.SIGTERM)}
        shares = iter(_cpu_shares(self._workers))
        try:
            with futures.ThreadPoolExecutor(
                self._workers, initializer=lambda: _pin_thread(next(shares))
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

    def _pass_on(self, number: int, _: object = None) -> None:
        self.stopped = signal.Signals(number)
        self._stop.set()
        for child in list(self._children):
            child.send_signal(number)

    def _finish(self, job: Job) -> str | None:
        """Brings a run to its end; gives None, or what went wrong."""
        path = job.folder.with_name(job.folder.name + ".log")
        if self._stop.is_set():
            return None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # A path that is no UTF-8 stands in the log byte by byte.
            with path.open("a", encoding="utf-8", errors="surrogateescape") as log:
                self._lock(log)
                if all(probe_rows(job, probe) for probe in PROBES):
                    return None  # done by whoever had the lock
                for script, flags in job.commands.items():
                    if script in PROBES and probe_rows(job, script):
                        continue
                    code = self._call(script, flags, log)
                    # Pre-training that was asked to stop saves and ends well.
                    if code or last_step(job) is None:
                        lines = path.read_text(errors="replace", encoding="utf-8").split("\n")
                        last = next((line for line in reversed(lines) if line.strip()), "")
                        return f"{script}.py ended with exit code {code} before its end: {last}"
        except OSError as error:
            return str(error)
        return None

    def _lock(self, log: TextIO) -> None:
        """Waits until no process of an earlier command works on this run.

        A lock belongs to the open file, which the children share as their output: they hold it as
        long as they live, even if this process is killed.
        """
        told = False
        while not self._stop.is_set():
            try:
                return fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    print(f"{log.name}: still written to, by an earlier start", file=sys.stderr)
                told = True
                self._stop.wait(0.5)

    def _call(self, script: str, flags: Sequence[str], log: TextIO) -> int:
        command = [sys.executable, str(self._experiments / f"{script}.py"), *flags]
        if self._stop.is_set():
            return -1
        print(f"$ {shlex.join(command)}", file=log, flush=True)
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # Ctrl-C in a terminal goes to its whole process group; passed on as well, it would
            # arrive twice, which tells pre-training not to save.
            process_group=0,
        )
        self._children.add(child)
        if self._stop.is_set():  # the signal came while it was being started
            child.send_signal(self.stopped)
        code = child.wait()
        self._children.discard(child)
        return code


def _cpu_shares(workers: int) -> list[set[int]]:
    """This process's CPUs, shared out; empty sets where the system cannot pin."""
    if not hasattr(os, "sched_getaffinity"):
        return [set()] * workers
    cpus = sorted(os.sched_getaffinity(0))
    n = len(cpus)
    bounds = [(i * n // workers, (i + 1) * n // workers) for i in range(workers)]
    return [set(cpus[a : max(b, a + 1)]) for a, b in bounds]  # too few are used twice


def _pin_thread(cpus: set[int]) -> None:
    """Pins this thread, and so the processes that it will start: their threads do not compete."""
    if cpus:
        os.sched_setaffinity(0, cpus)
