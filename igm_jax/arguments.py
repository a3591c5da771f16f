"""Types and checks of arguments. Where JAX traces one, its shape is known and its value is not."""

from collections.abc import Collection
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from igm_jax.errors import InputError

Array = jax.Array | np.ndarray
Scalar = float | int | Float[Array, ""]


def concrete(value: Any) -> np.ndarray | None:
    """The value as a NumPy array, or None while JAX traces it.

    Compare this and not the value itself: under `jax.jit` even the comparison of a constant is
    traced, and has no truth value.
    """
    return None if isinstance(value, jax.core.Tracer) else np.asarray(value)


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Raises `InputError` unless the value is one of the choices."""
    if value not in choices:
        raise InputError(f"{name}={value!r} is unknown: choose one of {', '.join(choices)}")


def check_at_least(name: str, value: float | int, least: float | int) -> None:
    """Raises `InputError` for a value below `least`."""
    if value < least:
        raise InputError(f"{name}={value}: must be at least {least}")


def check_seed(seed: int) -> None:
    """Raises `InputError` for a seed that is negative or has more than 32 bits."""
    if not 0 <= seed < 2**32:
        raise InputError(f"seed={seed}: must be at least 0 and below 2**32")


def check_positive(name: str, value: Any) -> None:
    """Raises `InputError` unless the value is above 0, where it is known."""
    known = concrete(value)
    if known is not None and not known > 0:
        raise InputError(f"{name}={known}: must be > 0")


def check_floating(**arrays: Any) -> None:
    """Raises `InputError` for an array of integers: what is computed from it would be cut off."""
    for name, x in arrays.items():
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise InputError(f"{name} is of type {x.dtype}: cast it to float32 first")


def check_same_shape(name: str, x: Array, other_name: str, other: Array) -> None:
    """Raises `InputError` unless both have one shape: [1, D] would be broadcast silently."""
    if x.shape != other.shape:
        raise InputError(f"{name} {x.shape} and {other_name} {other.shape} must have one shape")
