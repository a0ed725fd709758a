"""Picture and sound that tell their own time are where the decoder says: per container, offset, cut, gap and rate."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import ffmpeg
import numpy as np
import pytest

from tests.media.rendered import (
    AAC,
    FPS,
    H264,
    MPEG4,
    OPUS,
    PCM,
    SAMPLE_RATE,
    VP8,
    VP9,
    UnreadablePicture,
    assert_in_sync,
    burst_times,
    clock_picture,
    heard_bursts,
    picture_seconds,
    remux,
    render,
)
from vidaudio.media.decode.clip import DecodedClip, DecodeOptions, decode_clip
from vidaudio.media.ffmpeg import run_ffmpeg

# Sound encoders put a block of silence before time 0. Where a container can say so it is hidden, else the file begins
# with it: then its time 0 is this long before the rendered one.
AAC_PRIMING = 1024 / SAMPLE_RATE
# What the two reordered pictures of an encoder push a fragmented file back by, that is written without edit lists.
REORDERING = 2 / FPS

# Name: encoding, the rendered time at the file's time 0.
CONTAINERS = {
    "h264-aac.mp4": (H264 | AAC, 0.0),
    "h264-pcm.mov": (H264 | PCM, 0.0),
    "h264-opus.mkv": (H264 | OPUS, 0.0),
    "h264-aac.mkv": (H264 | AAC, 0.0),
    "vp8-vorbis.webm": (VP8 | {"acodec": "libvorbis"}, 0.0),
    "vp9-opus.webm": (VP9 | OPUS, 0.0),
    "h264-aac.ts": (H264 | AAC, -AAC_PRIMING),
    "h264-aac.flv": (H264 | AAC, -AAC_PRIMING),
    "h264-pcm.avi": (H264 | PCM, 0.0),
    "mpeg4-pcm.avi": (MPEG4 | PCM, 0.0),
    "mpeg2-mp2.mpg": ({"vcodec": "mpeg2video", "q:v": 3, "bf": 2, "g": 50, "acodec": "mp2"}, -0.01),
    "theora-vorbis.ogv": ({"vcodec": "libtheora", "q:v": 8, "acodec": "libvorbis"}, 0.0),
    "mpeg2-pcm.mxf": ({"vcodec": "mpeg2video", "q:v": 3, "bf": 2, "acodec": "pcm_s16le"}, 0.0),
    "fragmented.mp4": (H264 | AAC | {"movflags": "frag_keyframe+empty_moov+default_base_moof"}, -REORDERING),
    "one-gop.mp4": (H264 | AAC | {"g": 1000, "bf": 3}, 0.0),
    "one-gop.mkv": (H264 | AAC | {"g": 1000}, 0.0),
    "one-gop.ts": (H264 | AAC | {"g": 1000}, -AAC_PRIMING),
    "one-gop.mpg": ({"vcodec": "mpeg2video", "q:v": 3, "bf": 2, "g": 1000, "acodec": "mp2"}, -0.01),
    "open-gop.ts": (H264 | AAC | {"x264-params": "open-gop=1:bframes=3"}, -AAC_PRIMING),
    "intra-only.ts": (H264 | AAC | {"g": 1, "bf": 0}, -AAC_PRIMING),
}


def decoded(path: Path, start: float = 0.0, end: float | None = None, **options) -> DecodedClip:
    clip = decode_clip(str(path), start, end, DecodeOptions(**options))
    assert isinstance(clip, DecodedClip), clip
    return clip


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("containers")
    for name, (encoding, _) in CONTAINERS.items():
        render(folder / name, **({"pix_fmt": "yuv420p"} | encoding))
    return folder


@pytest.mark.parametrize("name", CONTAINERS)
def test_whole_file(media: Path, name: str):
    clip = decoded(media / name)
    assert_in_sync(clip, zero=CONTAINERS[name][1])
    assert clip.audio_gaps == clip.decode_errors == 0
    # One picture a second, the first as soon as there is one.
    assert clip.grid_seconds[0] == max(0.0, clip.frame_seconds[0]) < 0.1
    assert clip.grid_seconds[1:] == [float(t) for t in range(1, len(clip.images))]
    assert len(clip.images) == np.ceil(clip.video_seconds)


@pytest.mark.parametrize(("start", "end"), [(2.3, 5.1), (3.98, 6.0), (1.0, 4.5)])
@pytest.mark.parametrize("name", CONTAINERS)
def test_cut_between_keyframes(media: Path, name: str, start: float, end: float):
    clip = decoded(media / name, start, end)
    assert_in_sync(clip, zero=start + CONTAINERS[name][1], seconds=end - start)
    length = end - start
    assert clip.grid_seconds == [float(t) for t in range(int(np.ceil(clip.video_seconds - 1e-9)))]
    # The picture on screen at t, never the next one, and never one that has left the screen.
    for at, shown in zip(clip.grid_seconds, clip.frame_seconds, strict=True):
        assert at - 1 / FPS - 0.002 < shown <= at + 1e-6
    assert clip.video_seconds == pytest.approx(length, abs=1.01 / FPS)
    assert clip.audio_start_seconds == pytest.approx(0.0, abs=0.001)
    assert len(clip.samples) / 16_000 == pytest.approx(length, abs=0.03)


@pytest.mark.parametrize("fps", [10, 25, Fraction(30000, 1001), 60, Fraction(1, 2)])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_frame_at_t_is_the_last_that_is_not_after_t(tmp_path: Path, fps, name: str):
    path = render(tmp_path / name, fps=fps, **H264, **AAC)
    for start in (0.0, 1.5):
        clip = decoded(path, start)
        assert_in_sync(clip, zero=start, fps=fps)
        rounding = 0.0006 if name.endswith("mkv") else 1e-6
        for number, (at, shown) in enumerate(zip(clip.grid_seconds, clip.frame_seconds, strict=True)):
            assert at == number
            latest = np.floor((start + at) * float(fps) + rounding * float(fps)) / float(fps) - start
            assert shown == pytest.approx(latest, abs=rounding)


def test_finer_grid(tmp_path: Path):
    path = render(tmp_path / "a.mp4", **H264, **AAC)
    clip = decoded(path, 0.5, 3.5, frames_per_second=4)
    assert clip.grid_seconds == [n / 4 for n in range(12)]
    assert_in_sync(clip, zero=0.5, seconds=3.0)


@pytest.mark.parametrize("name", ["vfr.mp4", "vfr.mkv", "vfr.flv"])
def test_variable_frame_rate(tmp_path: Path, name: str):
    # 50 pictures a second of which few are kept: gaps of 20 ms to 1.6 s.
    kept = {"select": {"expr": "lt(mod(n*n,83),9)"}}
    path = render(tmp_path / name, fps=50, video_filters=kept, fps_mode="vfr", **H264, **PCM | {"acodec": "aac"})
    numbers = [n for n in range(300) if n * n % 83 < 9]
    zero = -AAC_PRIMING if name.endswith("flv") else 0.0
    gaps = np.diff(np.array(numbers) / 50)
    assert gaps.max() > 0.5, "the file is not what this test is about"
    for start in (0.0, 2.7):
        clip = decoded(path, start)
        assert_in_sync(clip, zero=start + zero, fps=50)
        for at, image in zip(clip.grid_seconds, clip.images, strict=True):
            shown = max(n / 50 for n in numbers if n / 50 <= max(0.0, at + start + zero) + 0.0011)
            assert picture_seconds(image) == pytest.approx(shown, abs=0.0011)


@pytest.mark.parametrize("name", ["late.mp4", "late.mkv", "late.ts", "late.flv", "late.mov"])
@pytest.mark.parametrize("track", ["picture", "sound"])
@pytest.mark.parametrize("seconds", [0.28, 0.72])
def test_one_track_begins_later(tmp_path: Path, name: str, track: str, seconds: float):
    options = {"video_options" if track == "picture" else "sound_options": {"itsoffset": seconds}}
    path = render(tmp_path / name, **options, **H264, **AAC)
    for start in (0.0, 2.5):
        clip = decoded(path, start)
        # By what the pictures tell, the sound must be where it was put: `seconds` later, or earlier.
        told = [picture_seconds(image) - at for image, at in zip(clip.images, clip.frame_seconds, strict=True)]
        assert max(told) - min(told) < 0.5 / FPS
        shift = seconds if track == "sound" else -seconds
        sound_zero = told[0] - shift
        times = [(n, m - sound_zero) for n, m in enumerate(burst_times()) if m - sound_zero > 0.05]
        late = heard_bursts(clip.samples, 16_000, clip.audio_start_seconds, times)
        assert len(late) == len(times) > 5
        assert max(map(abs, late.values())) < 0.005
        if start == 0:
            first = {"picture": clip.grid_seconds[0], "sound": clip.audio_start_seconds}
            other = "sound" if track == "picture" else "picture"
            # Early pictures are looked for from 0.5 s on only: a later one is taken at the next second.
            expected = seconds if track == "sound" or seconds < 0.5 else 1.0
            assert first[track] == pytest.approx(expected, abs=0.045)
            assert first[other] == pytest.approx(0.0, abs=0.045)


def test_container_that_starts_at_another_time(tmp_path: Path):
    path = render(tmp_path / "a.ts", output_ts_offset=100, **H264, **AAC)
    with av.open(str(path)) as container:
        assert container.start_time > 100 * av.time_base
    for start in (0.0, 2.2):
        assert_in_sync(decoded(path, start), zero=start - AAC_PRIMING)
    early = render(tmp_path / "b.mkv", output_ts_offset=7.5, **H264, **OPUS)
    for start in (0.0, 2.2):
        assert_in_sync(decoded(early, start), zero=start)


# libavformat lets a file begin with the first picture that begins inside the edit: up to one picture early, here 10 ms.
@pytest.mark.parametrize("trim", [1.35, 2.51])
@pytest.mark.parametrize("options", [H264 | AAC, H264 | AAC | {"g": 1000}, H264 | PCM], ids=["aac", "one-gop", "pcm"])
def test_edit_list_trims_the_beginning(tmp_path: Path, trim: float, options: dict):
    whole = render(tmp_path / "whole.mov", **options)
    path = tmp_path / "trimmed.mov"
    run_ffmpeg(ffmpeg.output(ffmpeg.input(str(whole), ss=trim), str(path), c="copy", avoid_negative_ts="disabled"))
    for start in (0.0, 1.1):
        assert_in_sync(decoded(path, start), zero=trim + start)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_every_rate_and_layout(tmp_path: Path, rate: int, channels: int):
    path = render(tmp_path / "a.mkv", fps=5, sample_rate=rate, channels=channels, **H264, **PCM)
    for start in (0.0, 2.3):
        clip = decoded(path, start)
        assert clip.samples.dtype == np.int16
        assert_in_sync(clip, zero=start, fps=5)


def test_other_sample_rate_is_recorded_at_that_rate(tmp_path: Path):
    path = render(tmp_path / "a.mp4", **H264, **AAC)
    clip = decoded(path, 1.0, sample_rate=22_050)
    assert_in_sync(clip, zero=1.0, sample_rate=22_050)


def test_channels_without_a_layout(tmp_path: Path):
    path = render(tmp_path / "a.mkv", channels=10, **H264, **PCM)
    assert_in_sync(decoded(path))


@pytest.mark.parametrize(
    "lost", [(3.01, 3.02), (2.6, 2.65), (3.02, 3.22), (2.1, 3.4)], ids=lambda s: f"{s[1] - s[0]:.2f}s"
)
@pytest.mark.parametrize("name", ["h264-aac.mp4", "h264-opus.mkv", "h264-aac.ts", "h264-aac.flv"])
def test_lost_sound_leaves_a_gap_of_its_length(media: Path, tmp_path: Path, name: str, lost: tuple[float, float]):
    def drop(packet):
        start = float(packet.pts * packet.time_base)
        end = start + float(packet.duration * packet.time_base)
        with_zero = (lost[0] + offset, lost[1] + offset)
        return None if packet.stream.type == "audio" and end > with_zero[0] and start < with_zero[1] else packet

    with av.open(str(media / name)) as container:
        offset = (container.start_time or 0) / av.time_base - CONTAINERS[name][1]
    path = remux(media / name, tmp_path / name, drop)
    clip = decoded(path)
    assert clip.audio_gaps == 1
    # One packet more goes missing to the ear where blocks overlap, and a burst beside the gap may be half there.
    assert_in_sync(clip, zero=CONTAINERS[name][1], missing_sound=(lost[0] - 0.05, lost[1] + 0.08))
    first, last = (round((t - CONTAINERS[name][1] - clip.audio_start_seconds) * 16_000) for t in lost)
    middle = clip.samples[(first + last) // 2 - 40 : (first + last) // 2 + 40]
    assert np.abs(middle).max() == 0, "what is lost is silent"
    # A clip that begins after the gap knows nothing of it.
    assert decoded(path, 3.8).audio_gaps == 0
    assert_in_sync(decoded(path, 3.8), zero=3.8 + CONTAINERS[name][1])


def test_many_lost_packets(media: Path, tmp_path: Path):
    count = iter(range(10_000))

    def drop(packet):
        return None if packet.stream.type == "audio" and next(count) % 40 == 20 else packet

    clip = decoded(remux(media / "h264-aac.mkv", tmp_path / "lossy.mkv", drop))
    assert clip.audio_gaps > 4
    late = heard_bursts(clip.samples, 16_000, clip.audio_start_seconds, enumerate(burst_times()))
    assert max(map(abs, late.values())) < 0.5 / FPS


@pytest.mark.parametrize("name", ["jitter.mkv", "jitter.ts"])
def test_time_stamps_that_jitter_cut_nothing_out(media: Path, tmp_path: Path, name: str):
    # As phones write them: for a few packets in a row the stamps are early by half a packet or a whole one.
    rng = np.random.default_rng(3)
    early = np.repeat(rng.choice([0, 0.0101, 0.0204], 400, p=[0.8, 0.1, 0.1]), rng.integers(1, 4, 400))
    early[:2] = 0
    number = iter(range(10_000))

    def shake(packet):
        if packet.stream.type == "audio":
            moved = round(early[next(number)] / packet.time_base)
            packet.pts -= moved
            packet.dts -= moved
        return packet

    source = "h264-aac.mkv" if name.endswith("mkv") else "h264-aac.ts"
    clip = decoded(remux(media / source, tmp_path / name, shake))
    assert clip.audio_gaps == 0
    assert_in_sync(clip, zero=CONTAINERS[source][1])


def test_sound_clock_that_runs_slow_stays_with_the_pictures(media: Path, tmp_path: Path):
    def stretch(packet):
        if packet.stream.type == "audio":
            packet.pts = packet.dts = round(packet.pts * 1.02)
        return packet

    clip = decoded(remux(media / "h264-aac.mkv", tmp_path / "slow.mkv", stretch))
    late = heard_bursts(
        clip.samples, 16_000, clip.audio_start_seconds, [(n, m * 1.02) for n, m in enumerate(burst_times())]
    )
    assert len(late) == len(burst_times())
    assert max(map(abs, late.values())) <= 0.5 / FPS
    assert abs(late[max(late)]) < 0.015, "the last is not later than the first ones"


def test_first_stamp_is_wrong(media: Path, tmp_path: Path):
    # Fragmented files and phones stamp the first packet 0 and put the gap behind it.
    first = iter([True])

    def early(packet):
        if packet.stream.type == "audio" and next(first, False):
            packet.pts = packet.dts = packet.pts - round(0.06 / packet.time_base)
        return packet

    late_start = render(tmp_path / "late.mkv", sound_options={"itsoffset": 0.3}, **H264, **OPUS)
    clip = decoded(remux(late_start, tmp_path / "first.mkv", early))
    times = [(n, m + 0.3) for n, m in enumerate(burst_times())]
    late = heard_bursts(clip.samples, 16_000, clip.audio_start_seconds, times)
    assert len(late) == len(times)
    assert max(map(abs, late.values())) < 0.008  # Opus's 6.5 ms before time 0 included
    assert clip.audio_gaps == 0


@pytest.mark.parametrize("kind", ["rate", "layout", "both"])
def test_sound_that_changes_its_form_in_the_middle(tmp_path: Path, kind: str):
    # MPEG-TS is made to be joined: the second half goes on where the first ends, in another form.
    rate, channels = {"rate": (32_000, 2), "layout": (SAMPLE_RATE, 1), "both": (32_000, 1)}[kind]
    whole = render(tmp_path / "whole.mkv", channels=2, **H264 | {"g": 25, "bf": 0}, acodec="pcm_s16le")
    halves = []
    for name, options, form in (
        ("first.ts", {"t": 3}, {}),
        ("second.ts", {"ss": 3}, {"ar": rate, "ac": channels}),
    ):
        source = ffmpeg.input(str(whole), **options)
        # Not from 0: priming would have to be stamped before it, and the first half be moved to make room.
        offset = 1 + options.get("ss", 0)
        run_ffmpeg(
            ffmpeg.output(
                source.video,
                source.audio,
                str(tmp_path / name),
                vcodec="copy",
                acodec="mp2",
                output_ts_offset=offset,
                **form,
            )
        )
        halves.append((tmp_path / name).read_bytes())
    path = tmp_path / "joined.ts"
    path.write_bytes(b"".join(halves))
    clip = decoded(path)
    with av.open(str(path)) as container:
        forms = {(f.sample_rate, f.layout.name) for f in container.decode(audio=0)}
    assert len(forms) > 1, "the file is not what this test is about"
    zero = picture_seconds(clip.images[-1]) - clip.frame_seconds[-1]
    assert_in_sync(clip, zero=zero, missing_sound=(2.9, 3.1))


def test_picture_resolution_that_changes_in_the_middle(tmp_path: Path):
    first = render(tmp_path / "first.ts", seconds=3, output_ts_offset=1, **H264, **AAC)
    second = render(
        tmp_path / "second.ts",
        seconds=3,
        size=(96, 160),
        output_ts_offset=4,
        picture=lambda t: clock_picture(t + 3, 96, 160),
        **H264,
        **AAC,
    )
    path = tmp_path / "joined.ts"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    clip = decoded(path)
    told = [picture_seconds(image) - at for image, at in zip(clip.images, clip.frame_seconds, strict=True)]
    assert len(told) == 7
    assert max(told) - min(told) < 0.5 / FPS


def test_still_picture_is_shown_to_its_end(tmp_path: Path):
    path = render(tmp_path / "a.mp4", fps=Fraction(1, 6), **H264, **AAC)
    clip = decoded(path)
    assert clip.frame_seconds == [0.0] * 6
    assert clip.grid_seconds == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert clip.motion == 0.0
    assert [picture_seconds(image) for image in decoded(path, 3.3).images] == [0.0] * 3


def test_a_clock_that_disagrees_is_noticed(media: Path, tmp_path: Path):
    """The judge of all tests here: media that are off by one picture or less fail."""

    def late_picture(packet):
        if packet.stream.type == "video":
            packet.pts += round(0.04 / packet.time_base)
            packet.dts += round(0.04 / packet.time_base)
        return packet

    def late_sound(packet):
        if packet.stream.type == "audio":
            packet.pts += round(0.03 / packet.time_base)
            packet.dts += round(0.03 / packet.time_base)
        return packet

    with pytest.raises(AssertionError, match="is recorded at"):
        assert_in_sync(decoded(remux(media / "h264-aac.mkv", tmp_path / "picture.mkv", late_picture)))
    with pytest.raises(AssertionError, match="seconds late"):
        assert_in_sync(decoded(remux(media / "h264-aac.mkv", tmp_path / "sound.mkv", late_sound)))
    with pytest.raises(UnreadablePicture):
        picture_seconds(np.zeros((224, 224, 3), np.uint8))
