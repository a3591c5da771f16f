"""Arrays in which zeros say that nobody was seen, as published pipelines pad their clips."""

import numpy as np
from jaxtyping import Float, Float32

# The steps of `ntu_cleaning` that say what `without_gaps` does.
CLEANING = ("drop_empty_frames", "hold_lost_bodies")


def without_gaps(frames: Float[np.ndarray, "M T V C"]) -> Float32[np.ndarray, "m t V C"]:
    """Drops frames and bodies that are all zero; who is lost for a while stays as last seen.

    Before a body comes it is as it is seen first, for a store has its bodies in all frames.

    Returns:
      The bodies that are there at all, in the frames that show anybody; none of either, if nobody
      is there.
    """
    if not frames.size:  # but perhaps a great many bodies of no frames
        return np.zeros((0, 0, *frames.shape[2:]), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # not finite: the store refuses it
        frames = frames.astype(np.float32)
        seen = frames.any(axis=(2, 3))
    bodies, moments = seen.any(axis=1), seen.any(axis=0)
    frames, seen = frames[bodies][:, moments], seen[bodies][:, moments]
    if not len(seen):
        return frames
    latest = np.maximum.accumulate(np.where(seen, np.arange(seen.shape[1]), -1), axis=1)
    shown = np.where(latest < 0, seen.argmax(axis=1)[:, None], latest)
    return np.take_along_axis(frames, shown[:, :, None, None], axis=1)
