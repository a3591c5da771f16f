"""IGM: idempotent generative models for skeleton representation learning, in functional JAX.

`losses`, `diffusion`, `metrics`, `augment`, `masking` and `skeleton` are pure functions that know
nothing of models, data or training. `load_encoder` loads the encoder of a run, `load_generator` its
generator, and `load_predictor` the encoder with the head that names actions. A module is imported
when it is first used, so a loss costs no import of Orbax or grain.
"""

import importlib
from typing import TYPE_CHECKING, Any

from igm_jax.errors import DivergedError, InputError

if TYPE_CHECKING:  # the same names for type checkers, which do not call `__getattr__`
    from igm_jax import (
        augment,
        data,
        diffusion,
        losses,
        masking,
        metrics,
        models,
        skeleton,
    )
    from igm_jax.evaluation.encoder import LoadedEncoder, load_encoder
    from igm_jax.evaluation.generate import LoadedGenerator, load_generator
    from igm_jax.prediction.predictor import Predictor, load_predictor

__version__ = "0.1.0"

__all__ = [
    "DivergedError",
    "InputError",
    "LoadedEncoder",
    "LoadedGenerator",
    "Predictor",
    "augment",
    "data",
    "diffusion",
    "load_encoder",
    "load_generator",
    "load_predictor",
    "losses",
    "masking",
    "metrics",
    "models",
    "skeleton",
]

# Every package and module, whether it is imported already or not.
_MODULES = (
    "ablation", "arguments", "augment", "cli", "data", "diffusion", "drawing", "errors",
    "evaluation", "features", "finetuning", "joint_map", "locking", "losses", "masking", "metrics",
    "models", "parallel", "precision", "prediction", "progress", "reading", "report", "run_folder",
    "shell", "skeleton", "training",
)  # fmt: skip
_NAMES = {
    "LoadedEncoder": "igm_jax.evaluation.encoder",
    "LoadedGenerator": "igm_jax.evaluation.generate",
    "Predictor": "igm_jax.prediction.predictor",
    "load_encoder": "igm_jax.evaluation.encoder",
    "load_generator": "igm_jax.evaluation.generate",
    "load_predictor": "igm_jax.prediction.predictor",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"igm_jax.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'igm_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_NAMES})
