"""One continuous time line over a file whose clock jumps, shared by picture and sound.

Recorded streams are joined from pieces: the clock begins again in the middle, or an hour is missing. Read literally,
the rest of such a file has times that have already passed, or comes after an hour of nothing. This module therefore
reads the packets of all tracks together, once, without decoding. A piece that begins elsewhere on the clock is moved to
where the piece before it ends, by the same amount in every track, so that picture and sound stay in sync. One track may
end long before the other, or begin long after it: the packets beside a track's packets in the file show which clock
they are on.

A gap in one track is no jump if another track has media there: a still picture under running sound, or a film without
sound for a while, keeps its times. Only time in which no track has anything, longer than `longest_gap_seconds`, is
closed.
"""

from __future__ import annotations

import itertools
import math
from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.format import Flags

# If no track has anything for longer than this, the clock has jumped. For streams that may be joined from pieces, the
# limit is FFmpeg's own; in other files a pause of a recording may be longer.
LONGEST_GAP_SECONDS = 60.0
LONGEST_GAP_OF_JOINED_SECONDS = 10.0
# A track that goes back by more begins again; less is jitter, or an overlap that is not shown twice.
LONGEST_STEP_BACK_SECONDS = 0.5
# At most this many packets between two that continue each other have wrong time stamps, and are no piece of their own.
MOST_STRAY_PACKETS = 3
# A picture's decoding and presentation times on one clock differ by at most this.
TOGETHER_SECONDS = 5.0
# Neighbouring packets in a file that share a clock have times within this of each other: FFmpeg's muxers wait no longer
# for a track.
BESIDE_SECONDS = 10.0
# A track that continues is moved to another track's new clock only if that fits better by more than this.
BETTER_SECONDS = 1.0
# A packet counts as at most this long: what a container calls a duration may be the jump itself.
LONGEST_PACKET_SECONDS = 1.0
# A piece's first and last presentation times are among this many packets: more than any codec reorders.
REORDERED_PACKETS = 20
# Number of packets to compare, and the share that must be equal, for a step back to be the same media stored twice.
COMPARED_PACKETS = 50
SAME_MEDIA_SHARE = 0.9
# Formats whose clock may begin again although libavformat does not flag them so.
_JOINED_FORMATS = frozenset({"flv", "live_flv", "asf", "mpeg"})


def may_be_joined(container: Any) -> bool:
    """Return whether files of this format are made by joining pieces, each with its own clock."""
    return bool(container.format.flags & Flags.ts_discont.value) or container.format.name in _JOINED_FORMATS


def longest_gap_seconds(container: Any) -> float:
    """Return the longest time without packets in any track, in seconds, that does not count as a jump of the clock."""
    return LONGEST_GAP_OF_JOINED_SECONDS if may_be_joined(container) else LONGEST_GAP_SECONDS


def ticks_to_seconds(ticks: int, time_base: Fraction) -> float:
    """Return `ticks * time_base` in seconds, rounded as `float` rounds the fraction, at a tenth of the cost."""
    return ticks * time_base.numerator / time_base.denominator


@dataclass(frozen=True, slots=True)
class TimeLine:
    """The shifts that put the packets of each track on the joined time line.

    Attributes:
        jumps: Times of the clock's jumps on the joined time line, seconds from the file's time 0.
        shifts: For each stream number, pairs of the first packet that a shift applies to and the shift in seconds, with
            increasing packet numbers.
        stray: For each stream number, shifts in seconds of single packets with wrong time stamps.
    """

    jumps: tuple[float, ...] = ()
    shifts: Mapping[int, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    stray: Mapping[int, Mapping[int, float]] = field(default_factory=dict)

    def shift_seconds(self, stream: int, packet: int) -> float:
        """Return the shift of a packet of a stream; packets are counted from the beginning of the file."""
        stray = self.stray.get(stream, {}).get(packet)
        if stray is not None:
            return stray
        shifts = self.shifts.get(stream, ())
        place = bisect_right(shifts, packet, key=lambda item: item[0])
        return shifts[place - 1][1] if place else 0.0

    def move(self, packet: av.Packet, number: int) -> None:
        """Put the time stamps of a stream's packet with this number on the joined time line."""
        seconds = self.shift_seconds(packet.stream.index, number)
        if seconds:
            ticks = round(seconds / packet.time_base)
            packet.pts = None if packet.pts is None else packet.pts + ticks
            packet.dts = None if packet.dts is None else packet.dts + ticks
        if any(first == number + 1 for first, _ in self.shifts.get(packet.stream.index, ())):
            packet.duration = 0  # in containers that store durations instead of times, it is as long as the jump


CONTINUOUS = TimeLine()


class ClockWatch:
    """Cheap detector of possible clock jumps, packet by packet.

    Args:
        streams: Tracks to watch.
        start_seconds: The file's time 0 if reading begins at the file's beginning, otherwise None.
        longest_gap: Longest gap that is not a jump, seconds; see `longest_gap_seconds`.
    """

    def __init__(self, streams: Sequence[Any], start_seconds: float | None, longest_gap: float) -> None:
        self._in_order = {stream.index for stream in streams if stream.type == "audio"}
        self._last: dict[int, int | None] = {}
        self._forward: dict[int, float] = {}
        self._back: dict[int, float] = {}
        for stream in streams:
            self._forward[stream.index] = longest_gap / float(stream.time_base)
            self._back[stream.index] = -LONGEST_STEP_BACK_SECONDS / float(stream.time_base)
            start = None if start_seconds is None else round(start_seconds / stream.time_base)
            self._last[stream.index] = start

    def jumps(self, packet: av.Packet) -> bool:
        """Return whether this packet is far from the one before it in its track."""
        stream = packet.stream.index
        # A picture's decoding time differs from its presentation time, so one cannot replace the other.
        ticks = packet.dts if packet.dts is not None or stream not in self._in_order else packet.pts
        if ticks is None:
            return False
        last, self._last[stream] = self._last[stream], ticks
        return last is not None and not self._back[stream] <= ticks - last <= self._forward[stream]


class PacketTimes:
    """The times of a file's packets, by track and in file order, about 40 bytes a packet.

    File order is the order of the bytes in the file. The order in which packets are read differs: demuxers hold back
    the last packet of a track until its next one comes, or read tracks in the order of their times.
    """

    def __init__(self, streams: Sequence[Any]) -> None:
        self._tracks = {
            stream.index: _Track(float(stream.time_base), in_order=stream.type == "audio") for stream in streams
        }
        self._has_positions: bool | None = None
        self._count = self._last = 0

    def add(self, packet: av.Packet) -> None:
        """Record the next packet of the file."""
        if self._has_positions is None:
            self._has_positions = packet.pos is not None
        track = self._tracks[packet.stream.index]
        place = packet.pos if self._has_positions else self._count
        # A packet without a position was stored with the one before it in its track.
        self._last = track.last_place(self._last) if place is None else place
        track.add(self._last, packet)
        self._count += 1

    def time_line(self, start_seconds: float, longest_gap: float) -> TimeLine:
        """Join the pieces of the file and return the time line.

        Args:
            start_seconds: The file's time 0.
            longest_gap: Longest gap that is not a jump, seconds; see `longest_gap_seconds`.
        """
        pieces: list[_Piece] = []
        stray: dict[int, dict[int, float]] = {}
        for stream, track in self._tracks.items():
            found, stray[stream] = track.pieces(stream, longest_gap)
            pieces += found
        if len(pieces) > len(self._tracks):
            pieces = _parted_with_others(pieces)
        late = any(piece.is_first and piece.first - start_seconds > longest_gap for piece in pieces)
        if len(pieces) <= len(self._tracks) and not late and not any(stray.values()):
            return CONTINUOUS
        return _join(sorted(pieces, key=lambda piece: piece.order), start_seconds, longest_gap, stray)


def read_time_line(container: Any, streams: Sequence[Any], packets: Any) -> TimeLine:
    """Join the pieces of an open file and return the time line.

    Args:
        container: Opened media file, at its beginning.
        streams: Tracks to use.
        packets: Packets of these tracks, to the end of the file.
    """
    times = PacketTimes(streams)
    for packet in packets:
        if packet.size:
            times.add(packet)
    start_seconds = (container.start_time or 0) / av.time_base
    return times.time_line(start_seconds, longest_gap_seconds(container))


@dataclass(slots=True)
class _Piece:
    """A run of packets of one track on one clock; arrays have one item per packet, except those with wrong time stamps.

    Attributes:
        stream: Number of the track.
        packet: Number of the first packet in its track.
        numbers: Numbers of all its packets.
        orders: Positions of the packets in the file, increasing.
        decoded: Decoding times, seconds as stored.
        shown: Presentation times, seconds as stored.
        ended: Ends of the presentations, seconds as stored.
        is_first: Whether the track begins with this piece.
        shift: Shift to the joined time line in seconds; None until decided.
        first: Beginning of the first presentation, seconds as stored.
        last: End of the last presentation, seconds as stored.
        starts: `decoded`, sorted.
    """

    stream: int
    packet: int
    numbers: np.ndarray
    orders: np.ndarray
    decoded: np.ndarray
    shown: np.ndarray
    ended: np.ndarray
    is_first: bool
    shift: float | None = None
    first: float = field(init=False)
    last: float = field(init=False)
    starts: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.first = float(self.shown[:REORDERED_PACKETS].min())
        self.last = float(self.ended[-REORDERED_PACKETS:].max())
        self.starts = np.sort(self.decoded)

    @property
    def order(self) -> int:
        """Position of the first packet in the file."""
        return int(self.orders[0])

    def parted(self, at: int) -> tuple[_Piece, _Piece]:
        """Split the piece before packet `at`, counted within the piece, and return both parts."""
        before = self._part(slice(at), self.packet, is_first=self.is_first)
        return before, self._part(slice(at, None), int(self.numbers[at]), is_first=False)

    def _part(self, part: slice, packet: int, *, is_first: bool) -> _Piece:
        arrays = (self.numbers, self.orders, self.decoded, self.shown, self.ended)
        numbers, orders, decoded, shown, ended = (a[part] for a in arrays)
        return _Piece(self.stream, packet, numbers, orders, decoded, shown, ended, is_first=is_first)

    def decoded_beside(self, orders: Any) -> np.ndarray:
        """Return the decoding time of the last packet at or before each file position, seconds as stored."""
        return self.decoded[np.maximum(np.searchsorted(self.orders, orders, "right") - 1, 0)]


class _Track:
    def __init__(self, time_base: float, *, in_order: bool) -> None:
        self._time_base, self._in_order = time_base, in_order
        self._order, self._sizes = array("q"), array("q")
        self._decoded, self._shown, self._duration = array("d"), array("d"), array("d")

    def last_place(self, otherwise: int) -> int:
        """Return the position of the newest packet in the file, or `otherwise` if there is none."""
        return self._order[-1] if self._order else otherwise

    def add(self, order: int, packet: av.Packet) -> None:
        pts, dts = packet.pts, packet.dts
        decoded = dts if dts is not None or not self._in_order else pts
        self._order.append(max(order, self.last_place(order)))
        self._sizes.append(packet.size)
        self._decoded.append(math.nan if decoded is None else decoded * self._time_base)
        self._shown.append(math.nan if pts is None else pts * self._time_base)
        self._duration.append((packet.duration or 0) * self._time_base)

    def pieces(self, stream: int, longest_gap: float) -> tuple[list[_Piece], dict[int, float]]:
        if not len(self._decoded):
            return [], {}
        shown = np.frombuffer(self._shown)
        decoded = _filled(np.frombuffer(self._decoded), shown)
        shown = np.where(np.isnan(shown), decoded, shown)
        usual = float(np.median(np.clip(np.diff(decoded), 0.0, LONGEST_PACKET_SECONDS))) if len(decoded) > 1 else 0.0
        decoded, stray = _without_strays(decoded, usual)
        steps = np.diff(decoded)
        cuts = 1 + np.flatnonzero((steps > longest_gap) | (steps < -LONGEST_STEP_BACK_SECONDS))
        bounds = [0, *(_first_shown_after(cut, decoded, shown) for cut in cuts.tolist()), len(decoded)]
        ranges = self._without_repeats(list(itertools.pairwise(bounds)), shown)
        # In some containers, the last packet before a jump lasts as long as the jump.
        durations = np.frombuffer(self._duration)
        durations = np.where((durations > 2 * usual) | (durations <= 0), usual, durations)
        orders = np.frombuffer(self._order, dtype=np.int64)
        pieces = []
        for begin, end in ranges:
            good = np.array([n for n in range(begin, end) if n not in stray]) if stray else np.arange(begin, end)
            ended = shown[good] + durations[good]
            arrays = (good, orders[good], decoded[good], shown[good], ended)
            pieces.append(_Piece(stream, begin, *arrays, is_first=begin == 0))
        return pieces, stray

    def _without_repeats(self, ranges: list[tuple[int, int]], shown: np.ndarray) -> list[tuple[int, int]]:
        """Join each range that goes back over the same media (pieces stored with an overlap) to the range before it."""
        kept = ranges[:1]
        for begin, end in ranges[1:]:
            earlier = slice(kept[-1][0], begin)
            again = [n for n in range(begin, min(end, begin + COMPARED_PACKETS)) if shown[n] <= shown[begin - 1]]
            stored = set(zip(shown[earlier].tolist(), self._sizes[earlier], strict=True))
            same = sum((float(shown[n]), self._sizes[n]) in stored for n in again)
            begins_later = shown[begin] > shown[earlier].min() + LONGEST_STEP_BACK_SECONDS
            if again and begins_later and same >= SAME_MEDIA_SHARE * len(again):
                kept[-1] = (kept[-1][0], end)
            else:
                kept.append((begin, end))
        return kept


def _filled(times: np.ndarray, instead: np.ndarray) -> np.ndarray:
    """Return the times with each missing one replaced by the time before it.

    Missing times at the beginning become the first known one. If no time is known, `instead` is used; if none is known
    there either, all times are 0.
    """
    known = ~np.isnan(times)
    if not known.any():
        known = ~np.isnan(instead)
        if not known.any():
            return np.zeros(len(times))
        times = instead
    places = np.maximum.accumulate(np.where(known, np.arange(len(times)), -1))
    return times[np.where(places < 0, int(np.argmax(known)), places)]


def _without_strays(times: np.ndarray, usual: float) -> tuple[np.ndarray, dict[int, float]]:
    """Return times with a few that are out of line with their neighbours corrected, and the corrections in seconds."""
    stray: dict[int, float] = {}
    mended = times.copy()
    for cut in (1 + np.flatnonzero(np.diff(times) < -LONGEST_STEP_BACK_SECONDS)).tolist():
        for count in range(1, MOST_STRAY_PACKETS + 1):
            most = usual * (count + 2) + LONGEST_STEP_BACK_SECONDS
            # The packets before the step back were ahead, or those after it are behind.
            for first in (cut - count, cut):
                before, after = first - 1, first + count
                if before < 0 or after >= len(times) or stray.keys() & {before, after, *range(first, after)}:
                    continue
                if -LONGEST_STEP_BACK_SECONDS <= times[after] - times[before] <= most:
                    places = np.linspace(times[before], times[after], count + 2)[1:-1]
                    mended[first:after] = places
                    stray |= {n: float(places[n - first] - times[n]) for n in range(first, after)}
    return mended, stray


def _first_shown_after(cut: int, decoded: np.ndarray, shown: np.ndarray) -> int:
    """Return where a piece begins by presentation: reordered pictures may be decoded on the clock before it."""
    while cut > 1 and abs(shown[cut - 1] - decoded[cut - 1]) > max(
        TOGETHER_SECONDS, abs(shown[cut - 1] - decoded[cut])
    ):
        cut -= 1
    return cut


def _parted_with_others(pieces: Sequence[_Piece]) -> list[_Piece]:
    """Split pieces in which the clock begins again unnoticed: their times go on, but a track beside them steps back."""
    parted = list(pieces)
    for before, piece in itertools.pairwise(pieces):
        step = before.last - piece.first
        if piece.stream != before.stream or step <= LONGEST_STEP_BACK_SECONDS:
            continue
        following = (p.order for p in pieces if p.stream == piece.stream and p.order > piece.order)
        until = min(following, default=math.inf)
        for place, other in enumerate(parted):
            if other.stream == piece.stream or not other.order < piece.order <= other.orders[-1]:
                continue
            begin, end = np.searchsorted(other.orders, (piece.order, until)).tolist()
            times, beside = other.decoded[begin:end], piece.decoded_beside(other.orders[begin:end])
            away = np.abs(times - beside)
            is_moved = (away <= BESIDE_SECONDS) & (away + BETTER_SECONDS < np.abs(times - beside - step))
            first = _first_of_many(is_moved)
            if first is not None:
                parted[place : place + 1] = other.parted(begin + first)
                break
    return parted


def _first_of_many(is_so: np.ndarray) -> int | None:
    """Return the first index from which the array is true for `REORDERED_PACKETS` items or to its end; None if none."""
    places = np.flatnonzero(is_so).tolist()
    return next((place for place in places if is_so[place : place + REORDERED_PACKETS].all()), None)


def _join(
    pieces: Sequence[_Piece], start_seconds: float, longest_gap: float, stray: dict[int, dict[int, float]]
) -> TimeLine:
    """Place the pieces one after another, in file order."""
    shift = {piece.stream: 0.0 for piece in pieces}
    ends = dict.fromkeys(shift, start_seconds)
    jumps: list[float] = []
    shifts: dict[int, list[tuple[int, float]]] = {stream: [] for stream in shift}
    for number, piece in enumerate(pieces):
        stream = piece.stream
        own, expected = shift[stream], ends[stream]
        joined = _known_clock(piece, own, expected, pieces, longest_gap)
        if joined is None:
            # Place it after everything that any track has of the piece before, so that nothing is lost.
            partners = _partners(piece, pieces[number + 1 :])
            after = [ends[p.stream] - p.first for p in partners]
            after += [ends[other] - piece.first for other in _outlasting(piece, pieces)]
            joined = max([expected - piece.first, *after])
            jumps.append(joined + piece.first - start_seconds)
        piece.shift = shift[stream] = joined
        ends[stream] = max(expected, piece.last + joined)
        if joined != own or (piece.is_first and joined):
            shifts[stream].append((piece.packet, joined))
    moved = {stream: dict(found) for stream, found in stray.items() if found}
    for stream, found in moved.items():
        for packet in found:
            place = bisect_right(shifts[stream], packet, key=lambda item: item[0])
            found[packet] += shifts[stream][place - 1][1] if place else 0.0
    return TimeLine(tuple(sorted(jumps)), {s: tuple(found) for s, found in shifts.items() if found}, moved)


def _known_clock(
    piece: _Piece, own: float, expected: float, pieces: Sequence[_Piece], longest_gap: float
) -> float | None:
    """Return the shift of the known clock that a piece continues, its own track's or another's; None if none fits.

    Args:
        piece: Next piece in the file; those before it have their shifts.
        own: Current shift of its track, seconds.
        expected: Current end of its track on the joined time line, seconds.
        pieces: All pieces, in file order.
        longest_gap: Longest gap that is not a jump, seconds; see `longest_gap_seconds`.
    """
    goes_on = _continues(piece, own, expected, pieces, longest_gap)
    for other in _beside(piece, pieces):
        clock = other.shift
        if clock is None or clock == own or piece.first + clock < expected - LONGEST_STEP_BACK_SECONDS:
            continue
        now = float(other.decoded_beside(piece.order)) + clock
        away, away_on_own = (abs(float(piece.decoded[0]) + s - now) for s in (clock, own))
        # A track that begins only now does not show its clock, unless the other track still runs beside it.
        can_tell = not piece.is_first or piece.order < other.orders[-1]
        if can_tell and away <= BESIDE_SECONDS and (not goes_on or away + BETTER_SECONDS < away_on_own):
            return clock
        if not goes_on and _continues(piece, clock, expected, pieces, longest_gap):
            return clock
    return own if goes_on else None


def _beside(piece: _Piece, pieces: Sequence[_Piece]) -> list[_Piece]:
    """Return, for each other track, the newest piece that begins before this piece in the file."""
    newest: dict[int, _Piece] = {}
    for other in pieces:
        if other is piece:
            break
        newest[other.stream] = other
    return [other for stream, other in newest.items() if stream != piece.stream]


def _continues(piece: _Piece, shift: float, expected: float, pieces: Sequence[_Piece], longest_gap: float) -> bool:
    """Return whether a piece with this shift follows its track's end, or a gap during which others have media."""
    begins = piece.first + shift
    if begins < expected - LONGEST_STEP_BACK_SECONDS:
        return False
    if begins - expected <= longest_gap:
        return True
    begin, end = expected - shift, piece.first
    times = [begin, end]
    for other in pieces:
        if other.stream != piece.stream and (other.shift is None or other.shift == shift):
            inside = other.starts[np.searchsorted(other.starts, begin) : np.searchsorted(other.starts, end, "right")]
            times += inside.tolist()
    return float(np.diff(np.sort(times)).max()) <= longest_gap


def _partners(piece: _Piece, later: Sequence[_Piece]) -> list[_Piece]:
    """Return the next pieces of other tracks that are on this piece's clock."""
    following: dict[int, _Piece] = {}
    until = math.inf
    for other in later:
        if other.stream != piece.stream:
            following.setdefault(other.stream, other)
        else:
            until = min(until, other.order)
    return [
        other
        for other in following.values()
        if other.order <= until
        and abs(float(other.decoded[0]) - float(piece.decoded_beside(other.order))) <= BESIDE_SECONDS
    ]


def _outlasting(piece: _Piece, pieces: Sequence[_Piece]) -> list[int]:
    """Return the tracks that end in the file between a piece and its track's previous one, if the clock goes back."""
    own = [other for other in pieces if other.stream == piece.stream and other.order < piece.order]
    if not own or piece.first > own[-1].last:
        return []
    lasts: dict[int, int] = {}
    for other in pieces:
        lasts[other.stream] = max(lasts.get(other.stream, 0), int(other.orders[-1]))
    return [s for s, last in lasts.items() if s != piece.stream and int(own[-1].orders[-1]) < last < piece.order]
