"""Resizes clips of any length to T frames in a frame of reference, on the host."""

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from igm_jax.reading import Reading
from igm_jax.skeleton import in_reference_frame, moving_origin, reference_frame

BLOCK = 16  # clips gathered together: their frames fit into the cache, three times as fast


def frame_positions(length: Int[np.ndarray, " B"], frames: int) -> Float[np.ndarray, "B T"]:
    """Positions at which to sample clips of `length` frames to get `frames` (half-pixel centres).

    Sample i is at the middle of the i-th of T equal spans of the clip:
    (i + ½) · length / T − ½, held inside the clip.

    >>> frame_positions(np.array([4, 2]), 4)
    array([[0.  , 1.  , 2.  , 3.  ],
           [0.  , 0.25, 0.75, 1.  ]])
    """
    length = np.asarray(length)[:, None]
    return np.clip((np.arange(frames) + 0.5) * (length / frames) - 0.5, 0, length - 1)


def resize(
    rows: Float[np.ndarray, "rows U C"],
    offset: Int[np.ndarray, " B"],
    length: Int[np.ndarray, " B"],
    present: Bool[np.ndarray, "B M"],
    start: Int[np.ndarray, " B"],
    stop: Int[np.ndarray, " B"],
    reading: Reading,
) -> Float32[np.ndarray, "B M T V C"]:
    """Resizes crops of clips to `reading.frames` frames, in the coordinates of `reading`.

    Args:
      rows: frames of all clips, of the U joints that `reading` maps to V; the bodies of a clip
        follow each other.
      offset: where each clip begins in them.
      length: frames of each of its bodies.
      present: which bodies to read; the first of each clip is among them.
      start: first frame of each crop.
      stop: one past the last.
      reading: layout, coordinates and T.
    """
    layout, frames, coordinates = reading.layout, reading.frames, reading.coordinates
    joints, channels = rows.shape[1:]
    origin, rotation = reference_frame(reading.mapped(rows[offset]), layout, coordinates)
    rows = rows.reshape(len(rows), -1)
    position = frame_positions(stop - start, frames)
    low = position.astype(np.int64)
    high = np.minimum(low + 1, (stop - start)[:, None] - 1)
    weight = (position - low).astype(np.float32)[..., None]

    bodies = present.shape[1]
    out = np.zeros((*present.shape, frames, layout.num_joints, channels), np.float32)
    at_low, at_high = np.empty((2, BLOCK * bodies, frames, rows.shape[1]), np.float32)
    for block in np.split(np.arange(len(offset)), range(BLOCK, len(offset), BLOCK)):
        of, body = np.nonzero(present[block])  # one entry a track: a body of a clip
        clip = block[of]
        first = (offset + start)[clip] + body * length[clip]
        a, b = at_low[: len(clip)], at_high[: len(clip)]
        # mode="clip" never clips here; it lets take write into `out` without a copy of its own.
        np.take(rows, first[:, None] + low[clip], axis=0, out=a, mode="clip")
        np.take(rows, first[:, None] + high[clip], axis=0, out=b, mode="clip")
        b -= a
        b *= weight[clip]
        a += b
        tracks = reading.mapped(a.reshape(-1, frames, joints, channels))
        path = moving_origin(origin[block], tracks[body == 0], layout, coordinates)
        out[clip, body] = in_reference_frame(tracks, path[of], rotation[clip])
    return out


def resize_clips(
    clips: Float32[np.ndarray, "B M t U C"],
    present: Bool[np.ndarray, "B M"],
    reading: Reading,
) -> tuple[Float32[np.ndarray, "B m T V C"], Bool[np.ndarray, "B m"]]:
    """Like `full_clips`, for clips outside a store.

    Args:
      clips: [B, M, t, U, C] coordinates in the store's units, of any length t. The U joints are
        those of `reading.source_layout`.
      present: which bodies are there, at least one of each clip. As in a store, those that are come
        first.
      reading: layout, coordinates, T and how many bodies of each clip are read.

    Returns:
      `(clip, present)` of the first `reading.bodies` bodies that are there.

    Raises:
      InputError: unknown coordinates.
      ValueError: a clip without a body.
    """
    if not present.any(axis=1).all():
        raise ValueError("a clip has no body")
    count, _, length, joints, channels = clips.shape
    order = np.argsort(~present, axis=1, kind="stable")[:, : reading.bodies]
    clips = np.take_along_axis(clips, order[:, :, None, None, None], axis=1)
    seen = np.take_along_axis(present, order, axis=1)
    each = np.full(count, length)
    clip = resize(
        clips.reshape(-1, joints, channels),
        np.arange(count) * order.shape[1] * length,
        each,
        seen,
        np.zeros_like(each),
        each,
        reading,
    )
    absent = reading.bodies - order.shape[1]
    return (
        np.pad(clip, [(0, 0), (0, absent), (0, 0), (0, 0), (0, 0)]),
        np.pad(seen, [(0, 0), (0, absent)]),
    )
