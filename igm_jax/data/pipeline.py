"""Makes host batches from a store: grain draws clips and crops, NumPy gathers whole batches.

A batch is gathered straight from the memory-mapped frames: two reads of the neighbouring rows of
every sample, one linear interpolation, one change of the frame of reference. Other random steps
(rotation, noise, masks) run on the device, in `igm_jax.augment`.
"""

import dataclasses

import grain
import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from igm_jax.arguments import check_choice
from igm_jax.data.resize import BLOCK, resize
from igm_jax.data.sessions import BATCHES, SessionOrder, session_codes
from igm_jax.data.store import SkeletonStore
from igm_jax.errors import InputError
from igm_jax.reading import Reading
from igm_jax.skeleton import concat_streams

# "clip" float32 [b, M, T, V, C], "present" bool [b, M], with two crops also "other", like "clip":
# b of the B rows of a batch, or all. "index" int32 [B], positions in the store, is always of all.
Batch = dict[str, np.ndarray]

# For more clips, statistics come from a sample, so that no run has to read all its data first.
# This is more than any data set in docs/data.md trains on, so theirs use all clips.
STATISTICS_CLIPS = 1 << 16


def gather(
    store: SkeletonStore,
    indices: Int[np.ndarray, " B"],
    start: Int[np.ndarray, " B"],
    stop: Int[np.ndarray, " B"],
    reading: Reading,
) -> tuple[Float32[np.ndarray, "B M T V C"], Bool[np.ndarray, "B M"]]:
    """Reads frames [start, stop) of each clip, resized and in the coordinates of `reading`.

    The frame of reference is that of the whole clip (its first frame, first body), whatever the
    crop; in `"posture"` its origin moves with that body. Linear interpolation at
    `resize.frame_positions`.

    Args:
      store: an open store.
      indices: positions of B clips in the store.
      start: first frame of each crop, 0 ≤ start.
      stop: one past the last, start < stop ≤ length of the clip.
      reading: layout, coordinates, T and M.

    Returns:
      `(clip, present)`: float32 coordinates in the store's units, and which bodies are there.

    Raises:
      InputError: unknown coordinates.
      ValueError: a crop that is empty or leaves its clip.
    """
    table = store.clips[indices]
    if not ((start >= 0) & (start < stop) & (stop <= table["length"])).all():
        raise ValueError("a crop is empty or leaves its clip")
    store.read_ahead(table)
    present = store.bodies_present(indices, reading.bodies)
    clip = resize(
        np.asarray(store.frames),
        table["offset"],
        table["length"].astype(np.int64),
        present,
        start,
        stop,
        reading,
    )
    return clip, present


def full_clips(
    store: SkeletonStore, indices: Int[np.ndarray, " B"], reading: Reading
) -> tuple[Float32[np.ndarray, "B M T V C"], Bool[np.ndarray, "B M"]]:
    """`gather` without a crop, for evaluation."""
    length = store.clips["length"][indices].astype(np.int64)
    return gather(store, indices, np.zeros_like(length), length, reading)


def sample(indices: Int[np.ndarray, " clips"], most: int) -> Int[np.ndarray, " chosen"]:
    """Samples at most `most` positions: all, or a random one from each of `most` equal parts.

    The choice is random, because a store may have a period, such as three cameras. The same
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
    reading: Reading,
    *,
    most: int = STATISTICS_CLIPS,
) -> tuple[Float[np.ndarray, " CS"], Float[np.ndarray, " CS"]]:
    """Mean and standard deviation of each channel over whole clips, as `full_clips` gives them.

    Sums in float64 over every frame, joint and present body, a few clips in memory at a time. Of
    more than `most` clips `sample` chooses those that are read.

    Args:
      store: an open store.
      indices: positions of the training clips.
      reading: without statistics; its streams follow each other as channels.
      most: clips that are read, ≥ 1.

    Returns:
      `(mean, std)`, float64 [C · S], in the store's units; a constant coordinate has std 0.

    Raises:
      InputError: unknown coordinates or stream, or no clip.
    """
    if len(indices) == 0:
        raise InputError("statistics of no clips: choose a split that has some")
    indices = np.sort(sample(indices, most))
    count, total, square = 0, np.zeros(()), np.zeros(())
    for start in range(0, len(indices), BLOCK):
        chosen = indices[start : start + BLOCK]
        clip, present = full_clips(store, chosen, reading)
        x = concat_streams(clip[present], reading.layout, reading.streams).astype(np.float64)
        x = x.reshape(-1, x.shape[-1])
        count, total, square = count + len(x), total + x.sum(axis=0), square + (x * x).sum(axis=0)
    mean = total / count
    return mean, np.sqrt(np.maximum(square / count - mean**2, 0))


def crop_places(
    draws: Float[np.ndarray, "2 B"],
    length: Int[np.ndarray, " B"],
    crop: tuple[float, float],
    min_crop_frames: int,
) -> tuple[Int[np.ndarray, " B"], Int[np.ndarray, " B"]]:
    """First frame of a random crop of each clip, and one past its last.

    Args:
      draws: uniform in [0, 1): of the crop's size, and of its place.
      length: frames of each clip.
      crop: least and largest share of them.
      min_crop_frames: no crop is shorter, unless its clip is.
    """
    (share, place), (low, high) = draws, crop
    size = np.rint((low + share * (high - low)) * length).astype(np.int64)
    size = np.clip(size, np.minimum(max(min_crop_frames, 1), length), length)
    start = (place * (length - size + 1)).astype(np.int64)
    return start, start + size


@dataclasses.dataclass(frozen=True)
class _CropAndGather(grain.transforms.RandomMap):
    """Positions in the stream → batch; grain keys the generator by seed and place in the stream."""

    store: SkeletonStore
    indices: np.ndarray
    reading: Reading
    crop: tuple[float, float]
    min_crop_frames: int
    crops: int
    rows: np.ndarray
    order: SessionOrder | None

    # grain declares that `random_map` returns None, and uses what it returns.
    def random_map(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, element: np.ndarray, rng: np.random.Generator
    ) -> Batch:
        """Crops each clip to a random share of its frames, at a random place, once or twice."""
        index = self.indices[element if self.order is None else self.order(element)]
        chosen = index[self.rows]
        length = self.store.clips["length"][chosen].astype(np.int64)
        # Drawn for the whole batch: a clip gets the same crop, whichever process reads it.
        draws = rng.random((self.crops, 2, len(index)))
        gathered = []
        for draw in draws[:, :, self.rows]:
            start, stop = crop_places(draw, length, self.crop, self.min_crop_frames)
            gathered.append(gather(self.store, chosen, start, stop, self.reading))
        clip, present = gathered[0]
        batch = {"clip": clip, "present": present, "index": index.astype(np.int32)}
        return batch | ({"other": gathered[1][0]} if self.crops == 2 else {})


def train_batches(
    store: SkeletonStore,
    indices: Int[np.ndarray, " clips"],
    reading: Reading,
    *,
    batch_size: int,
    crop: tuple[float, float] = (0.5, 1.0),
    min_crop_frames: int,
    crops: int = 1,
    batches: str = "mixed",
    seed: int,
    rows: Int[np.ndarray, " b"] | None = None,
) -> grain.IterDataset:
    """Endless training batches: every epoch is a new permutation of the clips.

    A batch may span two epochs, so none is short and none is dropped. The iterator's
    `get_state()` is small JSON, and `set_state()` continues bit for bit.

    Of many processes each reads its rows of every batch. Which clips a batch has, and how they are
    cropped, does not depend on who reads them, and neither does the state of the iterator.

    Args:
      store: an open store.
      indices: positions of the training clips.
      reading: layout, coordinates, T (after the crop) and M.
      batch_size: B, clips of all processes together.
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
    check_choice("batches", batches, BATCHES)
    order = SessionOrder(session_codes(store, indices), seed) if batches == "session" else None
    transform = _CropAndGather(
        store,
        np.asarray(indices),
        reading,
        (crop[0], crop[1]),
        min_crop_frames,
        crops,
        np.arange(batch_size) if rows is None else rows,
        order,
    )
    if order is None:
        dataset = grain.MapDataset.range(len(indices)).seed(seed).shuffle().repeat()
    else:  # the order knows of epochs; the stream is as good as endless
        dataset = grain.MapDataset.range(1 << 50).seed(seed)
    dataset = dataset.batch(batch_size, drop_remainder=True)
    # grain's defaults, 16 threads and 500 batches ahead, are slower and fill the memory.
    return dataset.random_map(transform).to_iter_dataset(
        grain.ReadOptions(num_threads=2, prefetch_buffer_size=6)
    )
