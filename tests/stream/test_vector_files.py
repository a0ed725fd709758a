"""NumPy files of vectors are read as NumPy reads them, by several threads at once, and no other bytes are."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from vidaudio.stream.vector_files import read_header, read_vectors


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["<f2", "<f4", ">f8", "|i1", "<u2"])
@pytest.mark.parametrize("shape", [(), (0,), (5,), (3, 4), (1, 0, 7), (2, 3, 4)])
def test_arrays_come_back_as_numpy_saved_them(shape: tuple[int, ...], kind: str):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(kind)
    read = read_vectors(saved(array))
    assert read.dtype == array.dtype
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY\x01\x00",
        saved(np.zeros((3, 2)))[:40],
        saved(np.zeros((3, 2)))[:-1],
        saved(np.zeros((3, 2))) + b"x",
        saved(np.zeros((3, 2))).replace(b"NUMPY\x01", b"NUMPY\x02"),
        saved(np.zeros((3, 2))).replace(b"(3, 2)", b"(9, 9)"),
        saved(np.zeros((3, 2))).replace(b"(3, 2)", b"(3,-2)"),
        saved(np.zeros((3, 2))).replace(b"<f8", b"|O8"),
        saved(np.zeros((3, 2))).replace(b"<f8", b"<f7"),
        saved(np.asfortranarray(np.zeros((3, 2)))),
    ],
)
def test_other_bytes_are_refused(data: bytes):
    with pytest.raises(ValueError, match="its vectors are"):
        read_vectors(data)


def test_many_threads_read_headers_at_once():
    """With `ast` some of them failed: its depth is counted for the whole process."""
    data = [saved(np.zeros((n, 32), np.float16)) for n in range(1, 9)]
    with ThreadPoolExecutor(8) as pool:
        shapes = list(pool.map(lambda n: read_header(data[n % 8])[0], range(20_000)))
    assert shapes == [(n % 8 + 1, 32) for n in range(20_000)]
