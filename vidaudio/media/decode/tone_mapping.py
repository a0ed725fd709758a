"""Tone mapping: pictures of high dynamic range or wide gamut as an ordinary display shows them, BT.709, white at 255.

HDR video codes light up to 10,000 cd/m2 (PQ), or leaves room above white (HLG), in the primaries of BT.2020. Decoded as
ordinary video it looks grey and flat. Here its light is decoded (BT.2100), so that the reference white of 203 cd/m2
(BT.2408) becomes white. Its colours are converted to the primaries of BT.709, brighter light is compressed smoothly,
and the result is coded for a display with a gamma of 2.4 (BT.1886). Up to a little below white, that is the SDR version
of the same scene.

Scaling happens before, on coded values, as for all other pictures. A lookup table decodes the light; the rest is a few
operations on a picture of the final size.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import ColorPrimaries, ColorTrc

REFERENCE_WHITE = 203.0  # cd/m2, BT.2408
BRIGHTEST = 1000.0  # cd/m2, mapped to 255; brighter light is clipped
DISPLAY_GAMMA = 2.4  # BT.1886
# Light below this share of white stays unchanged; light above it is compressed.
KNEE = 0.8
# BT.2100: luminance of BT.2020 primaries, and the gamma of HLG's reference display of 1,000 cd/m2.
LUMINANCE = np.array([0.2627, 0.6780, 0.0593], np.float32)
HLG_GAMMA = 1.2
CODES = 1 << 16

_HDR = frozenset({ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67})
# Transfer functions of ordinary pictures, and the value of files that do not declare one.
_SDR = frozenset(
    {ColorTrc.BT709, ColorTrc.UNSPECIFIED, ColorTrc.SMPTE170M, ColorTrc.BT2020_10, ColorTrc.BT2020_12}
    | {ColorTrc.GAMMA22, ColorTrc.IEC61966_2_1, ColorTrc.IEC61966_2_4}
)
# Matrices to BT.709 for light in the primaries of BT.2020 (BT.2087) and of P3 with D65 white.
_TO_BT709: dict[int, np.ndarray] = {
    ColorPrimaries.BT2020: np.array(
        [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]],
        np.float32,
    ),
    ColorPrimaries.SMPTE432: np.array(
        [[1.224940, -0.224940, 0.0], [-0.042057, 1.042057, 0.0], [-0.019638, -0.078636, 1.098274]], np.float32
    ),
}


def transfer_of(frame: av.VideoFrame) -> int:
    """Return a frame's transfer function; PQ if a BT.2020 file states brightness metadata but no transfer function."""
    transfer = frame.color_trc
    if transfer == ColorTrc.UNSPECIFIED and frame.color_primaries == ColorPrimaries.BT2020:
        mastered = {SideDataType.MASTERING_DISPLAY_METADATA, SideDataType.CONTENT_LIGHT_LEVEL}
        every: Iterable[Any] = frame.side_data  # side data, not their names as PyAV's stubs say
        if any(data.type in mastered for data in every):
            return ColorTrc.SMPTE2084
    return transfer


def needs_mapping(frame: av.VideoFrame) -> bool:
    """Return whether a frame's colours differ from those of an ordinary display."""
    transfer = transfer_of(frame)
    return transfer in _HDR or (frame.color_primaries in _TO_BT709 and transfer in _SDR)


def to_sdr(picture: np.ndarray, frame: av.VideoFrame) -> np.ndarray:
    """Return a picture in BT.709, uint8 `[height, width, 3]`.

    Args:
        picture: RGB picture in the frame's transfer function and primaries, uint16 `[height, width, 3]`, full range.
        frame: Source frame; `needs_mapping` is true for it.
    """
    transfer = transfer_of(frame)
    if transfer == ColorTrc.SMPTE2084:
        light = _pq_light()[picture]
    elif transfer == ColorTrc.ARIB_STD_B67:
        light = _hlg_light()[picture]
        # The display's own gamma, applied to luminance only (BT.2100, table 5: the OOTF).
        luminance = np.maximum(light @ LUMINANCE, 1e-6)[..., None]
        light = luminance ** np.float32(HLG_GAMMA - 1) * light * np.float32(BRIGHTEST / REFERENCE_WHITE)
    else:
        light = _gamma_light()[picture]
    # HDR files that do not declare their primaries use those of BT.2020.
    usual = ColorPrimaries.BT2020 if transfer in _HDR else ColorPrimaries.BT709
    primaries = frame.color_primaries if frame.color_primaries != ColorPrimaries.UNSPECIFIED else usual
    if (matrix := _TO_BT709.get(primaries)) is not None:
        light = np.maximum(light @ matrix.T, 0)
    if transfer in _HDR:
        # Compress by the brightest of the three channels, so that a bright colour keeps its hue.
        peak = light.max(axis=-1, keepdims=True)
        light = light * (_compressed(peak) / np.maximum(peak, np.float32(1e-6)))
    coded = np.clip(light, 0, 1) ** np.float32(1 / DISPLAY_GAMMA)
    return (coded * 255 + 0.5).astype(np.uint8)


def _compressed(light: np.ndarray) -> np.ndarray:
    """Return light with values above the knee compressed smoothly, so that the brightest becomes white."""
    above = np.maximum(light - KNEE, 0) / (1 - KNEE)
    most = (BRIGHTEST / REFERENCE_WHITE - KNEE) / (1 - KNEE)
    shoulder = above * (1 + above / most**2) / (1 + above)
    return np.where(light > KNEE, KNEE + (1 - KNEE) * np.minimum(shoulder, 1), light).astype(np.float32)


@functools.cache
def _pq_light() -> np.ndarray:
    """Return the light of every PQ code (SMPTE ST 2084), with reference white 1."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    root = np.linspace(0, 1, CODES) ** (1 / m2)
    light = (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    return (light * (10_000 / REFERENCE_WHITE)).astype(np.float32)


@functools.cache
def _hlg_light() -> np.ndarray:
    """Return the scene light of every HLG code (BT.2100), with the brightest 1."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    code = np.linspace(0, 1, CODES)
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12).astype(np.float32)


@functools.cache
def _gamma_light() -> np.ndarray:
    """Return the light of every code on an ordinary display."""
    return (np.linspace(0, 1, CODES) ** DISPLAY_GAMMA).astype(np.float32)
