"""IGM: idempotent generative models for skeleton representation learning, in functional JAX.

`losses`, `diffusion`, `metrics`, `augment` and `skeleton` are pure functions that know nothing of
models, data or training; `load_encoder` uses a finished run.
"""

from typing import Any

from igm_jax import augment, diffusion, losses, metrics, skeleton
from igm_jax.errors import DivergedError, InputError

__version__ = "0.1.0"

__all__ = [
    "DivergedError",
    "InputError",
    "augment",
    "diffusion",
    "load_encoder",
    "losses",
    "metrics",
    "skeleton",
]


def load_encoder(run_folder: Any, which: str | int = "last"):
    """See `igm_jax.evaluation.run.load_encoder`."""
    # Imported here: the pure modules must not cost the import of Orbax and grain.
    from igm_jax.evaluation.run import load_encoder as load

    return load(run_folder, which)
