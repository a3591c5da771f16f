"""The skeleton store: a folder that holds every valid frame of a data set once, memory-mapped.

    frames.npy  float32 [rows, V, C], the valid frames of all clips, one after the other
    clips.npy   the clip table: where each clip lies in `frames`, and who did what in it
    meta.json   format version, layout, class names, units, source, cleaning steps, checksums

A clip of M bodies and T frames is `frames[offset : offset + M * T]`, body-major. Nothing is padded,
so NTU-120 takes a tenth of its dense size on disk and, memory-mapped, almost no memory.
`files` checks them, `writer` writes them.
"""

import dataclasses
import mmap
import os
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, SupportsIndex

import numpy as np
from jaxtyping import Bool, Int

from igm_jax.data.store import files, writer
from igm_jax.data.store.clip import BadClip, Clip
from igm_jax.data.store.files import CLIPS, FRAMES, META
from igm_jax.skeleton import Layout


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class SkeletonStore:
    """An open store; it pickles as its path, so another process opens it again.

    Attributes:
      path: the folder, absolute.
      frames: float32 [rows, V, C], memory-mapped, read-only.
      clips: the clip table (`files.clip_dtype`), memory-mapped, in the order of writing.
      layout: the joint layout.
      class_names: name of each label.
      meta: all of meta.json.
    """

    path: pathlib.Path
    frames: np.ndarray
    clips: np.ndarray
    layout: Layout
    class_names: tuple[str, ...]
    meta: dict[str, Any]

    @classmethod
    def open(cls, path: str | os.PathLike) -> "SkeletonStore":
        """Opens a store after every check that neither reads the frames nor compares all names.

        It reads the clip table once and keeps none of it: a process needs no more memory for more
        clips, only mapped pages, which it shares with the others of its machine.

        Raises:
          InputError: the folder is no store of this format version, or its files contradict each
            other; names the file and the check that failed.
        """
        path = pathlib.Path(path).expanduser().absolute()
        meta, layout = files.read_meta(path / META)
        frames = files.map_array(path / FRAMES)
        clips = files.map_array(path / CLIPS)
        expected = (meta["counts"]["rows"], layout.num_joints)
        if frames.dtype != np.dtype("<f4") or frames.ndim != 3 or frames.shape[:2] != expected:
            raise files.damaged(
                path / FRAMES,
                f"is {frames.dtype} {list(frames.shape)}, {META} says "
                f"float32 [{expected[0]}, {expected[1]}, C]",
            )
        files.check_table(path / CLIPS, clips, len(frames), meta)
        return cls(path, frames, clips, layout, tuple(meta["class_names"]), meta)

    @classmethod
    def write(
        cls,
        path: str | os.PathLike,
        clips: Iterable[Clip | BadClip],
        *,
        layout: Layout,
        class_names: Sequence[str],
        source: str,
        dataset: str = "custom",
        units: str = "metres",
        cleaning: Sequence[str] = (),
        overwrite: bool = False,
        on_bad: str = "refuse",
    ) -> list[BadClip]:
        """Writes a stream of clips into a new store at `path`, which appears when it is complete.

        The clips go to a hidden folder beside `path` that is renamed at the end and removed on any
        failure. Only a killed writer leaves it (`.NAME.writing-*`, safe to delete). One clip
        is in memory at a time, and the same clips give the same bytes.

        Args:
          path: the folder to make; missing parents are made too.
          clips: clips in the order they shall have.
          layout: what their V joints are.
          class_names: name of each label; may be empty if no clip has a label.
          source: where the clips come from, in words.
          dataset: key of `igm_jax.data.protocols.PROTOCOLS`, or any other name.
          units: unit of the coordinates.
          cleaning: the steps that were applied to the raw data, in order.
          overwrite: replace a store at `path`; the old one stays until the new one is complete.
          on_bad: what to do with a clip of no frames or bodies, with NaN or infinite coordinates,
            the wrong number of joints, an unknown label or a name seen before: `"refuse"` the
            whole, or `"skip"` the clip.

        Returns:
          The clips left out; meta.json lists them too.

        Raises:
          InputError: a bad clip, no good clip at all, or something at `path` that may not be
            replaced.
          OSError: the disk is full or the folder not writable.
        """
        facts = {
            "dataset": dataset,
            "layout": layout.to_dict(),
            "class_names": list(class_names),
            "units": units,
            "cleaning": list(cleaning),
            "source": source,
        }
        return writer.write_store(path, clips, facts, overwrite=overwrite, on_bad=on_bad)

    @classmethod
    def verify(cls, path: str | os.PathLike, *, chunk_rows: int = 1 << 16) -> dict[str, Any]:
        """Opens a store and reads all of it: checksums, unique names, finite coordinates.

        Args:
          path: the store.
          chunk_rows: rows of frames looked at together, to bound the memory.

        Returns:
          `summary()` of the store.

        Raises:
          InputError: names the file and the check that failed.
        """
        store = cls.open(path)
        for name in (FRAMES, CLIPS):
            if files.sha256(store.path / name) != store.meta["sha256"].get(name):
                raise files.damaged(store.path / name, f"sha256 is not the one in {META}")
        files.check_names(store.path / CLIPS, store.clips)
        for start in range(0, len(store.frames), chunk_rows):
            finite = np.isfinite(store.frames[start : start + chunk_rows]).all(axis=(1, 2))
            if not finite.all():
                row = start + int(finite.argmin())
                clip = int(np.searchsorted(store.clips["offset"], row, side="right")) - 1
                name = str(store.clips["name"][clip])
                raise files.damaged(store.path / FRAMES, f"row {row} (clip {name!r}) is not finite")
        return store.summary()

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, i: SupportsIndex) -> Clip:
        """Clip `i`; its frames are a view of the file, not a copy."""
        row = self.clips[i]
        bodies, length, offset = int(row["bodies"]), int(row["length"]), int(row["offset"])
        frames = np.asarray(self.frames[offset : offset + bodies * length])
        return Clip(
            str(row["name"]),
            frames.reshape(bodies, length, *frames.shape[1:]),
            label=int(row["label"]),
            subject=int(row["subject"]),
            camera=int(row["camera"]),
            setup=int(row["setup"]),
            split=int(row["split"]),
        )

    def bodies_present(
        self, indices: Int[np.ndarray, " B"], bodies: int
    ) -> Bool[np.ndarray, "B M"]:
        """Tells which of the first `bodies` bodies of each clip are there."""
        return np.arange(bodies) < self.clips["bodies"][indices][:, None]

    def read_ahead(self, clips: np.ndarray) -> None:
        """Asks the system to load the frames of these clips, and does not wait.

        Frames that are not in memory are then fetched side by side, and nothing else. Without
        this, each missing page blocks, and the kernel also reads ahead around it; see
        docs/scaling.md.

        Args:
          clips: rows of the clip table.
        """
        if not hasattr(mmap, "MADV_WILLNEED"):  # Windows
            return
        frames: Any = self.frames  # an `np.memmap`; its stub does not say that its base is an mmap
        row = frames.strides[0]
        # NumPy maps a file from the beginning of the page in which the array begins.
        start = frames.offset % mmap.ALLOCATIONGRANULARITY + clips["offset"] * row
        stop = start + clips["bodies"].astype(np.int64) * clips["length"] * row
        start -= start % mmap.PAGESIZE
        for first, size in zip(start.tolist(), (stop - start).tolist()):
            frames.base.madvise(mmap.MADV_WILLNEED, first, size)

    def __reduce__(self):
        return SkeletonStore.open, (self.path,)

    def __repr__(self) -> str:
        return f"SkeletonStore({str(self.path)!r}, {len(self)} clips, {self.layout.name})"

    @property
    def dataset(self) -> str:
        """Name of the data set, as in `PROTOCOLS`."""
        return self.meta["dataset"]

    def summary(self) -> dict[str, Any]:
        """Counts of the store: clips, rows, classes, …, length quantiles."""
        distinct = {
            name: int((np.unique(self.clips[column]) >= first).sum())
            for name, column, first in (
                ("classes", "label", 0),
                ("subjects", "subject", 1),
                ("cameras", "camera", 1),
                ("setups", "setup", 1),
            )
        }
        length = self.clips["length"]
        return {
            "clips": len(self),
            "rows": len(self.frames),
            **distinct,
            "max_bodies": int(self.clips["bodies"].max()),
            "length": (int(length.min()), int(np.median(length)), int(length.max())),
            "bytes": sum((self.path / name).stat().st_size for name in (FRAMES, CLIPS, META)),
            "skipped": self.meta["skipped"]["count"],
        }
