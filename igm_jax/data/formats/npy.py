"""The header of an array in NumPy's format, read without trust."""

import io

import numpy as np

from igm_jax.errors import InputError


def read_header(file: io.BufferedIOBase, size: int) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Reads the header of an array of real numbers, up to its first value.

    Unlike `np.load`, it allows no pickle and checks the header against the file size.

    Args:
      file: at its beginning.
      size: bytes of the file.

    Returns:
      `(shape, fortran_order, dtype)`.

    Raises:
      InputError: no header, values other than real numbers, or another size than the header's.
    """
    try:
        version = np.lib.format.read_magic(file)
        header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = header(file)
        start = file.tell()
    except Exception as error:  # a broken header surfaces as whatever Python's tokenizer raises
        raise InputError(f"is damaged, or no NumPy array ({error!r})") from error
    if dtype.kind not in "fiu":
        raise InputError(f"holds {dtype}, not real numbers")
    promised = dtype.itemsize
    for length in shape:  # Python's integers do not overflow
        promised *= length
    if start + promised != size:
        raise InputError(f"has {size} bytes where its header promises {start + promised}")
    return shape, fortran, dtype
