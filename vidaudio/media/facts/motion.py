"""How much the picture moves over time, 25 values a second: from frames, or from packet sizes where frames are skipped.

A decoder that leaves frames out does not see the motion between them. What an encoder spends on a frame tells it: a
packet is as large as its picture is hard to predict from those before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

MotionSource = Literal["frames", "packets"]
MOTION_RATE = 25
LUMA_SIDE = 32
# Points of each small square of the picture are averaged, so many along its side.
POINTS = 4
# A frame's change is spread over half the usual time to the next one, within these bounds, before and after its time:
# a low frame rate leaves no holes in the envelope, and a held frame is no motion.
SECONDS_AROUND = (0.02, 0.1)
# Formats whose first plane is 8-bit luma.
LUMA_FORMATS = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p", "nv12", "gray"})
# Kinds of packets with fewer members are compared with others.
LEAST_OF_A_KIND = 5
# Times between decoding and display are told apart in hundredths of a second.
REORDER_STEPS = 100
# Key frames this close to the longest distance between two come from the encoder's clock, not from a cut.
SAME_DISTANCE = 0.02


class MotionTrack:
    """Collector of what shows a clip's motion: every packet's size, and the luma of every decoded frame.

    Times are in seconds from the clip's start.
    """

    def __init__(self) -> None:
        self._packets: list[tuple[float, int, bool, bool, float]] = []
        self._seconds: list[float] = []
        self._differences: list[float] = []
        self._luma: np.ndarray | None = None
        self._reformatter = VideoReformatter()

    def add_packet(
        self, seconds: float, size: int, *, key: bool, disposable: bool, reordered_seconds: float = 0.0
    ) -> None:
        """Add a packet, in any order.

        Args:
            seconds: When it is shown.
            size: Its bytes.
            key: Whether it is a key frame.
            disposable: Whether no other frame is predicted from it.
            reordered_seconds: How long before that it is decoded. It tells how far a frame is from those that it is
                predicted from, and so what it usually costs.
        """
        self._packets.append((seconds, size, key, disposable, reordered_seconds))

    def add_frame(self, frame: av.VideoFrame, seconds: float) -> None:
        """Add a decoded frame; one that is not later than the one before is left out, as from the picture grid."""
        if self._seconds and seconds <= self._seconds[-1]:
            return
        luma = small_luma(frame, self._reformatter)
        difference = 0.0 if self._luma is None else float(np.abs(luma - self._luma).mean())
        self._luma = luma
        self._seconds.append(seconds)
        self._differences.append(difference)

    def finish(self, end_seconds: float, source: MotionSource) -> np.ndarray:
        """Return the motion envelope of a clip, float32 `[times]`, 25 values a second from its start to its end.

        From frames, a value is the mean change of a 32 x 32 luma in its 40 ms, in grey levels of 255. From packets, it
        is the packets' size relative to the median of their kind.
        """
        if source == "frames":
            return resample_events(np.array(self._seconds), np.array(self._differences), end_seconds)
        packets = sorted(self._packets)
        seconds = np.array([packet[0] for packet in packets])
        sizes = _relative_sizes(seconds, packets)
        # A value is a rate: the frames' sum over 40 ms, at a frame rate of 25.
        rate = 1 / np.median(np.diff(seconds)) if len(seconds) > 1 and seconds[-1] > seconds[0] else MOTION_RATE
        return resample_events(seconds, sizes * (MOTION_RATE / rate), end_seconds)


def small_luma(frame: av.VideoFrame, reformatter: VideoReformatter | None = None) -> np.ndarray:
    """Return a frame's luma, averaged to float32 `[32, 32]`, in grey levels of 255.

    It is averaged over 16 points of each square: all points would cost more than the frame's decoding may.
    """
    side = LUMA_SIDE * POINTS
    if frame.format.name in LUMA_FORMATS and min(frame.width, frame.height) >= side:
        plane = frame.planes[0]
        pixels = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        points = pixels[np.ix_(_points(frame.height, side), _points(frame.width, side))]
    else:
        shrunk = (reformatter or VideoReformatter()).reformat(
            frame, width=side, height=side, format="gray", interpolation=Interpolation.FAST_BILINEAR, threads=1
        )
        points = shrunk.to_ndarray()
    return points.reshape(LUMA_SIDE, POINTS, LUMA_SIDE, POINTS).mean(axis=(1, 3), dtype=np.float32)


def _points(length: int, number: int) -> np.ndarray:
    return ((np.arange(number) + 0.5) * (length / number)).astype(np.int64)


def _relative_sizes(seconds: np.ndarray, packets: Sequence[tuple[float, int, bool, bool, float]]) -> np.ndarray:
    """Return each packet's size relative to the median of its kind: referenced or not, and how far reordered.

    A key frame tells nothing where the encoder's clock has put it, and counts 1. Anywhere else a cut has put it there,
    and it is compared with the referenced ones.
    """
    sizes = np.array([packet[1] for packet in packets], float)
    key, disposable = (np.array([packet[kind] for packet in packets], bool) for kind in (2, 3))
    reordered = np.round([packet[4] * REORDER_STEPS for packet in packets])
    relative = np.ones(len(sizes))
    for kind in (disposable, ~disposable):
        predicted = sizes[kind & ~key]
        if not len(predicted) or not (median := np.median(predicted)):
            continue
        relative[kind] = sizes[kind] / median
        for steps in np.unique(reordered[kind & ~key]):
            of_kind = kind & ~key & (reordered == steps)
            if of_kind.sum() >= LEAST_OF_A_KIND and (of_median := np.median(sizes[of_kind])):
                relative[of_kind] = sizes[of_kind] / of_median
    relative[_clocked_keys(seconds, key)] = 1.0
    return relative


def _clocked_keys(seconds: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Return the numbers of the key frames that come at the longest distance, and of the first one."""
    numbers = np.flatnonzero(key)
    if not len(numbers):
        return numbers
    distances = np.diff(seconds[numbers], prepend=-np.inf)
    longest = distances[1:].max(initial=0.0)
    return numbers[distances >= longest * (1 - SAME_DISTANCE)]


def resample_events(seconds: np.ndarray, values: np.ndarray, end_seconds: float) -> np.ndarray:
    """Return events as an envelope of 25 values a second: each bin has the sum of what falls into it.

    An event is spread evenly over the time to the middle between it and its neighbours, half the usual distance at most
    (see `SECONDS_AROUND`), so that the envelope does not depend on the frame rate and the events keep their times.

    Args:
        seconds: Time of each event, ascending `[events]`.
        values: Size of each event `[events]`.
        end_seconds: End of the envelope.
    """
    edges = np.arange(max(0, int(np.ceil(end_seconds * MOTION_RATE - 1e-6))) + 1) / MOTION_RATE
    if not len(seconds) or len(edges) < 2:
        return np.zeros(len(edges) - 1, np.float32)
    between = np.diff(seconds) / 2
    most = float(np.clip(np.median(between), *SECONDS_AROUND)) if len(between) else SECONDS_AROUND[0]
    before = np.minimum(np.concatenate([[np.inf], between]), most)
    after = np.minimum(np.concatenate([between, [np.inf]]), most)
    times = np.stack([seconds - before, seconds + after], axis=1).ravel()
    sums = np.stack([np.cumsum(values) - values, np.cumsum(values)], axis=1).ravel()
    return np.diff(np.interp(edges, times, sums)).astype(np.float32)
