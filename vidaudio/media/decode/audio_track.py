"""A clip's sound as one run of mono samples, placed on the clip's clock by presentation times, never by counting alone.

Decoded blocks are resampled as one stream, and their time stamps are kept. Where the time stamps and the sample count
drift apart permanently (lost packets, edits, clocks that disagree), silence is inserted or an overlap is cut out, so
that sound and picture stay in sync to the end. Time stamps that only swing back and forth change nothing. Only the
blocks that follow show which of the two it is, so the decision is made at the end.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import av
import numpy as np

from vidaudio.media.decode.channels import (
    AMBISONIC_W,
    Channel,
    ChannelMissing,
    LevelMeter,
    channel_number,
    one_channel,
    plane_values,
)

# Less than one lost packet of the usual codecs (20 to 26 ms), more than the constant error of Vorbis in WebM (11 ms).
DRIFT_SECONDS = 0.012
# A drift is real if most blocks of the following window share it: real-world AAC slips by 20 ms for up to 5 blocks.
LOOK_AHEAD_SECONDS = 0.5
# Near the end too few blocks follow to tell a drift from jitter: only a drift too large for jitter is corrected.
DRIFT_SECONDS_AT_END = 0.1
# Time stamps of codecs with blocks of several lengths swing by up to two blocks (Vorbis: 21 ms) and stay there as long
# as the block length does. A drift smaller than this is real only if it lasts.
SWING_SECONDS = 0.05
# A drift lasts if this share of the blocks has it for this long, or to the end of the sound.
LASTING_SECONDS = 30.0
LASTING_SHARE = 0.9
# After an earlier swing, a drift counts only if at least this much sound follows it.
LASTING_AFTER_SWINGS_SECONDS = 5.0
# This many blocks in a row that begin after the clip's end are not a slip of the time stamps.
BLOCKS_BEYOND_END = 8
# If time stamps never reach the clip's end, decoding stops when the sound is this much longer than the clip.
LONGEST_EXCESS_SECONDS = 60.0
# Measuring one block in four is enough to suspect that channels cancel each other.
METERED_EVERY = 4


@dataclass(frozen=True, slots=True)
class TrackSound:
    """The sound between two times of a clip.

    Attributes:
        samples: Mono int16 `[samples]`.
        start_seconds: Time of the first sample, at least 0.
        gaps: Number of places where silence was inserted or an overlap was cut out.
        filled_seconds: Inserted silence within the kept samples.
    """

    samples: np.ndarray
    start_seconds: float
    gaps: int = 0
    filled_seconds: float = 0.0


class SoundTrack:
    """Collector of a clip's mono int16 samples from its start to an end time.

    Args:
        sample_rate: Sample rate of the result, Hz.
        end_seconds: End of the clip; nothing is collected from here on.
        channel: Channel to take from a sound with several; see `channels`.
        ambisonic: Whether the file declares its channels ambisonic.

    Attributes:
        audio_channel: The channel that was taken: `mix`, `W` or a channel number.
        meter: Levels of the channels.
        missing_channel: Error message if the sound does not have the wanted channel, otherwise empty.
    """

    def __init__(
        self, sample_rate: int, end_seconds: float, channel: Channel = "mix", *, ambisonic: bool = False
    ) -> None:
        self.sample_rate = sample_rate
        self.audio_channel = "mix"
        self.meter = LevelMeter(every=METERED_EVERY)
        self._channel, self._ambisonic = channel, ambisonic
        self._end_seconds = end_seconds
        self._stamps, self._lengths = array("d"), array("d")
        self._length_seconds = 0.0
        self._beyond_end = 0
        self._pieces: list[np.ndarray] = []
        self._count = 0
        self._skip = 0
        self._resampler: av.AudioResampler | None = None
        self._format: tuple[str, str, int] | None = None
        self._number: int | None = None
        self._by_hand = False
        self.missing_channel = ""

    def push(self, frame: av.AudioFrame, seconds: float) -> None:
        """Append one decoded block whose first sample is heard at `seconds`.

        Raises:
            ChannelMissing: When the block does not have the wanted channel; also sets `missing_channel`.
        """
        if seconds >= self._end_seconds:
            self._beyond_end += 1
            return
        self._beyond_end = 0
        length = frame.samples / frame.sample_rate
        self._resample(frame, seconds)
        self._stamps.append(seconds)
        self._lengths.append(length)
        self._length_seconds += length

    def passed(self) -> bool:
        """Return whether all further blocks lie after the clip's end."""
        if self._beyond_end >= BLOCKS_BEYOND_END:
            return True
        longest = self._end_seconds + LONGEST_EXCESS_SECONDS
        return bool(self._stamps) and self._stamps[0] + self._length_seconds > longest

    def finish(self) -> TrackSound:
        """Return the samples inside `[0, end)`."""
        if not self._stamps:
            return TrackSound(np.zeros(0, np.int16), 0.0)
        self._drain()
        samples = np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.int16)
        lengths = np.frombuffer(self._lengths)
        counted = np.concatenate([[0.0], np.cumsum(lengths)[:-1]])
        start, shifts = find_shifts(np.frombuffer(self._stamps), counted, lengths)
        early = max(0, round(-start * self.sample_rate))
        start_seconds = start + early / self.sample_rate
        last = max(0, round((self._end_seconds - start_seconds) * self.sample_rate))
        samples, silences = self._shifted(samples, [(counted[block], seconds) for block, seconds in shifts])
        inside = [max(0, min(end, early + last) - max(begin, early)) for begin, end in silences]
        # A rounding error of a sixteenth of a millisecond must not become a time before the clip.
        kept = samples[early : early + last]
        return TrackSound(kept, max(0.0, start_seconds), len(shifts), sum(inside) / self.sample_rate)

    def _shifted(
        self, samples: np.ndarray, shifts: list[tuple[float, float]]
    ) -> tuple[np.ndarray, list[tuple[int, int]]]:
        """Return the samples with silence in each gap and without overlaps, and the sample ranges of the silence."""
        pieces, silences, done, taken, moved = [], [], 0, 0, 0.0
        for counted, seconds in shifts:
            moved += seconds
            upto = max(taken, round(counted * self.sample_rate))
            pieces.append(samples[taken:upto])
            done += len(pieces[-1])
            taken = upto
            # Insert silence up to the next sample's time, or leave out samples that were already heard.
            missing = round((counted + moved) * self.sample_rate) - done
            if missing > 0:
                pieces.append(np.zeros(missing, np.int16))
                silences.append((done, done + missing))
                done += missing
            else:
                taken -= missing
        return np.concatenate([*pieces, samples[taken:]]) if shifts else samples, silences

    def _resample(self, frame: av.AudioFrame, seconds: float) -> None:
        described = (frame.format.name, frame.layout.name, frame.sample_rate)
        if described != self._format:
            self._begin(frame)
            self._format = described
        channels = frame.layout.nb_channels
        if channels > 1:
            self.meter.push(frame, seconds)
        frame.pts = None  # the resampler would stretch to its own time stamps; alignment happens in `finish`
        if self._number is not None and channels > 1:
            frame = one_channel(frame, self._number)
        elif self._by_hand:
            frame = one_channel(frame, None)
        assert self._resampler is not None, "see `_begin`"
        try:
            resampled = self._resampler.resample(frame)
        except av.ArgumentError:
            if self._by_hand or self._number is not None:
                raise
            # FFmpeg has no mixing rule for this layout.
            self._by_hand, self._resampler = True, self._new_resampler()
            resampled = self._resampler.resample(one_channel(frame, None))
        self._keep(resampled)

    def _begin(self, frame: av.AudioFrame) -> None:
        """Begin to resample blocks of another format; what follows is placed where the blocks so far end."""
        try:
            self._number = channel_number(self._channel, frame.layout, ambisonic=self._ambisonic)
        except ChannelMissing as error:
            self.missing_channel = str(error)
            raise
        self._by_hand = False
        if self._format is None and self._number is not None:
            self.audio_channel = AMBISONIC_W if self._channel == "mix" else str(self._number)
        if self._resampler is not None:
            self._drain()
            missing = round(self._length_seconds * self.sample_rate) - self._count
            self._skip = max(0, -missing)
            if missing > 0:
                self._pieces.append(np.zeros(missing, np.int16))
                self._count += missing
        self._resampler = self._new_resampler()

    def _new_resampler(self) -> av.AudioResampler:
        return av.AudioResampler(format="s16", layout="mono", rate=self.sample_rate)

    def _drain(self) -> None:
        if self._resampler is not None:
            resampler, self._resampler = self._resampler, None
            self._keep(resampler.resample(None))

    def _keep(self, frames: list[av.AudioFrame]) -> None:
        for frame in frames:
            piece = plane_values(frame.planes[0], np.int16)[: frame.samples].copy()
            if self._skip:
                skipped = min(self._skip, len(piece))
                piece = piece[skipped:]
                self._skip -= skipped
            self._pieces.append(piece)
            self._count += len(piece)


def find_shifts(stamps: np.ndarray, counted: np.ndarray, lengths: np.ndarray) -> tuple[float, list[tuple[int, float]]]:
    """Return when a sound begins, and where it has to be moved relative to its sample count.

    The beginning differs from the first block's own time stamp if the following blocks contradict that stamp. Each
    shift is a block number and the seconds by which this block and all later ones move.

    Args:
        stamps: Time stamp of each block, seconds.
        counted: Seconds of sound before each block.
        lengths: Length of each block, seconds.
    """
    ends = counted + lengths
    drifts = stamps - stamps[0] - counted
    first = slice(0, _blocks_until(ends, LOOK_AHEAD_SECONDS))
    common = float(np.median(drifts[first]))
    moved = common if abs(common) > _allowed(ends[first][-1]) else 0.0
    start = float(stamps[0]) + moved
    shifts: list[tuple[int, float]] = []
    shift: tuple[int, float] | None = (0, moved)
    swings = 0
    while shift is not None:
        shift, more = _next_shift(drifts - moved, counted, ends, shift[0] + 1, swings)
        swings += more
        if shift is not None:
            shifts.append(shift)
            moved += shift[1]
    return start, shifts


def _next_shift(
    drift: np.ndarray, counted: np.ndarray, ends: np.ndarray, begin: int, swings: int
) -> tuple[tuple[int, float] | None, int]:
    """Return the next block to move and its shift in seconds, and how often the time stamps swung before it."""
    size = np.abs(drift)
    off = np.flatnonzero(size > DRIFT_SECONDS)
    returns = np.flatnonzero((size <= DRIFT_SECONDS) | (size > SWING_SECONDS))
    swung = 0
    place = int(np.searchsorted(off, begin))
    while place < len(off):
        block = int(off[place])
        near = slice(block, _blocks_until(ends, counted[block] + LOOK_AHEAD_SECONDS))
        shift = float(np.median(drift[near]))
        if abs(shift) <= _allowed(ends[near][-1] - counted[block]) or shift * drift[block] <= 0:
            place += 1
            continue
        if abs(shift) > SWING_SECONDS:
            return (block, shift), swung
        if lasting := _lasting(drift, counted, ends, block, has_swung=swings + swung > 0):
            return (block, float(np.sign(shift)) * min(abs(shift), lasting)), swung
        swung += 1
        following = int(np.searchsorted(returns, block, "right"))
        if following == len(returns):
            break
        place = int(np.searchsorted(off, returns[following]))
    return None, swung


def _lasting(drift: np.ndarray, counted: np.ndarray, ends: np.ndarray, block: int, *, has_swung: bool) -> float:
    """Return how much of a small drift lasts, seconds; 0 if the drift comes and goes."""
    if has_swung and ends[-1] - counted[block] < LASTING_AFTER_SWINGS_SECONDS:
        return 0.0
    after = np.sign(drift[block]) * drift[block : _blocks_until(ends, counted[block] + LASTING_SECONDS)]
    # The share must hold from this block on, not only later: otherwise a swing before a gap would be taken for the gap.
    near = _blocks_until(ends, counted[block] + LOOK_AHEAD_SECONDS) - block
    shares = np.cumsum(after > DRIFT_SECONDS) / np.arange(1, len(after) + 1)
    if shares[min(near, len(shares)) - 1 :].min() < LASTING_SHARE:
        return 0.0
    return float(np.quantile(after, 1 - LASTING_SHARE))


def _blocks_until(ends: np.ndarray, seconds: float) -> int:
    """Return the number of blocks up to and including the first one that ends after this time."""
    return int(np.searchsorted(ends, seconds, "right")) + 1


def _allowed(window_seconds: float) -> float:
    return DRIFT_SECONDS if window_seconds > LOOK_AHEAD_SECONDS / 2 else DRIFT_SECONDS_AT_END
