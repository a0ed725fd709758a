"""Tombstones that somebody else wrote: a table that no removal writes is refused with a sentence."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidaudio.corpus.tombstones import read_tombstones, write_tombstones
from vidaudio.errors import CorpusError
from vidaudio.shards.checksum import OPEN_SEAL, SEAL_KEY, with_checksum
from vidaudio.shards.store import LocalStore

NULL = pa.array([None], pa.string())


def placed(folder: Path, table: pa.Table) -> LocalStore:
    """Write a sealed table of tombstones into an empty folder."""
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({b"vidaudio": b"{}", SEAL_KEY: OPEN_SEAL}), sink, compression="zstd")
    (folder / "removed-000000.parquet").write_bytes(with_checksum(sink.getvalue()))
    return LocalStore(folder)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"x": ["a"]}, "column id is missing"),
        ({"id": [1], "source": [2]}, "column id is missing, or is not string"),
        ({"id": ["a"]}, "column source is missing"),
        ({"id": ["../a"], "source": ["y:1"]}, r"column id holds '\.\./a'"),
        ({"id": ["a"], "source": ["nothing"]}, "column source holds 'nothing'"),
        ({"id": NULL, "source": NULL}, "column source lacks values"),
        ({"id": pa.array(["a"]).dictionary_encode(), "source": ["y:1"]}, "column id is missing, or is not string"),
    ],
)
def test_a_table_that_no_removal_writes_is_a_sentence(tmp_path: Path, columns: dict, said: str) -> None:
    with pytest.raises(CorpusError, match=rf"removed-000000\.parquet is damaged \(its {said}.*take it back"):
        read_tombstones(placed(tmp_path, pa.table(columns)))


def test_a_text_repeated_a_million_times_is_held_once(tmp_path: Path) -> None:
    places = pa.array(np.zeros(1_000_000, np.int32))
    table = pa.table({"id": pa.array(["a"]).take(places), "source": pa.array(["y:1"]).take(places)})
    store = placed(tmp_path, table)
    assert (tmp_path / "removed-000000.parquet").stat().st_size < 50_000
    assert read_tombstones(store).ids == {"a"}


def test_what_a_removal_writes_is_read(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    write_tombstones(store, {"a": "y:1", "b": "y:2"}, ["site:v w"], "asked for")
    found = read_tombstones(store)
    assert (found.ids, found.sources, found.tables) == ({"a", "b"}, {"site:v w"}, 1)
