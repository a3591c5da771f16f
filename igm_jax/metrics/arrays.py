"""Shared by the metrics: distances in full precision, checks of labels and counts.

The metrics loop over rows within jitted functions of their modules. JAX knows a compiled loop by
the function that it loops over, so one that each call defines anew would be compiled in each call.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from igm_jax.arguments import Array, concrete
from igm_jax.errors import InputError
from igm_jax.precision import float32

CHUNK = 1024  # rows at a time: 64 MB of similarities to 16k others


def check_in_range(name: str, value: int, limit: int, what: str) -> None:
    """Raises `InputError` unless 1 ≤ value ≤ limit, the number of `what`."""
    if not 1 <= value <= limit:
        raise InputError(f"{name}={value} is outside 1..{limit}, the number of {what}")


@functools.partial(jax.jit, static_argnames="reduce")
def over_distances(
    reduce: Callable[[jax.Array], jax.Array], rows: Array, others: Array
) -> jax.Array:
    """Applies `reduce` to the [n] squared Euclidean distances of each row to n others.

    Outside of `jax.jit`, each new `reduce` is compiled: give a function of a module, not a lambda.
    The distances are sums of squared differences, not ‖a‖² + ‖b‖² − 2aᵀb, so that equal rows are
    exactly 0 apart.
    """
    rows, others = float32(rows), float32(others)

    def one(row: jax.Array) -> jax.Array:
        return reduce(jnp.square(others - row[None]).sum(axis=1))

    return jax.lax.map(one, rows, batch_size=min(rows.shape[0], CHUNK // 16))


def float64(x: Array) -> np.ndarray:
    """The array on the host, as float64."""
    return np.asarray(x, np.float64)


def check_count(name: str, array: Array, rows: int, what: str) -> None:
    """Raises `InputError` unless the array has one entry for each of `rows` `what`."""
    if array.shape[0] != rows:
        raise InputError(f"{rows} {what} but {array.shape[0]} {name}")


def check_labelled(name: str, labels: Array) -> None:
    """Raises `InputError` for a label of −1, that of a clip without one, where labels are known."""
    known = concrete(labels)
    if known is not None and known.size and known.min() < 0:
        raise InputError(f"{name} has {known.min()}: leave out clips without a label")


def check_labels(name: str, labels: Array, num_classes: int) -> None:
    """Raises `InputError` unless labels are in 0 … num_classes−1, where they are known.

    A clip without a label has −1. It must be left out, since it would count as wrong.
    """
    known = concrete(labels)
    if known is None or not known.size:
        return
    if known.min() < 0 or known.max() >= num_classes:
        raise InputError(
            f"{name} {known.min()}..{known.max()} are outside 0..{num_classes - 1}, the classes: "
            "leave out clips without a label"
        )
