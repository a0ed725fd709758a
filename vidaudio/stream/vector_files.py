"""The vectors of a training sample: a NumPy file in memory, read without unpickling or believing its header."""

from __future__ import annotations

import io
import math

import numpy as np


def read_vectors(data: bytes) -> np.ndarray:
    """Return the array in a `.npy` file of version 1, of numbers.

    Raises:
        ValueError: It is no such file, or is longer or shorter than its header says.
    """
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("its vectors are of another NumPy format")
    shape, by_columns, kind = np.lib.format.read_array_header_1_0(stream)
    if kind.hasobject or by_columns or any(side < 0 for side in shape):
        raise ValueError("its vectors are no plain numbers")
    # Before memory is taken for as many as the header says.
    if math.prod(shape) * kind.itemsize != len(data) - stream.tell():
        raise ValueError("its vectors are not as many as their header says")
    return np.frombuffer(data, kind, offset=stream.tell()).reshape(shape)
