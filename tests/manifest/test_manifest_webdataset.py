"""WebDataset shards of videos."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.hostile_text import problem_of
from vidaudio.cli.app import app
from vidaudio.errors import ManifestError
from vidaudio.manifest import read_table, read_webdataset


def shard(path: Path, files: Mapping[str, bytes | str], mode: str = "w") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            content = data if isinstance(data, bytes) else data.encode()
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_every_video_is_a_clip_with_what_is_said_of_it(tmp_path: Path):
    first = shard(
        tmp_path / "set" / "0.tar",
        {
            "./a.json": "\ufeff"
            + json.dumps({"label": "dog", "labels": ["cat", 7, "dog"], "caption": "it barks", "size": 7}),
            "./a.mp4": b"video",
            "dog/b.video.webm": b"video",
            "dog/b.cls": "dog\n",
            "dog/b.txt": " a dog \n",
            "c.flac": b"no video",
        },
    )
    shard(tmp_path / "set" / "1.tar", {"a.mp4": b"another video", "._a.mp4": b"of macOS"})
    listing = read_webdataset(tmp_path / "set", split="train")
    clips = listing.clips
    assert [clip.source for clip in clips] == [
        "webdataset:set/0.tar/a.mp4",
        "webdataset:set/0.tar/dog/b.video.webm",
        "webdataset:set/1.tar/a.mp4",
    ]
    assert [clip.url for clip in clips[:2]] == [f"{first}/a.mp4", f"{first}/dog/b.video.webm"]
    assert [clip.labels for clip in clips] == [("dog", "cat", "7"), ("dog",), ()]
    assert [clip.captions for clip in clips] == [("it barks",), ("a dog",), ()]
    assert {clip.dataset for clip in clips} == {"set"}
    assert {clip.split for clip in clips} == {"train"}
    assert len({clip.id for clip in clips}) == 3


def test_ids_do_not_depend_on_where_the_shards_lie_nor_on_how_they_are_given(tmp_path: Path):
    for root in ("set", "there/set"):
        for number in range(2):
            shard(tmp_path / root / f"{number}.tar", {f"{number}/0001.mp4": b"", "same.mp4": b""})

    def ids(*tars: Path) -> list[tuple[str, str]]:
        return [(clip.id, clip.source) for clip in read_webdataset(*tars).clips]

    here = ids(tmp_path / "set")
    assert ids(tmp_path / "there" / "set") == here
    assert ids(tmp_path / "set" / "0.tar", tmp_path / "set" / "1.tar") == here
    assert ids(tmp_path / "set" / "1.tar") == here[2:]


def test_shards_of_equal_names_in_two_folders_are_other_clips(tmp_path: Path):
    clips = []
    for split in ("train", "val"):
        path = shard(tmp_path / split / "00000.tar", {"000000.mp4": b""})
        clips += read_webdataset(path.parent, split=split).clips
    assert len({clip.id for clip in clips}) == 2
    assert len({clip.source for clip in clips}) == 2
    assert clips == [*read_webdataset(tmp_path / "train", split="train").clips, clips[1]]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a.mp4": b"", "a.json": "{"}, "its .json is not valid"),
        ({"a.mp4": b"", "a.json": "[1]"}, "its .json is no object"),
        ({"a.mp4": b"", "a.json": '{"label": 0.5}'}, r"label of its \.json is neither a text, a number of a class"),
        ({"a.mp4": b"", "a.cls": b"\xff\xfe"}, r"its \.cls cannot be read"),
        ({"a.mp4": b"", "a.txt": b"x" * (1 << 20) + b"y"}, "more than 1,048,576"),
        ({"a.flac": b"", "a.jpg": b""}, "no video file in them"),
    ],
)
def test_a_bad_sample_is_named(tmp_path: Path, files: Mapping[str, bytes | str], said: str):
    path = shard(tmp_path / "0.tar", files)
    with pytest.raises(ManifestError, match=said):
        read_webdataset(path)
    good = shard(tmp_path / "1.tar", {"b.mp4": b""})
    (clip,) = read_webdataset(path, good, skip_bad_rows=True).clips
    assert clip.url == f"{good}/b.mp4"


def test_what_is_no_plain_tar_is_refused(tmp_path: Path):
    packed = shard(tmp_path / "packed.tar", {"a.mp4": b"video"}, "w:gz")
    with pytest.raises(ManifestError, match="does not open as a plain tar"):
        read_webdataset(packed)
    cut = shard(tmp_path / "cut.tar", {"a.mp4": b"v" * 5_000})
    cut.write_bytes(cut.read_bytes()[:2_000])
    with pytest.raises(ManifestError, match=r"cut\.tar cannot be read: "):
        read_webdataset(cut)
    whole = shard(tmp_path / "whole.tar", {f"{number}.mp4": b"v" * 700 for number in range(4)}).read_bytes()
    for damaged in (whole[: 2 * 1536], whole[: 2 * 1536 + 100], whole[: 2 * 1536] + b"\xff" * 512 + whole[3584:]):
        (tmp_path / "damaged.tar").write_bytes(damaged)
        with pytest.raises(ManifestError, match="it is cut off or damaged after its last whole file"):
            read_webdataset(tmp_path / "damaged.tar")
    with pytest.raises(ManifestError, match=r"does not end in \.tar"):
        read_webdataset(shard(tmp_path / "a.tgz", {"a.mp4": b""}, "w:gz"))
    with pytest.raises(ManifestError, match="there is no tar"):
        read_webdataset(tmp_path / "missing.tar")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="holds no tar"):
        read_webdataset(tmp_path / "empty")


def test_a_name_that_leads_outside_is_left_out(tmp_path: Path):
    path = shard(tmp_path / "0.tar", {"../a.mp4": b"", "/b.mp4": b"", "c/../../d.mp4": b"", "e.mp4": b""})
    assert [clip.url for clip in read_webdataset(path).clips] == [f"{path}/e.mp4"]


def test_a_table_may_name_files_in_tars(tmp_path: Path):
    path = shard(tmp_path / "0.tar", {"dog/1.mp4": b""})
    (tmp_path / "list.csv").write_text("path,label\n0.tar/dog/1.mp4,dog\n")
    (clip,) = read_table(tmp_path / "list.csv").clips
    assert clip.url == f"{path}/dog/1.mp4"
    (tmp_path / "list.csv").write_text("path,label\n0.tar/dog/2.mp4,dog\n")
    with pytest.raises(ManifestError, match="there is no file"):
        read_table(tmp_path / "list.csv")


def test_the_command_tells_and_hostile_names_are_harmless(tmp_path: Path):
    name = "\x1b[31m<script>\u202e.mp4"
    path = shard(tmp_path / "0.tar", {name: b"", "a.mp4": b""})
    done = CliRunner().invoke(app, ["manifest", "webdataset", str(path), "-o", str(tmp_path / "m.parquet")])
    assert done.exit_code == 0, done.output
    assert "2 clips" in done.stdout
    assert all(problem_of(line) is None for line in done.stdout.splitlines())
