"""Every file gets an outcome with its reason, or is a clip: missing, short, broken, hostile ones. None raises."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import av
import ffmpeg
import numpy as np
import pytest
from PIL import Image

from tests.media.rendered import AAC, H264, OPUS, PCM, assert_in_sync, render
from vidaudio.media.decode.clip import DecodedClip, DecodeOptions, decode_clip
from vidaudio.media.ffmpeg import run_ffmpeg
from vidaudio.media.outcomes import Outcome, Reason, State

FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


def outcome(path: Path, start: float = 0.0, end: float | None = None) -> tuple[State, Reason | None]:
    result = decode_clip(str(path), start, end, DecodeOptions())
    assert isinstance(result, Outcome), "it was decoded"
    assert result.message
    assert str(path.parent) not in result.message, "a path would make committed tables differ"
    assert "\n" not in result.message
    return result.state, result.reason


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outcomes")
    render(folder / "good.mp4", **H264, **AAC)
    render(folder / "good.mkv", **H264, **OPUS)
    render(folder / "good.ts", **H264, **AAC)
    render(folder / "fragmented.mp4", **H264 | {"g": 10}, **AAC, **FRAGMENTED)
    render(folder / "mute.mp4", with_sound=False, **H264)
    render(folder / "blind.mp4", with_video=False, **AAC)
    render(folder / "blind.ogg", with_video=False, acodec="libvorbis")
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (80, 80, 3), dtype=np.uint8)).save(folder / "cover.jpg")
    return folder


def test_missing_tracks(media: Path):
    assert outcome(media / "mute.mp4") == (State.DROPPED, Reason.NO_AUDIO)
    assert outcome(media / "blind.mp4") == (State.DROPPED, Reason.NO_VIDEO)
    assert outcome(media / "blind.ogg") == (State.DROPPED, Reason.NO_VIDEO)


@pytest.mark.parametrize("name", ["cover.m4a", "cover.mp3", "cover.mkv"])
def test_a_cover_is_no_moving_picture(media: Path, tmp_path: Path, name: str):
    sound = ffmpeg.input(str(media / "blind.mp4")).audio
    codec = "libmp3lame" if name.endswith("mp3") else "copy"
    path = tmp_path / name
    if name.endswith("mkv"):
        attached = {"attach": str(media / "cover.jpg"), "metadata:s:t": "mimetype=image/jpeg"}
        run_ffmpeg(ffmpeg.output(sound, str(path), acodec=codec, **attached))
    else:
        cover = ffmpeg.input(str(media / "cover.jpg")).video
        attached = {"disposition:v": "attached_pic"}
        run_ffmpeg(ffmpeg.output(sound, cover, str(path), acodec=codec, vcodec="copy", **attached))
    with av.open(str(path)) as container:
        assert container.streams.video, "the file is not what this test is about"
    assert outcome(path) == (State.DROPPED, Reason.NO_VIDEO)


def test_a_cover_beside_a_moving_picture_is_passed_over(media: Path, tmp_path: Path):
    path = tmp_path / "both.mp4"
    cover = ffmpeg.input(str(media / "cover.jpg")).video
    film = ffmpeg.input(str(media / "good.mp4"))
    # The cover comes first, and is the larger one.
    large = cover.filter("scale", 1920, 1920)
    run_ffmpeg(
        ffmpeg.output(
            large,
            film.video,
            film.audio,
            str(path),
            **{"c:v:0": "mjpeg", "c:v:1": "copy", "c:a": "copy", "disposition:v:0": "attached_pic"},
        )
    )
    clip = decode_clip(str(path), 0.0, None, DecodeOptions())
    assert_in_sync(clip)


@pytest.mark.parametrize(("start", "end"), [(0.0, 1.9), (3.0, 4.0), (4.5, None), (4.5, 60.0), (2.0, 2.0), (3.0, 1.0)])
def test_too_short(media: Path, start: float, end: float | None):
    assert outcome(media / "good.mp4", start, end) == (State.DROPPED, Reason.TOO_SHORT)


@pytest.mark.parametrize("name", ["good.mp4", "good.mkv", "good.ts", "fragmented.mp4"])
@pytest.mark.parametrize("start", [6.2, 8.0, 500.0])
def test_begins_after_the_end_of_the_file(media: Path, name: str, start: float):
    assert outcome(media / name, start, start + 10) == (State.DROPPED, Reason.TOO_SHORT)
    assert outcome(media / name, start, None) == (State.DROPPED, Reason.TOO_SHORT)


def test_ends_after_the_end_of_the_file(media: Path):
    clip = decode_clip(str(media / "good.mp4"), 3.0, 50.0, DecodeOptions())
    assert len(clip.images) == 3
    assert clip.video_seconds == pytest.approx(3.0)
    assert_in_sync(clip, zero=3.0)


def test_begins_before_the_beginning_of_the_file(media: Path):
    clip = decode_clip(str(media / "good.mp4"), -1.5, 4.0, DecodeOptions())
    assert_in_sync(clip, zero=-1.5, seconds=5.5)
    assert clip.audio_start_seconds == pytest.approx(1.5)
    assert clip.grid_seconds == [1.5, 2.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize(("shorter", "what"), [("picture", "of picture"), ("sound", "of sound")])
def test_one_track_is_too_short(tmp_path: Path, shorter: str, what: str):
    path = tmp_path / "a.mkv"
    long = render(tmp_path / "long.mkv", **H264, **PCM)
    short = ffmpeg.input(str(long), t=1.5)
    picture, sound = (short.video, ffmpeg.input(str(long)).audio)
    if shorter == "sound":
        picture, sound = (ffmpeg.input(str(long)).video, short.audio)
    run_ffmpeg(ffmpeg.output(picture, sound, str(path), **H264 | PCM))
    result = decode_clip(str(path), 0.0, None, DecodeOptions())
    assert isinstance(result, Outcome)
    assert result.reason is Reason.TOO_SHORT
    assert what in result.message
    assert isinstance(decode_clip(str(path), 0.0, None, DecodeOptions(min_seconds=1.4)), DecodedClip)


def test_pictures_that_come_late_are_not_counted_from_the_start(tmp_path: Path):
    # Sound for 6 s, picture from 4.6 s to 6 s.
    path = render(tmp_path / "a.mkv", seconds=1.4, video_options={"itsoffset": 4.6}, **H264, with_sound=False)
    whole = render(tmp_path / "b.mkv", with_video=False, **PCM)
    joined = tmp_path / "c.mkv"
    late = ffmpeg.input(str(path), itsoffset=4.6).video
    run_ffmpeg(ffmpeg.output(late, ffmpeg.input(str(whole)).audio, str(joined), c="copy"))
    assert outcome(joined) == (State.DROPPED, Reason.TOO_SHORT)


NONSENSE = {
    "empty.mp4": b"",
    "text.mp4": b"this is not a video, it is a page that says so\n" * 200,
    "page.mp4": b"<!DOCTYPE html><html><body>Sign in to continue</body></html>",
    "zeros.mp4": bytes(100_000),
    "noise.mp4": np.random.default_rng(2).integers(0, 256, 100_000, dtype=np.uint8).tobytes(),
    "picture.mp4": b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(1000),
    "archive.mp4": b"PK\x03\x04" + bytes(1000),
    "subtitles.mp4": b"1\n00:00:00,000 --> 00:00:09,000\nhello\n\n",
}


@pytest.mark.parametrize("name", NONSENSE)
def test_what_is_no_medium_is_corrupt(tmp_path: Path, name: str):
    path = tmp_path / name
    path.write_bytes(NONSENSE[name])
    assert outcome(path) == (State.DROPPED, Reason.CORRUPT)


def test_damage_is_never_taken_for_a_missing_file(tmp_path: Path):
    # libavformat answers EPERM and ENOENT of its own for some damage.
    path = render(tmp_path / "a.wmv", seconds=3, vcodec="wmv2", acodec="wmav2", pix_fmt="yuv420p")
    data = np.frombuffer(path.read_bytes(), np.uint8)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        damaged = data.copy()
        damaged[rng.integers(0, 4000, 50)] = rng.integers(0, 256, 50)
        path.write_bytes(damaged.tobytes())
        result = decode_clip(str(path), 0.0, None, DecodeOptions(max_seconds=30))
        assert isinstance(result, DecodedClip) or result.state is State.DROPPED


def test_a_file_that_is_not_there_says_nothing_about_the_clip(tmp_path: Path):
    assert outcome(tmp_path / "gone.mp4") == (State.FAILED, Reason.NOT_FOUND)


def test_truncated_before_its_index_is_corrupt(media: Path, tmp_path: Path):
    data = (media / "good.mp4").read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: len(data) * 2 // 3])
    assert outcome(path) == (State.DROPPED, Reason.CORRUPT)


@pytest.mark.parametrize("name", ["fragmented.mp4", "good.mkv", "good.ts"])
def test_what_can_be_decoded_of_a_truncated_file_is_kept(media: Path, tmp_path: Path, name: str):
    data = (media / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: len(data) * 3 // 5])
    clip = decode_clip(str(path), 0.0, None, DecodeOptions())
    assert isinstance(clip, DecodedClip), clip
    assert 2.0 < clip.video_seconds < 5.0
    zero = {"fragmented.mp4": -0.08, "good.mkv": 0.0, "good.ts": -1024 / 48_000}[name]
    assert_in_sync(clip, zero=zero)
    path.write_bytes(data[: len(data) // 7])
    assert outcome(path)[0] is State.DROPPED


def test_an_index_at_the_front_of_half_a_file(media: Path, tmp_path: Path):
    whole = tmp_path / "front.mp4"
    run_ffmpeg(ffmpeg.output(ffmpeg.input(str(media / "good.mp4")), str(whole), c="copy", movflags="faststart"))
    data = whole.read_bytes()
    path = tmp_path / "half.mp4"
    path.write_bytes(data[: len(data) * 3 // 4])
    clip = decode_clip(str(path), 0.0, None, DecodeOptions())
    assert isinstance(clip, DecodedClip), clip
    assert clip.video_seconds < 5.9
    assert_in_sync(clip)
    # Nothing but the index: its tracks are there, and none of their packets.
    path.write_bytes(data[: data.index(b"mdat") + 4])
    assert outcome(path) == (State.DROPPED, Reason.CORRUPT)


@pytest.mark.parametrize("name", ["good.mp4", "good.mkv", "good.ts", "fragmented.mp4"])
def test_flipped_bytes_never_raise(media: Path, tmp_path: Path, name: str):
    data = np.frombuffer((media / name).read_bytes(), np.uint8)
    kept = 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        damaged = data.copy()
        count = int(rng.choice([1, 20, 400]))
        # Every fifth file is hit in its first kilobytes, where the tables are.
        reach = 3000 if seed % 5 == 0 else len(damaged)
        damaged[rng.integers(0, reach, count)] = rng.integers(0, 256, count)
        path = tmp_path / name
        path.write_bytes(damaged.tobytes())
        for start, end in ((0.0, None), (1.7, 5.0)):
            result = decode_clip(str(path), start, end, DecodeOptions(max_seconds=30))
            if isinstance(result, Outcome):
                assert result.state is State.DROPPED
                assert result.reason in (Reason.CORRUPT, Reason.TOO_SHORT, Reason.NO_VIDEO, Reason.NO_AUDIO)
                continue
            kept += 1
            numbers = [*result.frame_seconds, *result.grid_seconds, result.motion, result.audio_start_seconds]
            assert all(math.isfinite(number) for number in [*numbers, result.video_seconds])
            assert result.grid_seconds == sorted(set(result.grid_seconds))
            assert len(result.samples) <= 30 * 16_000
            assert len(result.images) <= 31
    assert kept > 5, "most damage is not the end of a file"


PLAYLISTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\n{target}\n#EXT-X-ENDLIST\n",
    "list.ffconcat": "ffconcat version 1.0\nfile '{target}'\n",
    "list.mpd": (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT6S"'
        ' profiles="urn:mpeg:dash:profile:isoff-on-demand:2011"><Period><AdaptationSet mimeType="video/mp4">'
        '<Representation id="1" bandwidth="1000"><BaseURL>{target}</BaseURL></Representation></AdaptationSet>'
        "</Period></MPD>"
    ),
    "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "list.asx": '<asx version="3.0"><entry><ref href="{target}"/></entry></asx>',
    "list.pls": "[playlist]\nFile1={target}\nNumberOfEntries=1\n",
}


@pytest.mark.parametrize("disguise", ["", "mp4", "mkv"])
@pytest.mark.parametrize("name", PLAYLISTS)
def test_lists_of_other_files_stay_closed(media: Path, tmp_path: Path, name: str, disguise: str):
    target = tmp_path / "secret.ts"
    shutil.copy(media / "good.ts", target)
    assert isinstance(decode_clip(str(target), 0.0, None, DecodeOptions()), DecodedClip)
    path = tmp_path / (f"clip.{disguise}" if disguise else name)
    for named in (target.name, str(target), f"file:{target}", f"http://127.0.0.1:9/{target.name}"):
        path.write_text(PLAYLISTS[name].format(target=named))
        assert outcome(path) == (State.DROPPED, Reason.CORRUPT)


@pytest.mark.parametrize("name", ["list.m3u8", "list.ffconcat"])
def test_those_lists_would_open_without_the_guard(media: Path, tmp_path: Path, name: str):
    """The lists above are good ones: it is our refusal that keeps them closed."""
    shutil.copy(media / "good.ts", tmp_path / "secret.ts")
    path = tmp_path / name
    path.write_text(PLAYLISTS[name].format(target="secret.ts"))
    with av.open(str(path), container_options={"allowed_extensions": "ALL", "safe": "0"}) as container:
        assert container.streams.video


def test_a_file_name_is_no_protocol(media: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("concat:a.mp4", "http:clip.mp4", "a|b.mp4", "-i.mp4", "%03d.mp4", "data:x.mp4", "été ü.mp4"):
        shutil.copy(media / "good.mp4", tmp_path / name)
        assert isinstance(decode_clip(name, 0.0, None, DecodeOptions()), DecodedClip), name
    for name in ("http://127.0.0.1:9/a.mp4", "concat:nothing.mp4", "pipe:0", "lavfi:testsrc"):
        assert outcome(Path(name)) == (State.FAILED, Reason.NOT_FOUND)


def test_encrypted_pictures_are_corrupt(tmp_path: Path):
    path = render(
        tmp_path / "a.mp4",
        **H264,
        **AAC,
        encryption_scheme="cenc-aes-ctr",
        encryption_key="0123456789abcdef0123456789abcdef",
        encryption_kid="00112233445566778899aabbccddeeff",
        # The same initialisation vector every time: with some others a picture happens to decode.
        fflags="+bitexact",
    )
    assert outcome(path) == (State.DROPPED, Reason.CORRUPT)


def test_a_stream_without_packets(media: Path, tmp_path: Path):
    # The sound ends before the cut begins.
    long = ffmpeg.input(str(media / "good.mkv"))
    path = tmp_path / "a.mkv"
    run_ffmpeg(ffmpeg.output(long.video, ffmpeg.input(str(media / "good.mkv"), t=1).audio, str(path), c="copy"))
    assert outcome(path, 3.0, 6.0) == (State.DROPPED, Reason.TOO_SHORT)
