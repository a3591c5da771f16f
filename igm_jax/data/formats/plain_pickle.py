"""Reads pickles of plain containers and NumPy arrays as data, and never executes them.

A pickle is a program for a small machine that may name any function of any installed module and
call it. Here the machine knows five names, by which NumPy 1 and 2 write arrays, dtypes and numbers
at every protocol, and none of the five is NumPy's own: they are the classes below, which check what
they are given and cannot be changed. Every other name ends the reading.

An allow-list in `pickle.Unpickler.find_class` chooses names, and does not look at what they are
given. With NumPy's own functions on that list, a file may still make `_reconstruct` allocate an
array of any size, of which it holds no byte. It may make dtypes with fields or of objects, give any
state to the C code of `ndarray.__setstate__`, and have `_codecs.encode` run any codec. The C
machine also allocates as much as a forged length or memo index says. All of this is refused here.

The machine is the Python one of the standard library. Its memory of earlier objects is a dict, so
a forged number claims no memory, and it nests without recursion.
"""

import pathlib
import pickle
import re
from collections.abc import Callable
from typing import IO, Any, ClassVar

import numpy as np

from igm_jax.errors import InputError


class Array:
    """An array as its pickle describes it.

    Attributes:
      array: the array, read-only; None if its description was cut short.
    """

    __slots__ = ("array",)

    def __init__(self):
        self.array: np.ndarray | None = None

    def __setstate__(self, state: tuple) -> None:
        """Takes the state of `numpy.ndarray.__reduce__`: version, shape, dtype, order, bytes."""
        _, shape, dtype, fortran, content = state
        self.array = _as_array(content, dtype, shape, "F" if fortran else "C")


class _Dtype:
    """A dtype of real numbers."""

    __slots__ = ("dtype",)

    def __init__(self, spec: object):
        if not isinstance(spec, str) or not re.fullmatch(r"[fiu][248]|[iu]1|b1", spec):
            raise _Refused(f"a dtype {_shown(spec)}")
        self.dtype = np.dtype(spec)

    def __setstate__(self, state: tuple) -> None:
        """Takes the state of `numpy.dtype.__reduce__`: version, byte order, names, fields."""
        _, order, subarray, names, fields, *_ = state
        if order not in ("<", ">", "=", "|") or (subarray, names, fields) != (None, None, None):
            raise _Refused("a structured dtype")
        self.dtype = self.dtype.newbyteorder(order)


class _Refused(Exception):
    """Content of a pickle that is not allowed."""


class _Name:
    """The meaning of a name in a pickle; it has no dict, so that no pickle can change it."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise _Refused("a change of what a name means")


class _NdarrayType(_Name):
    """`numpy.ndarray`, as an argument of `_Reconstruct`."""

    __slots__ = ()


class _Reconstruct(_Name):
    """`numpy.core.multiarray._reconstruct`: an empty array, filled by its state."""

    __slots__ = ()

    def __call__(self, kind: object, *_: object) -> Array:
        if not isinstance(kind, _NdarrayType):
            raise _Refused("an array of a foreign class")
        return Array()


class _FromBuffer(_Name):
    """`numpy.core.numeric._frombuffer`, by which protocol 5 writes arrays."""

    __slots__ = ()

    def __call__(self, content: object, dtype: object, shape: object, order: object) -> Array:
        array = Array()
        array.array = _as_array(content, dtype, shape, order)
        return array


class _Scalar(_Name):
    """`numpy.core.multiarray.scalar`: a number."""

    __slots__ = ()

    def __call__(self, dtype: object, content: object) -> int | float | bool:
        return _as_array(content, dtype, (), "C").item()


class _MakeDtype(_Name):
    """`numpy.dtype`."""

    __slots__ = ()

    def __call__(self, spec: object, *_: object) -> _Dtype:
        return _Dtype(spec)


class _Encode(_Name):
    """`_codecs.encode`, by which protocol 2 writes bytes, and `bytes` for none."""

    __slots__ = ("_left",)

    def __init__(self, left: list[int]):
        self._left = left

    def __call__(self, text: object = "", encoding: object = "latin1") -> bytes:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise _Refused(f"text in the encoding {_shown(encoding)}")
        # A text may be named many times, but what an honest file unpacks to lies in it once.
        self._left[0] -= len(text)
        if self._left[0] < 0:
            raise _Refused("more bytes than it is long")
        return text.encode("latin1")


class _Bounded:
    """A file that never reads past its end, so that a false size cannot use up the memory."""

    def __init__(self, file: IO[bytes], size: int):
        self._file, self._size = file, size
        self.readline = file.readline

    def read(self, count: int) -> bytes:
        if count > 1 << 16 and count > self._size - self._file.tell():
            raise EOFError(f"{count} bytes are promised that are not there")
        return self._file.read(count)


class _Unpickler(pickle._Unpickler):
    """The unpickling machine with its allowed names."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: IO[bytes], size: int):
        super().__init__(_Bounded(file, size))
        encode = _Encode([size])
        self._names = {
            ("numpy", "ndarray"): _NdarrayType(),
            ("numpy", "dtype"): _MakeDtype(),
            ("_codecs", "encode"): encode,
            ("__builtin__", "bytes"): encode,
            ("builtins", "bytes"): encode,
        }
        for core in ("numpy.core", "numpy._core"):  # NumPy 1 and 2
            self._names |= {
                (f"{core}.multiarray", "_reconstruct"): _Reconstruct(),
                (f"{core}.multiarray", "scalar"): _Scalar(),
                (f"{core}.numeric", "_frombuffer"): _FromBuffer(),
            }

    def find_class(self, module: str, name: str) -> _Name:
        found = self._names.get((module, name))
        if found is None:
            raise _Refused(f"{module}.{name}")
        return found

    def load_bytearray8(self) -> None:
        """Reads the bytes first; the original allocates before it reads."""
        # `load` makes both for the time that it takes: typeshed does not know them.
        read: Callable[[int], bytes] = self.read  # pyright: ignore[reportAttributeAccessIssue]
        append: Callable[[object], None] = self.append  # pyright: ignore[reportAttributeAccessIssue]
        append(bytearray(read(int.from_bytes(read(8), "little"))))

    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8

    def get_extension(self, code: int) -> None:
        raise _Refused(f"the extension {code}")

    def persistent_load(self, pid: object) -> None:
        raise _Refused("a reference to something outside of it")


def load(path: pathlib.Path) -> Any:
    """Loads a pickle of plain containers, numbers, text, bytes and `Array`s.

    The whole file is in memory, plus up to twice its size while it is read.

    Raises:
      InputError: it is damaged, or holds anything else; names it. Nothing was executed.
    """
    with path.open("rb") as file:
        try:
            return _Unpickler(file, path.stat().st_size).load()
        except _Refused as error:
            raise InputError(
                f"{path}: holds {_shown(error)}, which is no array, number or text: it is refused, "
                "and nothing in it was executed: use a file from a source that you trust"
            ) from None
        except Exception as error:  # a hostile pickle can raise any error
            what = f"{type(error).__name__}: {_shown(error)}"
            raise InputError(
                f"{path}: is damaged, or no pickle ({what}): download it again"
            ) from None


def _as_array(content: object, dtype: object, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _Dtype) or not isinstance(content, bytes | bytearray):
        raise _Refused("an array of objects")
    # Without a copy, and of the size of the bytes that are there, whatever the shape promises.
    flat = np.frombuffer(content, dtype.dtype) if content else np.empty(0, dtype.dtype)
    return flat.reshape(shape, order=order)


def _shown(value: object) -> str:
    """A short text that spans one line; of containers, which may nest without end, the type."""
    if not isinstance(value, str | int | Exception):
        return type(value).__name__
    text = str(value)[:200]
    return "".join(c if c.isprintable() else "?" for c in text)
