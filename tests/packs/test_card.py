"""The card of a pack counts clips and whose they are: each clip once, however often it was fetched."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from tests.media_world import world_run
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.corpus.tombstones import Tombstones
from vidaudio.maintenance.purge_packs import purge_packs
from vidaudio.manifest.source import TableRows
from vidaudio.packs.card import card_text
from vidaudio.pipeline.stages.download import download_shard
from vidaudio.shards.commit import committed_shards, encode_table, read_table, table_name
from vidaudio.shards.corruption import CorruptionLog

FOLDER = "training/default"


@pytest.fixture
def copied(built_corpus: Corpus, tmp_path: Path) -> Corpus:
    def ignored(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if name != "default"] if Path(folder).name == "training" else ["runs"]

    return open_corpus(str(shutil.copytree(built_corpus.url, tmp_path / "corpus", ignore=ignored)))


def owners(corpus: Corpus) -> str:
    return card_text(corpus, FOLDER).partition("## Whose it is")[2]


def test_a_clip_that_was_fetched_again_counts_once(copied: Corpus):
    before = owners(copied)
    assert "| not stated | 10 |" in before
    rows = copied.manifest()
    # It came through at the first try, too, and failed later on: both tables say that it was fetched.
    again = copied.grown(TableRows(rows.filter(pc.is_in(rows["id"], value_set=pc.unique(rows["id"])[:1]))), "retry")
    download_shard(again, again.shards - 1, "clips", world_run())
    assert again.rows(again.shards - 1)
    assert owners(again) == before


def test_a_pack_of_which_nothing_is_left_has_a_card(copied: Corpus):
    sources = frozenset(copied.manifest()["source"].to_pylist())
    purge_packs(copied, Tombstones(frozenset(), sources, 1), CorruptionLog())
    text = card_text(copied, FOLDER)
    assert "0 samples of 0 clips from 0 sources" in text
    assert "0 uploaders are named" in text


@pytest.mark.parametrize("info", ["[" * 50_000, "[1]", '{"uploader": ["x"], "licence": {"a": [1]}}', None])
def test_what_a_stranger_s_table_says_of_no_page_is_not_stated(copied: Corpus, info: str | None):
    for shard in committed_shards(copied.store, "clips"):
        name = table_name("clips", shard)
        table, record = read_table(copied.store, name)
        place = table.schema.get_field_index("info")
        if info is None:
            table = table.remove_column(place)
        else:
            table = table.set_column(place, "info", pa.array([info] * table.num_rows, pa.string()))
        Path(copied.url, name).write_bytes(encode_table(table, record))
    text = owners(copied)
    assert "0 uploaders are named" in text
    assert text.count("| not stated | 10 |") == 2
