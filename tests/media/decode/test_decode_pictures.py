"""Pictures: the upright centre square of what a player shows, whatever the shape, the pixels and the display matrix."""

from __future__ import annotations

import itertools
from pathlib import Path

import av
import ffmpeg
import numpy as np
import pytest
from PIL import Image

from tests.media.rendered import AAC, H264, clock_picture, picture_seconds, remux, render
from vidaudio.media.decode.clip import DecodedClip, DecodeOptions, decode_clip
from vidaudio.media.decode.frames import square_rgb
from vidaudio.media.ffmpeg import run_ffmpeg

FINE = {**H264, **AAC, "crf": 8}


def blots(width: int, height: int) -> np.ndarray:
    """A smooth picture without symmetry, RGB: compression and filters barely change it, turns and shifts do."""
    coarse = np.random.default_rng(5).integers(20, 236, (5, 7, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def centre_square(picture: np.ndarray, size: int = 224) -> np.ndarray:
    """What Pillow makes of it: bicubic to `size` on the short side, then the centre."""
    height, width = picture.shape[:2]
    scale = size / min(width, height)
    scaled = Image.fromarray(picture).resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    left, top = (scaled.width - size) // 2, (scaled.height - size) // 2
    return np.asarray(scaled.crop((left, top, left + size, top + size)))


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


def first_image(path: Path, **options) -> np.ndarray:
    clip = decode_clip(str(path), 0.0, None, DecodeOptions(**options))
    assert isinstance(clip, DecodedClip), clip
    return clip.images[0]


def shown_by_ffmpeg(path: Path, *filters: tuple) -> np.ndarray:
    """The first picture as FFmpeg's own player side shows it, rotation applied."""
    png = path.with_suffix(".png")
    video = ffmpeg.input(str(path)).video
    for name, *arguments in filters:
        video = video.filter(name, *arguments)
    run_ffmpeg(ffmpeg.output(video, str(png), vframes=1, pix_fmt="rgb24"))
    return np.asarray(Image.open(png))


@pytest.mark.parametrize(
    "size",
    [(320, 240), (640, 360), (240, 426), (256, 256), (224, 224), (96, 64), (48, 160), (322, 246), (1280, 544)],
    ids=lambda size: f"{size[0]}x{size[1]}",
)
def test_size_and_filter_are_clips_own(tmp_path: Path, size: tuple[int, int]):
    path = render(tmp_path / "a.mp4", seconds=2.4, fps=5, picture=lambda t: blots(*size), size=size, **FINE)
    with av.open(str(path)) as container:
        whole = next(container.decode(video=0)).to_ndarray(format="rgb24")
    image = first_image(path)
    assert image.shape == (224, 224, 3)
    assert image.dtype == np.uint8
    assert image.flags["C_CONTIGUOUS"]
    # Where chroma of half the size is enlarged, colours differ more: for Pillow they are first made whole.
    assert difference(image, centre_square(whole)) < (1.6 if min(size) >= 224 else 5)
    ours, pillows = (np.asarray(Image.fromarray(i).convert("L"))[:, 8:-8] for i in (image, centre_square(whole)))
    assert difference(ours, pillows) < 1.5
    # It is nowhere aside, not by one pixel.
    aside = [difference(np.roll(ours, shift, axis), pillows) for shift in (-1, 1) for axis in (0, 1)]
    assert difference(ours, pillows) < min(aside)


def test_odd_dimensions(tmp_path: Path):
    # 4:4:4, since halved chroma has no odd sides.
    path = render(
        tmp_path / "a.mkv",
        seconds=2.4,
        fps=5,
        picture=lambda t: blots(321, 241),
        size=(321, 241),
        **FINE | {"pix_fmt": "yuv444p"},
    )
    with av.open(str(path)) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (321, 241)
    assert difference(first_image(path), centre_square(blots(321, 241))) < 2.5


def test_detail_is_filtered_when_shrinking(tmp_path: Path):
    """Fine stripes become grey, as they do in an antialiased resize, and not coarse ones."""
    stripes = np.zeros((896, 896), np.uint8)
    stripes[:, ::4] = stripes[:, 1::4] = 255
    path = render(tmp_path / "a.mp4", seconds=2.4, fps=2, picture=lambda t: stripes, **FINE)
    assert first_image(path)[20:-20, 20:-20].std() < 12


@pytest.mark.parametrize(("aspect", "size"), [("2/1", (160, 240)), ("1/2", (320, 120)), ("4/3", (240, 240))])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_pixels_that_are_not_square(tmp_path: Path, name: str, aspect: str, size: tuple[int, int]):
    wide, high = map(int, aspect.split("/"))
    shown = (size[0] * wide // high, size[1])
    stored = np.asarray(Image.fromarray(blots(*shown)).resize(size, Image.Resampling.BICUBIC))
    path = render(
        tmp_path / name,
        seconds=2.4,
        fps=5,
        picture=lambda t: stored,
        size=size,
        video_filters={"setsar": {"sar": aspect}},
        **FINE,
    )
    assert difference(first_image(path), centre_square(blots(*shown))) < 3
    assert difference(first_image(path), centre_square(stored)) > 6, "the stored picture looks otherwise"


@pytest.mark.parametrize(
    ("rotation", "mirrored", "flipped"), [*itertools.product((0, 90, 180, 270), (False, True), (False, True))]
)
def test_display_matrix(tmp_path: Path, rotation: int, mirrored: bool, flipped: bool):
    plain = render(tmp_path / "a.mp4", seconds=2.4, fps=5, picture=lambda t: blots(320, 240), size=(320, 240), **FINE)
    options: dict = {"display_rotation": rotation}
    options |= {"display_hflip": None} if mirrored else {}
    options |= {"display_vflip": None} if flipped else {}
    path = tmp_path / "turned.mp4"
    run_ffmpeg(ffmpeg.output(ffmpeg.input(str(plain), **options), str(path), c="copy"))
    expected = centre_square(shown_by_ffmpeg(path))
    assert difference(first_image(path), expected) < 3
    if rotation or mirrored or flipped:
        turned = (rotation, mirrored, flipped)
        same = {(180, True, True)}
        assert turned in same or difference(first_image(path), first_image(plain)) > 8


def test_display_matrix_with_pixels_that_are_not_square(tmp_path: Path):
    plain = render(
        tmp_path / "a.mp4",
        seconds=2.4,
        fps=5,
        size=(160, 240),
        picture=lambda t: blots(160, 240),
        video_filters={"setsar": {"sar": "2/1"}},
        **FINE,
    )
    path = tmp_path / "turned.mp4"
    run_ffmpeg(ffmpeg.output(ffmpeg.input(str(plain), display_rotation=90), str(path), c="copy"))
    expected = np.rot90(centre_square(np.asarray(Image.fromarray(blots(160, 240)).resize((320, 240)))))
    assert difference(first_image(path), expected) < 4


PIXELS = {
    "full-range": ("a.mp4", {"vcodec": "libx264", "pix_fmt": "yuvj420p", "preset": "ultrafast", "crf": 8}),
    "mjpeg": ("a.avi", {"vcodec": "mjpeg", "pix_fmt": "yuvj422p", "q:v": 2}),
    "4:2:2": ("a.mkv", {"vcodec": "libx264", "pix_fmt": "yuv422p", "preset": "ultrafast", "crf": 8}),
    "4:4:4": ("a.mp4", {"vcodec": "libx264", "pix_fmt": "yuv444p", "preset": "ultrafast", "crf": 8}),
    "10 bit": ("a.mkv", {"vcodec": "libx264", "pix_fmt": "yuv420p10le", "preset": "ultrafast", "crf": 8}),
    "10 bit hevc": ("a.mp4", {"vcodec": "libx265", "pix_fmt": "yuv420p10le", "preset": "ultrafast", "crf": 12}),
    "12 bit": ("a.mkv", {"vcodec": "ffv1", "pix_fmt": "yuv444p12le"}),
    "rgb": ("a.mkv", {"vcodec": "libx264rgb", "pix_fmt": "rgb24", "preset": "ultrafast", "crf": 8}),
    "rgb planes": ("a.mkv", {"vcodec": "ffv1", "pix_fmt": "gbrp"}),
    "alpha": ("a.mkv", {"vcodec": "ffv1", "pix_fmt": "yuva420p"}),
    "alpha rgb": ("a.mov", {"vcodec": "png", "pix_fmt": "rgba"}),
    "alpha vp9": ("a.webm", {"vcodec": "libvpx-vp9", "pix_fmt": "yuva420p", "deadline": "realtime", "cpu-used": 8}),
    "raw": ("a.avi", {"vcodec": "rawvideo", "pix_fmt": "bgr24"}),
    "interlaced": ("a.mpg", {"vcodec": "mpeg2video", "flags": "+ildct+ilme", "q:v": 2, "pix_fmt": "yuv420p"}),
    "prores": ("a.mov", {"vcodec": "prores_ks", "pix_fmt": "yuv422p10le"}),
}


@pytest.mark.parametrize("kind", PIXELS)
def test_pixel_formats(tmp_path: Path, kind: str):
    name, options = PIXELS[kind]
    sound = {"acodec": "libopus" if name.endswith("webm") else "mp2" if name.endswith("mpg") else "pcm_s16le"}
    path = render(
        tmp_path / name,
        seconds=2.4,
        fps=25 if name.endswith("mpg") else 5,
        size=(320, 240),
        picture=lambda t: blots(320, 240),
        **options,
        **sound,
    )
    assert difference(first_image(path), centre_square(blots(320, 240))) < 4


@pytest.mark.parametrize("pixels", ["gray", "gray10le", "pal8", "monob"])
def test_few_colours(tmp_path: Path, pixels: str):
    codec = {"pal8": "png", "monob": "png"}.get(pixels, "ffv1")
    path = render(tmp_path / "a.mkv", seconds=2.4, vcodec=codec, pix_fmt=pixels, acodec="pcm_s16le", size=(256, 192))
    clip = decode_clip(str(path), 0.0, None, DecodeOptions())
    assert isinstance(clip, DecodedClip), clip
    assert [picture_seconds(image) for image in clip.images] == pytest.approx(clip.frame_seconds)
    if pixels != "pal8":  # FFmpeg's own palette has no greys
        assert difference(clip.images[0][..., 0], clip.images[0][..., 2]) < 1.5


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m", "bt2020nc"])
def test_colour_matrix_is_the_files_own(tmp_path: Path, matrix: str):
    colours = np.zeros((240, 320, 3), np.uint8)
    colours[:, :160], colours[:, 160:] = (200, 30, 40), (30, 180, 60)
    path = render(
        tmp_path / "a.mp4",
        seconds=2.4,
        fps=5,
        picture=lambda t: colours,
        video_filters={"scale": {"out_color_matrix": {"bt2020nc": "bt2020"}.get(matrix, matrix)}},
        colorspace=matrix,
        **FINE,
    )
    image = first_image(path)
    assert difference(image[20:200, 20:90], colours[:1, :1]) < 5
    assert difference(image[20:200, 130:200], colours[:1, -1:]) < 5


def test_other_sizes(tmp_path: Path):
    path = render(tmp_path / "a.mp4", seconds=2.4, fps=5, picture=lambda t: blots(320, 240), size=(320, 240), **FINE)
    for size in (64, 336):
        assert difference(first_image(path, frame_size=size), centre_square(blots(320, 240), size)) < 3


def test_a_strip_costs_no_gigabytes(tmp_path: Path):
    frame = av.VideoFrame(16384, 2, "gray")
    image = square_rgb(frame, 224)
    assert image.shape == (224, 224, 3)
    assert square_rgb(av.VideoFrame(2, 16384, "gray"), 224).shape == (224, 224, 3)


def test_motion_tells_a_still_from_a_cut(tmp_path: Path):
    still = render(tmp_path / "still.mp4", seconds=3, fps=5, picture=lambda t: blots(128, 96), size=(128, 96), **FINE)
    moving = render(tmp_path / "moving.mp4", seconds=3, fps=5, **FINE)
    for path, low, high in ((still, 0.0, 1.0), (moving, 10.0, 255.0)):
        clip = decode_clip(str(path), 0.0, None, DecodeOptions())
        assert low <= clip.motion <= high


def test_pictures_that_come_again_or_go_back_in_time_are_not_shown(tmp_path: Path):
    source = render(tmp_path / "a.mkv", seconds=3, **H264 | {"bf": 0, "g": 1}, **AAC)

    def stutter(packet):
        if packet.stream.type == "video" and 1.5 < packet.pts * packet.time_base < 2.0:
            packet.pts = packet.dts = round(1.5 / packet.time_base)  # half a second arrives stamped the same
        return packet

    # The muxer would refuse such stamps in most containers; NUT and raw concatenation exist in the wild.
    try:
        path = remux(source, tmp_path / "b.mkv", stutter)
    except av.FFmpegError:
        pytest.fail("the muxer refused, so that nothing is tested here")
    clip = decode_clip(str(path), 0.0, None, DecodeOptions(frames_per_second=5))
    assert isinstance(clip, DecodedClip), clip
    assert clip.frame_seconds == sorted(clip.frame_seconds)
    told = [picture_seconds(image) for image in clip.images]
    assert told == sorted(told)
    assert told[-1] == pytest.approx(2.8)


def test_the_clock_itself():
    for milliseconds in (0, 40, 999, 12_345, 65_535):
        picture = np.repeat(clock_picture(milliseconds / 1000, 224, 224)[:, :, None], 3, axis=2)
        assert picture_seconds(picture) == milliseconds / 1000
