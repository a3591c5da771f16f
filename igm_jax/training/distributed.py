"""Runs many processes as one: connects them, compares their inputs, stops them together.

One process a host, or one an accelerator; the same program runs in each, and every compiled call
over the mesh has to be made by all of them, in the same order.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from igm_jax.errors import InputError

# A process that is silent for this long counts as dead, and all others end. This is long enough for
# a host that swaps or a switch that restarts, and short enough not to leave accelerators idle all
# night.
HEARTBEAT_SECONDS = 60
# How long a process that ends waits for the others to end too; one that failed alone is given up by
# then. Processes that end together are seconds apart.
SHUTDOWN_SECONDS = 30
# How long the first process to start waits for the last: schedulers start them minutes apart.
JOIN_SECONDS = 300


def join(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    *,
    detect: bool = False,
    heartbeat_seconds: int = HEARTBEAT_SECONDS,
) -> None:
    """Connects this process to the others, if there are any; call it before any use of JAX.

    Args:
      coordinator: HOST:PORT of process 0, where the others look for it.
      processes: how many there are.
      process: which one this is, from 0.
      detect: ask JAX who the others are, as it finds them on a TPU pod, in Slurm, Open MPI or
        Kubernetes. Where Slurm or Open MPI started more than one process, it is asked anyway.
      heartbeat_seconds: after so long a silence a process counts as dead and the others stop.

    Raises:
      InputError: two of `coordinator`, `processes` and `process` without the third, or the others
        could not be found.
    """
    stated = (coordinator, processes, process)
    if None in stated and any(x is not None for x in stated):
        raise InputError(
            f"--coordinator={coordinator}, --processes={processes}, --process={process}: give all "
            "three, or none"
        )
    if coordinator is None and not detect and not _launched_together():
        return
    if process is not None and processes is not None and not 0 <= process < processes:
        raise InputError(f"--process={process} is not one of --processes={processes}, from 0")
    # Signals are our own business (`stopping`); two handlers of one signal are one too many.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=heartbeat_seconds,
            shutdown_timeout_seconds=SHUTDOWN_SECONDS,
        )
    except (RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"the other processes of this run were not found: {reason}") from error


def _launched_together() -> bool:
    """Whether a launcher started several processes of this program."""
    slurm = "SLURM_STEP_NODELIST" in os.environ  # within srun, not in the batch script itself
    counts = [os.environ.get("SLURM_NTASKS") if slurm else None]
    counts.append(os.environ.get("OMPI_COMM_WORLD_SIZE"))
    return any(count is not None and int(count) > 1 for count in counts)


def leader() -> bool:
    """Whether this process writes the log and prints to the terminal."""
    return jax.process_index() == 0


@contextlib.contextmanager
def one_line_for_a_lost_process() -> Iterator[None]:
    """Reports a failed collective in one line; the log of the failed process has the reason.

    Raises:
      ConnectionError: in place of the runtime's error, where there are other processes.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1 or "RESOURCE_EXHAUSTED" in str(error):
            raise
        reason = " ".join(str(error).split())[:160]
        raise ConnectionError(
            f"process {jax.process_index()} of {jax.process_count()} lost another one ({reason} "
            "…): the log of the one that ended first says why; the same commands resume from the "
            "last checkpoint"
        ) from error


def check_leader(problem: Exception | None) -> None:
    """Ends all processes if the first one has a problem; all must call it.

    Args:
      problem: what the first process met, if it did; the others' is not read.

    Raises:
      InputError: in the others; the first raises its problem.
    """
    if jax.process_count() > 1:
        met = np.asarray(problem is not None and leader(), np.int32)
        if multihost_utils.broadcast_one_to_all(met) and not leader():
            raise InputError("process 0 cannot begin: its log says why")
    if problem is not None:
        raise problem


def check_same(**values: Any) -> None:
    """Raises an error if processes were started with different config or data.

    Args:
      values: name → anything that JSON can hold; the same names in all processes.

    Raises:
      InputError: in all processes, naming what differs.
    """
    if jax.process_count() == 1:
        return
    texts = [json.dumps(value, sort_keys=True) for value in values.values()]
    hashes = [int(hashlib.sha256(text.encode()).hexdigest()[:7], 16) for text in texts]
    everyone = multihost_utils.process_allgather(np.asarray(hashes, np.int32))
    differing = [name for name, column in zip(values, everyone.T) if len(set(column.tolist())) > 1]
    if differing:
        raise InputError(
            f"the {jax.process_count()} processes of this run differ in {' and '.join(differing)}: "
            "start all of them with the same flags, on the same files"
        )
