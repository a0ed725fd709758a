"""Shards are plain WebDataset tars with the same bytes each time."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

import pytest
import webdataset

from vidaudio.hashing import sha256_of
from vidaudio.shards.open import open_store
from vidaudio.shards.read import TarReader
from vidaudio.shards.tar import ShardWriter, list_members

# The longest id that a clip can have: its member names need tar's extension for long names.
LONG = "x" * 128
SAMPLES = {
    "clip-a": {"flac": b"sound a" * 300, "000.jpg": b"picture", "001.jpg": b"", "json": b"{}"},
    "-b_2": {"flac": bytes(range(256)) * 7, "clip.npy": b"\x93NUMPY", "json": b'{"id": 1}'},
    LONG: {"flac": b"long" * 1000, "000.jpg": b"p" * 513, "json": b"[]"},
}


def write(path: Path) -> Path:
    with ShardWriter(path) as writer:
        for key, parts in SAMPLES.items():
            writer.write(key, parts)
    return path


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    return write(tmp_path / "shard.tar")


def test_equal_samples_give_equal_bytes(shard: Path, tmp_path: Path):
    again = write(tmp_path / "another-name.tar")
    assert again.read_bytes() == shard.read_bytes()
    assert sha256_of(shard) == hashlib.sha256(shard.read_bytes()).hexdigest()


def test_plain_webdataset_reads_the_samples_in_order(shard: Path):
    read = list(webdataset.WebDataset(str(shard), shardshuffle=False))
    assert [sample["__key__"] for sample in read] == list(SAMPLES)
    for sample, parts in zip(read, SAMPLES.values(), strict=True):
        assert {key: value for key, value in sample.items() if not key.startswith("__")} == parts


def test_plain_tarfile_reads_the_members(shard: Path):
    with tarfile.open(shard) as tar:
        read = {member.name: tar.extractfile(member).read() for member in tar}
    assert read == {f"{key}.{ending}": data for key, parts in SAMPLES.items() for ending, data in parts.items()}


def test_member_offsets_point_to_the_bytes(shard: Path):
    raw = shard.read_bytes()
    found = list_members(shard)
    assert len(found) == sum(map(len, SAMPLES.values()))
    for key, parts in SAMPLES.items():
        for ending, data in parts.items():
            member = found[f"{key}.{ending}"]
            assert raw[member.offset : member.offset + member.length] == data


def test_a_sample_cannot_be_written_twice(tmp_path: Path):
    with ShardWriter(tmp_path / "shard.tar") as writer:
        writer.write("a", {"json": b"1"})
        with pytest.raises(ValueError, match="a was written twice"):
            writer.write("a", {"flac": b"2"})


@pytest.mark.parametrize("url", ["{tmp}", "memory://tar-reader-test"])
def test_reader_gives_the_bytes_of_members_wherever_the_tar_lies(shard: Path, tmp_path: Path, url: str):
    found = list_members(shard)
    store = open_store(url.format(tmp=tmp_path / "store"))
    with store.workspace() as scratch:
        copy = scratch / "copy.tar"
        copy.write_bytes(shard.read_bytes())
        store.put("av/copy.tar", copy)
    with TarReader(store, "av/copy.tar") as reader:
        for key, parts in SAMPLES.items():
            for ending, data in parts.items():
                member = found[f"{key}.{ending}"]
                assert reader.read(member.offset, member.length) == data
        assert reader.read(0, shard.stat().st_size) == shard.read_bytes()


def test_a_part_in_a_file_gives_the_bytes_that_it_gives_in_memory(tmp_path: Path):
    data = bytes(range(256)) * 300
    (tmp_path / "media").write_bytes(data)
    for name, part in (("memory.tar", data), ("file.tar", tmp_path / "media")):
        with ShardWriter(tmp_path / name) as writer:
            writer.write("a", {"mp4": part, "json": b"{}"})
            writer.write("b", {"json": b"[]", "000.jpg": part})
    assert (tmp_path / "file.tar").read_bytes() == (tmp_path / "memory.tar").read_bytes()
