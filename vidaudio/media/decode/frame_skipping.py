"""Selection of pictures that need not be decoded: no other picture refers to them, and no grid time shows them.

Packets come in decoding order with their presentation times, so reading a few of them ahead shows which picture will be
on screen at t. Codecs mark pictures that nothing refers to (most B pictures). Leaving those out changes no other
picture, so the kept pictures equal those of a whole decoding bit for bit, at two thirds of its cost. All this relies on
the file's own time stamps. If they are missing, contradictory or not kept by the decoder, or if anything is damaged or
interlaced, `CannotSkipFrames` is raised and the file must be decoded whole.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from fractions import Fraction

import av

from vidaudio.media.decode.frames import ROUNDING_SECONDS
from vidaudio.media.decode.timeline import ticks_to_seconds

# Codecs whose FFmpeg decoders can leave out single unreferenced pictures at any time.
CODECS = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vp8"})
# Containers that stamp pictures in decoding order, or stamp only a few.
UNSTAMPED_CONTAINERS = frozenset({"avi", "mpeg"})
# More than any codec reorders (16 pictures), and more than one second of the fastest camera.
MOST_PACKETS_AHEAD = 300


class CannotSkipFrames(Exception):
    """Error for a file whose time stamps do not show in advance which pictures are needed."""


class FrameSkipper:
    """Buffer that holds video packets back until it is known whether their pictures are needed.

    Args:
        step_seconds: Spacing of the picture grid, seconds.
        zero: Time of the clip's start on the stream's own time line, seconds.
        exact: Whether the picture on screen at each grid time is needed even if no other picture refers to it.
            Otherwise the last referenced picture before it is used.

    Attributes:
        end_seconds: End of the last picture passed on, decoded or not, in seconds from the clip's start.
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
        """Take the next packet in decoding order and yield the decided packets, each with whether it must be decoded.

        Raises:
            CannotSkipFrames: When the packet's time stamps cannot be relied on, or too many packets are undecided.
        """
        if packet.pts is None or packet.dts is None or packet.dts < self._last_dts or packet.pts < packet.dts:
            raise CannotSkipFrames("time stamps are missing or go back")
        if self._time_base is None:
            self._time_base = packet.time_base  # PyAV creates a new object at every access
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
        """Yield the remaining packets, each with whether it must be decoded; for the end of the file."""
        yield from self._decided(at_end=True)

    def shown(self, frame: av.VideoFrame) -> None:
        """Record a decoded frame.

        Raises:
            CannotSkipFrames: When the frame's time stamp is missing or not later than the one before, or it is
                interlaced.
        """
        if frame.pts is None or frame.pts <= self._last_shown:
            raise CannotSkipFrames("the decoder's time stamps are missing or go back")
        if frame.interlaced_frame:
            raise CannotSkipFrames("interlaced pictures may be two fields, of which the decoder would leave out one")
        self._last_shown = frame.pts
        self._expected.discard(frame.pts)

    def finish(self, *, at_end: bool) -> None:
        """Check that every needed picture was decoded.

        Args:
            at_end: Whether the file was read to its end.

        Raises:
            CannotSkipFrames: When a needed picture is missing, or packets are still undecided at the end of the file.
        """
        if self._expected or (at_end and self._waiting):
            raise CannotSkipFrames("the decoder kept back a picture that was needed")

    def _decided(self, *, at_end: bool) -> Iterator[tuple[av.Packet, bool]]:
        while self._waiting:
            packet, seconds = self._waiting[0]
            first_seconds, time_base = self._first_seconds, self._time_base
            assert first_seconds is not None
            assert time_base is not None
            grid_seconds = self._next_grid_seconds(seconds)
            replaced = any(seconds < other and other - ROUNDING_SECONDS <= grid_seconds for _, other in self._waiting)
            if not replaced and not at_end and self._decided_until - ROUNDING_SECONDS <= grid_seconds:
                return
            self._waiting.popleft()
            if not packet.is_discard:
                shown_seconds = ticks_to_seconds(packet.duration or 0, time_base)
                self.end_seconds = max(self.end_seconds, seconds + shown_seconds)
            # The decoder itself must decide about pictures shown before the first key picture.
            needed = self._exact and not replaced and not packet.is_discard
            if needed and (pts := packet.pts) is not None:
                self._expected.add(pts)
            yield packet, needed or seconds <= first_seconds

    def _next_grid_seconds(self, seconds: float) -> float:
        """Return the first grid time at which a picture of this time may be on screen."""
        number = max(0, math.ceil((seconds - ROUNDING_SECONDS) / self._step))
        if number and (number - 1) * self._step >= seconds - ROUNDING_SECONDS:  # the division rounded up
            number -= 1
        return number * self._step
