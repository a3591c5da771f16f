"""From a store to host batches: grain draws clips and crops, NumPy gathers whole batches.

A batch is gathered straight from the memory-mapped frames: two reads of the neighbouring rows of
every sample, one linear interpolation, one change of the frame of reference. What is random on top
of that (rotation, noise, masks) happens on the device, in `igm_jax.augment`.
"""

import dataclasses

import grain
import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from igm_jax.data.sessions import BATCHES, SessionOrder, session_codes
from igm_jax.data.store import SkeletonStore
from igm_jax.errors import InputError
from igm_jax.skeleton import apply_view, concat_streams, moving_origin, view_transform

# "clip" float32 [b, M, T, V, C], "present" bool [b, M], with two crops also "other", like "clip":
# b of the B rows of a batch, or all. "index" int32 [B], positions in the store, is always of all.
Batch = dict[str, np.ndarray]

# Of more clips the statistics are those of a sample, so that no run begins by reading all its data.
# More than any data set named in docs/data.md trains on: theirs are of all clips.
STATISTICS_CLIPS = 1 << 16

_BLOCK = 16  # clips gathered together: their frames fit into the cache, three times as fast


def frame_positions(length: Int[np.ndarray, " B"], frames: int) -> Float[np.ndarray, "B T"]:
    """Where to sample clips of `length` frames so that `frames` remain (half-pixel centres).

    Sample i stands for the middle of the i-th of T equal spans of the clip:
    (i + ½) · length / T − ½, held inside the clip.

    >>> frame_positions(np.array([4, 2]), 4)
    array([[0.  , 1.  , 2.  , 3.  ],
           [0.  , 0.25, 0.75, 1.  ]])
    """
    length = np.asarray(length)[:, None]
    return np.clip((np.arange(frames) + 0.5) * (length / frames) - 0.5, 0, length - 1)


def gather(
    store: SkeletonStore,
    indices: Int[np.ndarray, " B"],
    start: Int[np.ndarray, " B"],
    stop: Int[np.ndarray, " B"],
    *,
    frames: int,
    bodies: int,
    view: str,
) -> tuple[Float32[np.ndarray, "B M T V C"], Bool[np.ndarray, "B M"]]:
    """Frames [start, stop) of each clip, resized to `frames` frames, seen in `view`.

    The frame of reference is that of the whole clip (its first frame, first body), whatever the
    crop; in `"posture"` its origin moves with that body. Linear interpolation at `frame_positions`.

    Args:
      store: an open store.
      indices: positions of B clips in the store.
      start: first frame of each crop, 0 ≤ start.
      stop: one past the last, start < stop ≤ length of the clip.
      frames: T.
      bodies: M; the first M bodies of a clip are taken, absent ones are zero.
      view: one of `igm_jax.skeleton.VIEWS`.

    Returns:
      `(clip, present)`: float32 coordinates in the store's units, and which bodies are there.

    Raises:
      InputError: unknown view.
      ValueError: a crop that is empty or leaves its clip.
    """
    table = store.clips[indices]
    if not ((start >= 0) & (start < stop) & (stop <= table["length"])).all():
        raise ValueError("a crop is empty or leaves its clip")
    store.read_ahead(table)
    joints, channels = store.frames.shape[1:]
    rows = np.asarray(store.frames).reshape(len(store.frames), -1)
    origin, rotation = view_transform(np.asarray(store.frames)[table["offset"]], store.layout, view)

    position = frame_positions(stop - start, frames)
    low = position.astype(np.int64)
    high = np.minimum(low + 1, (stop - start)[:, None] - 1)
    weight = (position - low).astype(np.float32)[..., None]

    present = np.arange(bodies) < table["bodies"][:, None]
    out = np.zeros((*present.shape, frames, joints, channels), np.float32)
    at_low, at_high = np.empty((2, _BLOCK * bodies, frames, rows.shape[1]), np.float32)
    for block in np.split(np.arange(len(table)), range(_BLOCK, len(table), _BLOCK)):
        of, body = np.nonzero(present[block])  # one entry a track: a body of a clip
        clip = block[of]
        first = (table["offset"] + start)[clip] + body * table["length"][clip].astype(np.int64)
        a, b = at_low[: len(clip)], at_high[: len(clip)]
        # mode="clip" never clips here; it lets take write into `out` without a copy of its own.
        np.take(rows, first[:, None] + low[clip], axis=0, out=a, mode="clip")
        np.take(rows, first[:, None] + high[clip], axis=0, out=b, mode="clip")
        b -= a
        b *= weight[clip]
        a += b
        tracks = a.reshape(-1, frames, joints, channels)
        path = moving_origin(origin[block], tracks[body == 0], store.layout, view)
        out[clip, body] = apply_view(tracks, path[of], rotation[clip])
    return out, present


def full_clips(
    store: SkeletonStore, indices: Int[np.ndarray, " B"], *, frames: int, bodies: int, view: str
) -> tuple[Float32[np.ndarray, "B M T V C"], Bool[np.ndarray, "B M"]]:
    """`gather` without a crop, for evaluation."""
    length = store.clips["length"][indices].astype(np.int64)
    return gather(
        store, indices, np.zeros_like(length), length, frames=frames, bodies=bodies, view=view
    )


def sample(indices: Int[np.ndarray, " clips"], most: int) -> Int[np.ndarray, " chosen"]:
    """At most so many of the positions: all, or one at random of each of `most` equal stretches.

    At random, for a store may repeat itself: every third clip may be of one camera. The same
    positions give the same sample.

    >>> sample(np.arange(3), 4)
    array([0, 1, 2])
    """
    if len(indices) <= most:
        return indices
    edges = np.arange(most + 1) * len(indices) // most
    return indices[np.random.default_rng(0).integers(edges[:-1], edges[1:])]


def statistics(
    store: SkeletonStore,
    indices: Int[np.ndarray, " clips"],
    *,
    frames: int,
    bodies: int,
    view: str,
    streams: tuple[str, ...],
    most: int = STATISTICS_CLIPS,
) -> tuple[Float[np.ndarray, " CS"], Float[np.ndarray, " CS"]]:
    """Mean and standard deviation of each channel over whole clips, as `full_clips` gives them.

    Sums in float64 over every frame, joint and present body, a few clips in memory at a time. Of
    more than `most` clips `sample` chooses those that are read.

    Args:
      store: an open store.
      indices: positions of the training clips.
      frames: T.
      bodies: M.
      view: one of `igm_jax.skeleton.VIEWS`.
      streams: of `igm_jax.skeleton.STREAMS`; their channels follow each other.
      most: clips that are read, ≥ 1.

    Returns:
      `(mean, std)`, float64 [C · S], in the store's units; a constant coordinate has std 0.

    Raises:
      InputError: unknown view or stream, or no clip.
    """
    if len(indices) == 0:
        raise InputError("statistics of no clips: choose a split that has some")
    indices = np.sort(sample(indices, most))
    count, total, square = 0, 0.0, 0.0
    for start in range(0, len(indices), _BLOCK):
        chosen = indices[start : start + _BLOCK]
        clip, present = full_clips(store, chosen, frames=frames, bodies=bodies, view=view)
        x = concat_streams(clip[present], store.layout, streams).astype(np.float64)
        x = x.reshape(-1, x.shape[-1])
        count, total, square = count + len(x), total + x.sum(axis=0), square + (x * x).sum(axis=0)
    mean = total / count
    return mean, np.sqrt(np.maximum(square / count - mean**2, 0))


@dataclasses.dataclass(frozen=True)
class _CropAndGather(grain.transforms.RandomMap):
    """Positions in the stream → batch; grain keys the generator by seed and place in the stream."""

    store: SkeletonStore
    indices: np.ndarray
    frames: int
    bodies: int
    view: str
    crop: tuple[float, float]
    min_crop_frames: int
    crops: int
    rows: np.ndarray
    order: SessionOrder | None

    def random_map(self, element: np.ndarray, rng: np.random.Generator) -> Batch:
        """Crops each clip to a random share of its frames, at a random place, once or twice."""
        index = self.indices[element if self.order is None else self.order(element)]
        chosen = index[self.rows]
        length = self.store.clips["length"][chosen].astype(np.int64)
        # Drawn for the whole batch: a clip is cropped alike, whichever process reads it.
        draws = rng.random((self.crops, 2, len(index)))
        clips = []
        for share, place in draws[:, :, self.rows]:
            low, high = self.crop
            size = np.rint((low + share * (high - low)) * length).astype(np.int64)
            size = np.clip(size, np.minimum(max(self.min_crop_frames, 1), length), length)
            start = (place * (length - size + 1)).astype(np.int64)
            clip, present = gather(
                self.store, chosen, start, start + size,
                frames=self.frames, bodies=self.bodies, view=self.view,
            )  # fmt: skip
            clips.append(clip)
        batch = {"clip": clips[0], "present": present, "index": index.astype(np.int32)}
        return batch | ({"other": clips[1]} if self.crops == 2 else {})


def train_batches(
    store: SkeletonStore,
    indices: Int[np.ndarray, " clips"],
    *,
    batch_size: int,
    frames: int,
    bodies: int,
    view: str,
    crop: tuple[float, float] = (0.5, 1.0),
    min_crop_frames: int,
    crops: int = 1,
    batches: str = "mixed",
    seed: int,
    rows: Int[np.ndarray, " b"] | None = None,
) -> grain.IterDataset:
    """Endless training batches: every epoch is a new permutation of the clips.

    Batches cross the border between epochs, so none is short and none is dropped. The iterator's
    `get_state()` is small JSON, and `set_state()` continues bit for bit.

    Of many processes each reads its rows of every batch. Which clips a batch has, and how they are
    cropped, does not depend on who reads them, and neither does the state of the iterator.

    Args:
      store: an open store.
      indices: positions of the training clips.
      batch_size: B, clips of all processes together.
      frames: T, after the crop.
      bodies: M.
      view: one of `igm_jax.skeleton.VIEWS`.
      crop: least and greatest share of a clip's frames to keep, drawn uniformly.
      min_crop_frames: no crop is shorter, unless its clip is.
      crops: 1, or 2 for a second, independent crop of each clip (`other`).
      batches: one of `sessions.BATCHES`: "mixed", or "session" for clips of one subject, camera and
        setup side by side, so that a batch has as few sessions as its size allows.
      seed: of order and crops.
      rows: which rows of each batch to read; all by default.

    Returns:
      A grain dataset of `Batch`es.

    Raises:
      InputError: a batch larger than the number of clips, a crop that is no range within (0, 1],
        another kind of batches.
    """
    if batch_size < 1 or batch_size > len(indices):
        raise InputError(
            f"batch_size {batch_size} does not fit {len(indices)} training clips: "
            f"choose 1 to {len(indices)}"
        )
    if not 0 < crop[0] <= crop[1] <= 1:
        raise InputError(f"crop {crop} is no range of shares: choose 0 < low <= high <= 1")
    if batches not in BATCHES:
        raise InputError(f"batches={batches!r} is unknown: choose one of {', '.join(BATCHES)}")
    order = SessionOrder(session_codes(store, indices), seed) if batches == "session" else None
    transform = _CropAndGather(
        store, np.asarray(indices), frames, bodies, view, tuple(crop), min_crop_frames, crops,
        np.arange(batch_size) if rows is None else rows, order,
    )  # fmt: skip
    if order is None:
        dataset = grain.MapDataset.range(len(indices)).seed(seed).shuffle().repeat()
    else:  # the order knows of epochs; the stream is as good as endless
        dataset = grain.MapDataset.range(1 << 50).seed(seed)
    dataset = dataset.batch(batch_size, drop_remainder=True)
    # grain's defaults, 16 threads and 500 batches ahead, are slower and fill the memory.
    return dataset.random_map(transform).to_iter_dataset(
        grain.ReadOptions(num_threads=2, prefetch_buffer_size=6)
    )
