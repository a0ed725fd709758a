"""Picture and sound from two files keep their places against each other."""

from __future__ import annotations

from pathlib import Path

import av
import ffmpeg
import pytest

from tests.media.site.clock import picture_times, render, sound_offset
from vidaudio.media.fetch.merge import CannotMerge, merge_tracks
from vidaudio.media.ffmpeg import run_ffmpeg

SECONDS = 6.0
X264 = {"vcodec": "libx264", "preset": "veryfast", "bf": 3, "g": 40}


def split(source: Path, picture: str, sound: str, **more) -> tuple[Path, Path]:
    """The two tracks of a file as two files, timestamps kept as they are."""
    paths = source.with_name(f"v-{picture}"), source.with_name(f"a-{sound}")
    for path, track in zip(paths, ("v", "a"), strict=True):
        command = ffmpeg.output(ffmpeg.input(str(source))[track], str(path), c="copy", **more)
        run_ffmpeg(command.global_args("-copyts"))
    return paths


def places(path: Path) -> tuple[float, float]:
    """How late the picture and the sound are against their own clocks, on the file's timeline, seconds."""
    shown = picture_times(path)
    return sum(t - n / 20 for n, t in shown.items()) / len(shown), sound_offset(path, SECONDS, at_seconds=2.0)


@pytest.mark.parametrize("delay", [0.0, 0.4])
@pytest.mark.parametrize(
    ("whole", "picture", "sound", "encoding", "merged"),
    [
        ("w.mp4", "v.mp4", "a.m4a", {**X264, "acodec": "aac"}, "merged.mp4"),
        ("w.mkv", "v.mp4", "a.webm", {**X264, "acodec": "libopus"}, "merged.mp4"),
        (
            "w.webm",
            "v.webm",
            "a.webm",
            {"vcodec": "libvpx", "deadline": "realtime", "cpu-used": 8, "acodec": "libopus"},
            "merged.webm",
        ),
        ("w.ts", "v.ts", "a.ts", {**X264, "acodec": "aac"}, "merged.mp4"),
        ("w.mkv", "v.mkv", "a.mka", {**X264, "acodec": "libvorbis"}, "merged.mkv"),
    ],
)
def test_two_tracks_of_one_timeline_stay_together(
    tmp_path: Path, whole: str, picture: str, sound: str, encoding: dict, merged: str, delay: float
):
    source = render(tmp_path / whole, seconds=SECONDS, sound_delay=delay, **encoding)
    wanted_picture, wanted_sound = places(source)
    path = merge_tracks(*split(source, picture, sound), tmp_path)
    assert path.name == merged
    got_picture, got_sound = places(path)
    # Time 0 may lie elsewhere in the new container; between picture and sound nothing may have moved.
    assert got_sound - got_picture == pytest.approx(wanted_sound - wanted_picture, abs=0.0025)


def test_bare_sound_without_a_timeline_begins_with_the_picture(tmp_path: Path):
    picture = render(tmp_path / "v.ts", seconds=SECONDS, an=None, **X264)  # its first timestamp is 1.5 s
    sound = render(tmp_path / "a.aac", seconds=SECONDS, vn=None, acodec="aac")
    late_picture, late_sound = places(merge_tracks(picture, sound, tmp_path))
    assert abs(late_picture - late_sound) < 0.1


def test_the_same_tracks_give_the_same_bytes(tmp_path: Path):
    source = render(tmp_path / "w.mkv", seconds=SECONDS, **X264, acodec="libvorbis")
    tracks = split(source, "v.mkv", "a.mka")
    assert merge_tracks(*tracks, tmp_path).read_bytes() == merge_tracks(*tracks, tmp_path).read_bytes()


def test_no_text_of_the_site_travels_in_the_file(tmp_path: Path):
    source = render(tmp_path / "w.mp4", seconds=SECONDS, **X264, acodec="aac")
    merged = merge_tracks(*split(source, "v.mp4", "a.m4a", metadata="comment=https://site/?key=SECRET"), tmp_path)
    with av.open(str(merged)) as container:
        assert "comment" not in container.metadata


def test_what_cannot_be_merged_says_so(tmp_path: Path):
    picture = render(tmp_path / "v.mp4", seconds=2, an=None, **X264)
    text = tmp_path / "a.m4a"
    text.write_text("no sound")
    with pytest.raises(CannotMerge):
        merge_tracks(picture, text, tmp_path)
