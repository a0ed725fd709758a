"""Off-screen facts of a corpus: exactly once, by the same tools for all clips, and selections by them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.correspondence.test_offscreen import Loudness
from vidaudio.config.corpus import PackBlock
from vidaudio.corpus.columns import OFFSCREEN, OFFSCREEN_SCHEMA
from vidaudio.corpus.corpus import Corpus
from vidaudio.errors import ScorerError
from vidaudio.maintenance.remove import remove
from vidaudio.maintenance.status import corpus_status
from vidaudio.maintenance.verify import verify_corpus
from vidaudio.pipeline.build import pack
from vidaudio.shards.commit import read_table, table_name
from vidaudio.tasks.correspondence.offscreen import music_classes, offscreen


@pytest.fixture
def tagger(tmp_path: Path) -> dict[str, Path]:
    """A tagger of two classes that takes loud sound for music."""
    path, classes = tmp_path / "tagger.pt", tmp_path / "classes.csv"
    torch.jit.script(Loudness()).save(str(path))
    classes.write_text("index,mid,display_name\n0,/m/0,Silence\n1,/m/1,Music\n")
    return {"tagger": path, "tagger_classes": classes}


def rows(corpus: Corpus) -> dict[str, dict]:
    tables = [read_table(corpus.store, table_name(OFFSCREEN.folder, shard))[0] for shard in range(corpus.shards)]
    assert all(table.schema.equals(OFFSCREEN_SCHEMA) for table in tables)
    return {row["id"]: row for table in tables for row in table.to_pylist()}


def test_every_clip_is_measured_once_and_lost_shards_come_back(copied: Corpus, tagger: dict[str, Path]):
    assert "offscreen" not in str(corpus_status(copied.url))
    report = offscreen(copied.url, **tagger, progress=False)
    assert "offscreen" in str(corpus_status(copied.url))
    found = rows(copied)
    assert report.clips == len(found) > 45
    assert report.much_left is None
    assert "give a separator" in str(report)
    for row in found.values():
        assert 0 <= row["speech_share"] <= 1
        assert 0 <= row["music_share"] <= 1
        # The demo's CLIP knows words, whatever it makes of these.
        assert row["speaker_seen"] + row["player_seen"] <= 1.001
        assert row["residual_db"] is None
    first = Path(copied.url, table_name(OFFSCREEN.folder, 0))
    before = first.read_bytes()
    first.unlink()
    # The tools are recorded: they need not be named again.
    assert offscreen(copied.url, progress=False) == report
    assert first.read_bytes() == before
    assert verify_corpus(copied.url).ok


def test_a_selection_and_a_removal_know_the_column(copied: Corpus, tagger: dict[str, Path]):
    offscreen(copied.url, **tagger, progress=False)
    found = rows(copied)
    middle = sorted(row["music_share"] for row in found.values())[len(found) // 2]
    where = f"music_share > {middle}"
    pack(copied.url, PackBlock(name="loud", where=where), progress=False)
    left_out = pd.read_parquet(Path(copied.url, "training", "loud", "left_out.parquet"))
    quiet = {clip_id for clip_id, row in found.items() if not row["music_share"] > middle}
    assert set(left_out.loc[left_out["reason"] == "where", "id"]) >= quiet
    gone = next(iter(found))
    remove(copied.url, [gone])
    assert gone not in rows(copied)


def test_other_tools_are_refused(copied: Corpus, tagger: dict[str, Path]):
    offscreen(copied.url, progress=False)
    with pytest.raises(ScorerError, match="was measured with other tools"):
        offscreen(copied.url, **tagger, progress=False)


def test_a_tagger_that_has_changed_is_refused(copied: Corpus, tagger: dict[str, Path]):
    offscreen(copied.url, **tagger, progress=False)
    Path(copied.url, table_name(OFFSCREEN.folder, 0)).unlink()
    tagger["tagger"].write_bytes(b"another one")
    with pytest.raises(Exception, match="is not the file that the off-screen facts") as told:
        offscreen(copied.url, progress=False)
    assert "Traceback" not in str(told.value)


def test_what_does_not_fit_is_said(copied: Corpus, tagger: dict[str, Path], tmp_path: Path):
    with pytest.raises(ScorerError, match="go together"):
        offscreen(copied.url, tagger=tagger["tagger"], progress=False)
    with pytest.raises(ScorerError, match="there is no file"):
        offscreen(copied.url, tagger=tmp_path / "no.pt", tagger_classes=tagger["tagger_classes"], progress=False)
    assert not copied.store.exists(f"{OFFSCREEN.folder}/{OFFSCREEN.description}")


def test_music_is_found_by_the_names_of_classes(tmp_path: Path):
    path = tmp_path / "names.txt"
    path.write_text("Speech\nMusic\nMusical instrument\nMusic of Asia\nDog\n")
    assert list(music_classes(path)) == [1, 2, 3]
    path.write_text("Speech\nDog\n")
    with pytest.raises(ScorerError, match="begins with Music"):
        music_classes(path)
