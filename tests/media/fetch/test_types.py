"""What is a path and what is asked of somebody else: of one address and of a column of them the same."""

from __future__ import annotations

import itertools

import pyarrow as pa
import pytest

from vidaudio.media.fetch.types import are_remote, is_remote, local_path


@pytest.mark.parametrize(
    ("address", "remote", "path"),
    [
        ("https://host/a.mp4", True, False),
        ("HTTP://host/a.mp4", True, False),
        ("s3+x.y-z://bucket/a", True, False),
        ("file:///a.mp4", False, False),
        ("FILE:a.mp4", False, False),
        ("file://other/a.mp4", False, False),
        ("/data/at://a.mp4", False, True),
        ("a b://c", False, True),
        ("1http://c", False, True),
        ("://c", False, True),
        ("~/a.mp4", False, True),
        ("C:\\videos\\a.mp4", False, True),
        ("C:/videos/a.mp4", False, True),
        ("data:video/mp4;base64,AAAA", False, True),
        ("\nhttps://host/a.mp4", False, True),
        ("", False, True),
    ],
)
def test_an_address_is_somebody_elses_a_file_url_or_a_path(address: str, remote: bool, path: bool):
    assert (is_remote(address), local_path(address) is not None) == (remote, path)


def test_a_column_is_judged_as_each_of_its_addresses():
    parts = ["", "file", "FiLe", "f\u0131le", "http", "\u212a", "1", ":", "//", "/", " ", "\n", "\u00e9", "+.-"]
    addresses = ["".join(chosen) for chosen in itertools.product(parts, repeat=3)]
    column = pa.chunked_array([addresses[:100], addresses[100:]])
    assert are_remote(column).to_pylist() == [is_remote(address) for address in addresses]
