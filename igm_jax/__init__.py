"""IGM: idempotent generative models for skeleton representation learning, in functional JAX.

`igm_jax.losses`, `diffusion`, `metrics`, `augment` and `skeleton` are pure functions that import
nothing else of the package; `load_encoder` uses a finished run.
"""

from typing import Any

__version__ = "0.1.0"


def load_encoder(run_folder: Any, which: str | int = "last"):
    """See `igm_jax.evaluation.run.load_encoder`."""
    # Imported here: the pure modules must not cost the import of Orbax and grain.
    from igm_jax.evaluation.run import load_encoder as load

    return load(run_folder, which)
