"""Clocks that jump: nothing is lost, nothing is made up, and picture and sound stay together; what is slow stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.media.rendered import (
    AAC,
    FPS,
    H264,
    OPUS,
    PCM,
    burst_times,
    clock_picture,
    heard_bursts,
    picture_seconds,
    remux,
    render,
)
from vidaudio.media.decode.clip import DecodedClip, DecodeOptions, decode_clip
from vidaudio.media.fetch.cut import cut_windows, read_index
from vidaudio.media.soundtrack import video_pictures

PART_SECONDS = 4.0
# One pair of pictures a second would do: pictures are told apart to the millisecond.
WHOLE_SECONDS = 2 * PART_SECONDS


def decoded(path: Path, start: float = 0.0, end: float | None = None, **options) -> DecodedClip:
    clip = decode_clip(str(path), start, end, DecodeOptions(**options))
    assert isinstance(clip, DecodedClip), clip
    return clip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seconds that tell their time, key pictures every second, sound that needs no priming."""
    return render(
        tmp_path_factory.mktemp("whole") / "whole.mkv", seconds=WHOLE_SECONDS, **H264 | {"g": FPS, "bf": 0}, **PCM
    )


def moved(whole: Path, target: Path, move: Callable[[str, float], float], **encoding: Any) -> Path:
    """The file with the time stamps of `kind` at a time moved by so many seconds."""

    def change(packet):
        kind, seconds = packet.stream.type, float(packet.pts * packet.time_base)
        ticks = round(move("picture" if kind == "video" else "sound", seconds) / packet.time_base)
        packet.pts += ticks
        packet.dts += ticks
        return packet

    return remux(whole, target, change)


def parts(folder: Path, *offsets: float, name: str = "joined.ts") -> Path:
    """Pieces of four seconds in MPEG-TS, one after another in one file, each with its clock beginning elsewhere."""
    data = b""
    for number, offset in enumerate(offsets):
        begin = number * PART_SECONDS
        path = render(
            folder / f"{number}.ts",
            seconds=PART_SECONDS,
            picture=lambda t, begin=begin: clock_picture(t + begin),
            **H264 | {"g": FPS, "bf": 2},
            acodec="mp2",
            output_ts_offset=offset,
        )
        data += path.read_bytes()
    joined = folder / name
    joined.write_bytes(data)
    return joined


def assert_nothing_is_lost(clip: DecodedClip, seconds: float, pieces: int = 1, slack: float = 0.1) -> None:
    """Every second has its own picture, every burst is heard, and no burst is far from the picture of its time."""
    told = np.array([picture_seconds(image) for image in clip.images])
    assert abs(clip.video_seconds - seconds) < slack * pieces
    assert abs(len(clip.samples) / 16_000 - seconds) < slack * pieces
    assert len(told) == len({round(t, 3) for t in told.tolist()}) >= int(seconds)
    late = told - np.array(clip.frame_seconds)
    assert np.abs(late - np.median(late)).max() < slack * pieces
    length = seconds / pieces
    heard = 0
    for piece in range(pieces):
        inside = (told >= piece * length) & (told < (piece + 1) * length)
        zero = float(np.median(late[inside]))
        numbers = enumerate(burst_times(length))
        times = [(n, piece * length + middle - zero) for n, middle in numbers]
        found = heard_bursts(clip.samples, 16_000, clip.audio_start_seconds, times)
        assert max(abs(v) for v in found.values()) < 0.5 / FPS, "picture and sound are apart"
        heard += len(found)
    assert heard >= pieces * (len(burst_times(length)) - 1)


@pytest.mark.parametrize(
    "offsets",
    [(0.0, 3600.0), (0.0, 0.0), (3600.0, 0.0), (0.0, 95_440.0), (10.0, 40_000.0, 20.0), (0.0, 0.0, 0.0), (0.0, 12.0)],
    ids=["forward", "again", "backward", "near the wrap", "forward and back", "again twice", "a little"],
)
def test_pieces_with_clocks_of_their_own(tmp_path: Path, offsets: tuple[float, ...]):
    path = parts(tmp_path, *offsets)
    clip = decoded(path)
    if offsets == (0.0, 12.0):  # a gap below the limit is a gap: the picture is held, the sound silent
        assert clip.time_jumps == 0
        assert clip.filled_seconds == pytest.approx(8.0, abs=0.2)
        assert clip.held_seconds == pytest.approx(8.0, abs=0.2)
        return
    wraps = 95_440.0 in offsets  # 33 bits at 90 kHz are full 3.7 s later
    assert clip.time_jumps == len(offsets) - 1 + wraps
    assert clip.filled_seconds < 0.2 * len(offsets)
    assert clip.held_seconds == 0.0
    assert_nothing_is_lost(clip, len(offsets) * PART_SECONDS, len(offsets))


@pytest.mark.parametrize("offsets", [(0.0, 3600.0), (0.0, 0.0)], ids=["forward", "again"])
def test_a_clip_behind_the_jump_is_the_one_that_follows(tmp_path: Path, offsets: tuple[float, ...]):
    path = parts(tmp_path, *offsets)
    for start, end in ((4.5, 7.5), (2.5, 6.5), (1.0, 3.5)):
        clip = decoded(path, start, end)
        assert len(clip.images) == round(end - start + 0.499)
        told = np.array([picture_seconds(image) for image in clip.images])
        np.testing.assert_allclose(told - clip.frame_seconds, start, atol=0.1)
        assert clip.time_jumps == (start < PART_SECONDS < end)


@pytest.mark.parametrize("name", ["jump.mkv", "jump.mp4", "jump.flv", "jump.ts", "jump.nut"])
@pytest.mark.parametrize("jump", [3600.0, 40_000.0])
def test_a_jump_forward_in_any_container(whole: Path, tmp_path: Path, name: str, jump: float):
    source = whole
    if name.endswith(("flv", "ts", "mp4")):
        source = render(tmp_path / "aac.mkv", seconds=WHOLE_SECONDS, **H264 | {"g": FPS, "bf": 0}, **AAC)
    path = moved(source, tmp_path / name, lambda kind, seconds: jump if seconds > PART_SECONDS else 0.0)
    clip = decoded(path)
    assert clip.time_jumps == 1
    assert clip.filled_seconds < 0.2
    assert_nothing_is_lost(clip, WHOLE_SECONDS)


@pytest.mark.parametrize("track", ["picture", "sound"])
def test_one_track_alone_jumps(whole: Path, tmp_path: Path, track: str):
    path = moved(whole, tmp_path / "one.mkv", lambda kind, s: 3600.0 if kind == track and s > PART_SECONDS else 0.0)
    clip = decoded(path)
    assert clip.time_jumps == 1
    assert_nothing_is_lost(clip, WHOLE_SECONDS)


@pytest.mark.parametrize("track", ["picture", "sound"])
def test_one_track_has_a_clock_of_its_own_from_the_beginning(whole: Path, tmp_path: Path, track: str):
    path = moved(whole, tmp_path / "apart.mkv", lambda kind, s: 7200.0 if kind == track else 0.0)
    assert_nothing_is_lost(decoded(path), WHOLE_SECONDS)


def restamped(data: bytes, kind: str, number: int, seconds: float) -> bytes:
    """MPEG-TS of which one PES packet of picture or sound says that it is shown at another time."""
    changed, seen = bytearray(data), 0
    for begin in range(0, len(data), 188):
        field = data[begin + 3] >> 4 & 3
        payload = begin + 4 + (data[begin + 4] + 1 if field & 2 else 0)
        is_first = data[begin + 1] & 0x40 and data[payload : payload + 3] == b"\x00\x00\x01"
        if not is_first or data[payload + 3] >> 4 != (0xE if kind == "picture" else 0xC):
            continue
        seen += 1
        if seen == number:
            ticks = round(seconds * 90_000) & (1 << 33) - 1
            for place in range(9, 19 if data[payload + 7] >> 6 == 3 else 14, 5):
                mark = data[payload + place] & 0xF0
                changed[payload + place : payload + place + 5] = bytes(
                    [
                        mark | ticks >> 29 & 0xE | 1,
                        ticks >> 22 & 0xFF,
                        ticks >> 14 & 0xFE | 1,
                        ticks >> 7 & 0xFF,
                        ticks << 1 & 0xFE | 1,
                    ]
                )
            return bytes(changed)
    raise AssertionError("there are fewer packets")


@pytest.mark.parametrize("wrong", [40_000.0, 30.0, 2.0])
@pytest.mark.parametrize("track", ["picture", "sound"])
def test_a_single_wrong_stamp_moves_nothing_else(tmp_path: Path, track: str, wrong: float):
    path = render(tmp_path / "a.ts", seconds=WHOLE_SECONDS, **H264 | {"g": FPS, "bf": 0}, acodec="mp2")
    place = 150 if track == "picture" else 25
    path.write_bytes(restamped(path.read_bytes(), track, place, wrong))
    clip = decoded(path)
    assert clip.time_jumps == 0
    assert clip.filled_seconds < 0.3
    assert_nothing_is_lost(clip, WHOLE_SECONDS, slack=0.2)


@pytest.mark.parametrize("name", ["still.mkv", "still.mp4", "still.ts"])
def test_a_still_picture_under_running_sound_is_no_jump(tmp_path: Path, name: str):
    # Two slides of a lecture, each on screen for longer than any limit on a gap.
    slides = {"select": {"expr": "eq(n,0)+eq(n,75)+eq(n,76)"}}
    path = render(
        tmp_path / name,
        seconds=90,
        fps=1,
        video_filters=slides,
        fps_mode="vfr",
        picture=lambda t: clock_picture(min(t, 60), 64, 64),
        **H264 | {"bf": 0},
        **AAC,
    )
    clip = decoded(path)
    assert clip.time_jumps == 0
    assert clip.held_seconds == pytest.approx(75, abs=1)
    assert clip.filled_seconds < 0.1
    told = [round(picture_seconds(image)) for image in clip.images]
    assert told[:75] == [0] * 75
    assert 60 in told
    late = heard_bursts(clip.samples, 16_000, clip.audio_start_seconds, list(enumerate(burst_times(90)))[150:160])
    assert len(late) > 8


def test_a_film_without_sound_for_a_while_is_no_jump(tmp_path: Path):
    path = render(
        tmp_path / "long.mkv",
        seconds=80,
        fps=5,
        picture=lambda t: clock_picture(min(t, 60), 64, 64),
        **H264 | {"bf": 0},
        **PCM,
    )
    silent = remux(
        path,
        tmp_path / "silent.mkv",
        lambda p: None if p.stream.type == "audio" and 3 < p.pts * p.time_base < 70 else p,
    )
    clip = decoded(silent)
    assert clip.time_jumps == 0
    assert clip.filled_seconds == pytest.approx(67, abs=0.2)
    assert clip.video_seconds == pytest.approx(80, abs=0.3)
    late = heard_bursts(clip.samples, 16_000, clip.audio_start_seconds, list(enumerate(burst_times(80)))[144:156])
    assert len(late) > 10
    assert max(map(abs, late.values())) < 0.01


def test_a_pause_of_a_recording_is_kept_where_clocks_are_not_joined(whole: Path, tmp_path: Path):
    path = moved(whole, tmp_path / "pause.mkv", lambda kind, seconds: 30.0 if seconds > PART_SECONDS else 0.0)
    clip = decoded(path)
    assert clip.time_jumps == 0
    assert clip.filled_seconds == pytest.approx(30, abs=0.2)
    assert clip.held_seconds == pytest.approx(30, abs=0.2)
    assert clip.video_seconds == pytest.approx(38, abs=0.2)


def test_media_stored_twice_with_the_same_times_are_not_shown_twice(tmp_path: Path):
    """Segments of a live stream, each with the end of the one before it."""
    path = parts(tmp_path, 1.0)
    data = path.read_bytes()
    packets = [data[n : n + 188] for n in range(0, len(data), 188)]
    overlapping = tmp_path / "overlapping.ts"
    overlapping.write_bytes(b"".join(packets[: len(packets) * 3 // 4] + packets[len(packets) // 2 :]))
    clip = decoded(overlapping)
    assert clip.time_jumps == 0
    assert clip.video_seconds == pytest.approx(PART_SECONDS, abs=0.1)
    told = [picture_seconds(image) for image in clip.images]
    assert told == pytest.approx(clip.frame_seconds, abs=0.1)


@pytest.mark.parametrize("offsets", [(0.0, 3600.0), (0.0, 0.0)], ids=["forward", "again"])
def test_cuts_lie_on_the_joined_time_line(tmp_path: Path, offsets: tuple[float, ...]):
    index = read_index(parts(tmp_path, *offsets))
    assert index.duration_seconds == pytest.approx(2 * PART_SECONDS, abs=0.2)
    windows = {"before": (0.5, 2.9), "across": (2.0, 6.0), "behind": (5.0, 7.5)}
    for name, cut in cut_windows(index, windows, tmp_path, margin_seconds=0.5).items():
        begin, end = (t - cut.media_start_seconds for t in windows[name])
        clip = decoded(cut.path, begin, end)
        told = np.array([picture_seconds(image) for image in clip.images])
        np.testing.assert_allclose(told - clip.frame_seconds, windows[name][0], atol=0.15)
        assert clip.video_seconds == pytest.approx(end - begin, abs=0.1)
        assert cut.time_jumps == (name == "across")


def test_pictures_of_a_query_are_bounded_by_the_media(tmp_path: Path):
    assert len(video_pictures(parts(tmp_path, 0.0, 3600.0), 64)) == pytest.approx(2 * PART_SECONDS, abs=1)


def test_what_is_ordinary_is_looked_at_once(whole: Path, monkeypatch: pytest.MonkeyPatch):
    """No packet of an ordinary file is read before it is decoded."""
    monkeypatch.setattr(
        "vidaudio.media.decode.clip.read_time_line", lambda *_: pytest.fail("all packets were read first")
    )
    assert decoded(whole).time_jumps == 0
    assert decoded(whole, 3.0).time_jumps == 0


def test_opus_in_ogg_joined_after_a_jump(tmp_path: Path):
    path = render(tmp_path / "a.mkv", seconds=PART_SECONDS, **H264, **OPUS)
    jumped = moved(path, tmp_path / "b.mkv", lambda kind, seconds: 1000.0 if seconds > 2 else 0.0)
    assert_nothing_is_lost(decoded(jumped), PART_SECONDS)


def part_without(folder: Path, begin: float, offset: float, gone: tuple[str, float, float]) -> bytes:
    """MPEG-TS whose picture tells `begin` more than its time, without the packets of one track in a span of time.

    Args:
        folder: Where it is written.
        begin: What the picture tells at the beginning, seconds; names the files.
        offset: Where the clock begins, seconds.
        gone: `video` or `audio`, and the span, seconds from the part's beginning.
    """
    kind, first, last = gone
    whole = render(
        folder / f"{begin:g}.mkv",
        seconds=UNEVEN_SECONDS,
        picture=lambda t: clock_picture(t + begin, 64, 64),
        **H264 | {"g": FPS, "bf": 0},
        acodec="mp2",
    )

    def change(packet):
        seconds = float(packet.pts * packet.time_base)
        return None if packet.stream.type == kind and first <= seconds < last else packet

    part = remux(whole, folder / f"{begin:g}.ts", change, output_ts_offset=str(offset))
    return part.read_bytes()


UNEVEN_SECONDS = 13.0
NOTHING = ("audio", 0.0, 0.0)
# The first packet of sound may begin before 0.
START = -1.0


@pytest.mark.parametrize("offset", [0.0, 3600.0], ids=["again", "forward"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("audio", 2.0, 99.0), NOTHING),
        (("video", 2.0, 99.0), NOTHING),
        (NOTHING, ("audio", START, 7.0)),
        (NOTHING, ("video", START, 7.0)),
        (("audio", 2.0, 99.0), ("audio", START, 7.0)),
        (("audio", START, 99.0), NOTHING),
        (("audio", 6.0, 99.0), ("audio", START, 6.2)),
    ],
    ids=[
        "sound ends early",
        "picture ends early",
        "sound begins late",
        "picture begins late",
        "both",
        "sound only behind the jump",
        "sound that seems to go on",
    ],
)
def test_tracks_of_unequal_length_stay_together(tmp_path: Path, before: tuple, after: tuple, offset: float):
    path = tmp_path / "joined.ts"
    path.write_bytes(part_without(tmp_path, 0.0, 0.0, before) + part_without(tmp_path, 40.0, offset, after))
    clip = decoded(path)
    assert clip.time_jumps == 1
    told = np.array([picture_seconds(image) for image in clip.images])
    behind = told >= 40.0
    zero = float(np.median(np.array(clip.frame_seconds)[behind] - (told[behind] - 40.0)))
    assert zero == pytest.approx(UNEVEN_SECONDS, abs=0.1)
    times = [(n, zero + middle) for n, middle in enumerate(burst_times(UNEVEN_SECONDS))]
    heard = heard_bursts(clip.samples, 16_000, clip.audio_start_seconds, times)
    assert len(heard) >= 0.8 * sum(
        not after[1] <= middle - zero < after[2] or after[0] == "video" for _, middle in times
    )
    assert max(map(abs, heard.values())) < 0.05, "picture and sound are apart"
