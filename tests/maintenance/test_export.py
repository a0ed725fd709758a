"""Export: loose files hold exactly what the corpus holds, appear complete, and never overwrite what is not theirs."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from vidaudio.cli.app import app
from vidaudio.corpus.columns import FACTS
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.errors import CorpusError, RecipeError, StoreError, UsageError
from vidaudio.maintenance.export import COLUMNS, UNFINISHED, export
from vidaudio.shards.commit import read_table, table_name
from vidaudio.shards.read import TarReader


def lines(folder: Path) -> dict[str, dict[str, str]]:
    with (folder / "clips.csv").open(newline="", encoding="utf-8") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def test_sounds_and_pictures_are_those_of_the_corpus(built_corpus, media_world, tmp_path):
    done = export(built_corpus.url, tmp_path / "out", progress=False)
    listed = lines(tmp_path / "out")
    assert set(listed) == set(media_world.usable)
    assert all(tuple(row) == (*COLUMNS, *FACTS.selectable) for row in listed.values())
    assert done.written == done.files == len([*(tmp_path / "out").rglob("*.wav"), *(tmp_path / "out").rglob("*.jpg")])
    for shard in range(built_corpus.shards):
        table, record = read_table(built_corpus.store, table_name("av", shard))
        with TarReader(built_corpus.store, f"av/{record.tar}") as tar:
            for row in table.to_pylist():
                if row["state"] != "done":
                    continue
                flac = io.BytesIO(tar.read(row["audio_offset"], row["audio_length"]))
                wanted, rate = soundfile.read(flac, dtype="int16")
                found, found_rate = soundfile.read(tmp_path / "out" / listed[row["id"]]["audio"], dtype="int16")
                assert found_rate == rate
                assert np.array_equal(found, wanted)
                frames = json.loads(listed[row["id"]]["frames"])
                spans = zip(row["frame_offsets"], row["frame_lengths"], strict=True)
                assert [(tmp_path / "out" / f).read_bytes() for f in frames] == [tar.read(*span) for span in spans]
                assert json.loads(listed[row["id"]]["frame_seconds"]) == row["frame_seconds"]


def test_again_writes_nothing_and_what_is_missing_comes_back(built_corpus, tmp_path):
    export(built_corpus.url, tmp_path, where="id == 'bars'", progress=False)
    assert export(built_corpus.url, tmp_path, where="id == 'bars'", progress=False).written == 0
    next(tmp_path.rglob("*.wav")).unlink()
    assert export(built_corpus.url, tmp_path, where="id == 'bars'", progress=False).written == 1


def test_a_pack_an_ids_file_and_where_choose(built_corpus, tmp_path):
    export(built_corpus.url, tmp_path / "pack", pack="default", progress=False)
    packed = lines(tmp_path / "pack")
    assert "silent" not in packed
    assert packed["clock"]["split"] == "val"
    assert all(row["split"] for row in packed.values())
    done = export(built_corpus.url, tmp_path / "ids", ids=["bars", "mute", "nosuch"], progress=False)
    assert set(lines(tmp_path / "ids")) == {"bars"}
    assert done.unknown == ("mute", "nosuch")
    with pytest.raises(CorpusError, match="nothing to export"):
        export(built_corpus.url, tmp_path / "none", where="seconds > 1000", progress=False)
    with pytest.raises(CorpusError, match="no usable clip goes by alsonone, nosuch"):
        export(built_corpus.url, tmp_path / "none", ids=["nosuch", "alsonone"], progress=False)
    with pytest.raises(CorpusError, match="no pack 'nosuch'; its packs are: default"):
        export(built_corpus.url, tmp_path / "nopack", pack="nosuch", progress=False)
    with pytest.raises(RecipeError, match="nosuch"):
        export(built_corpus.url, tmp_path / "where", where="nosuch > 1", progress=False)


@pytest.mark.parametrize("refused", ["nonsense > 1", "seconds >", "seconds > 1000", "seconds"])
def test_a_selection_that_is_refused_or_chooses_nothing_claims_no_folder(built_corpus, tmp_path, refused):
    with pytest.raises((CorpusError, RecipeError)) as told:
        export(built_corpus.url, tmp_path / "out", where=refused, progress=False)
    assert "pack.where" not in str(told.value)
    assert "--where" in str(told.value) or "nothing to export" in str(told.value)
    assert not (tmp_path / "out").exists()
    assert export(built_corpus.url, tmp_path / "out", where="id == 'bars'", progress=False).clips == 1


def test_a_selection_by_scores_is_refused_and_says_what_to_do(built_corpus, tmp_path):
    with pytest.raises(RecipeError, match=r"--where 'p_corresponds > 0.7' reads scores, .* vidaudio pack --where"):
        export(built_corpus.url, tmp_path / "out", where="p_corresponds > 0.7", progress=False)
    assert not (tmp_path / "out").exists()


def test_a_clip_without_a_split_has_an_empty_one(built_corpus, tmp_path):
    export(built_corpus.url, tmp_path / "out", where="seconds > 1", progress=False)
    splits = {clip: row["split"] for clip, row in lines(tmp_path / "out").items()}
    assert (splits["multi_a"], splits["web_b"]) == ("", "")
    assert (splits["bars"], splits["clock"]) == ("train", "val")


def test_the_sentence_counts_in_english(built_corpus, tmp_path):
    done = export(built_corpus.url, tmp_path / "out", ids=["bars", "nosuch"], progress=False)
    assert ": 1 clip, " in str(done)
    assert "1 entry names no usable clip: nosuch" in str(done)


def test_a_folder_that_is_not_ours_is_refused(built_corpus, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty"):
        export(built_corpus.url, tmp_path, progress=False)
    with pytest.raises(UsageError, match="is a file"):
        export(built_corpus.url, tmp_path / "mine.txt", progress=False)
    export(built_corpus.url, tmp_path / "one", where="id == 'bars'", progress=False)
    with pytest.raises(UsageError, match="another corpus or selection"):
        export(built_corpus.url, tmp_path / "one", progress=False)


def test_a_full_disk_is_said_and_leaves_no_half_file(built_corpus, tmp_path):
    export(built_corpus.url, tmp_path, progress=False)
    for lost in ("*.wav", "*.jpg"):
        file = next(tmp_path.rglob(lost))
        whole = file.read_bytes()
        file.unlink()
        (tmp_path / "clips.csv").unlink()
        # A device that is always full, in the place of the file that is to be written.
        file.with_name(file.name + UNFINISHED).symlink_to("/dev/full")
        with pytest.raises(StoreError, match="the disk is full; the same command goes on"):
            export(built_corpus.url, tmp_path, progress=False)
        assert not list(tmp_path.rglob(f"*{UNFINISHED}"))
        assert not file.exists()
        assert not (tmp_path / "clips.csv").exists()
        done = export(built_corpus.url, tmp_path, progress=False)
        assert (done.clips, done.written) == (11, 1)
        assert file.read_bytes() == whole


class TestDamage:
    @pytest.fixture
    def copied(self, built_corpus: Corpus, tmp_path: Path) -> Corpus:
        return open_corpus(str(shutil.copytree(built_corpus.url, tmp_path / "corpus")))

    def place(self, corpus: Corpus, clip: str) -> tuple[Path, dict]:
        """The tar with a clip, and the clip's row."""
        for shard in range(corpus.shards):
            table, record = read_table(corpus.store, table_name("av", shard))
            for row in table.to_pylist():
                if row["id"] == clip:
                    return Path(corpus.url, "av", record.tar), row
        raise AssertionError(clip)

    def test_a_flipped_bit_costs_its_clip_and_is_named_with_clip_and_file(self, copied, tmp_path):
        tar, row = self.place(copied, "bars")
        whole = tar.read_bytes()
        at = row["audio_offset"] + row["audio_length"] // 2
        tar.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        command = ["export", copied.url, str(tmp_path / "out"), "--quiet"]
        told = CliRunner().invoke(app, command)
        assert told.exit_code == 1, told.output
        assert f"  bars was left out: {tar}: bars.flac is damaged" in told.stdout
        assert "`vidaudio verify` names the remedy" in told.stdout
        found = lines(tmp_path / "out")
        assert len(found) == 10
        assert "bars" not in found
        assert not list((tmp_path / "out").rglob("bars.*"))
        as_json = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
        assert [(clip["id"], clip["file"]) for clip in as_json["damaged"]] == [("bars", f"av/{tar.name}")]
        tar.write_bytes(whole)
        mended = CliRunner().invoke(app, command)
        assert mended.exit_code == 0
        assert "left out" not in mended.stdout
        assert "bars" in lines(tmp_path / "out")

    def test_a_tar_that_is_short_or_gone_costs_the_clips_that_it_lacks(self, copied, tmp_path):
        tar, row = self.place(copied, "bars")
        inside = {clip.id for clip in copied.rows(int(tar.name[:6]))} & set(usable(copied))
        tar.write_bytes(tar.read_bytes()[: row["frame_offsets"][1]])
        done = export(copied.url, tmp_path / "short", progress=False)
        assert {clip.id for clip in done.damaged} >= {"bars"}
        assert all("is shorter than its table says" in clip.what for clip in done.damaged)
        tar.unlink()
        done = export(copied.url, tmp_path / "gone", progress=False)
        assert {clip.id for clip in done.damaged} == inside
        assert set(lines(tmp_path / "gone")) == set(usable(copied)) - inside
        assert "is gone, though its table stands" in str(done)


def usable(corpus: Corpus) -> list[str]:
    """Ids of the usable clips."""
    tables = (read_table(corpus.store, table_name("av", shard))[0] for shard in range(corpus.shards))
    return [row["id"] for table in tables for row in table.to_pylist() if row["state"] == "done"]


@pytest.mark.parametrize("place", ["s3://bucket/x", "s3:/bucket/x", Path("s3://bucket/x"), "simplecache::s3://b/x"])
def test_a_url_is_no_folder_to_export_to(built_corpus, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"to folders of this machine, and \S+://b\S*/x is a URL; name a folder"):
        export(built_corpus.url, place, progress=False)
    assert list(tmp_path.iterdir()) == []
    assert export(built_corpus.url, (tmp_path / "out").as_uri(), where="id == 'bars'", progress=False).clips == 1
    assert (tmp_path / "out" / "clips.csv").is_file()
