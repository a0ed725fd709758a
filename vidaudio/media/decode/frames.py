"""Pictures on a time grid: for each grid time the frame on screen at that moment, upright, square and deinterlaced.

The frame at t is the last one with a presentation time <= t. Frames arrive in presentation order, so it is enough to
keep one earlier frame (two if frames are interlaced). Only frames that are kept are deinterlaced or converted to RGB.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import ColorPrimaries, Colorspace, Interpolation, VideoReformatter

from vidaudio.media.decode.deinterlace import deinterlaced, is_interlaced
from vidaudio.media.decode.tone_mapping import needs_mapping, to_sdr

# Pictures may begin this much after the file's clock (an encoder's delay); the first one still fills the first grid
# time.
LATE_FIRST_FRAME_SECONDS = 0.5
# Limit of a resized picture's long side, in multiples of its short side: a strip of 2 x 16384 pixels would take
# gigabytes, of which little is kept.
LONGEST_SIDE = 32
# A picture this little after a grid time counts as in time: in floating point, 2.7 s less 1.7 s is more than 1 s.
ROUNDING_SECONDS = 1e-6
# Matrix of colour differences for an HDR file that does not declare one: that of BT.2020.
HDR_MATRIX = Colorspace.BT2020
UNSPECIFIED_MATRIX = 2


@dataclass(slots=True)
class FrameGrid:
    """Collector of the frames displayed at `0, step, 2 step, ...` seconds of a clip.

    Attributes:
        step_seconds: Spacing of the grid, seconds.
        size: Side of the square pictures, pixels.
        span_seconds: Length of the clip; nothing is collected after it.
        pixel_aspect: Width over height of one stored pixel as displayed.
        images: RGB pictures, uint8 `[size, size, 3]`.
        frame_seconds: True presentation time of each picture, relative to the clip's start.
        grid_seconds: Time at which each picture is on screen: its grid time, or its own time if it is the file's first
            frame and appears a little later.
        motion: Largest mean absolute difference between consecutive pictures, grey levels of 255; 0 for a still.
        end_seconds: End of the last frame seen, relative to the clip's start.
        seconds: Duration for which there is a picture.
        tone_mapped: Whether pictures of high dynamic range or wide gamut were converted to BT.709.
    """

    step_seconds: float
    size: int
    span_seconds: float
    pixel_aspect: float = 1.0
    images: list[np.ndarray] = field(default_factory=list)
    frame_seconds: list[float] = field(default_factory=list)
    grid_seconds: list[float] = field(default_factory=list)
    end_seconds: float = 0.0
    motion: float = 0.0
    tone_mapped: bool = False
    _reformatter: VideoReformatter = field(default_factory=VideoReformatter)
    _next: int = 0
    _before_previous: av.VideoFrame | None = None
    _previous: av.VideoFrame | None = None
    _previous_seconds: float = 0.0
    _previous_taken: np.ndarray | None = None

    def push(self, frame: av.VideoFrame, seconds: float, duration_seconds: float) -> None:
        """Add the next frame, in order of time; `seconds` is relative to the clip's start."""
        if self._previous is not None and seconds <= self._previous_seconds:
            return  # a repeated or backward time stamp: the picture already on screen stays
        self._take_until(min(seconds, self.span_seconds), frame)
        self._before_previous = self._previous
        self._previous, self._previous_seconds, self._previous_taken = frame, seconds, None
        self.end_seconds = seconds + duration_seconds

    def extend(self, end_seconds: float) -> None:
        """Keep the last picture on screen until `end_seconds`, because the pictures after it were not decoded."""
        if self._previous is not None:
            self.end_seconds = max(self.end_seconds, end_seconds)

    def finish(self) -> None:
        """Close the grid at the clip's end (exclusive) or at the end of the pictures, whichever comes first."""
        self.end_seconds = min(self.end_seconds, self.span_seconds)
        self._take_until(self.end_seconds, None)
        self._previous = self._before_previous = None

    def passed(self) -> bool:
        """Return whether no later frame can matter."""
        return self._previous is not None and self._previous_seconds >= self.span_seconds

    @property
    def seconds(self) -> float:
        """Duration from the first picture to the end of the last one, seconds; 0 without pictures."""
        return max(0.0, self.end_seconds - self.grid_seconds[0]) if self.grid_seconds else 0.0

    def _take_until(self, seconds: float, following: av.VideoFrame | None) -> None:
        if self._previous is None:
            return
        while (t := self._next * self.step_seconds) < seconds - ROUNDING_SECONDS:
            late = self._previous_seconds - t
            if late > LATE_FIRST_FRAME_SECONDS or (late > ROUNDING_SECONDS and self.images):
                self._next += 1  # nothing on screen yet at this time
                continue
            if self._previous_taken is None:
                picture = self._previous
                if is_interlaced(picture):
                    picture = deinterlaced(self._before_previous, picture, following)
                self.tone_mapped |= needs_mapping(picture)
                self._previous_taken = square_rgb(picture, self.size, self.pixel_aspect, self._reformatter)
            if self.images:
                difference = np.abs(self.images[-1][::8, ::8].astype(np.int16) - self._previous_taken[::8, ::8])
                self.motion = max(self.motion, float(difference.mean()))
            self.images.append(self._previous_taken)
            self.frame_seconds.append(self._previous_seconds)
            self.grid_seconds.append(self._previous_seconds if late > ROUNDING_SECONDS else t)
            self._next += 1


def square_rgb(
    frame: av.VideoFrame, size: int, pixel_aspect: float = 1.0, reformatter: VideoReformatter | None = None
) -> np.ndarray:
    """Return the upright centre square of a frame, uint8 RGB `[size, size, 3]`.

    The displayed picture (with pixel aspect and rotation) is resized bicubically to `size` on its short side, then
    cropped at its centre, as CLIP's own preprocessing does. High dynamic range and wide gamut are mapped to BT.709.
    """
    width, height = frame.width, frame.height
    displayed = (width * pixel_aspect, height) if pixel_aspect > 1 else (width, height / pixel_aspect)
    scale = size / min(displayed)
    longest = size * LONGEST_SIDE
    scaled_width = min(max(size, round(displayed[0] * scale)), longest)
    scaled_height = min(max(size, round(displayed[1] * scale)), longest)
    mapped = needs_mapping(frame)
    untold = frame.colorspace == UNSPECIFIED_MATRIX and frame.color_primaries != ColorPrimaries.SMPTE432
    rgb = (
        (reformatter or VideoReformatter())
        .reformat(
            frame,
            width=scaled_width,
            height=scaled_height,
            format="rgb48le" if mapped else "rgb24",
            src_colorspace=HDR_MATRIX if mapped and untold else None,
            interpolation=Interpolation.BICUBIC,
            threads=1,
        )
        .to_ndarray()
    )
    left, top = (scaled_width - size) // 2, (scaled_height - size) // 2
    square = rgb[top : top + size, left : left + size]
    return np.ascontiguousarray(upright(to_sdr(square, frame) if mapped else square, frame))


def upright(picture: np.ndarray, frame: av.VideoFrame) -> np.ndarray:
    """Return a frame's picture, turned and mirrored as its display matrix says, in quarter turns."""
    every: Iterable[Any] = frame.side_data  # side data, not their names as PyAV's stubs say
    matrix = next((data for data in every if data.type == SideDataType.DISPLAYMATRIX), None)
    if matrix is None:
        return picture
    # Fixed-point rows (a b u), (c d v), (x y w): a point is shown at (a x + c y, b x + d y).
    a, b, _, c, d = np.frombuffer(bytes(matrix)[:20], np.int32).astype(float)
    if max(abs(b), abs(c)) > max(abs(a), abs(d)):
        picture = picture.swapaxes(0, 1)
        horizontal, vertical = c, b
    else:
        horizontal, vertical = a, d
    return picture[:: -1 if vertical < 0 else 1, :: -1 if horizontal < 0 else 1]
