"""verify finds every flipped bit, every cut file and every changed setting."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from tests.maintenance.checks import check, files_of


class TestBits:
    def test_a_flipped_bit_anywhere_in_any_tar_table_or_index_is_found(self, copied):
        """Random bits, one a file; files that are checked with the help of another are not flipped together."""
        choice = random.Random(3)
        groups = ("manifest.parquet", "*/*.tar", "training/*/*.tar", "*/*.parquet", "*/*/*.parquet", "*/*/*.arrow")
        seen = 0
        for pattern in groups:
            before = {path: path.read_bytes() for path in sorted(copied.glob(pattern))}
            for _ in range(3):
                flipped = {path: with_flipped_bit(data, choice) for path, data in before.items()}
                for path, data in flipped.items():
                    path.write_bytes(data)
                report = check(copied)
                silent = {str(path.relative_to(copied)) for path in flipped} - files_of(report)
                if pattern != "manifest.parquet" or changes_the_list(*before.values(), *flipped.values()):
                    assert silent == set()
                assert all(p.what and p.remedy for p in report.problems)
                seen += len(flipped)
            for path, data in before.items():
                path.write_bytes(data)
        assert seen == 3 * len([p for p in copied.rglob("*") if p.suffix in (".tar", ".parquet", ".arrow")])
        assert check(copied).ok

    @pytest.mark.parametrize("name", ["clips", "av", "embeddings", "training"])
    def test_a_truncated_and_an_empty_table_are_named(self, copied, name):
        path = sorted((copied / name).rglob("*.parquet"))[0]
        whole = path.read_bytes()
        for damaged in (whole[:-20], b"", b"PAR1" * 100):
            path.write_bytes(damaged)
            assert files_of(check(copied)) == {str(path.relative_to(copied))}

    def test_a_damaged_list_and_damaged_settings_are_named(self, copied):
        whole = (copied / "manifest.parquet").read_bytes()
        (copied / "manifest.parquet").write_bytes(whole[: len(whole) // 2])
        assert files_of(check(copied)) == {"manifest.parquet"}
        (copied / "manifest.parquet").write_bytes(whole)
        settings = (copied / "corpus.json").read_text()
        (copied / "corpus.json").write_text(settings.replace('"jpeg_quality": 92', '"jpeg_quality": 93'))
        assert "corpus.json" in files_of(check(copied))


def with_flipped_bit(data: bytes, choice: random.Random) -> bytes:
    flipped = bytearray(data)
    flipped[choice.randrange(len(data))] ^= 1 << choice.randrange(8)
    return bytes(flipped)


def changes_the_list(before: bytes, after: bytes) -> bool:
    """Whether a change to the list's file can be seen by anyone who reads it: it carries no seal."""
    import io

    import pyarrow.parquet as pq

    try:
        return not pq.read_table(io.BytesIO(before)).equals(pq.read_table(io.BytesIO(after)))
    except (pa.ArrowException, OSError, ValueError):
        return True
