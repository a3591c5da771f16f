"""Features of raw clips of any length, many in one call of the encoder."""

import csv
import importlib.util
import io
import itertools
import pathlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32

from igm_jax import features, run_folder, skeleton
from igm_jax.data import Clip, resize
from igm_jax.data.remarks import MOST_SIZES
from igm_jax.errors import InputError
from igm_jax.evaluation.run import Run, checked_clips, present_bodies

SUFFIXES = (".npz", ".csv", ".parquet")


class Embedded(NamedTuple):
    """Features of clips.

    Attributes:
      names: of the n clips.
      labels: counted from 0; -1 is unknown.
      features: [n, D].
    """

    names: list[str]
    labels: Int32[np.ndarray, " n"]
    features: Float32[np.ndarray, "n D"]


def embed(run: Run, clips: Iterable[Clip]) -> Embedded:
    """Encodes clips as `encode` of `load_encoder` does, in batches of clips of any length.

    Args:
      run: the run.
      clips: joints [M, T, V, C] in the units of its training data; read once, in order.

    Raises:
      InputError: a clip that the encoder cannot read; names it.
    """
    names: list[str] = []
    labels: list[int] = []

    def read() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for clip in clips:
            names.append(clip.name)
            labels.append(clip.label)
            yield read_clip(run, clip)

    values = features.extract_features(
        run.config.model.encoder, run.params, run.reading, clip_batches(read())
    )
    return Embedded(names, np.array(labels, np.int32), values)


def read_clip(run: Run, clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """Resizes one raw clip as the run reads it.

    Returns:
      `(clip [1, M, T, V, C], present [1, M])`; bodies that are there come first.

    Raises:
      InputError: other joints or coordinates, a value that is not finite, or nobody; names it.
    """
    channels = run.config.model.encoder.channels // len(run.reading.streams)
    try:
        frames = checked_clips(clip.frames[None], run.reading.source_layout, channels)
        return resize.resize_clips(frames, present_bodies(frames, None), run.reading)
    except InputError as error:
        raise InputError(f"{clip.name}: {error}") from error


def check_units(run: Run, clip: Clip) -> None:
    """Checks that a clip has the unit of the training clips, by the size of its bodies.

    Sizes are those of the joint stream, or of the bone stream without it. A run that reads motion
    alone, or that does not standardise its clips, cannot tell.

    Raises:
      InputError: as `read_clip`, or a body `remarks.MOST_SIZES` times as large or as small; names
        the clip.
    """
    frames, present = read_clip(run, clip)
    reading = run.reading
    still = next((name for name in reading.streams if name != "motion"), None)
    mean, std = np.array(reading.mean), np.array(reading.std)
    if still is None or (not mean.any() and (std == 1).all()):
        return
    width = frames.shape[-1]
    first = reading.streams.index(still) * width
    columns = slice(first, first + width)
    trained = np.sqrt(np.sum(mean[columns] ** 2 + std[columns] ** 2))
    stream = skeleton.concat_streams(frames[present], reading.layout, (still,))
    ratio = float(np.median(np.linalg.norm(stream, axis=-1)) / trained)
    if ratio > MOST_SIZES or 0 < ratio < 1 / MOST_SIZES:
        much = f"{ratio:,.0f} times" if ratio > 1 else f"1/{1 / ratio:,.0f}"
        raise InputError(
            f"{clip.name}: its body is {much} as large as those of the training clips: convert it "
            "to their unit"
        )


def clip_batches(
    read: Iterator[tuple[np.ndarray, np.ndarray]],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Joins clips of `read_clip` to batches, as `features.rows_of` takes them."""
    while part := list(itertools.islice(read, features.BATCH_SIZE)):
        clips, present = zip(*part)
        yield np.concatenate(clips), np.concatenate(present)


def save(path: pathlib.Path, embedded: Embedded) -> None:
    """Writes features at once as .npz (`names`, `labels`, `features`) or as a table.

    `np.load` reads the .npz without pickle. A .csv has the columns name, label, f0, f1, …, and a
    .parquet the columns name, label and features, which is a list of fixed length.

    Raises:
      InputError: another suffix, or pyarrow is not installed for .parquet.
      OSError: it cannot be written; an older file is kept.
    """
    check_suffix(path)
    if path.suffix == ".npz":
        names = np.array(embedded.names, np.str_)
        arrays = {"names": names, "labels": embedded.labels, "features": embedded.features}
        run_folder.write_arrays(path, arrays)
        return
    if path.suffix == ".parquet":
        run_folder.write_bytes(path, _parquet(embedded))
        return
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["name", "label", *(f"f{i}" for i in range(embedded.features.shape[1]))])
    for name, label, row in zip(*embedded):
        table.writerow([name, label, *map(str, row)])
    run_folder.write_text(path, text.getvalue())


def _parquet(embedded: Embedded) -> bytes:
    import pyarrow
    import pyarrow.parquet

    values = pyarrow.array(embedded.features.ravel())
    columns = {
        "name": pyarrow.array(embedded.names),
        "label": pyarrow.array(embedded.labels),
        "features": pyarrow.FixedSizeListArray.from_arrays(values, embedded.features.shape[1]),
    }
    content = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), content)
    return content.getvalue()


def check_suffix(path: pathlib.Path) -> None:
    """Raises `InputError` unless `save` can write this kind of file here."""
    if path.suffix not in SUFFIXES:
        raise InputError(f"--out={path}: choose a name that ends in {' or '.join(SUFFIXES)}")
    if path.suffix == ".parquet" and not importlib.util.find_spec("pyarrow"):
        raise InputError(
            f"--out={path} needs pyarrow, and the extra export has it: "
            "pip install 'igm_jax[export]'"
        )
