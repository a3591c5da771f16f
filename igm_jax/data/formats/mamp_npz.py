"""Reads NTU RGB+D and PKU-MMD from the dense .npz of MAMP's and CTR-GCN's scripts.

    x_train.npy, x_test.npy  [N, 300, 150], a clip a row: body 1, then body 2, each 25 times x y z
                             in metres; zeros behind the clip's end and where a body is absent
    y_train.npy, y_test.npy  [N, K], one-hot

Frames that show nobody are dropped, missing joints are filled in (`gaps`), and a body that is lost
for a while stays as last seen. A second body that is absent, or a copy of the first (as the
pipelines of NTU RGB+D 120 fill it), is absent here. The arrays do not say who acts or which camera
looks, so the cut is that of the file.

The x are several gigabytes and stay in the file: they are read as a stream, a clip at a time.

References:
  Mao et al., Masked Motion Predictors are Strong 3D Action Representation Learners, ICCV 2023
  (MAMP), and Chen et al., Channel-wise Topology Refinement Graph Convolution, ICCV 2021 (CTR-GCN).
"""

import dataclasses
import functools
import pathlib
import zipfile
from typing import NoReturn

import numpy as np
from jaxtyping import Float

from igm_jax.data.formats import gaps, npy, ntu60, ntu120, pku_mmd
from igm_jax.data.formats.archives import UNREADABLE
from igm_jax.data.raw import RawData, one_clip
from igm_jax.data.store import BadClip, Clip
from igm_jax.errors import InputError
from igm_jax.skeleton import NTU25

DATASET = "mamp_npz"
LAYOUT = NTU25
HOW_TO_GET = (
    "make it with the data scripts of MAMP or CTR-GCN (NTU60_XSub.npz, NTU60_CS.npz, …) and run: "
    "python experiments/prepare_data.py --dataset=mamp_npz --source=FILE.npz"
)

_SIDES = ("train", "test")  # 1 and 2 of the column split
_BODIES = 2
_VALUES = _BODIES * LAYOUT.num_joints * 3  # of a frame
# A header that claims more than this is damaged or hostile.
_MAX_CLIPS, _MAX_FRAMES, _MAX_LABEL_BYTES = 1 << 20, 10_000, 1 << 28
_KNOWN_CLASSES = {
    len(module.CLASS_NAMES): module.CLASS_NAMES for module in (ntu60, ntu120, pku_mmd)
}


@dataclasses.dataclass(frozen=True)
class Row:
    """A clip: a row of x_train or x_test, with the class of its row of y, or None."""

    path: pathlib.Path
    side: str
    index: int
    label: int | None

    @property
    def name(self) -> str:
        """Name of the clip, as in the scripts."""
        return f"{self.side}_{self.index}"


def read(source: str | pathlib.Path) -> RawData:
    """Finds all clips: those of x_train, then those of x_test.

    Args:
      source: the file.

    Returns:
      Clips of one or two bodies [M, T, 25, 3], train_I and test_I by their rows; a row that shows
      nobody or does not name exactly one class comes as a `BadClip`.

    Raises:
      InputError: no such file, no .npz with these four arrays, or arrays of other shapes.
    """
    path = pathlib.Path(source).expanduser()
    if not path.is_file():
        raise InputError(f"{path}: no such file: {HOW_TO_GET}")
    classes, parts = set(), []
    for side in _SIDES:
        with _Member(path, f"x_{side}") as x, _Member(path, f"y_{side}") as y:
            _check_clips(x)
            labels = _labels(y, x.shape[0])
        classes.add(y.shape[1])
        parts += [Row(path, side, i, label) for i, label in enumerate(labels)]
    if len(classes) > 1:
        raise InputError(f"{path}: y_train and y_test have {sorted(classes)} columns, not the same")
    (count,) = classes
    names = _KNOWN_CLASSES.get(count) or tuple(f"class {i}" for i in range(count))
    # One process reads: a compressed array is a stream, and each of several processes would unpack
    # all of it. What is left to do for a clip is a copy of its frames.
    return RawData(
        parts,
        functools.partial(one_clip, _Reader()),
        DATASET,
        LAYOUT,
        names,
        gaps.DEFAULT.cleaning,
        parallel=False,
    )


class _Member:
    """An array of the archive, read as a stream: first the header, then row by row.

    Attributes:
      shape: of the array.
      dtype: of its values.
      next: the index of the next row.

    Raises:
      InputError: it is missing, damaged, or no array of real numbers in C order.
    """

    def __init__(self, path: pathlib.Path, name: str):
        self.next = 0
        self._path, self._name = path, name
        try:
            self._archive = zipfile.ZipFile(path)
            info = self._archive.getinfo(f"{name}.npy")
            self._file = self._archive.open(info)
            self.shape, fortran, self.dtype = npy.read_header(
                self._file,  # pyright: ignore[reportArgumentType]  # typeshed: IO[bytes]
                info.file_size,
            )
        except KeyError as error:
            names = sorted(self._archive.namelist())[:6]
            held = ", ".join(f"{name[:40]!r}" for name in names) or "nothing"
            raise InputError(f"{path}: has no array {name}, but {held}: {HOW_TO_GET}") from error
        except (*UNREADABLE, InputError) as error:
            self.fail(error)
        if fortran:
            self.fail("is in Fortran order: save a copy in C order, np.ascontiguousarray")

    def __enter__(self) -> "_Member":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the archive and the stream within it."""
        self._file.close()
        self._archive.close()

    def row(self) -> np.ndarray:
        """The next row; raises InputError if it is not there or the stream is damaged."""
        shape = self.shape[1:]
        size = self.dtype.itemsize * int(np.prod(shape, dtype=object))
        try:
            content = self._file.read(size)
        except UNREADABLE as error:
            self.fail(f"row {self.next} cannot be read ({error})")
        if len(content) < size:
            self.fail(f"ends within row {self.next} of {self.shape[0]}")
        self.next += 1
        return np.frombuffer(content, self.dtype).reshape(shape)

    def fail(self, why: object) -> NoReturn:
        """Raises an InputError about this array."""
        cause = why if isinstance(why, Exception) else None
        raise InputError(f"{self._path}: {self._name} {why}: download or make it again") from cause


class _Reader:
    """Reads clips in order; a clip before the last one restarts the stream.

    A resumed run therefore reads the finished clips once more and drops them.
    """

    def __init__(self):
        self._member: _Member | None = None
        self._side: tuple[pathlib.Path, str] | None = None

    def __call__(self, row: Row) -> Clip | BadClip:
        member, side = self._member, (row.path, row.side)
        if member is None or self._side != side or row.index < member.next:
            if member is not None:
                member.close()
            member = _Member(row.path, f"x_{row.side}")
            self._member, self._side = member, side
        while member.next < row.index:
            member.row()
        return _clip(row, member.row())


def _clip(row: Row, values: Float[np.ndarray, "T 150"]) -> Clip | BadClip:
    if row.label is None:
        return BadClip(row.name, f"row {row.index} of y_{row.side} does not name exactly one class")
    frames = values.reshape(-1, _BODIES, LAYOUT.num_joints, 3).swapaxes(0, 1)
    if np.array_equal(frames[0], frames[1], equal_nan=True):
        frames = frames[:1]
    clip = Clip(row.name, frames, row.label, split=1 + _SIDES.index(row.side))
    return gaps.filled(clip, LAYOUT)


def _check_clips(x: _Member) -> None:
    if len(x.shape) != 3 or x.shape[2] != _VALUES or x.dtype.kind != "f":
        x.fail(f"is {x.dtype} {list(x.shape)}, not float [clips, frames, {_VALUES}]")
    if x.shape[0] > _MAX_CLIPS or not 0 < x.shape[1] <= _MAX_FRAMES:
        x.fail(
            f"promises {x.shape[0]} clips of {x.shape[1]} frames, where 0 to {_MAX_CLIPS} of "
            f"1 to {_MAX_FRAMES} are believed"
        )


def _labels(y: _Member, clips: int) -> list[int | None]:
    if len(y.shape) != 2 or y.shape[0] != clips or not y.shape[1]:
        y.fail(f"has shape {list(y.shape)}, not [{clips}, classes] as {clips} clips need")
    if y.shape[0] * y.shape[1] * y.dtype.itemsize > _MAX_LABEL_BYTES:
        y.fail(f"has shape {list(y.shape)}, more than {_MAX_LABEL_BYTES} bytes")
    rows = (y.row() for _ in range(clips))
    return [int(row.argmax()) if (row != 0).sum() == 1 == row.max() else None for row in rows]
