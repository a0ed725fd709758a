"""A pack's index is written from pieces, and its bytes are those of all rows written from memory."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from vidaudio.corpus.corpus import Corpus
from vidaudio.shards.commit import read_table
from vidaudio.stream import index_writer
from vidaudio.stream.index import INDEX_FILE, SAMPLE_SCHEMA, open_index, read_index, write_index
from vidaudio.stream.index_writer import IndexWriter

METADATA = {"tars": ["a.tar"], "audio": "wav", "sample_rate": 16_000, "frames_per_second": 1.0, "encoder": {}}


def rows(number: int, *, shard: int, lists: bool, nulls: bool) -> pa.Table:
    """Rows of any content, cut out of a larger table, as those of a row group may be."""
    draw = random.Random(f"{number} {shard}")

    def text() -> str:
        return "".join(draw.choice("abcäß") for _ in range(draw.randint(0, 9)))

    def value(field: pa.Field) -> object:
        if nulls and field.name not in ("split", "shard") and draw.random() < 0.2:
            return None
        if pa.types.is_list(field.type):
            count = draw.randint(0, 4) if lists else 0
            return [value(pa.field("item", field.type.value_type)) for _ in range(count)]
        if pa.types.is_string(field.type):
            return draw.choice(["train", "val"]) if field.name == "split" else text()
        return draw.random() if pa.types.is_floating(field.type) else shard if field.name == "shard" else 7

    made = [{field.name: value(field) for field in SAMPLE_SCHEMA} for _ in range(number + 5)]
    return pa.Table.from_pylist(made, schema=SAMPLE_SCHEMA).slice(3, number)


def written(tables: list[pa.Table], folder: Path) -> bytes:
    with IndexWriter(SAMPLE_SCHEMA, folder) as writer:
        for table in tables:
            writer.add(table)
        writer.write(folder / "pieces.arrow", METADATA)
    return (folder / "pieces.arrow").read_bytes()


@pytest.mark.parametrize("nulls", [False, True])
@pytest.mark.parametrize("lists", [False, True])
@pytest.mark.parametrize("sizes", [[], [0], [1], [9], [0, 0], [1, 0], [0, 1, 0], [3, 0, 70, 8], [200, 1]])
def test_bytes_are_those_of_the_rows_in_memory(tmp_path: Path, sizes: list[int], lists: bool, nulls: bool):
    tables = [rows(number, shard=shard, lists=lists, nulls=nulls) for shard, number in enumerate(sizes)]
    whole = pa.concat_tables(tables) if tables else SAMPLE_SCHEMA.empty_table()
    write_index(tmp_path / "whole.arrow", whole, METADATA)
    assert written(tables, tmp_path) == (tmp_path / "whole.arrow").read_bytes()


def test_a_shard_that_has_several_pieces_is_one_run(tmp_path: Path):
    tables = [rows(20, shard=shard, lists=True, nulls=False) for shard in (0, 0, 1)]
    write_index(tmp_path / "whole.arrow", pa.concat_tables(tables), METADATA)
    assert written(tables, tmp_path) == (tmp_path / "whole.arrow").read_bytes()


@pytest.mark.parametrize("room", [1, 500, 1000])
def test_texts_and_lists_that_would_run_over_begin_another_batch(tmp_path: Path, monkeypatch, room: int):
    monkeypatch.setattr(index_writer, "LARGEST_OFFSET", room)
    tables = [rows(20, shard=shard, lists=True, nulls=False) for shard in range(12)]
    data = written(tables, tmp_path)
    with pa.ipc.open_file(pa.py_buffer(data)) as file:
        batches = [file.get_batch(number) for number in range(file.num_record_batches)]
    assert pa.Table.from_batches(batches).replace_schema_metadata(None).equals(pa.concat_tables(tables))
    assert len(batches) == 12 if room == 1 else 1 < len(batches) < 12
    for batch in batches:
        stretches = [c for c in batch.columns if pa.types.is_string(c.type) or pa.types.is_list(c.type)]
        longest = max(np.frombuffer(c.buffers()[1], np.int32)[len(c)] for c in stretches)
        # One piece alone may be longer: there is no way to divide it.
        assert longest <= room or len(batch) == 20


def test_the_index_of_a_pack_is_that_of_its_tables(built_corpus: Corpus, tmp_path: Path):
    folder = Path(built_corpus.url, "training", "default")
    index = open_index(str(folder))
    tables = []
    for number, tar in enumerate(index.tars):
        table, _ = read_table(built_corpus.store, f"training/default/{tar.partition('.')[0]}.parquet")
        column = pa.array(np.full(table.num_rows, number), pa.int32())
        tables.append(table.append_column("shard", column).select(SAMPLE_SCHEMA.names).cast(SAMPLE_SCHEMA))
    assert len(tables) > 1
    described = read_index(pa.memory_map(str(folder / INDEX_FILE)))[1]
    write_index(tmp_path / INDEX_FILE, pa.concat_tables(tables), described)
    assert (tmp_path / INDEX_FILE).read_bytes() == (folder / INDEX_FILE).read_bytes()
