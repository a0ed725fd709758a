"""Cuts are where they say they are: media that tell their own time are cut and read back, picture and sound each."""

from __future__ import annotations

import hashlib
import itertools
from fractions import Fraction
from pathlib import Path

import av
import ffmpeg
import pytest

from tests.media.site.clock import FPS, picture_times, render, sound_offset
from vidaudio.media.fetch.cut import CannotCut, MediaIndex, Track, cut_windows, plan_cut, read_index
from vidaudio.media.ffmpeg import run_ffmpeg

SECONDS = 16.0
HALF_A_FRAME = 0.5 / FPS
STARTS = (0.0, 3.3, 6.02, 12.5)
MARGIN = 0.5

H264 = {"vcodec": "libx264", "preset": "veryfast", "bf": 3, "g": 4 * FPS, "acodec": "aac"}
WEBM = {"vcodec": "libvpx-vp9", "deadline": "realtime", "cpu-used": 8, "g": 3 * FPS, "acodec": "libopus"}
KINDS = {
    "mp4.mp4": H264,
    "short-gop.mp4": {**H264, "g": 2 * FPS, "bf": 2},
    "one-gop.mp4": {**H264, "g": 1000},
    "fragmented.mp4": {**H264, "movflags": "frag_keyframe+empty_moov+default_base_moof"},
    "late-sound.mp4": {**H264, "sound_delay": 0.73},
    "h264.mkv": H264,
    "late-sound.mkv": {**H264, "sound_delay": 0.73, "acodec": "libopus"},
    "vp9.webm": WEBM,
    "closed.ts": H264,
    "open-gop.ts": {**H264, "x264-params": "open-gop=1"},
    "h264.flv": H264,
    "mp3.mov": {**H264, "acodec": "libmp3lame"},
}


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clock")
    for name, encoding in KINDS.items():
        render(folder / name, seconds=SECONDS, **encoding)
    # An edit list that begins between two keyframes: pictures before it are decoded and never shown.
    trimmed = ffmpeg.output(
        ffmpeg.input(str(folder / "mp4.mp4"), ss=1.35), str(folder / "edit-list.mp4"), c="copy", avoid_negative_ts=0
    )
    run_ffmpeg(trimmed)
    return folder


@pytest.mark.parametrize("name", [*KINDS, "edit-list.mp4"])
def test_picture_and_sound_of_a_cut_are_where_it_says(media: Path, tmp_path: Path, name: str):
    source = media / name
    shown = picture_times(source)
    windows = {f"at{number}": (start, start + 2.0) for number, start in enumerate(STARTS)}
    cuts = cut_windows(read_index(source), windows, tmp_path, margin_seconds=MARGIN)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(cut.path.name for cut in cuts.values())
    for cut, (start, end) in zip(cuts.values(), windows.values(), strict=True):
        cut_shown = {n: t + cut.media_start_seconds for n, t in picture_times(cut.path).items()}
        worst = max(abs(t - shown[n]) for n, t in cut_shown.items() if n in shown)
        assert worst <= 0.001, "a picture is not at the time it had in the source"
        heard = sound_offset(source, SECONDS, at_seconds=start + 1.0)
        cut_heard = sound_offset(cut.path, SECONDS, at_seconds=start + 1.0 - cut.media_start_seconds)
        cut_heard += cut.media_start_seconds
        assert abs(cut_heard - heard) <= 0.001, "the sound is not at the time it had in the source"
        # Nothing of the window is missing, and no picture of it either.
        wanted = {n for n, t in shown.items() if start - MARGIN <= t < end + MARGIN - 0.001}
        assert wanted <= set(cut_shown)


@pytest.mark.parametrize("name", ["mp4.mp4", "one-gop.mp4", "vp9.webm", "mp3.mov", "h264.mkv", "closed.ts"])
def test_recorded_times_agree_with_the_contents_own_clock(media: Path, tmp_path: Path, name: str):
    cut = cut_windows(read_index(media / name), {"c": (7.0, 10.0)}, tmp_path)["c"]
    pictures = [t + cut.media_start_seconds - n / FPS for n, t in picture_times(cut.path).items()]
    sound = sound_offset(cut.path, SECONDS) + cut.media_start_seconds
    late = sum(pictures) / len(pictures)
    assert max(pictures) - min(pictures) < 0.0015
    assert abs(sound - late) < 0.005
    # Without edit lists, the source's own time 0 may be the codec's run-in: one AAC packet before the first sample.
    run_in = 1024 / 16_000 if name in ("h264.mkv", "closed.ts") else 0.0
    assert min(abs(late), abs(late - run_in)) < HALF_A_FRAME


def test_a_cut_begins_at_the_keyframe_before_and_is_short(media: Path, tmp_path: Path):
    cut = cut_windows(read_index(media / "mp4.mp4"), {"c": (6.0, 8.0)}, tmp_path, margin_seconds=1.0)["c"]
    assert cut.media_start_seconds == pytest.approx(4.0, abs=0.15)  # sound settles for 0.1 s before the keyframe
    with av.open(str(cut.path)) as container:
        assert container.duration / av.time_base < 5.5
        assert abs(container.start_time or 0) / av.time_base < 0.1


def test_the_same_cut_has_the_same_bytes(media: Path, tmp_path: Path):
    for name in ("mp4.mp4", "vp9.webm", "h264.mkv", "closed.ts"):
        digests = set()
        for number in range(2):
            folder = tmp_path / f"{name}{number}"
            folder.mkdir()
            cut = cut_windows(read_index(media / name), {"c": (6.0, 8.0)}, folder)["c"]
            digests.add(hashlib.sha256(cut.path.read_bytes()).hexdigest())
        assert len(digests) == 1


def test_many_overlapping_cuts_in_one_pass_equal_cuts_made_alone(media: Path, tmp_path: Path):
    index = read_index(media / "h264.mkv")
    windows = {f"w{number}": (number * 0.7, number * 0.7 + 1.5) for number in range(20)}
    together, alone = tmp_path / "together", tmp_path / "alone"
    together.mkdir()
    alone.mkdir()
    cuts = cut_windows(index, windows, together)
    for name, window in itertools.islice(windows.items(), 0, None, 5):
        single = cut_windows(index, {name: window}, alone)[name]
        assert single.media_start_seconds == cuts[name].media_start_seconds
        assert single.path.read_bytes() == cuts[name].path.read_bytes()


def test_rotation_survives(media: Path, tmp_path: Path):
    turned = tmp_path / "turned.mp4"
    command = ffmpeg.output(ffmpeg.input(str(media / "mp4.mp4"), display_rotation=90), str(turned), c="copy")
    run_ffmpeg(command)
    cut = cut_windows(read_index(turned), {"c": (6.0, 8.0)}, tmp_path)["c"]
    with av.open(str(cut.path)) as container:
        assert next(container.decode(video=0)).rotation == 90


def test_sound_alone_and_picture_alone_are_cut_too(tmp_path: Path):
    for name, encoding in {"mute.mp4": {**H264, "an": None}, "dark.m4a": {"acodec": "aac", "vn": None}}.items():
        encoding = {k: v for k, v in encoding.items() if k != ("acodec" if "an" in encoding else "")}
        source = render(tmp_path / name, seconds=8, **encoding)
        cut = cut_windows(read_index(source), {name.partition(".")[0]: (5.0, 6.0)}, tmp_path)[name.partition(".")[0]]
        assert 0 < cut.media_start_seconds <= 4.0


def test_what_cannot_be_cut_says_so_and_leaves_nothing(media: Path, tmp_path: Path):
    text = tmp_path / "text.mp4"
    text.write_text("not a video\n" * 50)
    with pytest.raises(CannotCut):
        read_index(text)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes((media / "mp4.mp4").read_bytes()[:20_000])  # its index was at the end
    with pytest.raises(CannotCut):
        read_index(broken)
    play_list = tmp_path / "list.mp4"
    play_list.write_text(f"#EXTM3U\n#EXTINF:4,\n{media / 'closed.ts'}\n#EXT-X-ENDLIST\n")
    with pytest.raises(CannotCut):
        read_index(play_list)


def test_h264_that_decodes_only_from_its_first_packet_is_not_cut(tmp_path: Path):
    source = render(tmp_path / "full.mp4", seconds=2, **{**H264, "pix_fmt": "yuv444p"})
    with pytest.raises(CannotCut, match="4:4:4"):
        read_index(source)


def test_coarse_ticks_are_not_rounded(media: Path, tmp_path: Path):
    """A picture that counts in 1/20 s and sound that counts in samples: only the sound can be shifted by any amount."""
    coarse = tmp_path / "coarse.mp4"
    command = ffmpeg.output(ffmpeg.input(str(media / "mp4.mp4")), str(coarse), c="copy", video_track_timescale=20)
    run_ffmpeg(command)
    index = read_index(coarse)
    cut = cut_windows(index, {"c": (7.0, 10.0)}, tmp_path)["c"]
    late = sound_offset(cut.path, SECONDS) - sound_offset(coarse, SECONDS, at_seconds=7.5) + cut.media_start_seconds
    assert abs(late) < 0.0002


def _index(keyframes: set[int], *, open_gop: bool = False) -> MediaIndex:
    """Twelve pictures, one a second; open_gop shows picture 5 before keyframe 6, which is decoded first."""
    order = [0, 1, 2, 3, 4, 6, 5, 7, 8, 9, 10, 11] if open_gop else list(range(12))
    picture = Track(0, True, Fraction(1), tuple(order), tuple(range(-1, 11)), tuple(n in keyframes for n in order))
    sound = Track(1, False, Fraction(1, 10), tuple(range(120)), tuple(range(120)), (True,) * 120)
    return MediaIndex(Path("x"), "mp4", frozenset(), Fraction(0), Fraction(12), (picture, sound))


def test_a_plan_begins_at_the_last_keyframe_before_the_window():
    picture, sound = plan_cut(_index({0, 4, 8}), Fraction(7), Fraction(9))
    assert picture.first == 4
    assert list(sound.packets(_index({0}).tracks[1])) == list(range(39, 91))


def test_a_plan_leaves_out_pictures_that_lean_on_what_is_gone():
    index = _index({0, 6}, open_gop=True)
    picture, _ = plan_cut(index, Fraction(7), Fraction(9))
    assert [index.tracks[0].pts[i] for i in picture.packets(index.tracks[0])][:3] == [6, 7, 8]


def test_a_plan_without_marked_keyframes_is_refused():
    with pytest.raises(CannotCut, match="keyframe"):
        plan_cut(_index(set()), Fraction(1), Fraction(2))
