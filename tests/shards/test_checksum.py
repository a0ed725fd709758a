"""Seals: no bit of a sealed file can change without it showing."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from vidaudio.shards.checksum import OPEN_SEAL, checksum_ok, file_checksum_ok, with_checksum, write_checksum
from vidaudio.shards.commit import CommitRecord, encode_table

TABLE = pa.table({"id": ["a", "b"], "values": [[1.0, 2.0], []]})


def test_every_single_bit_of_a_committed_table_shows():
    data = encode_table(TABLE, CommitRecord("extract", 3, "plan", 2))
    assert checksum_ok(data)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        assert not checksum_ok(bytes(flipped)), f"bit {bit}"


def test_what_is_cut_short_made_longer_or_never_sealed_does_not_hold():
    data = encode_table(TABLE, CommitRecord("extract", 3, "plan", 2))
    for other in (data[:-1], data + b"\0", b"", b"PAR1", b"x" + OPEN_SEAL + b"y"):
        assert not checksum_ok(other)
    with pytest.raises(ValueError, match="no open seal"):
        with_checksum(b"no metadata")


def test_a_seal_that_stands_twice_is_filled_and_checked_twice(tmp_path: Path):
    """As in Arrow files, which repeat the schema at their end."""
    whole = b"head" + OPEN_SEAL + b"middle" + OPEN_SEAL + b"tail"
    data = with_checksum(whole)
    assert data.count(OPEN_SEAL) == 0
    assert checksum_ok(data)
    path = tmp_path / "file"
    path.write_bytes(whole)
    write_checksum(path)
    assert path.read_bytes() == data
    assert file_checksum_ok(path)
    path.write_bytes(data[:-80] + data[-80:].replace(data[30:31], b"0" if data[30:31] != b"0" else b"1"))
    assert not file_checksum_ok(path)
    path.write_bytes(b"")
    assert not file_checksum_ok(path)
