"""The synthetic data set: simulated people, their actions and cameras."""

from igm_jax.data.synthetic.clips import (
    CAMERAS,
    CLASS_NAMES,
    DATASET,
    HOW_TO_GET,
    LAYOUT,
    NUM_SUBJECTS,
    Take,
    film,
    generate,
    perform,
)

__all__ = [
    "CAMERAS",
    "CLASS_NAMES",
    "DATASET",
    "HOW_TO_GET",
    "LAYOUT",
    "NUM_SUBJECTS",
    "Take",
    "film",
    "generate",
    "perform",
]
