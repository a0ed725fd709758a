"""File names as file systems allow them, and files that only look like videos."""

from __future__ import annotations

import os
from urllib.parse import unquote

import pytest

from vidaudio.errors import ManifestError
from vidaudio.manifest import (
    Clip,
    join_media,
    read_folder,
    read_manifest,
    read_table,
    write_join_report,
    write_manifest,
)
from vidaudio.manifest.clip import CLIP_ID
from vidaudio.manifest.scan import scan_folder
from vidaudio.manifest.table import TableOptions

NAMES = [
    "a#b.mp4", "what?.mp4", "100%.mp4", "%41.mp4", "a%0Ab.mp4", "line\nend.mp4", "\n.mp4", "tab\there.mp4",
    "cr\rcr.mp4", "2024-01-01T12:30:00.mp4", ":.mp4", "file:x.mp4", "-x.mp4", "--output.mp4", "~x.mp4", "~.mp4",
    "*[x].mp4", "{id}.mp4", "a b .mp4", " lead.mp4", "quote\"'.mp4", "back\\slash.mp4", "a\u202eb.mp4", "a\u2028b.mp4",
    "\x1b[31m.mp4", "\x7f.mp4", "é.mp4", "e\u0301.mp4", "日本語.mp4", "\U0001f600.mp4", "x" * 251 + ".mp4",
    "日" * 83 + ".mp4", "http:/h/x.mp4", "s3:/b/x.mp4", "dog:cat\n/a.mp4", "d" * 200 + "/" + "e" * 200 + "/f.mp4",
    "...mp4.mp4", "UPPER.MP4", "a.mp4.mp4",
]  # fmt: skip


@pytest.fixture
def videos(tmp_path):
    for name in NAMES:
        path = tmp_path / "v #1?" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "v #1?"


def test_every_name_is_one_clip_with_its_own_id_and_the_path_of_its_file(videos, tmp_path):
    read = read_folder(videos, label_from="parent")
    names = [name for name in NAMES if not name.rpartition("/")[2].startswith(".")]
    assert len(read.clips) == len({clip.id.casefold() for clip in read.clips}) == len(names)
    assert len({clip.source for clip in read.clips}) == len(names)
    for clip in read.clips:
        assert CLIP_ID.fullmatch(clip.id)
        with open(clip.url, "rb") as file:
            name = file.read().decode()
        assert clip.url == str(videos / name)
        assert clip.source.isprintable() or "\u202e" in clip.source
        assert "\n" not in clip.source
        assert clip.source == f"file:{name}" or unquote(clip.source) == f"file:{name}"
        assert all("\n" not in label for label in clip.labels)
    write_manifest(read.clips, tmp_path / "m.parquet")
    assert read_manifest(tmp_path / "m.parquet")["url"].to_pylist() == [clip.url for clip in read.clips]


def test_a_table_of_the_same_paths_gives_the_same_sources(videos, tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    folder = {clip.url: clip for clip in read_folder(videos).clips}
    # White space around a cell is not part of it; names that look like URLs are given by their whole paths.
    names = [name for name in NAMES if name == name.strip() and not name.rpartition("/")[2].startswith(".")]
    paths = [str(videos / name) if ":/" in name or name.startswith("file:") else name for name in names]
    parquet.write_table(pa.table({"path": paths}), tmp_path / "t.parquet")
    listed = read_table(tmp_path / "t.parquet", options=TableOptions(root=videos)).clips
    assert len(listed) == len(names)
    assert all(clip.source == folder[clip.url].source for clip in listed)


def test_what_downloaders_leave_behind_is_no_video_and_is_counted(write, tmp_path):
    kept = ["whole.mp4", "movie.final.mp4", "f137.mp4", "part.mp4", "a.b.mp4", "talk.f.mp4", "of.fame.mp4"]
    left = ["a.f137.mp4", "a.f251.webm", "a.f137-drc.mp4", "b.fhls-1080p.mp4", "b.fdash-video=1-2.mp4", "c.temp.mp4"]
    left += ["c.mp4.part", "c.f137.mp4.part-Frag12", "c.mp4.ytdl", "d.mkv.aria2", "d.mkv", "e.mp4", "e.mp4.ytdl"]
    hidden = [".hidden.mp4", "._whole.mp4", "deep/.x.webm"]
    for name in [*kept, *left, *hidden, "notes.txt", "c.part.txt", ".DS_Store", ".git/x.mp4"]:
        write(f"v/{name}", "")
    scan = scan_folder(tmp_path / "v")
    assert scan.videos == tuple(sorted(kept))
    assert scan.leftovers == tuple(sorted(left))
    assert scan.hidden == tuple(sorted(hidden))
    read = read_folder(tmp_path / "v")
    assert len(read.clips) == len(kept)
    assert read.notes[0].startswith("13 files were left out as left over from unfinished downloads: a.f137-drc.mp4, ")
    assert read.notes[1] == "3 files were left out as hidden: ._whole.mp4, .hidden.mp4, deep/.x.webm"
    only = tmp_path / "only"
    only.mkdir()
    (only / "a.f137.mp4").write_bytes(b"")
    with pytest.raises(ManifestError, match=r"holds no clip.* 1 file was left out as left over .*: a\.f137\.mp4"):
        read_folder(only)


@pytest.mark.parametrize(
    ("names", "left"),
    [
        (["race.f1.mp4", "talk.f1.mp4", "film.f12.mp4", "race.mp4.txt", "talk.f1.srt", "deep/film.mp4"], []),
        (["race.f1.mp4", "race.f2.mp4", "talk.f1-opening.mp4", "films.f2024.mp4"], []),
        (["race.f1.mp4", "race.mkv"], ["race.f1.mp4"]),
        (["race.f1.mp4", "race.f2.m4a", "talk.f1.mp4"], ["race.f1.mp4"]),
        (["race.f22.mp4", "race.f251.webm"], ["race.f22.mp4", "race.f251.webm"]),
        (["race.f1.mp4", "race.f1.mp4.part"], ["race.f1.mp4", "race.f1.mp4.part"]),
        (["race.f1.mp4", "race.temp.mp4"], ["race.f1.mp4", "race.temp.mp4"]),
        (["race.f1.mp4", "race.f2.m4a.ytdl"], ["race.f1.mp4", "race.f2.m4a.ytdl"]),
        (["d/x.f137.mp4", "d/x.f140.m4a"], ["d/x.f137.mp4"]),
        (["x.f137.mp4", "x.mp4"], ["x.f137.mp4"]),
        (["x.f137.mp4"], ["x.f137.mp4"]),
    ],
)
def test_a_short_number_behind_f_is_a_stream_only_where_a_neighbour_says_so(names, left, write, tmp_path):
    for name in names:
        write(f"v/{name}", "")
    scan = scan_folder(tmp_path / "v")
    assert scan.leftovers == tuple(left)
    videos = [name for name in names if name.endswith((".mp4", ".mkv", ".webm")) and name not in left]
    assert scan.videos == tuple(sorted(videos))


def test_files_whose_names_are_not_utf_8_are_named_and_given_to_no_clip(write, tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"")
    for use in (read_folder, lambda where: join_media([clip("a")], where)):
        with pytest.raises(ManifestError, match=r"folder .*caf\\xe9 is not UTF-8") as error:
            use(folder)
        str(error.value).encode()
    for name in ("a", "b"):
        (tmp_path / "v" / os.fsdecode(b"caf\xe9")).mkdir(parents=True, exist_ok=True)
        (tmp_path / "v" / os.fsdecode(b"caf\xe9") / f"{name}.mp4").write_bytes(b"")
    (tmp_path / "v" / "a.mp4").write_bytes(b"")
    join = join_media([clip("a"), clip("b")], tmp_path / "v")
    assert [given.url for given in join.clips] == [str(tmp_path / "v" / "a.mp4")]
    assert (join.missing, len(join.unreadable)) == (("b",), 2)
    write_join_report(join, tmp_path / "report.csv")
    assert (tmp_path / "report.csv").read_text("utf-8").count("unreadable") == 2


def clip(name: str) -> Clip:
    return Clip(id=name, source=f"file:{name}", dataset="d", url=f"/{name}.mp4")
