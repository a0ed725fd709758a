"""Interlaced frames become pictures of one moment, at the frame's own time; progressive ones stay as they are."""

from __future__ import annotations

from pathlib import Path

import av
import ffmpeg
import numpy as np
import pytest

from tests.media.rendered import AAC, OPUS, PCM, render
from vidaudio.media.decode import frames
from vidaudio.media.decode.clip import DecodedClip, DecodeOptions, decode_clip
from vidaudio.media.decode.deinterlace import deinterlaced, is_interlaced
from vidaudio.media.ffmpeg import run_ffmpeg

WIDTH, HEIGHT, BAR, FIRST_LEFT = 320, 240, 20, 50
PIXELS_PER_SECOND = FIELDS_PER_SECOND = 50
INTERLACED = {"flags": "+ilme+ildct", "pix_fmt": "yuv420p"}
H264 = INTERLACED | {"vcodec": "libx264", "preset": "ultrafast", "crf": 14, "bf": 2}
MPEG2 = INTERLACED | {"vcodec": "mpeg2video", "q:v": 2, "bf": 2}
MEDIA = {
    "h264.mp4": (H264 | AAC, "top"),
    "h264-bottom.mkv": (H264 | OPUS, "bottom"),
    "mpeg2.ts": (MPEG2 | {"acodec": "mp2"}, "top"),
    "mpeg2-bottom.mpg": (MPEG2 | {"acodec": "mp2"}, "bottom"),
    "prores.mov": (INTERLACED | {"vcodec": "prores_ks", "pix_fmt": "yuv422p10le"} | PCM, "top"),
    "full-range.mkv": (H264 | {"pix_fmt": "yuvj420p"} | OPUS, "top"),
}
MODES = ("exact", "fast", "whole")


def bar(seconds: float) -> np.ndarray:
    """A vertical bar that moves steadily: in a woven frame its sides are combs."""
    picture = np.full((HEIGHT, WIDTH), 50, np.uint8)
    left = round(FIRST_LEFT + seconds * PIXELS_PER_SECOND)
    picture[:, left : left + BAR] = 200
    return picture


def bar_seconds(image: np.ndarray) -> float:
    """The moment that a square picture of the bar shows, by the middle of its bright columns."""
    bright = (image[..., 0].mean(axis=0) - 50).clip(0)
    middle = float((bright * np.arange(len(bright))).sum() / bright.sum()) + 0.5
    return (middle + (WIDTH - HEIGHT) / 2 - FIRST_LEFT - BAR / 2) / PIXELS_PER_SECOND


def combing(image: np.ndarray) -> float:
    """How far each line is from the mean of its neighbours, grey levels: in a picture of upright bars, combs alone."""
    lines = image[..., 0].astype(float)
    return float(np.abs(lines[1:-1] - (lines[:-2] + lines[2:]) / 2).mean())


def interlaced(path: Path, encoding: dict, first: str = "top", **options) -> Path:
    """Fifty moments a second, two to a frame."""
    weave = {"tinterlace": {"mode": f"interleave_{first}"}}
    fields = {"fps": FIELDS_PER_SECOND, "size": (WIDTH, HEIGHT), "seconds": 3.0, "video_filters": weave}
    return render(path, picture=bar, **fields | options, **encoding)


def decoded(path: Path, mode: str = "exact", **options) -> DecodedClip:
    clip = decode_clip(str(path), 0.0, None, DecodeOptions(frame_size=HEIGHT, decode=mode, **options))
    assert isinstance(clip, DecodedClip), clip
    return clip


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", MEDIA)
def test_pictures_are_of_one_moment_and_that_is_their_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, mode: str
):
    path = interlaced(tmp_path / name, *MEDIA[name])
    clip = decoded(path, mode, frames_per_second=3.0)
    # The clock of a file may begin with its sound, a little before its first picture.
    late = clip.frame_seconds[0]
    for image, at in zip(clip.images, clip.frame_seconds, strict=True):
        assert bar_seconds(image) == pytest.approx(at - late, abs=0.3 / FIELDS_PER_SECOND)

    monkeypatch.setattr(frames, "is_interlaced", lambda frame: False)
    woven = decoded(path, mode, frames_per_second=3.0)
    assert woven.frame_seconds == clip.frame_seconds
    assert woven.grid_seconds == clip.grid_seconds
    assert min(combing(image) for image in woven.images) > 1, "nothing was woven here to begin with"
    assert max(combing(image) for image in clip.images) < 0.1 * min(combing(image) for image in woven.images)
    # Brightness and contrast are as they were.
    for image, other in zip(clip.images, woven.images, strict=True):
        assert image.mean() == pytest.approx(other.mean(), abs=1.0)
        assert image.std() == pytest.approx(other.std(), abs=1.5)


@pytest.mark.parametrize("mode", MODES)
def test_progressive_pictures_are_not_taken_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str):
    def never(*_: object) -> None:
        raise AssertionError("a progressive frame was taken apart")

    monkeypatch.setattr(frames, "deinterlaced", never)
    path = interlaced(tmp_path / "a.mp4", H264 | {"flags": "+bitexact", **AAC}, fps=25, video_filters={})
    clip = decoded(path, mode)
    assert [bar_seconds(image) for image in clip.images] == pytest.approx(clip.frame_seconds, abs=0.006)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("encoding", [H264 | AAC, MPEG2 | {"acodec": "mp2"}], ids=["h264", "mpeg2"])
def test_a_stream_that_becomes_interlaced(tmp_path: Path, encoding: dict, mode: str):
    """As broadcasts do between programmes."""
    first = interlaced(tmp_path / "a.ts", encoding | {"flags": "+bitexact"}, fps=25, video_filters={})
    then = interlaced(tmp_path / "b.ts", encoding | {"output_ts_offset": 3.0, "muxdelay": 0})
    whole = tmp_path / "whole.ts"
    whole.write_bytes(first.read_bytes() + then.read_bytes())
    clip = decoded(whole, mode, frames_per_second=2.0)
    kinds = [combing(image) for image in clip.images]
    assert len(kinds) >= 10
    assert max(kinds) < 0.3
    told = [bar_seconds(image) for image in clip.images]
    late = clip.frame_seconds[0]
    # The second programme begins anew, 3 s later by its stamps, give or take the muxer's delays.
    assert told[:5] == pytest.approx([at - late for at in clip.frame_seconds[:5]], abs=0.006)
    after = [at - t for at, t in zip(clip.frame_seconds[7:], told[7:], strict=True)]
    assert np.ptp(after) < 0.012
    assert np.mean(after) == pytest.approx(3.0, abs=1.5)


def test_telecined_film(tmp_path: Path):
    """Two whole frames and three woven ones in turn, each flagged for itself."""
    film = {"fps": 24, "video_filters": {"telecine": {"pattern": "23"}}}
    path = interlaced(tmp_path / "a.mkv", {"vcodec": "ffv1", "pix_fmt": "yuv420p", **PCM}, **film)
    with av.open(str(path)) as container:
        flags = {frame.interlaced_frame for frame in container.decode(video=0)}
    assert flags == {True, False}
    clip = decoded(path, frames_per_second=30.0)
    assert max(combing(image) for image in clip.images) < 0.3
    told = [bar_seconds(image) for image in clip.images]
    assert told == pytest.approx(clip.frame_seconds, abs=1.5 / 24)


def test_turned_and_interlaced(tmp_path: Path):
    plain = interlaced(tmp_path / "a.mp4", H264 | AAC)
    turned = tmp_path / "turned.mp4"
    run_ffmpeg(ffmpeg.output(ffmpeg.input(str(plain), display_rotation=90), str(turned), c="copy"))
    for image, other in zip(decoded(turned).images, decoded(plain).images, strict=True):
        np.testing.assert_allclose(image.astype(int), np.rot90(other).astype(int), atol=3)


def test_neighbours_of_another_kind_are_not_asked(tmp_path: Path):
    """Where the size changes, and at either end, a frame is taken apart by itself."""
    with av.open(str(interlaced(tmp_path / "a.mp4", H264 | AAC))) as container:
        woven = [frame for frame, _ in zip(container.decode(video=0), range(12), strict=False)]
    frame, other = woven[10], woven[9].reformat(width=160, height=120)
    assert is_interlaced(frame)
    alone = deinterlaced(None, frame, None).to_ndarray(format="rgb24")
    assert combing(alone) < 0.2 < combing(frame.to_ndarray(format="rgb24"))
    np.testing.assert_array_equal(deinterlaced(other, frame, other).to_ndarray(format="rgb24"), alone)


def test_a_strip_is_left_as_it_is():
    assert not is_interlaced(av.VideoFrame(320, 2, "gray"))
