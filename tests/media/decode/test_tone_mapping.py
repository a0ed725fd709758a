"""HDR and wide gamut come out as the SDR version of the same scene, also turned, and ordinary video as it is."""

from __future__ import annotations

from pathlib import Path

import av
import ffmpeg
import numpy as np
import pytest

from tests.media.rendered import PCM
from vidaudio.media.decode.clip import DecodedClip, DecodeOptions, decode_clip
from vidaudio.media.ffmpeg import run_ffmpeg

SIDE, FPS, SECONDS = 224, 5, 3
TO_2020 = np.array([[0.627404, 0.329283, 0.043313], [0.069097, 0.91954, 0.011362], [0.016391, 0.088013, 0.895595]])
WHITE = 203.0


def pq(light: np.ndarray) -> np.ndarray:
    """Code of light, cd/m2 (SMPTE ST 2084)."""
    root = (light / 10_000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * root) / (1 + 18.6875 * root)) ** 78.84375


def hlg(light: np.ndarray) -> np.ndarray:
    """Code of light on a display of 1,000 cd/m2 (BT.2100)."""
    shown = light / 1000
    luminance = np.maximum(shown @ np.array([0.2627, 0.678, 0.0593]), 1e-9)[..., None]
    scene = shown * luminance ** (1 / 1.2 - 1)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)


def coded(path: Path, rgb: np.ndarray, **tags: str) -> Path:
    """A video of one picture `[SIDE, SIDE, 3]` of codes in 0 .. 1, in 10 bits, with what its stream says of it."""
    raw = path.with_suffix(".raw")
    raw.write_bytes((rgb * 65535).round().astype("<u2").tobytes() * FPS * SECONDS)
    picture = ffmpeg.input(str(raw), format="rawvideo", pix_fmt="rgb48le", s=f"{SIDE}x{SIDE}", framerate=FPS)
    matrix = "bt2020" if tags["colorspace"] == "bt2020nc" else "bt709"
    picture = picture.filter("scale", out_color_matrix=matrix, out_range="tv").filter("format", "yuv444p10le")
    params = f"log-level=none:lossless=1:colorprim={tags['color_primaries']}:transfer={tags['color_trc']}"
    params += f":colormatrix={tags['colorspace']}"
    sound = ffmpeg.input("sine=f=440", f="lavfi", t=SECONDS)
    run_ffmpeg(ffmpeg.output(picture, sound, str(path), vcodec="libx265", **{"x265-params": params}, **tags, **PCM))
    return path


def decoded(path: Path) -> tuple[DecodedClip, np.ndarray]:
    clip = decode_clip(str(path), 0.0, None, DecodeOptions())
    assert isinstance(clip, DecodedClip), clip
    return clip, clip.images[1].astype(float)


def scene() -> np.ndarray:
    """Light of a grey ramp and of coloured patches, white 1, in the primaries of BT.709."""
    light = np.repeat(np.linspace(0, 0.95, SIDE)[None, :, None], SIDE, 0).repeat(3, 2)
    colours = [(0.7, 0.05, 0.05), (0.05, 0.6, 0.05), (0.05, 0.05, 0.7), (0.6, 0.5, 0.1), (0.1, 0.5, 0.5)]
    for number, colour in enumerate(colours):
        light[120:, number * 44 : (number + 1) * 44] = colour
    return light


HDR = {"colorspace": "bt2020nc", "color_primaries": "bt2020"}


@pytest.mark.parametrize("kind", ["smpte2084", "arib-std-b67"])
def test_hdr_is_the_sdr_version_of_the_scene(tmp_path: Path, kind: str):
    light = scene()
    expected = light ** (1 / 2.4) * 255
    wide = np.clip(light @ TO_2020.T, 0, None) * WHITE
    path = coded(tmp_path / "hdr.mkv", (pq if kind == "smpte2084" else hlg)(wide), color_trc=kind, **HDR)
    clip, image = decoded(path)
    assert clip.tone_mapped
    inside = np.ones((SIDE, SIDE), bool)
    inside[:, ::44] = inside[:, 1::44] = inside[:, 43::44] = inside[116:124] = False
    dark = light.max(axis=2) < 0.004
    error = np.abs(image - expected).max(axis=2)
    assert error[inside & ~dark & (light.max(axis=2) < 0.8)].max() < 6
    assert error[inside & ~dark].max() < 14  # near white the highlights begin to be compressed


def test_highlights_are_compressed_and_not_cut(tmp_path: Path):
    light = np.repeat(np.geomspace(0.5, 4.9, SIDE)[None, :, None], SIDE, 0).repeat(3, 2)
    _, image = decoded(coded(tmp_path / "bright.mkv", pq(light * WHITE), color_trc="smpte2084", **HDR))
    row = image[SIDE // 2].mean(axis=1)
    assert (np.diff(row) >= -1).all()
    white = int(np.searchsorted(light[0, :, 0], 1.0))
    assert 235 < row[white] < 252
    assert row[-1] > row[white] + 5


@pytest.mark.parametrize("primaries", ["bt2020", "smpte432"])
def test_wide_gamut_in_sdr(tmp_path: Path, primaries: str):
    light = scene()
    to_p3 = np.array([[0.822462, 0.177538, 0], [0.033194, 0.966806, 0], [0.017083, 0.072397, 0.91052]])
    wide = np.clip(light @ (TO_2020 if primaries == "bt2020" else to_p3).T, 0, 1) ** (1 / 2.4)
    tags = {"colorspace": "bt2020nc" if primaries == "bt2020" else "bt709", "color_primaries": primaries}
    clip, image = decoded(coded(tmp_path / "wide.mkv", wide, color_trc="bt709", **tags))
    assert clip.tone_mapped
    middle = image[170, 22 + 44 * np.arange(5)]
    np.testing.assert_allclose(middle, light[170, 22 + 44 * np.arange(5)] ** (1 / 2.4) * 255, atol=6)


def test_ordinary_video_is_left_alone(tmp_path: Path):
    tags = {"colorspace": "bt709", "color_primaries": "bt709", "color_trc": "bt709"}
    light = scene()
    clip, image = decoded(coded(tmp_path / "sdr.mkv", light ** (1 / 2.4), **tags))
    assert not clip.tone_mapped
    assert np.abs(image[60] - light[60] ** (1 / 2.4) * 255).max() < 4


def test_a_cut_keeps_what_says_that_it_is_hdr(tmp_path: Path):
    from vidaudio.media.fetch.cut import cut_windows, read_index

    path = coded(tmp_path / "hdr.mkv", pq(scene() * WHITE), color_trc="smpte2084", **HDR)
    cut = cut_windows(read_index(path), {"c": (0.5, 2.5)}, tmp_path, margin_seconds=0.2)["c"]
    with av.open(str(cut.path)) as container:
        assert next(container.decode(video=0)).color_trc == 16
