"""ESC's list: folds become splits, takes of one recording one source."""

from __future__ import annotations

from pathlib import Path

import pytest

from vidaudio.errors import ManifestError
from vidaudio.manifest import read_esc

HEADER = "filename,fold,target,category,esc10,src_file,take\n"
ROWS = (
    "1-100032-A-0.wav,1,0,dog,True,100032,A\n"
    "1-100032-B-0.wav,1,0,dog,True,100032,B\n"
    "4-17-A-38.wav,4,38,clock_tick,False,17,A\n"
    "5-18-A-38.wav,5,38,clock_tick,False,18,A\n"
)


@pytest.fixture
def esc(tmp_path: Path) -> Path:
    for row in ROWS.splitlines():
        (tmp_path / row.split(",")[0]).write_bytes(b"")
    (tmp_path / "esc50.csv").write_text(HEADER + ROWS)
    return tmp_path / "esc50.csv"


def test_folds_become_splits_and_recordings_sources(esc: Path):
    clips = read_esc(esc, test_folds=(5,), val_folds=(4,)).clips
    assert [clip.split for clip in clips] == ["train", "train", "val", "test"]
    assert [clip.source for clip in clips] == ["freesound:100032"] * 2 + ["freesound:17", "freesound:18"]
    assert [clip.id for clip in clips][:2] == ["1-100032-A-0", "1-100032-B-0"]
    assert clips[2].labels == ("clock tick",)
    assert clips[2].url == str(esc.parent / "4-17-A-38.wav")


def test_esc10_is_the_rows_that_are_marked(esc: Path):
    listing = read_esc(esc, only_esc10=True)
    assert {clip.labels for clip in listing.clips} == {("dog",)}
    assert {clip.dataset for clip in listing.clips} == {"esc10"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_folds": (6,)}, "there is no fold 6"),
        ({"test_folds": (4,), "val_folds": (4,)}, "fold 4 cannot be test and val"),
    ],
)
def test_folds_that_cannot_be_are_refused(esc: Path, options: dict, message: str):
    with pytest.raises(ManifestError, match=message):
        read_esc(esc, **options)


def test_bad_rows_are_named_and_can_be_left_out(esc: Path):
    bad = "noise.wav,1,0,dog,True,1,A\n1-5-A-0.wav,9,0,dog,True,5,A\n"
    bad += "1-6-A-0.wav,1,0,dog,True,6,A\n1-7-A.wav,1,0,,True,7,A\n"
    esc.write_text(HEADER + ROWS + bad)
    with pytest.raises(ManifestError, match=r"(?s)noise\.wav.*fold '9'.*there is no file.*no category"):
        read_esc(esc)
    assert len(read_esc(esc, skip_bad_rows=True).bad_rows) == 4
    esc.write_text("filename,category\na.wav,dog\n")
    with pytest.raises(ManifestError, match="no column fold"):
        read_esc(esc)
