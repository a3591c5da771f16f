"""Data: the store, the formats that fill it, the protocols that cut it, the pipeline."""

from igm_jax.data.formats.sources import open_dataset
from igm_jax.data.store import BadClip, Clip, SkeletonStore

__all__ = ["BadClip", "Clip", "SkeletonStore", "open_dataset"]
