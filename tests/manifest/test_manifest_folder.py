"""A folder of videos."""

import os

import pytest

from vidaudio.errors import ManifestError
from vidaudio.manifest import read_folder
from vidaudio.manifest.scan import scan_videos


def ids(listing) -> dict[str, str]:
    return {clip.source.removeprefix("file:"): clip.id for clip in listing.clips}


def test_every_video_below_the_folder_is_one_whole_clip_in_a_stable_order(write, tmp_path):
    for name in ["b.mp4", "a.MKV", "sub/deep/c.webm", "notes.txt", "sound.wav", "._b.mp4", ".hidden/d.mp4"]:
        write(f"videos/{name}", "")
    listing = read_folder(tmp_path / "videos")
    assert [clip.source for clip in listing.clips] == ["file:a.MKV", "file:b.mp4", "file:sub/deep/c.webm"]
    clip = listing.clips[1]
    assert (clip.id, clip.url, clip.dataset) == ("b", str(tmp_path / "videos" / "b.mp4"), "videos")
    assert (clip.media_start_seconds, clip.start_seconds, clip.end_seconds, clip.labels) == (None, 0.0, None, ())


def test_hard_names_stay_distinct_clips(write, tmp_path):
    names = [
        "a.b.mp4", "a_b.mp4", "a b.mp4", "a/b.mp4", "Dog.mp4", "dog.mp4", "-x.mp4", "日本.mp4", "日 本.mp4", "x.mp4",
        "x.webm", "cat/0001.mp4", "dogs/0001.mp4", "0001.mp4", "y" * 240 + ".mp4", "y" * 239 + "z.mp4",
        "z" * 150 + "/" + "z" * 150 + ".mp4",
    ]  # fmt: skip
    for name in names:
        write(f"v/{name}", "")
    found = ids(read_folder(tmp_path / "v"))
    assert set(found) == set(names)
    assert len({identifier.casefold() for identifier in found.values()}) == len(names)
    assert (found["-x.mp4"], found["a_b.mp4"], found["0001.mp4"]) == ("-x", "a_b", "0001")


def test_ids_and_sources_do_not_depend_on_where_the_folder_lies(write, tmp_path):
    for root in ("here", "there/deeper"):
        write(f"{root}/dog/1.mp4", "")
        write(f"{root}/2.mp4", "")
    assert ids(read_folder(tmp_path / "here")) == ids(read_folder(tmp_path / "there" / "deeper"))


def test_labels_come_from_the_parent_folder_when_asked(write, tmp_path):
    write("v/dog/1.mp4", "")
    write("v/2.mp4", "")
    listing = read_folder(tmp_path / "v", label_from="parent", split="train", dataset="mine")
    assert [(clip.labels, clip.split, clip.dataset) for clip in listing.clips] == [
        ((), "train", "mine"),
        (("dog",), "train", "mine"),
    ]
    with pytest.raises(ManifestError, match="no way to take labels from 'name'"):
        read_folder(tmp_path / "v", label_from="name")


def test_linked_folders_are_followed_once(write, tmp_path):
    write("v/a.mp4", "")
    (tmp_path / "v" / "loop").symlink_to(tmp_path / "v")
    write("elsewhere/b.mp4", "")
    (tmp_path / "v" / "linked").symlink_to(tmp_path / "elsewhere")
    assert scan_videos(tmp_path / "v") == ["a.mp4", "linked/b.mp4"]


def test_a_name_that_is_not_utf_8_is_a_bad_row(write, tmp_path):
    write("v/good.mp4", "")
    (tmp_path / "v" / os.fsdecode(b"caf\xe9.mp4")).write_bytes(b"")
    with pytest.raises(ManifestError, match=r"caf.*not UTF-8") as error:
        read_folder(tmp_path / "v")
    str(error.value).encode()
    assert [clip.id for clip in read_folder(tmp_path / "v", skip_bad_rows=True).clips] == ["good"]


def test_a_folder_that_is_missing_or_empty_or_a_file_is_refused(tmp_path, write):
    with pytest.raises(ManifestError, match="there is no folder"):
        read_folder(tmp_path / "none")
    with pytest.raises(ManifestError, match="is a file, not a folder"):
        read_folder(write("a.mp4", ""))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="holds no clip"):
        read_folder(tmp_path / "empty")
