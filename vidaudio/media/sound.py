"""A clip's sound as one run of mono samples, placed on the clip's clock by presentation times, never by counting alone.

Decoded blocks are resampled as a stream. Where the time stamps and the count of samples drift apart (lost packets,
edits), the gap is filled with silence or the overlap is cut, so that sound and picture stay together to the end.
"""

from __future__ import annotations

import av
import numpy as np

# Time stamps of some containers are rounded to a millisecond or jitter by a packet: only larger steps are real.
GAP_SECONDS = 0.1


class SoundTrack:
    """Collects mono int16 samples between two times of a clip.

    Attributes:
        start_seconds: Time of the first sample collected, relative to the clip's start; None before any.
    """

    def __init__(self, sample_rate: int, end_seconds: float) -> None:
        self.sample_rate = sample_rate
        self.start_seconds: float | None = None
        self.gaps = 0
        self._end_seconds = end_seconds
        self._pieces: list[np.ndarray] = []
        self._count = 0
        self._resampler: av.AudioResampler | None = None
        self._format: tuple[str, str, int] | None = None
        self._segment_start = 0.0
        self._segment_input_seconds = 0.0

    def push(self, frame: av.AudioFrame, seconds: float) -> None:
        """Append one decoded block whose first sample is heard at `seconds`."""
        described = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._resampler is None:
            self._open(described, seconds)
            if self.start_seconds is None:
                self.start_seconds = seconds
        drift = seconds - (self._segment_start + self._segment_input_seconds)
        if described != self._format or abs(drift) > GAP_SECONDS:
            self._drain()
            self._align(seconds)
            self._open(described, seconds)
            self.gaps += abs(drift) > GAP_SECONDS
        frame.pts = None  # the resampler would stretch by time stamps of its own; the alignment is ours
        self._keep(self._resampler.resample(frame))
        self._segment_input_seconds += frame.samples / frame.sample_rate

    def passed(self) -> bool:
        """True once the clip's end is collected."""
        return self._resampler is not None and self._segment_start + self._segment_input_seconds >= self._end_seconds

    def finish(self) -> tuple[np.ndarray, float]:
        """The samples inside `[0, end)`, int16 `[samples]`, and the time of the first of them, seconds >= 0."""
        if self._resampler is None or self.start_seconds is None:
            return np.zeros(0, np.int16), 0.0
        self._drain()
        samples = np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.int16)
        early = max(0, round(-self.start_seconds * self.sample_rate))
        start_seconds = self.start_seconds + early / self.sample_rate
        last = max(0, round((self._end_seconds - start_seconds) * self.sample_rate))
        # A sixteenth of a millisecond of rounding must not read as a time before the clip.
        return samples[early : early + last], max(0.0, start_seconds)

    def _open(self, described: tuple[str, str, int], seconds: float) -> None:
        self._resampler = av.AudioResampler(format="s16", layout="mono", rate=self.sample_rate)
        self._format = described
        self._segment_start = seconds
        self._segment_input_seconds = 0.0

    def _align(self, seconds: float) -> None:
        """Make the next sample the one heard at `seconds`: silence for a gap, a cut for an overlap."""
        target = round((seconds - self.start_seconds) * self.sample_rate)
        if target > self._count:
            self._pieces.append(np.zeros(target - self._count, np.int16))
        elif target < self._count:
            joined = np.concatenate(self._pieces)[: max(0, target)]
            self._pieces = [joined]
        self._count = max(0, target)

    def _drain(self) -> None:
        if self._resampler is not None:
            self._keep(self._resampler.resample(None))

    def _keep(self, frames: list[av.AudioFrame]) -> None:
        for frame in frames:
            piece = frame.to_ndarray().reshape(-1)
            self._pieces.append(piece)
            self._count += len(piece)
