"""The index of a large corpus: built once, built again when vectors change, deleted with the clips that it holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vidaudio import vector_index
from vidaudio.clip_search import index as clip_index
from vidaudio.clip_search.index import CellIndex, open_vectors
from vidaudio.clip_search.query import SearchQuery, chosen_encoder
from vidaudio.clip_search.search import SearchReport, search
from vidaudio.corpus.clip_vectors import picture_vectors
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.corpus.search_files import drop_search_indices, recorded_state
from vidaudio.corpus.tombstones import write_tombstones
from vidaudio.correspondence.windows import unit
from vidaudio.maintenance.remove import remove
from vidaudio.maintenance.verify import verify_corpus
from vidaudio.shards.commit import table_name
from vidaudio.shards.maintenance_lock import maintenance_lock

pytestmark = pytest.mark.usefixtures("indexed")


def found(corpus: Corpus, query: str | SearchQuery = "buzzing bee", count: int = 8) -> SearchReport:
    return search(corpus.url, query, count=count, progress=False)


def index_files(corpus: Corpus) -> dict[str, int]:
    return {path.suffix: path.stat().st_mtime_ns for path in Path(corpus.url, "search").glob("*")}


def rows(corpus: Corpus) -> int:
    state = recorded_state(corpus.store, chosen_encoder(corpus, None))
    assert state is not None
    return state.rows


def test_it_finds_what_a_comparison_with_all_vectors_finds(copied: Corpus, monkeypatch: pytest.MonkeyPatch):
    # All of the few cells are looked into, which is exact.
    first, again = found(copied), found(copied)
    assert again == first
    monkeypatch.setattr(vector_index, "EXACT_VECTORS", 50_000)
    exact = found(copied)
    assert [hit.id for hit in first.hits] == [hit.id for hit in exact.hits]
    for hit, other in zip(first.hits, exact.hits, strict=True):
        assert hit.similarity == pytest.approx(other.similarity, abs=2e-4)
        assert hit.cosine == pytest.approx(other.cosine, abs=2e-4)


def test_cosines_with_a_picture_are_those_of_the_vectors(copied: Corpus):
    vectors = np.concatenate([part.vectors for part in picture_vectors(copied, chosen_encoder(copied, None))])
    index = open_vectors(copied, chosen_encoder(copied, None), progress=False)
    assert isinstance(index, CellIndex)
    query = unit(np.random.default_rng(0).standard_normal(vectors.shape[1])).astype(np.float32)
    for shown in (np.ones(len(vectors), bool), np.arange(len(vectors)) % 6 == 0):
        nearest = index.nearest(query, 5, shown)
        assert shown[nearest.rows].all()
        assert nearest.cosine == pytest.approx(vectors[nearest.rows] @ query, abs=1e-4)
        mean = vectors.mean(axis=0)
        expected = unit(vectors - mean) @ unit(query - mean)
        assert nearest.similarity == pytest.approx(expected[nearest.rows], abs=1e-4)


def test_it_looks_further_where_the_nearest_cells_hold_too_few(copied: Corpus, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(clip_index, "probed_cells", lambda cells: 1)
    assert len(found(copied, count=39).hits) == 39
    assert len(found(copied, count=1000).hits) == 40


def test_a_search_looks_into_a_share_of_the_cells_and_into_enough_of_few():
    assert [clip_index.probed_cells(cells) for cells in (6, 244, 1000, 3200)] == [6, 64, 64, 200]


def test_a_second_search_opens_what_the_first_has_written(copied: Corpus):
    found(copied)
    written = index_files(copied)
    assert set(written) == {".index", ".parquet", ".json"}
    found(copied, "ringing bell")
    assert index_files(copied) == written
    report = verify_corpus(copied.url, progress=False)
    assert report.ok
    assert not [note for note in report.notes if "search" in note]


def test_it_is_built_again_when_shards_are_added(copied: Corpus):
    encoder = chosen_encoder(copied, None)
    table = Path(copied.url, table_name(f"embeddings/{encoder}", 1))
    kept = table.read_bytes()
    table.unlink()
    found(copied)
    few = rows(copied)
    table.write_bytes(kept)
    assert found(copied, count=100).searched == 40
    assert rows(copied) == 40 > few


def test_a_removal_deletes_it_and_the_next_one_holds_no_removed_clip(copied: Corpus):
    gone = found(copied).hits[0].id
    remove(copied.url, [gone], progress=False)
    assert index_files(copied) == {}
    assert gone not in {hit.id for hit in found(copied, count=100).hits}
    assert rows(copied) == 39
    before = index_files(copied)
    # Every build enforces removals: an index that was built after all of them stays.
    with maintenance_lock(copied.store):
        drop_search_indices(copied.store, removals=1)
    assert index_files(copied) == before


def test_a_clip_whose_removal_is_unfinished_is_not_shown_by_an_older_index(copied: Corpus):
    hit = found(copied).hits[0]
    write_tombstones(copied.store, {hit.id: hit.source}, [], None)
    assert hit.id not in {other.id for other in found(copied, count=100).hits}
    assert rows(copied) == 39


def test_nothing_is_written_while_another_process_deletes(copied: Corpus, caplog: pytest.LogCaptureFixture):
    with maintenance_lock(copied.store):
        assert found(copied).hits
    assert index_files(copied) == {}
    assert "is not kept" in caplog.text


def test_a_damaged_index_is_built_again(copied: Corpus):
    expected = found(copied)
    for suffix in (".index", ".parquet", ".json"):
        (path,) = Path(copied.url, "search").glob(f"*{suffix}")
        path.write_bytes(path.read_bytes()[:40])
        assert found(open_corpus(copied.url)) == expected
        assert path.stat().st_size > 40
