"""Real clips that clips are generated from, and how to put generated ones back in their place."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int

from igm_jax import skeleton
from igm_jax.data import SkeletonStore, pipeline, resize
from igm_jax.reading import Reading


class Given(NamedTuple):
    """Real clips as a run reads them, and where they were.

    Attributes:
      clip: [B, M, T, V, C] in the coordinates of the run; absent bodies are zero.
      present: [B, M].
      path: [B, T, C], or [B, 1, C] if it does not move: the origin of those coordinates in the
        camera's.
      rotation: [B, C, C] of those coordinates.
    """

    clip: np.ndarray
    present: np.ndarray
    path: np.ndarray
    rotation: np.ndarray

    def placed_back(
        self, clip: Float32[np.ndarray, "B M T V C"]
    ) -> Float32[np.ndarray, "B M T V C"]:
        """Generated clips in the camera's coordinates, where the real clips were."""
        placed = skeleton.from_reference_frame(clip, self.path[:, None], self.rotation[:, None])
        return np.where(self.present[..., None, None, None], placed, 0).astype(np.float32)

    def take(self, rows: Any) -> "Given":
        """The clips at these positions."""
        return Given(*(x[rows] for x in self))


def given_of_store(store: SkeletonStore, indices: Int[np.ndarray, " B"], reading: Reading) -> Given:
    """Whole clips of a store, as the run reads them."""
    clip, present = pipeline.full_clips(store, indices, reading)
    camera, _ = pipeline.full_clips(store, indices, _in_camera(reading))
    first = reading.mapped(np.asarray(store.frames[store.clips["offset"][indices]]))
    return _given(clip, present, first, camera[:, 0], reading)


def given_of_clips(
    clips: Float32[np.ndarray, "B M t V C"], present: Bool[np.ndarray, "B M"], reading: Reading
) -> Given:
    """Raw clips outside a store, as the run reads them; see `resize.resize_clips`."""
    body = present.argmax(axis=1)  # the first one there
    first = clips[np.arange(len(clips)), body, 0]
    clip, there = resize.resize_clips(clips, present, reading)
    camera, _ = resize.resize_clips(clips, present, _in_camera(reading))
    return _given(clip, there, first, camera[:, 0], reading)


def _in_camera(reading: Reading) -> Reading:
    return dataclasses.replace(reading, coordinates="camera")


def _given(
    clip: np.ndarray, present: np.ndarray, first: np.ndarray, track: np.ndarray, reading: Reading
) -> Given:
    """Adds the frame of reference, which the first raw frame and the path of a body define."""
    layout, coordinates = reading.layout, reading.coordinates
    origin, rotation = skeleton.reference_frame(first, layout, coordinates)
    path = skeleton.moving_origin(origin, track, layout, coordinates)
    return Given(clip, present, np.asarray(path), np.asarray(rotation))
