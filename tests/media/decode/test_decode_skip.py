"""Pictures that are not decoded are not missed: exact is the whole decoding, bit for bit; fast tells its own times."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import av
import numpy as np
import pytest

from tests.media.rendered import (
    AAC,
    FPS,
    H264,
    MPEG4,
    OPUS,
    PCM,
    VP8,
    VP9,
    assert_in_sync,
    picture_seconds,
    remux,
    render,
)
from vidaudio.media.decode.clip import DecodedClip, DecodeOptions, decode_clip

# Name: encoding, and how many frames `fast` may be early: the longest row of pictures that nothing refers to.
MEDIA = {
    "h264.mp4": (H264 | AAC, 2),
    "h264.mkv": (H264 | OPUS, 2),
    "h264.ts": (H264 | AAC, 2),
    "h264.flv": (H264 | AAC, 2),
    "fragmented.mp4": (H264 | AAC | {"movflags": "frag_keyframe+empty_moov+default_base_moof"}, 2),
    "many-b.mp4": (H264 | AAC | {"bf": 8, "x264-params": "b-adapt=0:b-pyramid=none"}, 8),
    "pyramid.mkv": (H264 | AAC | {"bf": 7, "x264-params": "b-adapt=0:b-pyramid=normal"}, 7),
    "open-gop.ts": (H264 | AAC | {"x264-params": "open-gop=1:bframes=3"}, 3),
    "hevc.mp4": ({"vcodec": "libx265", "preset": "ultrafast", "pix_fmt": "yuv420p"} | AAC, 4),
    "mpeg4.mkv": (MPEG4 | PCM, 2),
    "mpeg2.ts": ({"vcodec": "mpeg2video", "q:v": 3, "bf": 2, "g": 50, "acodec": "mp2"}, 2),
    "vp8.webm": (VP8 | OPUS, 1),
    # Decoded whole.
    "vp9.webm": (VP9 | OPUS, 0),
    "h264.avi": (H264 | PCM, 0),
    "mpeg2.mpg": ({"vcodec": "mpeg2video", "q:v": 3, "bf": 2, "g": 50, "acodec": "mp2"}, 0),
}
SPANS = [(0.0, None), (1.7, 5.1), (2.3, 6.0)]


def decoded(path: Path, mode: str, start: float = 0.0, end: float | None = None, **options) -> DecodedClip:
    clip = decode_clip(str(path), start, end, DecodeOptions(decode=mode, **options))
    assert isinstance(clip, DecodedClip), clip
    return clip


def assert_equal(one: DecodedClip, other: DecodedClip) -> None:
    # Motion is told by packets where frames are left out.
    for field in (field for field in fields(DecodedClip) if not field.name.startswith("motion_")):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name), err_msg=field.name)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("skip")
    for name, (encoding, _) in MEDIA.items():
        render(folder / name, **({"pix_fmt": "yuv420p"} | encoding))
    return folder


@pytest.mark.parametrize("name", MEDIA)
def test_exact_is_the_whole_decoding(media: Path, name: str):
    for start, end in SPANS:
        for rate in (1.0, 3.0, 60.0):
            options = {"frames_per_second": rate, "frame_size": 64}
            assert_equal(
                decoded(media / name, "exact", start, end, **options),
                decoded(media / name, "whole", start, end, **options),
            )


@pytest.mark.parametrize("name", MEDIA)
def test_fast_tells_the_time_of_a_picture_not_long_before(media: Path, name: str):
    gap = MEDIA[name][1] / FPS
    for start, end in SPANS:
        whole, fast = (decoded(media / name, mode, start, end) for mode in ("whole", "fast"))
        assert len(fast.frame_seconds) == len(fast.images)
        assert fast.grid_seconds == whole.grid_seconds
        assert fast.video_seconds == pytest.approx(whole.video_seconds)
        np.testing.assert_array_equal(fast.samples, whole.samples)
        every = decoded(media / name, "whole", max(0.0, start - 0.4), end, frames_per_second=4 * FPS)
        times = np.array(every.frame_seconds) + max(0.0, start - 0.4) - start
        for image, at, t, exact in zip(
            fast.images, fast.frame_seconds, fast.grid_seconds, whole.frame_seconds, strict=True
        ):
            assert at <= t + 1e-6
            assert 0 <= exact - at <= gap + 1e-6
            nearest = int(np.abs(times - at).argmin())
            assert times[nearest] == pytest.approx(at, abs=1e-6), "the time of no picture"
            np.testing.assert_array_equal(image, every.images[nearest])


def test_pictures_are_left_out(media: Path, monkeypatch: pytest.MonkeyPatch):
    """What all this is for: far fewer pictures come out of the decoder."""
    shown: list[float] = []
    push = decode_clip.__globals__["FrameGrid"].push
    monkeypatch.setattr(
        decode_clip.__globals__["FrameGrid"], "push", lambda grid, *args: (shown.append(args[1]), push(grid, *args))[1]
    )
    counts = {}
    for mode in ("whole", "exact", "fast"):
        shown.clear()
        decoded(media / "many-b.mp4", mode)
        counts[mode] = len(shown)
    assert counts["whole"] == 6 * FPS
    assert counts["fast"] <= counts["exact"] <= counts["fast"] + 8 < counts["whole"] / 3


def test_a_grid_time_is_not_lost_to_rounding(media: Path):
    """2.72 s less 1.72 s is a little more than 1 s in floating point."""
    for mode in ("whole", "exact"):
        for start in np.arange(1, 80) / FPS:
            clip = decoded(media / "many-b.mp4", mode, float(start), float(start) + 2.5, frame_size=16)
            assert clip.grid_seconds == [0.0, 1.0, 2.0]
            assert clip.frame_seconds == pytest.approx([0.0, 1.0, 2.0])


def test_stamps_that_contradict_each_other_cost_time_and_no_picture(media: Path, tmp_path: Path):
    def swapped(packet):
        if packet.stream.type == "video" and packet.pts * packet.time_base > 3:
            packet.pts = packet.dts
        return packet

    path = remux(media / "h264.mkv", tmp_path / "swapped.mkv", swapped)
    with av.open(str(path)) as container:
        assert container.streams.video
    assert_equal(decoded(path, "exact"), decoded(path, "whole"))


def test_damage_is_decoded_whole(media: Path, tmp_path: Path):
    data = np.frombuffer((media / "h264.mkv").read_bytes(), np.uint8)
    compared = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        damaged = data.copy()
        damaged[rng.integers(5000, len(data), 40)] = rng.integers(0, 256, 40)
        path = tmp_path / "damaged.mkv"
        path.write_bytes(damaged.tobytes())
        whole, exact = (decode_clip(str(path), 0.0, None, DecodeOptions(decode=mode)) for mode in ("whole", "exact"))
        assert type(whole) is type(exact)
        if isinstance(whole, DecodedClip):
            compared += 1
            assert exact.grid_seconds == whole.grid_seconds
            assert exact.decode_errors == whole.decode_errors
    assert compared > 5


def test_real_clips(shared_data: Path):
    paths = sorted((shared_data / "clips").iterdir())[::6]
    assert len(paths) > 5
    for path in paths:
        assert_equal(decoded(path, "exact", 0.4, 4.0), decoded(path, "whole", 0.4, 4.0))


def test_fast_is_in_sync_by_its_own_times(media: Path):
    clip = decoded(media / "many-b.mp4", "fast")
    assert_in_sync(clip)
    assert [picture_seconds(image) for image in clip.images] == pytest.approx(clip.frame_seconds)
    assert clip.frame_seconds != clip.grid_seconds
