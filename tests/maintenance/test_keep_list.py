"""A pack's clips in VGGSound's form: read again as they were, or refused whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from vidaudio import keep_list
from vidaudio.cli.app import app
from vidaudio.corpus.corpus import Corpus
from vidaudio.errors import CorpusError, UsageError
from vidaudio.manifest.vggsound import read_vggsound
from vidaudio.packs.description import read_pack_file
from vidaudio.shards.commit import read_table

LABEL = 'people clapping, in a "hall"'
FRACTION = 2.25


@pytest.fixture
def as_if_of_youtube(built_corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict]:
    """Make the corpus's manifest name cuts of YouTube videos; returns its rows by id."""
    tables = Corpus.tables
    found: dict[str, dict] = {}

    def of_youtube(corpus: Corpus, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        for table in tables(corpus, columns):
            rows = table.to_pylist()
            for row in rows if "start_seconds" in table.column_names else ():
                number = len(found)
                row |= {"source": f"youtube:-_{number:09d}", "labels": [LABEL]}
                row |= {"start_seconds": number * FRACTION, "end_seconds": number * FRACTION + 10}
                found[row["id"]] = dict(row)
            yield pa.Table.from_pylist(rows, schema=table.schema)

    monkeypatch.setattr(Corpus, "tables", of_youtube)
    return found


def packed_splits(corpus: Corpus) -> dict[str, str]:
    names = read_pack_file(corpus.store, "training/default").shards
    tables = [read_table(corpus.store, f"training/default/{name}.parquet")[0] for name in names]
    return {row["id"]: row["split"] for table in tables for row in table.to_pylist()}


def test_the_list_is_read_again_with_the_splits_of_the_pack(built_corpus, as_if_of_youtube, tmp_path: Path):
    path = tmp_path / "keep.csv"
    done = CliRunner().invoke(app, ["keep-list", built_corpus.url, "-o", str(path)])
    assert done.exit_code == 0, done.output
    splits, rows = packed_splits(built_corpus), as_if_of_youtube
    assert f"{path}: {len(splits)} clips" in done.output
    read = read_vggsound(path).clips
    wanted = [(rows[i]["source"], rows[i]["start_seconds"], (LABEL,), splits[i]) for i in rows if i in splits]
    assert [(clip.source, clip.start_seconds, clip.labels, clip.split) for clip in read] == wanted
    assert all(clip.end_seconds == clip.start_seconds + 10 for clip in read)
    assert [path.name for path in tmp_path.iterdir()] == ["keep.csv"]


def test_clips_that_the_form_cannot_say_are_refused_whole(built_corpus: Corpus, tmp_path: Path):
    path = tmp_path / "keep.csv"
    path.write_text("before")
    with pytest.raises(CorpusError, match=r"which is no YouTube video.*`vidaudio export`"):
        keep_list(built_corpus.url, path)
    assert path.read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"labels": ["a", "b"]}, "has 2 labels"),
        ({"labels": []}, "has 0 labels"),
        ({"end_seconds": None}, "has no end"),
        ({"end_seconds": 14.5}, "is 4.5 s long"),
        ({"source": "youtube:short"}, "is no YouTube video"),
    ],
)
def test_each_thing_that_it_cannot_say_is_named(change: dict, told: str):
    from vidaudio.maintenance.keep_list import _line

    row = {"id": "c", "source": "youtube:abcdefghijk", "start_seconds": 10.0, "end_seconds": 20.0, "labels": ["dog"]}
    assert _line(row, "val") == ("abcdefghijk", "10", "dog", "val")
    with pytest.raises(CorpusError, match=told):
        _line(row | change, "val")
    with pytest.raises(CorpusError, match="in the split 'dev'"):
        _line(row, "dev")


def test_a_pack_or_a_folder_that_is_missing_is_named(built_corpus: Corpus, tmp_path: Path):
    with pytest.raises(CorpusError, match="has no pack 'other'; its packs are: default"):
        keep_list(built_corpus.url, tmp_path / "keep.csv", pack="other")
    with pytest.raises(UsageError, match="is a URL"):
        keep_list(built_corpus.url, "s3://bucket/keep.csv")
