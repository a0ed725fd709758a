"""Labelled sound files, packed without pictures: what the loader gives of them, and what becomes of bad ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vidaudio.config.corpus import PackBlock
from vidaudio.config.recipes import override
from vidaudio.errors import CorpusError
from vidaudio.hashing import sha256_of
from vidaudio.manifest import Clip, clips_from_table, read_manifest, write_manifest
from vidaudio.packs.audio_only import PACK_FILE, pack_sounds
from vidaudio.stream import MixtureStream, StreamConfig
from vidaudio.stream.index import open_index
from vidaudio.stream.reader import SampleReader

RATE = 16_000


@pytest.fixture
def listed(tmp_path: Path) -> Callable[..., Path]:
    """Writes a manifest of rendered sounds: (name, seconds, split, source)."""

    def write(rows: Sequence[tuple[str, float, str | None, str]], rate: int = RATE) -> Path:
        clips = []
        for number, (name, seconds, split, source) in enumerate(rows):
            path = tmp_path / f"{name}.wav"
            if seconds:
                times = np.arange(int(seconds * rate)) / rate
                soundfile.write(path, 0.3 * np.sin(2 * np.pi * (200 + 50 * number) * times), rate, subtype="PCM_16")
            clips.append(Clip(name, f"file:{source}", "made", str(path), split=split, labels=(f"tone {number % 2}",)))
        write_manifest(clips, tmp_path / "list.parquet")
        return tmp_path / "list.parquet"

    return write


def _three(split: str = "train") -> list[tuple[str, float, str, str]]:
    return [(name, 5.0, split, name) for name in ("a", "b", "c")]


@pytest.mark.parametrize("audio", ["flac", "pcm16"])
def test_the_loader_gives_windows_of_the_very_samples(listed, tmp_path: Path, audio: str):
    packed = pack_sounds(listed(_three()), tmp_path / "pack", settings=PackBlock(audio=audio), progress=False)
    assert (packed.clips, packed.samples, packed.seconds, packed.failed) == (3, 3, 15.0, {})
    index = open_index(str(tmp_path / "pack"), "train")
    assert index.dimensions == 0
    reader = SampleReader(index)
    for row in range(3):
        stored, _ = soundfile.read(tmp_path / f"{index.text('id', row)}.wav", dtype="int16")
        np.testing.assert_array_equal(reader.sound(row), stored)
    stream = MixtureStream(tmp_path / "pack", StreamConfig(batch_size=2))
    batch = stream.batch(0)
    assert batch["audio"].shape == (2, 2, 65_535)
    assert batch["vectors"].shape == (2, 2, 3, 0)
    assert (batch["audio"].float().abs().amax(dim=-1) > 9_000).all()


def test_windows_begin_every_tenth_of_a_second(listed, tmp_path: Path):
    pack_sounds(listed(_three()), tmp_path / "pack", progress=False)
    windows = MixtureStream(tmp_path / "pack", StreamConfig(batch_size=1)).windows
    firsts = [windows.at(0, number).first_sample for number in range(windows.count(0))]
    # 5 s of sound, windows of 4.096 s that may run over an end by 0.55 s.
    assert set(np.diff(firsts)) == {RATE // 10}
    assert len(firsts) == 21


def test_other_rates_are_resampled_and_long_sound_is_cut(listed, tmp_path: Path):
    manifest = listed([("long", 40.0, "train", "long"), ("short", 5.0, "train", "short")], rate=44_100)
    packed = pack_sounds(manifest, tmp_path / "pack", progress=False)
    table = open_index(str(tmp_path / "pack")).table.to_pylist()
    long = sorted((row for row in table if row["id"] == "long"), key=lambda row: row["key"])
    assert packed.samples == len(long) + 1 > 3
    assert max(row["samples"] for row in long) == 16 * RATE
    assert all(row["grid_seconds"][0] == pytest.approx(0, abs=0.1) for row in table)
    assert all(row["grid_seconds"][-1] <= row["samples"] / RATE for row in table)
    assert next(row["samples"] for row in table if row["id"] == "short") == pytest.approx(5 * RATE, abs=2)


def test_splits_follow_the_list_and_else_the_source(listed, tmp_path: Path):
    rows = [(f"s{n}", 1.0, None, f"recording{n // 2}") for n in range(40)] + [("named", 1.0, "test", "other")]
    settings = PackBlock(split_fractions={"train": 0.5, "val": 0.5})
    packed = pack_sounds(listed(rows), tmp_path / "pack", settings=settings, progress=False)
    splits: dict[str, set[str]] = {}
    for row in open_index(str(tmp_path / "pack")).table.to_pylist():
        splits.setdefault(row["source"], set()).add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    assert splits["file:other"] == {"test"}
    assert packed.splits["train"] + packed.splits["val"] == 40
    assert min(packed.splits.values()) >= 1


def test_the_same_list_gives_the_same_bytes(listed, tmp_path: Path):
    manifest = listed(_three())
    for name in ("one", "two"):
        pack_sounds(manifest, tmp_path / name, progress=False)
    for file in ("train-000000.tar", "index.arrow", PACK_FILE):
        assert sha256_of(tmp_path / "one" / file) == sha256_of(tmp_path / "two" / file)


def test_files_that_cannot_be_read_are_named_and_the_rest_goes_in(listed, tmp_path: Path):
    manifest = listed([*_three(), ("gone", 0, "train", "gone"), ("text", 0, "val", "text")])
    (tmp_path / "text.wav").write_text("this is no sound")
    packed = pack_sounds(manifest, tmp_path / "pack", progress=False)
    assert set(packed.failed) == {"gone", "text"}
    assert packed.splits == {"train": 3}
    assert set(json.loads((tmp_path / "pack" / PACK_FILE).read_text())["failed"]) == {"gone", "text"}
    assert "3 of 5 sounds" in str(packed)
    assert "not read: gone: No such file" in str(packed)
    assert [path.name for path in (tmp_path / "pack").glob("*.tar")] == ["train-000000.tar"]


def test_splits_that_are_too_small_are_named_and_the_remedy_mends_them(listed, tmp_path: Path):
    manifest = listed([(f"s{n}", 4.0, None, f"recording{n}") for n in range(8)])
    packed = pack_sounds(manifest, tmp_path / "pack", progress=False)
    (warning,) = packed.warnings
    assert f"warning: {warning}" in str(packed)
    assert packed.as_dict()["warnings"] == [warning]
    asked = [part.strip().strip("'") for part in warning.partition("-o FOLDER")[2].split("--set") if part.strip()]
    settings = PackBlock(**override({}, asked))
    again = pack_sounds(manifest, tmp_path / "again", settings=settings, progress=False)
    assert again.warnings == ()
    for split in ("train", "val", "test"):
        MixtureStream(tmp_path / "again", StreamConfig(split=split, batch_size=1))
    # All of these are there, and too short for a window.
    short = pack_sounds(listed([(f"t{n}", 1.0, "test", f"t{n}") for n in range(4)]), tmp_path / "short", progress=False)
    assert "the split 'test' has 4 clips, of 0 sources" in short.warnings[0]


def test_what_cannot_be_packed_is_refused(listed, tmp_path: Path):
    manifest = listed(_three())
    pack_sounds(manifest, tmp_path / "pack", progress=False)
    with pytest.raises(CorpusError, match="holds packed sounds already"):
        pack_sounds(manifest, tmp_path / "pack", progress=False)
    with pytest.raises(CorpusError, match=r"none of the 1 files .* No such file"):
        pack_sounds(listed([("gone", 0, "train", "gone")]), tmp_path / "other", progress=False)
    for url, words in (
        ("https://host/a.wav", "fetch them first"),
        ("file:///a.wav", "list them by their paths"),
        ("FILE:a.wav", "list them by their paths"),
    ):
        write_manifest([Clip("a", "web:a", "made", url)], tmp_path / "remote.parquet")
        with pytest.raises(CorpusError, match=words):
            pack_sounds(tmp_path / "remote.parquet", tmp_path / "remote", progress=False)
        assert not (tmp_path / "remote").exists()


def test_a_path_that_looks_a_little_like_a_url_is_a_path(listed, tmp_path: Path):
    manifest = listed(_three())
    clips = clips_from_table(read_manifest(manifest))
    odd = tmp_path / "at:" / "a.wav"
    odd.parent.mkdir()
    Path(clips[0].url).rename(odd)
    # Two strokes in a row are one to the file system.
    write_manifest([replace(clips[0], url=f"{tmp_path}/at://a.wav"), *clips[1:]], tmp_path / "odd.parquet")
    packed = pack_sounds(tmp_path / "odd.parquet", tmp_path / "pack", progress=False)
    assert (packed.clips, packed.failed) == (3, {})


def test_the_command_packs_and_says_what(listed, tmp_path: Path):
    from typer.testing import CliRunner

    from vidaudio.cli.app import app

    arguments = ["pack-sounds", str(listed(_three())), "-o", str(tmp_path / "pack"), "--set", "audio=pcm16", "--json"]
    done = CliRunner().invoke(app, [*arguments, "--quiet"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["splits"] == {"train": 3}
    assert open_index(str(tmp_path / "pack")).audio == "wav"
