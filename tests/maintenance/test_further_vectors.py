"""Vectors of further encoders: verify checks each column, and a removal takes a clip out of each."""

from __future__ import annotations

import functools
import io
import json
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.further_vectors import PICTURES, SOUND, TEXT, as_before, own_encoder
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.hashing import sha256_of
from vidaudio.maintenance.remove import remove
from vidaudio.maintenance.verify import Problem, verify_corpus
from vidaudio.packs.vectors import with_fingerprint
from vidaudio.packs.write import write_pack_index
from vidaudio.shards.commit import encode_table, read_table
from vidaudio.shards.tar import ShardWriter, list_members
from vidaudio.stream.index import INDEX_FILE, open_index, read_index, write_index
from vidaudio.stream.reader import SampleReader

FURTHER = (PICTURES, SOUND, TEXT)


@pytest.fixture
def copied(further_corpus: Corpus, packed_with_further: str, tmp_path: Path) -> Path:
    def ignored(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if name != "all"] if Path(folder).name == "training" else ["runs"]

    return Path(shutil.copytree(further_corpus.url, tmp_path / "corpus", ignore=ignored))


def problems(corpus: Path) -> list[Problem]:
    return list(verify_corpus(str(corpus), progress=False).problems)


def rewrite_table(corpus: Path, name: str, change: Callable[[pa.Table], pa.Table]) -> None:
    """Replace a table by a changed one with a valid checksum."""
    store = open_corpus(str(corpus)).store
    table, record = read_table(store, name)
    changed = change(table.replace_schema_metadata(None))
    (corpus / name).unlink()
    (corpus / name).write_bytes(encode_table(changed, replace(record, rows=changed.num_rows)))


def with_other_vector(table: pa.Table, row: int = 0) -> pa.Table:
    values = table["embedding"].to_pylist()
    values[row][0] += 1
    return table.set_column(2, "embedding", pa.array(values, table.schema.field("embedding").type))


def rewrite_tar(corpus: Path, ending: str, change: Callable[[bytes], bytes]) -> str:
    """Change a member of the first sample of a training shard, as if it had been packed so; returns the tar's name."""
    name = "training/all/train-000000"
    tar = corpus / f"{name}.tar"
    samples: dict[str, dict[str, bytes]] = {}
    with tarfile.open(tar) as opened:
        for member in opened:
            key, _, own = member.name.partition(".")
            samples.setdefault(key, {})[own] = opened.extractfile(member).read()
    first = samples[next(iter(samples))]
    first[ending] = change(first[ending])
    tar.unlink()
    with ShardWriter(tar) as writer:
        for key, parts in samples.items():
            writer.write(key, parts)
    inside = list_members(tar)
    opened_corpus = open_corpus(str(corpus))
    table, record = read_table(opened_corpus.store, f"{name}.parquet")
    rows = table.to_pylist()
    columns = open_index(str(corpus / "training" / "all")).vectors
    for row in rows:
        row["audio_offset"] = inside[f"{row['key']}.wav"].offset
        for column in columns:
            member = inside[f"{row['key']}.{column.member}"]
            row |= {column.offset: member.offset, column.length: member.length}
    record = replace(record, tar_sha256=sha256_of(tar), tar_bytes=tar.stat().st_size)
    (corpus / f"{name}.parquet").unlink()
    table = pa.Table.from_pylist(rows, schema=table.schema.remove_metadata())
    (corpus / f"{name}.parquet").write_bytes(encode_table(table, record))
    write_pack_index(opened_corpus, "training/all")
    return f"{name}.tar"


def changed_array(change: Callable[[np.ndarray], np.ndarray], data: bytes) -> bytes:
    sink = io.BytesIO()
    np.save(sink, change(np.load(io.BytesIO(data))))
    return sink.getvalue()


class TestVerify:
    def test_all_is_well_as_it_was_packed(self, copied):
        assert problems(copied) == []

    @pytest.mark.parametrize("kind", FURTHER)
    def test_a_pack_with_other_vectors_than_the_corpus_is_found_by_its_encoder(self, copied, kind):
        rewrite_table(copied, f"embeddings/{kind}/000000.parquet", with_other_vector)
        found = problems(copied)
        assert found
        assert all(p.file.startswith("training/all/") for p in found)
        assert all("has other vectors than " in p.what and p.what.endswith(f" in embeddings/{kind}") for p in found)

    @pytest.mark.parametrize("kind", FURTHER)
    def test_a_damaged_vector_is_found(self, copied, kind):
        tar = rewrite_tar(copied, f"{kind}.npy", lambda data: data[:-1] + bytes([data[-1] ^ 4]))
        (found,) = problems(copied)
        assert (found.file, found.what.rpartition(" in ")[2]) == (tar, f"embeddings/{kind}")

    @pytest.mark.parametrize(("kind", "words"), [(PICTURES, "pictures"), (SOUND, "windows of time"), (TEXT, "texts")])
    def test_a_vector_too_few_and_other_dimensions_are_found(self, copied, kind, words):
        for change in (lambda array: array[:-1], lambda array: array[:, 1:], lambda array: array.astype(np.float32)):
            again = Path(shutil.copytree(copied, copied.with_name("again")))
            tar = rewrite_tar(again, f"{kind}.npy", functools.partial(changed_array, change))
            found = [p for p in problems(again) if p.file == tar]
            assert len(found) == 1
            assert f"has vectors of {kind} float" in found[0].what
            assert found[0].what.endswith(words)
            shutil.rmtree(again)

    def test_other_texts_than_vectors_and_other_times_than_the_rows_are_found(self, copied):
        def changed(key: str, encoder: str) -> Callable[[bytes], bytes]:
            def change(data: bytes) -> bytes:
                described = json.loads(data)
                described[key][encoder][-1:] = [] if key == "vectors_texts" else [9.75]
                return json.dumps(described, sort_keys=True, ensure_ascii=False).encode()

            return change

        rewrite_tar(copied, "json", changed("vectors_texts", TEXT))
        (found,) = problems(copied)
        assert f"has vectors of {TEXT} float16" in found.what
        rewrite_tar(copied, "json", changed("vectors_seconds", SOUND))
        assert any(f"cannot be read: its vectors of {SOUND}" in p.what for p in problems(copied))

    @pytest.mark.parametrize("kind", FURTHER)
    def test_a_lost_table_is_named_once(self, copied, kind):
        (copied / "embeddings" / kind / "000001.parquet").unlink()
        (found,) = problems(copied)
        assert (found.file, found.what) == (
            f"embeddings/{kind}/000001.parquet",
            "is missing, and training/all was made from it",
        )

    @pytest.mark.parametrize("kind", [SOUND, TEXT])
    def test_vectors_of_clips_that_are_not_there_are_found(self, copied, kind):
        def strange(table: pa.Table) -> pa.Table:
            return table.set_column(0, "id", pa.array(["nobody", *table["id"].to_pylist()[1:]], pa.string()))

        rewrite_table(copied, f"embeddings/{kind}/000000.parquet", strange)
        assert any("holds vectors of nobody, which av/000000.parquet does not have" in p.what for p in problems(copied))

    def test_a_column_of_the_wrong_kind_is_found(self, copied):
        name = f"embeddings/{SOUND}/000000.parquet"
        rewrite_table(copied, name, lambda table: table.rename_columns(["id", "frame_seconds", "embedding"]))
        assert any((p.file, p.what) == (name, "has other columns than this version writes") for p in problems(copied))

    def test_an_index_that_says_otherwise_of_a_further_encoder_is_found(self, copied):
        at = copied / "training" / "all" / INDEX_FILE
        table, described, _ = read_index(pa.BufferReader(at.read_bytes()))
        table = table.replace_schema_metadata(None)
        at.unlink()
        columns = [dict(column) for column in described["vectors"]]
        (place,) = (n for n, column in enumerate(columns) if column["encoder"] == TEXT)
        columns[place]["fingerprint"] = columns[place]["fingerprint"] | {"batch_size": 3}
        write_index(at, table, described | {"vectors": columns})
        (found,) = problems(copied)
        assert found.file == f"embeddings/{TEXT}/encoder.json"
        assert "says otherwise than training/all/index.arrow" in found.what
        at.unlink()
        swapped = [*described["vectors"][:1], *reversed(described["vectors"][1:])]
        own = {column["encoder"] for column in described["vectors"]}
        assert own == {own_encoder(open_corpus(str(copied))), *FURTHER}
        write_index(at, table, described | {"vectors": swapped})
        assert any("says otherwise than the pack of vectors" in p.what for p in problems(copied))

    def test_a_pack_of_an_older_version_is_fine(self, built_corpus, tmp_path):
        corpus = Path(shutil.copytree(built_corpus.url, tmp_path / "corpus", ignore=shutil.ignore_patterns("runs")))
        for name in sorted(path.name for path in (corpus / "training").iterdir()):
            if name != "default":
                shutil.rmtree(corpus / "training" / name)
        as_before(corpus / "training" / "default")
        assert problems(corpus) == []
        assert remove(str(corpus), ["bars"], progress=False).samples == 1
        assert problems(corpus) == []
        index = open_index(str(corpus / "training" / "default"))
        assert (index.generation, len(index.vectors), index.vectors[0].member) == (1, 1, "clip.npy")


class TestRemove:
    def test_a_clip_leaves_every_column_and_the_rest_is_what_it_was(self, copied):
        pack = copied / "training" / "all"
        names = [column.encoder for column in open_index(str(pack)).vectors]
        before = {key: values for key, values in vectors_in(pack, names).items() if not key.startswith("multi_a")}
        done = remove(str(copied), ["multi_a"], progress=False)
        assert done.samples >= 1
        assert vectors_in(pack, names) == before
        assert problems(copied) == []
        for kind in FURTHER:
            for path in (copied / "embeddings" / kind).glob("*.parquet"):
                assert b"multi_a" not in path.read_bytes()


def vectors_in(pack: Path, names: list[str]) -> dict[str, list[bytes]]:
    index = open_index(str(pack))
    reader = SampleReader(index)
    return {
        index.text("key", row): [reader.vectors(row, name).tobytes() for name in names] for row in range(len(index))
    }


def test_a_column_says_what_its_encoder_says(further_corpus):
    from vidaudio.stream.vector_columns import VectorColumn

    column = with_fingerprint(further_corpus.store, VectorColumn(SOUND, f"{SOUND}.npy"))
    assert (column.input, column.dimensions, column.fingerprint["hop_seconds"]) == ("sound", 8, 0.5)
