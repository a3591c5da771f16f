"""Advice for a step that does not fit into memory."""

import contextlib
from collections.abc import Callable, Iterator

import jax

from igm_jax import parallel
from igm_jax.training.config import ExperimentConfig
from igm_jax.training.objectives import reads_key


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a device or the host is out of memory."""
    return isinstance(error, MemoryError) or (
        isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    )


@contextlib.contextmanager
def one_line_out_of_memory(
    advice: Callable[[int], str], devices: list[parallel.Device] | None = None
) -> Iterator[None]:
    """Replaces an out-of-memory error by one line that says which settings to change.

    Args:
      advice: number of devices → the line.
      devices: all by default.

    Raises:
      MemoryError: in its place.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        count = len(jax.devices() if devices is None else devices)
        reason = " ".join(str(error).split())[:120]
        raise MemoryError(f"{advice(count)} ({reason})") from error


def advice(config: ExperimentConfig, devices: int) -> str:
    """Settings that reduce the memory of a step, in the order to try.

    Args:
      config: the experiment whose step does not fit.
      devices: how many share its batch.
    """
    batch, accumulate = config.train.batch_size, config.parallel.accumulate
    at_once = batch // (devices * accumulate)
    encoder, generator = config.model.encoder, config.model.generator
    same, other = [], ""
    parts = next((n for n in range(2, at_once + 1) if at_once % n == 0), None)
    if parts:
        same.append(f"--config.parallel.accumulate={accumulate * parts}")
    remat = {"model.encoder.remat": encoder.remat, "model.generator.remat": generator.remat}
    name = config.objective.name
    unset = [f"--config.{k}=True" for k, on in remat.items() if not on and reads_key(name, k)]
    if unset:
        same.append(" ".join(unset))
    less = batch // 2 // (devices * accumulate) * devices * accumulate
    if less:
        other = f"--config.train.batch_size={less}"
    told = f"out of memory: {at_once} clips at once on a device do not fit: "
    if same:
        told += f"set {', and if that is not enough '.join(same)}, with which the same run resumes"
    if other:
        told += f"{'; or ' if same else 'set '}{other}, which is another run"
    return told if same or other else told + "nothing is left to set but smaller networks"
