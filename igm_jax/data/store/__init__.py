"""The skeleton store: clips, the files that hold them, writing and reading."""

from igm_jax.data.store.clip import BadClip, Clip
from igm_jax.data.store.store import SkeletonStore

__all__ = ["BadClip", "Clip", "SkeletonStore"]
