"""Which pictures need not be decoded: those that no other refers to and that are not on screen at a grid time.

Packets come in decoding order with their presentation times, so a few of them read ahead tell which picture will be on
screen at t. Codecs mark pictures that nothing refers to (most B pictures); leaving those out changes no other picture.
So the pictures kept are, bit for bit, those of a whole decoding, at two thirds of its cost. All this rests on the
file's own time stamps: where they are missing, contradictory or not kept by the decoder, or anything is damaged or
interlaced, the file is `CannotSkipFrames`, and is to be decoded whole.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from fractions import Fraction

import av

from vidaudio.media.decode.frames import ROUNDING_SECONDS
from vidaudio.media.decode.timeline import ticks_to_seconds

# Codecs whose decoders in FFmpeg leave out unreferenced pictures one by one, at any time.
CODECS = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vp8"})
# Containers that stamp pictures in the order of decoding, or few of them.
UNSTAMPED_CONTAINERS = frozenset({"avi", "mpeg"})
# More than the reordering of any codec (16 pictures) and than a second of the fastest camera.
MOST_PACKETS_AHEAD = 300


class CannotSkipFrames(Exception):
    """The time stamps of this file do not tell beforehand which pictures are needed."""


class FrameSkipper:
    """Holds video packets back until it is known whether their pictures are needed.

    Args:
        step_seconds: Of the picture grid.
        zero: Time of the clip's start on the stream's own time line, seconds.
        exact: Whether the picture on screen at each grid time is needed even where nothing refers to it. Otherwise the
            last referenced one before it must do.

    Attributes:
        end_seconds: Where the last picture passed on ends, on the clip's clock, decoded or not.
    """

    def __init__(self, step_seconds: float, zero: float, *, exact: bool) -> None:
        self.end_seconds = -math.inf
        self._step, self._zero, self._exact = step_seconds, zero, exact
        self._waiting: deque[tuple[av.Packet, float]] = deque()
        self._last_dts = self._last_shown = -math.inf
        self._decided_until = -math.inf
        self._first_seconds: float | None = None
        self._time_base: Fraction | None = None
        self._expected: set[int] = set()

    def push(self, packet: av.Packet) -> Iterator[tuple[av.Packet, bool]]:
        """Take the next packet in decoding order; gives those that are decided, and whether each must be decoded.

        Raises:
            Unpredictable: The packet's time stamps cannot be relied on.
        """
        if packet.pts is None or packet.dts is None or packet.dts < self._last_dts or packet.pts < packet.dts:
            raise CannotSkipFrames("time stamps are missing or go back")
        if self._time_base is None:
            self._time_base = packet.time_base  # made anew at every access
        seconds = ticks_to_seconds(packet.pts, self._time_base) - self._zero
        if any(seconds == other for _, other in self._waiting):
            raise CannotSkipFrames("two pictures at one time")
        self._last_dts = packet.dts
        self._decided_until = ticks_to_seconds(packet.dts, self._time_base) - self._zero
        if self._first_seconds is None:
            self._first_seconds = seconds
        self._waiting.append((packet, seconds))
        if len(self._waiting) > MOST_PACKETS_AHEAD:
            raise CannotSkipFrames("too many pictures between two grid times")
        yield from self._decided(at_end=False)

    def drain(self) -> Iterator[tuple[av.Packet, bool]]:
        """The packets left when the file ends."""
        yield from self._decided(at_end=True)

    def shown(self, frame: av.VideoFrame) -> None:
        """Note what the decoder made of it.

        Raises:
            Unpredictable: It stamps pictures otherwise than their packets, or this one is interlaced.
        """
        if frame.pts is None or frame.pts <= self._last_shown:
            raise CannotSkipFrames("the decoder's time stamps are missing or go back")
        if frame.interlaced_frame:
            raise CannotSkipFrames("interlaced pictures may be two fields, of which the decoder would leave out one")
        self._last_shown = frame.pts
        self._expected.discard(frame.pts)

    def finish(self, *, at_end: bool) -> None:
        """Check that every picture that was needed came; `at_end` where nothing more could be read of the file.

        Raises:
            Unpredictable: One did not.
        """
        if self._expected or (at_end and self._waiting):
            raise CannotSkipFrames("the decoder kept back a picture that was needed")

    def _decided(self, *, at_end: bool) -> Iterator[tuple[av.Packet, bool]]:
        while self._waiting:
            packet, seconds = self._waiting[0]
            grid_seconds = self._next_grid_seconds(seconds)
            replaced = any(seconds < other and other - ROUNDING_SECONDS <= grid_seconds for _, other in self._waiting)
            if not replaced and not at_end and self._decided_until - ROUNDING_SECONDS <= grid_seconds:
                return
            self._waiting.popleft()
            if not packet.is_discard:
                shown_seconds = ticks_to_seconds(packet.duration or 0, self._time_base)
                self.end_seconds = max(self.end_seconds, seconds + shown_seconds)
            # What is shown before the first key picture is for the decoder to judge.
            needed = self._exact and not replaced and not packet.is_discard
            if needed:
                self._expected.add(packet.pts)
            yield packet, needed or seconds <= self._first_seconds

    def _next_grid_seconds(self, seconds: float) -> float:
        """The first grid time at which a picture of this time may be on screen."""
        number = max(0, math.ceil((seconds - ROUNDING_SECONDS) / self._step))
        if number and (number - 1) * self._step >= seconds - ROUNDING_SECONDS:  # the division rounded up
            number -= 1
        return number * self._step
