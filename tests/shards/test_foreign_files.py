"""Files that somebody else made: names and links that lead out, tables and tars that lie."""

from __future__ import annotations

import io
import os
import random
import tarfile
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidaudio.errors import CorpusError, VidaudioError
from vidaudio.shards.commit import commit, encode_table, read_record, read_table, record_of
from vidaudio.shards.corruption import CorruptFileError
from vidaudio.shards.links import LINKS_VARIABLE
from vidaudio.shards.names import is_tar_name
from vidaudio.shards.open import open_store
from vidaudio.shards.parquet_limits import TooLarge, read_whole
from vidaudio.shards.read import TarReader
from vidaudio.shards.store import LocalStore
from vidaudio.shards.table_checks import STAGE_COLUMNS
from vidaudio.shards.tar import BadTar, ShardWriter, list_members

BAD_NAMES = (
    "../x",
    "/etc/passwd",
    "a/../../x",
    "a//b",
    "a\\b",
    "a/\0",
    "C:/x",
    "./a",
    "a/.",
    "x" * 300,
    "a\nb",
    "\ud800",
)


@pytest.mark.parametrize("name", BAD_NAMES)
@pytest.mark.parametrize("place", ["local", "memory"])
def test_no_name_leads_out_of_a_corpus(tmp_path: Path, name: str, place: str) -> None:
    store = open_store(str(tmp_path / "c") if place == "local" else f"memory://{tmp_path.name}/c")
    for act in (store.exists, store.read, store.remove, store.list, store.modified, store.local_path):
        if act == store.local_path and place == "memory":
            continue
        with pytest.raises(CorpusError, match="is not a name inside the corpus"):
            act(name)
    with pytest.raises(CorpusError, match="is not a name inside the corpus"):
        store.create(name, b"x")


def test_no_link_leads_out_of_a_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside, root = tmp_path / "outside", tmp_path / "corpus"
    (outside / "deep").mkdir(parents=True)
    (outside / "secret.tar").write_bytes(b"secret")
    (root / "av").mkdir(parents=True)
    (root / "folder").symlink_to(outside)
    (root / "av" / "file.tar").symlink_to(outside / "secret.tar")
    (root / "av" / "circle").symlink_to(root / "av" / "circle")
    store = LocalStore(root)
    for name in ("folder/secret.tar", "av/file.tar", "av/circle"):
        for act in (store.read, store.local_path, lambda n: store.read_range(n, 0, 3), lambda n: TarReader(store, n)):
            with pytest.raises(CorruptFileError, match="not followed"):
                act(name)
    for act in (store.remove, lambda n: store.create(n, b"x")):
        with pytest.raises(CorruptFileError, match=LINKS_VARIABLE):
            act("folder/secret.tar")
    assert store.list("av").keys() == {"file.tar", "circle"}
    store.remove("av/file.tar")  # the link, and not what it leads to
    assert (outside / "secret.tar").read_bytes() == b"secret"
    # The user's own link to another disk, once the user says so.
    monkeypatch.setenv(LINKS_VARIABLE, str(outside))
    assert store.read("folder/secret.tar") == b"secret"


def test_links_inside_a_corpus_and_to_it_are_followed(tmp_path: Path) -> None:
    root = tmp_path / "corpus"
    (root / "av").mkdir(parents=True)
    (root / "av" / "one").write_bytes(b"1")
    (root / "av" / "two").symlink_to("one")
    (tmp_path / "link").symlink_to(root)
    store = LocalStore(tmp_path / "link")
    assert store.read("av/two") == b"1"
    assert store.create("av/three", b"3")
    assert (root / "av" / "three").read_bytes() == b"3"


def test_a_pipe_in_a_corpus_is_no_file_to_wait_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "index.arrow")
    store = LocalStore(tmp_path)
    for act in (store.read, store.local_path):
        with pytest.raises(CorruptFileError, match="no regular file"):
            act("index.arrow")


def extract_table(rows: int = 3) -> pa.Table:
    columns = {
        "id": [f"clip{n}" for n in range(rows)],
        "state": ["done"] * rows,
        "reason": [None] * rows,
        "message": [None] * rows,
        "samples": [16_000] * rows,
        "audio_start_seconds": [0.0] * rows,
        "frame_seconds": [[0.0, 1.0]] * rows,
        "grid_seconds": [[0.0, 1.0]] * rows,
        "audio_offset": [512 + 1000 * n for n in range(rows)],
        "audio_length": [300] * rows,
        "frame_offsets": [[900, 950]] * rows,
        "frame_lengths": [[20, 30]] * rows,
    }
    return pa.table(columns, schema=pa.schema(list(STAGE_COLUMNS["extract"].items())))


def committed(tmp_path: Path, table: pa.Table, **changes: object) -> LocalStore:
    """A store with one table of `av` whose seal holds, whatever it says."""
    store = LocalStore(tmp_path / "corpus")
    with store.workspace() as scratch:
        with ShardWriter(scratch / "t.tar") as writer:
            writer.write("clip0", {"flac": b"x" * 5000})
        record = commit(store, "av", 0, stage="extract", plan_hash="p", table=table, tar=scratch / "t.tar")
    changed = replace(record, **changes)
    (tmp_path / "corpus" / "av" / "000000.parquet").write_bytes(encode_table(table, changed))
    return store


def changed_column(table: pa.Table, name: str, values: list) -> pa.Table:
    field = table.schema.field(name)
    return table.set_column(table.schema.get_field_index(name), field, pa.array(values, field.type))


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("id", ["../../x", "b", "c"]),
        ("id", ["a/b", "b", "c"]),
        ("id", ["a.b", "b", "c"]),
        ("id", [None, "b", "c"]),
        ("id", ["x" * 200, "b", "c"]),
        ("id", ["a\n", "b", "c"]),
        ("state", ["Done!", "done", "done"]),
        ("samples", [-1, 1, 1]),
        ("samples", [1 << 61, 1, 1]),
        ("samples", [None, 1, 1]),
        ("audio_offset", [-1, 0, 0]),
        ("audio_offset", [(1 << 63) - 1, 0, 0]),
        ("audio_length", [1 << 40, 0, 0]),
        ("frame_offsets", [[0], [0, 0], [0, 0]]),
        ("frame_offsets", [[-5, 0], [0, 0], [0, 0]]),
        ("frame_lengths", [[1 << 62, 0], [0, 0], [0, 0]]),
        ("frame_lengths", [[None, 0], [0, 0], [0, 0]]),
        ("frame_seconds", [[float("nan"), 0.0]] * 3),
        ("audio_start_seconds", [float("inf")] * 3),
    ],
)
def test_a_value_that_no_commit_writes_is_named(tmp_path: Path, name: str, values: list) -> None:
    assert read_table(committed(tmp_path, extract_table()), "av/000000.parquet")[0].num_rows == 3
    store = committed(tmp_path, changed_column(extract_table(), name, values))
    with pytest.raises(CorruptFileError, match=r"column"):
        read_table(store, "av/000000.parquet")


def test_swapped_missing_and_mistyped_columns_are_named(tmp_path: Path) -> None:
    table = extract_table()
    swapped = table.rename_columns(
        [{"samples": "audio_offset", "audio_offset": "samples"}.get(name, name) for name in table.column_names]
    )
    mistyped = table.set_column(0, "id", pa.array([1, 2, 3]))
    for number, wrong in enumerate((table.drop_columns(["state"]), mistyped, swapped)):
        with pytest.raises(CorruptFileError, match="column"):
            read_table(committed(tmp_path / str(number), wrong), "av/000000.parquet")


@pytest.mark.parametrize(
    "changes",
    [
        {"tar": "../../home.tar"},
        {"tar": "/etc/passwd.tar"},
        {"tar": "link/x.tar"},
        {"tar": 7},
        {"tar": "x"},
        {"tar_sha256": None},
        {"tar_sha256": "zz"},
        {"rows": 99},
        {"rows": -1},
        {"shard": "0"},
        {"tar_bytes": -1},
        {"tar_bytes": 10},
        {"plan_hash": None},
        {"stage": 5},
    ],
)
def test_a_record_that_no_commit_writes_is_named(tmp_path: Path, changes: dict) -> None:
    store = committed(tmp_path, extract_table(), **changes)
    with pytest.raises(CorruptFileError, match=r"av/000000\.parquet is damaged"):
        read_table(store, "av/000000.parquet")


def test_any_changed_byte_of_a_table_is_found(tmp_path: Path) -> None:
    store = committed(tmp_path, extract_table())
    path = tmp_path / "corpus" / "av" / "000000.parquet"
    whole = path.read_bytes()
    chance = random.Random(5)
    for number in range(80):
        data = bytearray(whole)
        if number % 3 == 0:
            del data[chance.randrange(len(data)) :]
        else:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        for read in (read_table, read_record):
            with pytest.raises(VidaudioError, match=r"av/000000\.parquet is damaged"):
                read(store, "av/000000.parquet")


def test_what_unpacks_to_far_more_is_refused_before_it_is_unpacked() -> None:
    text = "x" * 1_000_000
    table = pa.table({"id": pa.DictionaryArray.from_arrays(pa.array(np.zeros(5000, np.int32)), [text])})
    sink = io.BytesIO()
    pq.write_table(table.cast(pa.schema([("id", pa.dictionary(pa.int32(), pa.string()))])), sink, store_schema=False)
    assert len(sink.getvalue()) < 2_000_000
    before = pa.total_allocated_bytes()
    with pytest.raises(TooLarge):
        read_whole(sink.getvalue())
    assert pa.total_allocated_bytes() - before < 100 << 20
    repeated = pa.table({"n": pa.array(np.zeros(3000, np.int64)), "t": ["ab"] * 3000})
    sink = io.BytesIO()
    pq.write_table(repeated, sink)
    assert read_whole(sink.getvalue()).equals(repeated)


def test_a_record_of_a_later_version_is_read() -> None:
    table = extract_table()
    data = encode_table(table, replace_record())
    record = record_of(pq.read_schema(pa.BufferReader(data)))
    assert asdict(record)["rows"] == 3


def replace_record():
    from vidaudio.shards.commit import CommitRecord

    return CommitRecord("extract", 0, "p", 3)


@pytest.mark.parametrize("name", ["../x.tar", "x", ".x.tar", "a/b.tar", "a\0.tar", 5, None, ""])
def test_what_is_no_name_of_a_tar(name: object) -> None:
    assert not is_tar_name(name)


def test_tars_that_are_none_of_ours(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "good.tar") as writer:
        writer.write("a", {"flac": b"sound", "json": b"{}"})
    whole = (tmp_path / "good.tar").read_bytes()
    assert list_members(tmp_path / "good.tar").keys() == {"a.flac", "a.json"}
    for name in ("../../x", "/etc/passwd", "a/b", "a\nb"):
        with tarfile.open(tmp_path / "bad.tar", "w") as tar:
            tar.addfile(tarfile.TarInfo(name))
        with pytest.raises(BadTar, match="no name"):
            list_members(tmp_path / "bad.tar")
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("a.flac"))
        tar.addfile(tarfile.TarInfo("a.flac"))
    with pytest.raises(BadTar, match="twice"):
        list_members(tmp_path / "bad.tar")
    chained = b"".join(tarfile.TarInfo("n" * 200).tobuf(tarfile.GNU_FORMAT)[:1024] for _ in range(3000))
    chance = random.Random(7)
    for number in range(60):
        data = bytearray(whole)
        for _ in range(1 + number % 4):
            data[chance.randrange(len(data))] = chance.randrange(256)
        (tmp_path / "bad.tar").write_bytes(chained if number == 0 else data[: chance.randrange(len(data))])
        try:
            found = list_members(tmp_path / "bad.tar")
        except BadTar:
            continue
        size = (tmp_path / "bad.tar").stat().st_size
        assert all(0 <= m.offset <= m.offset + m.length <= size for m in found.values())


def test_a_place_outside_a_tar_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"x" * 100)
    with TarReader(LocalStore(tmp_path), "x.tar") as tar:
        assert tar.read(90, 10) == b"x" * 10
        for offset, length in ((0, 1 << 40), (-1, 5), (99, 2), (1 << 62, 1), (5, -1)):
            with pytest.raises(CorruptFileError, match="shorter"):
                tar.read(offset, length)
