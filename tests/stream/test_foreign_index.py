"""An index that is garbled, or that lies: a sentence, or data that can be read; never a crash, never much memory."""

from __future__ import annotations

import json
import random
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.packed import make_packed
from vidaudio.errors import CorpusError, VidaudioError
from vidaudio.shards.checksum import write_checksum
from vidaudio.stream.index import (
    _LAYOUT_KEY,
    INDEX_FILE,
    SAMPLE_SCHEMA,
    TrainingIndex,
    index_metadata,
    open_index,
    read_index,
    write_index,
)
from vidaudio.stream.reader import SampleReader
from vidaudio.stream.windows import Windows, WindowShape

ENCODER = {"architecture": "test", "pretrained": None, "weights_sha256": "0" * 64, "dimensions": 8}
MEMORY_BYTES = 64 << 20


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    return make_packed(tmp_path / "pack", ENCODER, clips_per_split={"train": 6, "val": 3}, picture_size=32)


def read_all(index: TrainingIndex) -> list[tuple]:
    """Everything that a loader asks of an index and its tars."""
    reader, windows = SampleReader(index), Windows(index, WindowShape(frames=1, samples=8000))
    found = []
    for row in range(len(index)):
        vectors = reader.vectors(row)
        found.append((index.text("key", row), index.text("source", row), windows.count(row), vectors.tobytes()))
        found.append((reader.sound(row).tobytes(), reader.pictures(row, (0,)).tobytes()))
    return [*found, index.codes("source").tolist(), sorted(index.splits.items())]


def rows_of(pack: Path) -> tuple[pa.Table, dict]:
    table, described, _ = read_index(pa.BufferReader((pack / INDEX_FILE).read_bytes()))
    return table.replace_schema_metadata(None), described


def test_a_garbled_index_is_a_sentence_or_can_be_read(pack: Path) -> None:
    path = pack / INDEX_FILE
    whole = path.read_bytes()
    chance = random.Random(11)
    refused = 0
    for number in range(150):
        data = bytearray(whole)
        kind = number % 5
        if kind == 0:
            del data[chance.randrange(len(data)) :]
        elif kind == 1:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        elif kind == 2:
            place = chance.randrange(0, len(data) - 8, 8)
            data[place : place + 8] = chance.choice([b"\xff" * 8, b"\xff" * 7 + b"\x7f", b"\0\0\0\0\xff\xff\xff\x7f"])
        elif kind == 3:
            place = chance.randrange(len(data) - 600, len(data) - 4)  # the footer, with its lengths
            data[place : place + 4] = chance.randbytes(4)
        else:
            begin, end = sorted(chance.sample(range(len(data)), 2))
            data[begin:end] = b"\0" * (end - begin)
        path.unlink()
        path.write_bytes(data)
        before = pa.total_allocated_bytes()
        tracemalloc.start()
        try:
            read_all(open_index(str(pack)))
        except VidaudioError:
            refused += 1
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MEMORY_BYTES
        assert pa.total_allocated_bytes() - before < MEMORY_BYTES
    assert refused > 75


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("key", "../../x"),
        ("id", "a/b"),
        ("shard", -1),
        ("shard", 99),
        ("samples", -5),
        ("samples", 1 << 60),
        ("audio_offset", -1),
        ("audio_length", 1 << 62),
        ("vectors_offset", (1 << 63) - 1),
        ("vectors_length", -9),
        ("audio_start_seconds", float("nan")),
        ("grid_seconds", [0.0]),
        ("source", None),
        ("split", "test"),
        ("frame_seconds", None),
    ],
)
def test_a_value_that_no_pack_writes_is_named(pack: Path, column: str, value: object) -> None:
    table, described = rows_of(pack)
    rows = table.to_pylist()
    runs = [["train", 0, 6], ["val", 1, 3]]
    rows[4] |= {column: value}

    lying = pa.Table.from_pylist(rows, schema=SAMPLE_SCHEMA)
    metadata = index_metadata(described, []) | {_LAYOUT_KEY: json.dumps(runs).encode()}
    lying = lying.replace_schema_metadata(metadata)
    (pack / INDEX_FILE).unlink()
    with pa.OSFile(str(pack / INDEX_FILE), "wb") as file, pa.ipc.new_file(file, lying.schema) as writer:
        writer.write_table(lying)
    write_checksum(pack / INDEX_FILE)
    with pytest.raises(CorpusError, match="is not an index of ours"):
        open_index(str(pack))


@pytest.mark.parametrize(
    "changes",
    [
        {"tars": ["../../x.tar", "val-000000.tar"]},
        {"tars": ["/etc/x.tar", "val-000000.tar"]},
        {"tars": "train"},
        {"tars": ["train-000000.tar"]},
        {"audio": "exe"},
        {"sample_rate": 0},
        {"sample_rate": "16000"},
        {"frames_per_second": float("nan")},
        {"encoder": None},
        {"encoder": {"dimensions": -1}},
        {"encoder": {"dimensions": 1 << 40}},
        {"encoder": {"dimensions": 8, "architecture": ["x"]}},
        {"plan_hash": 5},
    ],
)
def test_a_description_that_no_pack_writes_is_named(pack: Path, changes: dict) -> None:
    table, described = rows_of(pack)
    (pack / INDEX_FILE).unlink()
    write_index(pack / INDEX_FILE, table, described | changes)
    with pytest.raises(CorpusError, match="is not an index of ours"):
        open_index(str(pack))


def test_offsets_that_lead_out_of_their_buffer_are_found(pack: Path) -> None:
    table, described = rows_of(pack)
    column = table["labels"].combine_chunks()
    offsets = np.array(column.offsets.to_numpy())
    offsets[3] = 1 << 30
    bad = pa.Array.from_buffers(
        column.type, len(column), [None, pa.py_buffer(offsets.tobytes())], children=[column.values]
    )
    lying = table.set_column(table.schema.get_field_index("labels"), "labels", bad)
    (pack / INDEX_FILE).unlink()
    write_index(pack / INDEX_FILE, lying, described)
    with pytest.raises(CorpusError, match="is not an index of ours"):
        open_index(str(pack))


def test_a_compressed_index_is_not_unpacked(pack: Path) -> None:
    table, _ = rows_of(pack)
    schema = pa.ipc.open_file(pa.BufferReader((pack / INDEX_FILE).read_bytes())).schema
    (pack / INDEX_FILE).unlink()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.OSFile(str(pack / INDEX_FILE), "wb") as file, pa.ipc.new_file(file, schema, options=options) as writer:
        writer.write_table(table.replace_schema_metadata(schema.metadata))
    with pytest.raises(CorpusError, match="compressed"):
        open_index(str(pack))
    (pack / INDEX_FILE).write_bytes(b"")
    with pytest.raises(CorpusError, match="empty"):
        open_index(str(pack))


def test_a_file_that_was_checked_is_known_again_and_no_other(pack: Path) -> None:
    first = open_index(str(pack))
    assert read_all(open_index(str(pack), known=first.stamp)) == read_all(first)
    table, described = rows_of(pack)
    (pack / INDEX_FILE).unlink()
    write_index(pack / INDEX_FILE, table, described | {"tars": ["x", "y"]})
    with pytest.raises(CorpusError, match="tars"):
        open_index(str(pack), known=first.stamp)


def test_garbled_tars_are_sentences(pack: Path) -> None:
    tar = pack / "train-000000.tar"
    whole = tar.read_bytes()
    chance = random.Random(3)
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(40):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        tar.write_bytes(data if chance.random() < 0.6 else data[: chance.randrange(len(data))])
        reader = SampleReader(open_index(str(pack)))
        for row in range(6):
            for read in (reader.sound, reader.vectors, lambda row: reader.pictures(row, (0, 1))):  # noqa: B023
                try:
                    read(row)
                except VidaudioError as error:
                    assert "train-000000.tar" in str(error) or "pack" in str(error)  # noqa: PT017
