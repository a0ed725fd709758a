"""What belongs to a corpus is declared once: listing, status, removal and verification agree on every column."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pytest

from vidaudio.corpus import columns
from vidaudio.corpus.columns import (
    COLUMNS,
    DOWNLOAD,
    EMBED,
    EXTRACT,
    SCORE,
    SCORES_SCHEMA,
    Column,
    belongs,
    column_of,
    embedding_schema,
)
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.corpus.listing import list_stages
from vidaudio.errors import CorpusError
from vidaudio.maintenance.remove import remove
from vidaudio.maintenance.status import corpus_status
from vidaudio.maintenance.verify import VerifyReport, verify_corpus
from vidaudio.manifest import SCHEMA
from vidaudio.pipeline.shard_tasks import check_order
from vidaudio.shards.commit import CommitRecord, encode_table, read_table
from vidaudio.shards.table_checks import STAGE_COLUMNS
from vidaudio.shards.tar import Member
from vidaudio.stream.vector_columns import VectorInput


def scored(corpus: Corpus, tmp_path: Path) -> Corpus:
    """Return a copy with a column of scores of every clip, as a stage that scores would commit it."""
    copy = shutil.copytree(corpus.url, tmp_path / "corpus", ignore=shutil.ignore_patterns("runs"))
    opened = open_corpus(str(copy))
    for shard in range(opened.shards):
        ids = opened.table(shard)["id"]
        values = {name: [0.5] * len(ids) for name in SCORE.selectable} | {"sound_vector": [[1.0, 0.0]] * len(ids)}
        table = pa.table({"id": ids, **values}, schema=SCORES_SCHEMA)
        record = CommitRecord("score", shard, opened.plan_hash, len(ids))
        assert opened.store.create(f"scores/own/{shard:06d}.parquet", encode_table(table, record))
    opened.store.create("scores/own/scorer.json", b"{}\n")
    opened.store.create("scorers/own/weights.npz", b"weights")
    return opened


def verified(corpus: Corpus) -> VerifyReport:
    return verify_corpus(corpus.url, progress=False)


def test_a_corpus_with_scores_is_whole_to_all_of_them(built_corpus: Corpus, tmp_path: Path):
    corpus = scored(built_corpus, tmp_path)
    report = verified(corpus)
    assert report.ok
    assert not any("not of the corpus" in note for note in report.notes)
    assert len(list_stages(corpus)["scores/own"]) == corpus.shards + 1
    stages = {(stage.name, stage.of): stage.shards for stage in corpus_status(corpus.url).stages}
    assert stages[("score", "own")] == corpus.shards
    assert SCORE.folders(corpus.store) == ["scores/own"]
    remove(corpus.url, ["bars"], progress=False)
    tables = [read_table(corpus.store, f"scores/own/{shard:06d}.parquet")[0] for shard in range(corpus.shards)]
    left = {clip for table in tables for clip in table["id"].to_pylist()}
    assert left == {clip for shard in range(corpus.shards) for clip in corpus.table(shard)["id"].to_pylist()} - {"bars"}
    assert verified(corpus).ok


def test_what_is_wrong_with_scores_is_named(built_corpus: Corpus, tmp_path: Path):
    corpus = scored(built_corpus, tmp_path)
    folder = Path(corpus.url, "scores", "own")
    first, second = folder / "000000.parquet", folder / "000001.parquet"
    flipped = bytearray(first.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    kept = second.read_bytes()
    first.write_bytes(flipped)
    second.write_bytes((folder / "000002.parquet").read_bytes())
    (folder / "notes.txt").write_text("x")
    (folder / "000099.parquet").write_bytes(kept)
    found = {problem.file.removeprefix("scores/own/"): problem.what for problem in verified(corpus).problems}
    assert set(found) == {"000000.parquet", "000001.parquet", "notes.txt", "000099.parquet"}
    assert "damaged" in found["000000.parquet"]
    assert "shard 2" in found["000001.parquet"]


def test_scores_of_a_removed_clip_are_named(built_corpus: Corpus, tmp_path: Path):
    corpus = scored(built_corpus, tmp_path)
    shard = next(n for n in range(corpus.shards) if "bars" in corpus.table(n)["id"].to_pylist())
    table = Path(corpus.url, "scores", "own", f"{shard:06d}.parquet")
    before = table.read_bytes()
    remove(corpus.url, ["bars"], progress=False)
    table.write_bytes(before)
    (problem,) = verified(corpus).problems
    assert problem.file == f"scores/own/{table.name}"
    assert "were removed: bars" in problem.what


def declare(patch: pytest.MonkeyPatch, **needs: tuple[str, ...]) -> None:
    """Declare columns that have nothing but needs."""
    made = tuple(Column(stage, stage, pa.schema([("id", pa.string())]), needs=need) for stage, need in needs.items())
    patch.setattr(columns, "COLUMNS", made)


def stages_of(found: Iterable[Column]) -> list[str]:
    return [column.stage for column in found]


def test_columns_come_after_what_they_need_and_otherwise_as_declared(monkeypatch: pytest.MonkeyPatch):
    assert stages_of(columns.columns_in_order()) == ["download", "extract", "facts", "embed", "score", "offscreen"]
    declare(monkeypatch, d=("b", "c"), a=(), c=("a",), b=("a",), e=())
    assert stages_of(columns.columns_in_order()) == ["a", "c", "b", "d", "e"]
    assert stages_of(columns.with_needs(["b"])) == ["a", "b"]
    assert stages_of(columns.with_needs(["e", "d"])) == ["a", "c", "b", "d", "e"]


@pytest.mark.parametrize("needs", [{"a": ("b",), "b": ("a",)}, {"a": ("nothing",)}])
def test_needs_that_cannot_be_met_are_refused(monkeypatch: pytest.MonkeyPatch, needs: dict[str, tuple[str, ...]]):
    declare(monkeypatch, **needs)
    with pytest.raises(ValueError, match=f"columns {', '.join(needs)} need each other, or undeclared ones"):
        columns.columns_in_order()


def test_every_need_of_a_wanted_stage_is_committed_or_wanted(monkeypatch: pytest.MonkeyPatch):
    declare(monkeypatch, a=(), b=(), c=("a", "b"), d=("c",))
    none, first, both = np.zeros(2, bool), np.array([True, False]), np.ones(2, bool)
    check_order(["a", "b", "c", "d"], {"a": none, "b": none, "c": none, "d": none})
    check_order(["b", "c"], {"a": both, "b": first, "c": none, "d": none})
    # The second shard has a `c` already, so what it was made from is not read again.
    check_order(["c"], {"a": first, "b": both, "c": ~first, "d": none})
    with pytest.raises(CorpusError, match=r"^c reads what b writes, and that is not there yet; do b first$"):
        check_order(["a", "c"], {"a": both, "b": first, "c": none, "d": none})
    with pytest.raises(CorpusError, match=r"^d reads what c writes"):
        check_order(["a", "b", "d"], {"a": both, "b": both, "c": first, "d": first & False})


def test_readers_check_the_fields_that_the_columns_declare():
    kinds = [embedding_schema(kind) for kind in get_args(VectorInput)]
    for column in COLUMNS:
        declared = {f.name: f.type for schema in (kinds if column is EMBED else [column.schema]) for f in schema or ()}
        for name, kind in STAGE_COLUMNS.get(column.stage, {}).items():
            assert declared[name] == kind


def test_no_two_columns_have_a_selectable_field_of_one_name():
    named = [name for column in COLUMNS for name in column.selectable]
    assert len({*named, *SCHEMA.names}) == len(named) + len(SCHEMA.names)


def test_the_members_of_a_row_are_found_and_moved():
    row = dict.fromkeys(EXTRACT.schema.names) | {"id": "x", "state": "done", "frame_seconds": [0.0, 1.0]}
    row |= {"audio_offset": 512, "audio_length": 9, "frame_offsets": [2048, 4096], "frame_lengths": [3, 4]}
    members = EXTRACT.members(row)
    assert members == {"x.flac": (512, 9), "x.000.jpg": (2048, 3), "x.001.jpg": (4096, 4), "x.json": None}
    places = {name: Member(name, place[0] + 7, place[1]) for name, place in members.items() if place is not None}
    moved = EXTRACT.moved(row, places)
    assert moved == {"audio_offset": 519, "audio_length": 9, "frame_offsets": [2055, 4103], "frame_lengths": [3, 4]}
    failed = dict.fromkeys(EXTRACT.schema.names) | {"id": "x", "state": "failed"}
    assert EXTRACT.members(failed) == EXTRACT.moved(failed, places) == {}
    fetched = dict.fromkeys(DOWNLOAD.schema.names) | {"id": "x", "member": "x.mp4", "offset": 512, "length": 9}
    assert DOWNLOAD.members(fetched) == {"x.mp4": (512, 9), "x.json": None}
    assert DOWNLOAD.members(fetched | {"member": None}) == {}


@pytest.mark.parametrize(
    ("name", "own"),
    [
        *((column.folder, True) for column in COLUMNS),
        *((name, True) for name in ("training", "scorers", "runs", "corpus.json", "manifest.parquet", "x.lock")),
        *((name, True) for name in ("search", "manifest-000001.parquet", "removed-000000.parquet")),
        *((name, False) for name in ("NOTES.md", "score", "clips2", "manifest-1.parquet", "training.bak", "")),
    ],
)
def test_what_belongs(name: str, own: bool):
    assert belongs(name) == own


def test_a_folder_is_of_the_column_that_it_lies_in():
    assert column_of("av").stage == "extract"
    assert column_of("embeddings/x").stage == "embed"
    with pytest.raises(KeyError):
        column_of("training/x")
