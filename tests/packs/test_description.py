"""pack.json: one format for packs of a corpus and packed sounds, which reads both older ones and believes little."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vidaudio.config.corpus import PackBlock
from vidaudio.packs.description import PACK_FILE, PackDamaged, PackDescription, decode_pack, read_pack_file
from vidaudio.shards.open import open_store

# As older versions wrote it.
OLD_CORPUS = {
    "clips": 3,
    "encoder": "ViT-B-32-openai-0123",
    "generation": 1,
    "left_out": {"not_extracted": 1, "too_short": 0, "where": 2},
    "plan_hash": "ab" * 32,
    "removed_samples": 4,
    "samples": 30,
    "settings": {
        "audio": "flac",
        "clips_per_shard": 512,
        "frames": False,
        "max_segment_seconds": 16.0,
        "name": "ten",
        "seed": 0,
        "split_fractions": {"test": 0.05, "train": 0.9, "val": 0.05},
        "where": "seconds ** 2 > 16",
        "window": 10,
    },
    "shards": ["test-000000", "train-000000"],
}
OLD_SOUNDS = {
    "failed": {"gone": "No such file or directory"},
    "settings": {
        "audio": "flac",
        "clips_per_shard": 512,
        "max_segment_seconds": 16.0,
        "sample_rate": 16000,
        "seed": 0,
        "split_fractions": {"test": 0.05, "train": 0.9, "val": 0.05},
    },
    "shards": {"train-000000.tar": "cd" * 32, "val-000000.tar": "ef" * 32},
}


def decode(values: Any) -> PackDescription:
    return decode_pack(json.dumps(values).encode())


def test_the_older_form_of_a_corpus_is_read():
    read = decode(OLD_CORPUS)
    assert (read.settings.window, read.settings.windows_per_clip, read.settings.name) == ("drawn", 10, "ten")
    assert (read.shards, read.samples, read.clips) == (("test-000000", "train-000000"), 30, 3)
    assert (read.generation, read.removed_samples, read.encoder) == (1, 4, "ViT-B-32-openai-0123")
    assert read.left_out == {"not_extracted": 1, "too_short": 0, "where": 2}
    assert read.settings.identity() == OLD_CORPUS["settings"]


def test_the_older_form_of_packed_sounds_is_read():
    read = decode(OLD_SOUNDS)
    assert (read.shards, read.sample_rate, read.encoder) == (("train-000000", "val-000000"), 16_000, "")
    assert (read.tar_sha256, read.failed) == (OLD_SOUNDS["shards"], OLD_SOUNDS["failed"])
    assert read.unknown_settings == []


@pytest.mark.parametrize("older", [OLD_CORPUS, OLD_SOUNDS])
def test_what_is_written_is_read_as_it_was(older: dict[str, Any]):
    read = decode(older)
    again = decode_pack(read.encode())
    assert again == read
    assert again.encode() == read.encode()
    assert replace(again, generation=7) == decode_pack(replace(read, generation=7).encode())


def test_what_a_later_version_added_is_kept_and_named():
    later = {**OLD_CORPUS, "note": "theirs", "settings": {**OLD_CORPUS["settings"], "codec": "opus"}}
    read = decode(later)
    assert read.unknown_settings == ["codec"]
    written = json.loads(replace(read, removed_samples=5).encode())
    assert (written["note"], written["settings"]["codec"], written["removed_samples"]) == ("theirs", "opus", 5)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 3},
        {"format": "2"},
        {"shards": []},
        {"shards": ["../../../etc/passwd"]},
        {"shards": ["/etc/passwd"]},
        {"shards": ["a\\b"]},
        {"shards": [".hidden"]},
        {"shards": [""]},
        {"shards": ["train-000000\u0000"]},
        {"shards": [1]},
        {"shards": {"../x.tar": "00"}},
        {"shards": "train"},
        {"encoder": "../av"},
        {"encoder": None},
        {"samples": "30"},
        {"samples": -1},
        {"generation": None},
        {"left_out": [1]},
        {"left_out": {"where": "many"}},
        {"settings": []},
        {"settings": {"window": "10s"}},
        {"settings": {"audio": "mp3"}},
        {"settings": {"name": "../x"}},
    ],
)
def test_what_no_pack_writes_is_refused_in_a_sentence(change: dict[str, Any], tmp_path: Path):
    (tmp_path / "training" / "x").mkdir(parents=True)
    (tmp_path / "training" / "x" / PACK_FILE).write_text(json.dumps({**OLD_CORPUS, **change}))
    with pytest.raises(PackDamaged, match=r"training/x/pack\.json is no description of a pack .*pack again"):
        read_pack_file(open_store(tmp_path), "training/x")


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"3", b"\xff\xfe", b"{" * 100, b"[" * 200_000, b"NaN"])
def test_bytes_that_are_no_description_are_refused_in_a_sentence(data: bytes, tmp_path: Path):
    (tmp_path / PACK_FILE).write_bytes(data)
    with pytest.raises(PackDamaged, match="is no description of a pack"):
        read_pack_file(open_store(tmp_path), "")


def test_a_default_description_has_the_settings_that_it_was_made_with():
    made = PackDescription(PackBlock(windows_per_clip=3), "p", "e", ("train-000000",), 1)
    assert decode_pack(made.encode()).settings == PackBlock(window=3)


@pytest.mark.parametrize("key", ["samples", "generation", "removed_samples", "clips"])
@pytest.mark.parametrize("count", [10**30, 1 << 62, -1, 1.5])
def test_a_count_that_no_pack_has_is_refused(key: str, count: object):
    with pytest.raises(TypeError, match="counts nothing"):
        decode(OLD_CORPUS | {key: count})
