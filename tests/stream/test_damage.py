"""Damaged samples: each replaced by one that depends on its place alone, counted, and too many end the run."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from vidaudio.errors import CorpusError
from vidaudio.stream import MixtureStream, StreamConfig, WindowShape, open_index
from vidaudio.stream.packed_corpus import DAMAGED_IN_A_ROW, Damage
from vidaudio.stream.reader import DamagedSample

SHAPE = WindowShape(frames=3, samples=16_000)
CONFIG = StreamConfig(sources=2, shape=SHAPE, batch_size=5, seed=7, block_shards=2)
BATCHES = 12


@pytest.fixture(scope="module")
def whole(packed_as: Callable[..., str]) -> Path:
    return Path(packed_as("short-flac", max_segment_seconds=8.0, audio="flac"))


@pytest.fixture(scope="module")
def damaged(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[int]]:
    """A copy in which bytes of two samples are flipped: one's sound, the other's vectors; and their rows."""
    folder = Path(shutil.copytree(whole, tmp_path_factory.mktemp("damaged") / "pack"))
    index = open_index(str(folder), "train")
    rows = [1, len(index) - 1]
    sound, length = index.column("audio_offset")[rows[0]], index.column("audio_length")[rows[0]]
    # One flipped bit in every frame: whatever the window, the decoder meets one.
    flip(folder, index, rows[0], range(sound + 200, sound + length, 200))
    flip(folder, index, rows[1], [index.column("vectors_offset")[rows[1]] + 3])
    return folder, set(rows)


def flip(folder: Path, index, row: int, places) -> None:
    path = folder / index.tars[index.column("shard")[row]]
    data = bytearray(path.read_bytes())
    for place in places:
        data[place] ^= 0x10
    path.write_bytes(data)


def batches_of(folder: Path, workers: int = 0, config: StreamConfig = CONFIG) -> list[dict]:
    stream = MixtureStream(str(folder), config)
    return list(islice(stream.loader(workers=workers, prefetch=2), BATCHES))


def test_they_are_replaced_and_counted_and_nothing_else_changes(whole: Path, damaged: tuple[Path, set[int]]):
    folder, bad = damaged
    sources = open_index(str(whole), "train").codes("source")
    replaced = 0
    for good, found in zip(batches_of(whole), batches_of(folder), strict=True):
        hit = torch.from_numpy(np.isin(good["rows"].numpy(), list(bad)))
        assert not set(found["rows"].flatten().tolist()) & bad
        assert torch.equal(good["rows"][~hit], found["rows"][~hit])
        assert torch.equal(good["audio"][~hit], found["audio"][~hit])
        assert torch.equal(good["gains"], found["gains"])
        assert found["replaced"] == hit.sum()
        assert len(found["damage"]) >= found["replaced"]
        assert good["damage"] == []
        assert all(len(set(sources[group].tolist())) == 2 for group in found["rows"].numpy())
        replaced += found["replaced"]
    assert replaced > 2


@pytest.mark.parametrize("workers", [1, 2])
def test_what_replaces_them_does_not_depend_on_who_reads(damaged: tuple[Path, set[int]], workers: int):
    folder, _ = damaged
    expected = batches_of(folder)
    for one, other in zip(expected, batches_of(folder, workers), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in ("rows", "audio", "vectors", "gains"))
        assert one["damage"] == other["damage"]
    alone = MixtureStream(str(folder), CONFIG).batch(7)
    assert torch.equal(alone["audio"], expected[7]["audio"])


def test_what_was_wrong_is_said_with_sample_and_shard(damaged: tuple[Path, set[int]]):
    folder, bad = damaged
    index = open_index(str(folder), "train")
    said = {text for batch in batches_of(folder) for text in batch["damage"]}
    for row in bad:
        tar = index.tars[index.column("shard")[row]]
        assert any(f"sample {index.text('key', row)} " in text and tar in text for text in said)


def test_an_evaluation_goes_on_too(damaged: tuple[Path, set[int]]):
    folder, bad = damaged
    config = StreamConfig(sources=1, shape=SHAPE, batch_size=4, shuffle=False, gain_range=None)
    found = list(MixtureStream(str(folder), config))
    rows = torch.cat([batch["rows"] for batch in found]).flatten().tolist()
    usable = MixtureStream(str(folder), config).windows.usable.tolist()
    assert len(rows) == len(usable)
    assert set(rows) == set(usable) - bad
    assert sum(batch["replaced"] for batch in found) == len(bad & set(usable))


def test_a_hundred_in_a_row_end_the_run_and_a_whole_one_begins_the_count_anew():
    damage = Damage()
    for _ in range(3):
        for number in range(DAMAGED_IN_A_ROW - 1):
            damage.add(DamagedSample(f"sample {number}"))
        damage.in_a_row = 0
    assert len(damage.take()) == 3 * (DAMAGED_IN_A_ROW - 1)
    for number in range(DAMAGED_IN_A_ROW - 1):
        damage.add(DamagedSample(f"sample {number}"))
    with pytest.raises(CorpusError, match="100 samples in a row could not be read; of the last: the hundredth"):
        damage.add(DamagedSample("the hundredth"))


def test_vectors_with_another_header_than_ours_are_damage(whole: Path, tmp_path: Path):
    folder = Path(shutil.copytree(whole, tmp_path / "pack"))
    index = open_index(str(folder), "train")
    for path in folder.glob("train-*.tar"):
        path.write_bytes(path.read_bytes().replace(b"32), }", b"16), }"))
    stream = MixtureStream(str(folder), CONFIG)
    with pytest.raises(DamagedSample, match=r"vectors float16 \[\d+, 16\], not float16 of 32"):
        stream.corpora[0].reader.vectors(0)
    assert len(index) > 0


@pytest.mark.parametrize("times", [1, 2])
def test_a_read_that_fails_is_tried_on_the_file_opened_anew_and_then_named(
    damaged: tuple[Path, set[int]], times: int, monkeypatch: pytest.MonkeyPatch
):
    """As on a network disk, where a file that was replaced answers ESTALE until it is opened again."""
    folder, _ = damaged
    expected = MixtureStream(str(folder), CONFIG).batch(3)
    stream, read, left = MixtureStream(str(folder), CONFIG), os.pread, [times]

    def pread(descriptor: int, length: int, offset: int) -> bytes:
        if left[0]:
            left[0] -= 1
            raise OSError(errno.ESTALE, "Stale file handle")
        return read(descriptor, length, offset)

    monkeypatch.setattr(os, "pread", pread)
    if times == 1:
        assert torch.equal(stream.batch(3)["audio"], expected["audio"])
    else:
        with pytest.raises(CorpusError, match=r"training shard .*\.tar cannot be read: Stale file handle"):
            stream.batch(3)
