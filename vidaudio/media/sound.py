"""A clip's sound as one run of mono samples, placed on the clip's clock by presentation times, never by counting alone.

Decoded blocks are resampled as a stream. Where the time stamps and the count of samples drift apart for good (lost
packets, edits, clocks that disagree), the gap is filled with silence or the overlap is cut, so that sound and picture
stay together to the end. Time stamps that only jitter change nothing.
"""

from __future__ import annotations

from collections import deque
from statistics import median

import av
import numpy as np

# Less than one lost packet of the usual codecs (20 to 26 ms), more than Vorbis in WebM is off all the time (11 ms).
DRIFT_SECONDS = 0.012
# A drift is real if most blocks of the time to come share it: AAC from the wild slips by 20 ms for up to 5 blocks.
LOOK_AHEAD_SECONDS = 0.5
# Near the end too few blocks come to tell a drift from jitter: only what can be neither goes.
DRIFT_SECONDS_AT_END = 0.1
# So many blocks in a row that begin after the clip's end are not a slip of the time stamps.
BLOCKS_BEYOND_END = 8


class SoundTrack:
    """Collects mono int16 samples between two times of a clip.

    Attributes:
        start_seconds: Time of the first sample collected, relative to the clip's start; None before any.
        gaps: How often silence was put in or an overlap cut out.
    """

    def __init__(self, sample_rate: int, end_seconds: float) -> None:
        self.sample_rate = sample_rate
        self.start_seconds: float | None = None
        self.gaps = 0
        self._end_seconds = end_seconds
        self._waiting: deque[tuple[av.AudioFrame, float, float]] = deque()
        self._waiting_seconds = 0.0
        self._beyond_end = 0
        self._pieces: list[np.ndarray] = []
        self._count = 0
        self._skip = 0
        self._resampler: av.AudioResampler | None = None
        self._format: tuple[str, str, int] | None = None
        self._next_seconds = 0.0

    def push(self, frame: av.AudioFrame, seconds: float) -> None:
        """Append one decoded block whose first sample is heard at `seconds`."""
        if seconds >= self._end_seconds:
            self._beyond_end += 1
            return
        self._beyond_end = 0
        length = frame.samples / frame.sample_rate
        self._waiting.append((frame, seconds, length))
        self._waiting_seconds += length
        while self._waiting_seconds > LOOK_AHEAD_SECONDS:
            self._place_next()

    def passed(self) -> bool:
        """True once the clip's end is collected, or all that comes is after it."""
        collected = self.start_seconds is not None and self._next_seconds >= self._end_seconds
        return collected or self._beyond_end >= BLOCKS_BEYOND_END

    def finish(self) -> tuple[np.ndarray, float]:
        """The samples inside `[0, end)`, int16 `[samples]`, and the time of the first of them, seconds >= 0."""
        while self._waiting:
            self._place_next()
        if self.start_seconds is None:
            return np.zeros(0, np.int16), 0.0
        self._drain()
        samples = np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.int16)
        early = max(0, round(-self.start_seconds * self.sample_rate))
        start_seconds = self.start_seconds + early / self.sample_rate
        last = max(0, round((self._end_seconds - start_seconds) * self.sample_rate))
        # A sixteenth of a millisecond of rounding must not read as a time before the clip.
        return samples[early : early + last], max(0.0, start_seconds)

    def _place_next(self) -> None:
        """Resample the oldest block that waits, at its place."""
        drift = self._drift()
        frame, seconds, length = self._waiting.popleft()
        self._waiting_seconds -= length
        described = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self.start_seconds is None:
            self.start_seconds = self._next_seconds = seconds + drift
        elif drift or described != self._format:
            self._drain()
            self._next_seconds += drift
            self._align()
            self.gaps += drift != 0
        if self._resampler is None:
            self._resampler = av.AudioResampler(format="s16", layout="mono", rate=self.sample_rate)
            self._format = described
        self._next_seconds += length
        frame.pts = None  # the resampler would stretch by time stamps of its own; the alignment is ours
        self._keep(self._resampler.resample(frame))

    def _drift(self) -> float:
        """How far to move the oldest waiting block from the end of the sound so far; the very first, from its own time.

        It must be off by its own time stamp, and so must most blocks after it be, were they laid end to end.
        """
        first = self.start_seconds is None
        expected = self._waiting[0][1] if first else self._next_seconds
        own = self._waiting[0][1] - expected
        allowed = DRIFT_SECONDS if self._waiting_seconds > LOOK_AHEAD_SECONDS / 2 else DRIFT_SECONDS_AT_END
        if not first and abs(own) <= allowed:
            return 0.0
        drifts = []
        for _, seconds, length in self._waiting:
            drifts.append(seconds - expected)
            expected += length
        common = median(drifts)
        return common if abs(common) > allowed and (first or common * own > 0) else 0.0

    def _align(self) -> None:
        """Make the next sample the one heard at `_next_seconds`: silence for a gap; an overlap is not heard twice."""
        missing = round((self._next_seconds - self.start_seconds) * self.sample_rate) - self._count
        self._skip = max(0, -missing)
        if missing > 0:
            self._pieces.append(np.zeros(missing, np.int16))
            self._count += missing

    def _drain(self) -> None:
        if self._resampler is not None:
            resampler, self._resampler = self._resampler, None
            self._keep(resampler.resample(None))

    def _keep(self, frames: list[av.AudioFrame]) -> None:
        for frame in frames:
            piece = frame.to_ndarray().reshape(-1)
            if self._skip:
                skipped = min(self._skip, len(piece))
                piece = piece[skipped:]
                self._skip -= skipped
            self._pieces.append(piece)
            self._count += len(piece)
