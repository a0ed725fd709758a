"""Lists of what is to be removed: how they are read, and entries that name nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.pipeline.test_build import contents
from vidaudio.cli.app import app
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.corpus.tombstones import read_tombstones
from vidaudio.errors import CorpusError, UsageError
from vidaudio.maintenance.remove import read_ids, remove
from vidaudio.maintenance.status import corpus_status


@pytest.fixture
def copied(built_corpus: Corpus, tmp_path: Path) -> Corpus:
    ignored = shutil.ignore_patterns("runs", "training")
    return open_corpus(str(shutil.copytree(built_corpus.url, tmp_path / "corpus", ignore=ignored)))


def test_comments_blank_lines_and_line_ends_of_any_system(tmp_path):
    path = tmp_path / "ids.txt"
    path.write_bytes("\ufeff# takedown 17\r\nbars\r\n\r\n-x_1 # why\r\nbars\nfile:a b #2.mp4\r\n".encode())
    assert read_ids(path) == ["bars", "-x_1", "file:a b #2.mp4"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "names no clips"),
        (b"# nothing\n\n", "names no clips"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "no text file"),
        (b"bars\n../../etc/passwd\n", "line 2"),
        (b"two words\n", "line 1"),
        (b"bars\x00\n", "line 1"),
    ],
)
def test_what_is_no_such_list_is_refused(tmp_path, data, message):
    (tmp_path / "ids.txt").write_bytes(data)
    with pytest.raises(UsageError, match=message):
        read_ids(tmp_path / "ids.txt")


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        read_ids(tmp_path / "none.txt")


def test_unknown_entries_are_named_and_unknown_ones_alone_change_nothing(copied):
    before = contents(copied.url)
    with pytest.raises(CorpusError, match="nothing was changed"):
        remove(copied.url, ["nosuch", "youtube:nosuch"], progress=False)
    assert contents(copied.url) == before
    done = remove(copied.url, ["nosuch", "bars"], progress=False)
    assert done.unknown == ("nosuch",)
    assert f"{copied.url}: 1 clip is removed, 1 of them now" in str(done)
    assert "1 entry names nothing in this corpus, of which nothing was removed: nosuch" in str(done)
    assert corpus_status(copied.url).removed == done.clips
    # One list for several corpora.
    assert remove(copied.url, ["nosuch"], ignore_unknown=True, progress=False).clips == 0


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        ("file:avsync_gun_1.mp4 # asked for on Monday", "file:avsync_gun_1.mp4"),
        ("file:song #2.mp4", "file:song #2.mp4"),
        ("file:a b.mp4 # why", "file:a b.mp4 # why"),
        ("youtube:aaaaaaaaaaa #why", "youtube:aaaaaaaaaaa"),
        ("youtube:aaaaaaaaaaa\t# why # and # more", "youtube:aaaaaaaaaaa"),
        ("web:https://example.org/a#t=1 #", "web:https://example.org/a#t=1"),
    ],
)
def test_a_comment_behind_a_source(tmp_path, line, entry):
    (tmp_path / "ids.txt").write_text(f"{line}\n")
    assert read_ids(tmp_path / "ids.txt") == [entry]


def test_a_takedown_with_an_unknown_entry_is_no_success(copied, tmp_path):
    (tmp_path / "ids.txt").write_text("bars\nfile:clcok.mp4\nfile:a b.mp4 # why\n")
    command = ["remove", copied.url, str(tmp_path / "ids.txt"), "--quiet"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1, result.output
    assert "2 entries name nothing in this corpus" in result.stdout
    assert "file:clcok.mp4, file:a b.mp4 # why\n" in result.stdout
    assert "a # in a source that has spaces is part of its name" in result.stdout
    assert read_tombstones(copied.store).ids == {"bars"}
    again = CliRunner().invoke(app, [*command, "--json"])
    assert again.exit_code == 1
    assert json.loads(again.stdout)["unknown"] == ["file:clcok.mp4", "file:a b.mp4 # why"]
    assert CliRunner().invoke(app, [*command, "--ignore-unknown"]).exit_code == 0
