"""Data: stores, readers of formats, protocols and the input pipeline."""

from igm_jax.data.formats.sources import open_dataset
from igm_jax.data.store import BadClip, Clip, SkeletonStore

__all__ = ["BadClip", "Clip", "SkeletonStore", "open_dataset"]
