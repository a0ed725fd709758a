"""Reader of a training sample's vectors: a NumPy file in memory, read without unpickling or trusting its header.

The header is a Python literal. NumPy reads it with `ast`, which CPython 3.11 does not let several threads do at once
(SystemError: AST constructor recursion depth mismatch). So the header is matched here as the text that NumPy writes.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

_MAGIC = b"\x93NUMPY\x01\x00"
# Length of NumPy's header of any array of vectors.
HEADER_BYTES = 128
# Length of the magic bytes and of the header's length field.
_HEADER_BEGINS = 10
_HEADER = re.compile(
    rb"\{'descr': '([<>|=]?[biufc][0-9]{1,2})', 'fortran_order': (True|False), "
    rb"'shape': \(([0-9]{0,18}(?:, [0-9]{1,18})*),?\), \} *\n?"
)


def read_header(data: bytes) -> tuple[tuple[int, ...], np.dtype, int]:
    """Return shape, data type and first byte of the array in a `.npy` file of version 1 with row-major numbers.

    Raises:
        ValueError: When the data is not such a file.
    """
    if data[:8] != _MAGIC:
        raise ValueError("its vectors are of another NumPy format")
    begin = _HEADER_BEGINS + int.from_bytes(data[8:_HEADER_BEGINS], "little")
    found = _HEADER.fullmatch(data[_HEADER_BEGINS:begin])
    if found is None or len(data) < begin or found[2] == b"True":
        raise ValueError("its vectors are no plain numbers")
    try:
        kind = np.dtype(found[1].decode())
    except TypeError:
        raise ValueError("its vectors are no plain numbers") from None
    return tuple(int(side) for side in found[3].split(b", ") if side), kind, begin


def read_vectors(data: bytes) -> np.ndarray:
    """Return the array in a `.npy` file of version 1 with numbers.

    Raises:
        ValueError: When the data is not such a file, or is longer or shorter than its header says.
    """
    shape, kind, begin = read_header(data)
    # Checked before the array is made, since the header may state any size.
    if math.prod(shape) * kind.itemsize != len(data) - begin:
        raise ValueError("its vectors are not as many as their header says")
    return np.frombuffer(data, kind, offset=begin).reshape(shape)


def rows_in(length: Any, dimensions: int) -> Any:
    """Return the number of float16 vectors in a file of `length` bytes, or in each of an array of lengths."""
    return (length - HEADER_BYTES) // (2 * max(1, dimensions))
