"""What belongs to a corpus is declared once: listing, status, removal and verification agree on every column."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest

from vidaudio.corpus.columns import COLUMNS, SCORE, belongs, column_of
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.corpus.listing import list_stages
from vidaudio.maintenance.remove import remove
from vidaudio.maintenance.status import corpus_status
from vidaudio.maintenance.verify import VerifyReport, verify_corpus
from vidaudio.shards.commit import CommitRecord, encode_table, read_table


def scored(corpus: Corpus, tmp_path: Path) -> Corpus:
    """Return a copy with a column of scores of every clip, as a stage that scores would commit it."""
    copy = shutil.copytree(corpus.url, tmp_path / "corpus", ignore=shutil.ignore_patterns("runs"))
    opened = open_corpus(str(copy))
    for shard in range(opened.shards):
        ids = opened.table(shard)["id"]
        table = pa.table({"id": ids, "score": pa.array([0.5] * len(ids))})
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


@pytest.mark.parametrize(
    ("name", "own"),
    [
        *((column.folder, True) for column in COLUMNS),
        *((name, True) for name in ("training", "scorers", "runs", "corpus.json", "manifest.parquet", "x.lock")),
        *((name, True) for name in ("manifest-000001.parquet", "removed-000000.parquet")),
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
