"""One continuous time line over a file whose clock jumps, shared by picture and sound.

Recorded streams are joined from pieces: the clock begins again in the middle, or an hour is missing. Read literally,
the rest of such a file has times that have passed, or comes after an hour of nothing. Here the packets of all tracks
are looked at together, once, without decoding: a piece that begins elsewhere on the clock is moved to where the piece
before it ends, by the same amount in every track, so that picture and sound stay in sync.

What one track lacks and another has is no jump: a still picture under running sound, and a film without sound for a
while, keep their times. Only time in which no track has anything, longer than `longest_gap_seconds`, is closed.
"""

from __future__ import annotations

import itertools
import math
from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np
from av.format import Flags

# Nothing in any track for longer than this is a jump of the clock. Streams that may be joined from pieces have
# FFmpeg's own limit; in other files a pause of a recording may be longer.
LONGEST_GAP_SECONDS = 60.0
LONGEST_GAP_OF_JOINED_SECONDS = 10.0
# A track that goes back by more begins again; less is jitter, or an overlap that is not shown twice.
LONGEST_STEP_BACK_SECONDS = 0.5
# So few packets between two that continue each other have wrong time stamps, and are no piece of their own.
MOST_STRAY_PACKETS = 3
# Tracks of one piece begin within this time of each other.
TOGETHER_SECONDS = 5.0
# A packet is not taken for longer than this; what a container calls a duration may be the jump itself.
LONGEST_PACKET_SECONDS = 1.0
# A piece's first and last presentation times are among so many packets: more than any codec reorders.
REORDERED_PACKETS = 20
# Packets compared, and the share that must be equal, for a step back to be the same media stored twice.
COMPARED_PACKETS = 50
SAME_MEDIA_SHARE = 0.9
# Formats whose clock may begin again and that libavformat does not flag as such.
_JOINED_FORMATS = frozenset({"flv", "live_flv", "asf", "mpeg"})


def may_be_joined(container: Any) -> bool:
    """Return whether files of this format are made by joining pieces, each with a clock of its own."""
    return bool(container.format.flags & Flags.ts_discont.value) or container.format.name in _JOINED_FORMATS


def longest_gap_seconds(container: Any) -> float:
    """Return how long a file of this format may have nothing in any track before that is a jump of its clock."""
    return LONGEST_GAP_OF_JOINED_SECONDS if may_be_joined(container) else LONGEST_GAP_SECONDS


@dataclass(frozen=True, slots=True)
class TimeLine:
    """How far the packets of each track are moved.

    Attributes:
        jumps: Where the clock jumped, seconds on the joined time line from the file's time 0.
        shifts: By stream number: the first packet that each shift in seconds applies to, increasing.
        stray: By stream number: shifts of single packets with wrong time stamps.
    """

    jumps: tuple[float, ...] = ()
    shifts: Mapping[int, tuple[tuple[int, float], ...]] = field(default_factory=dict)
    stray: Mapping[int, Mapping[int, float]] = field(default_factory=dict)

    def shift_seconds(self, stream: int, packet: int) -> float:
        """Return how far to move a packet of a stream; packets are counted from the beginning of the file."""
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
            packet.duration = 0  # as long as the jump, in containers that store no times but durations


CONTINUOUS = TimeLine()


class ClockWatch:
    """Notices, packet by packet and at little cost, that the clock may have jumped.

    Args:
        streams: Tracks to watch.
        start_seconds: The file's time 0 where reading begins there, else None.
        longest_gap: See `longest_gap_seconds`.
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
        # A picture is decoded and shown at different times: one says nothing of where the other would be.
        ticks = packet.dts if packet.dts is not None or stream not in self._in_order else packet.pts
        if ticks is None:
            return False
        last, self._last[stream] = self._last[stream], ticks
        return last is not None and not self._back[stream] <= ticks - last <= self._forward[stream]


class PacketTimes:
    """The times of a file's packets, track by track in the order of the file, about 40 bytes a packet."""

    def __init__(self, streams: Sequence[Any]) -> None:
        self._tracks = {
            stream.index: _Track(float(stream.time_base), in_order=stream.type == "audio") for stream in streams
        }
        self._count = 0

    def add(self, packet: av.Packet) -> None:
        """Note the next packet of the file."""
        self._tracks[packet.stream.index].add(self._count, packet)
        self._count += 1

    def time_line(self, start_seconds: float, longest_gap: float) -> TimeLine:
        """Join the pieces of the file.

        Args:
            start_seconds: The file's time 0.
            longest_gap: See `longest_gap_seconds`.
        """
        pieces: list[_Piece] = []
        stray: dict[int, dict[int, float]] = {}
        for stream, track in self._tracks.items():
            found, stray[stream] = track.pieces(stream, longest_gap)
            pieces += found
        late = any(piece.is_first and piece.first - start_seconds > longest_gap for piece in pieces)
        if len(pieces) <= len(self._tracks) and not late and not any(stray.values()):
            return CONTINUOUS
        return _join(sorted(pieces, key=lambda piece: piece.order), start_seconds, longest_gap, stray)


def read_time_line(container: Any, streams: Sequence[Any], packets: Any) -> TimeLine:
    """Join the pieces of an open file.

    Args:
        container: Opened, at its beginning.
        streams: The tracks that are to be used.
        packets: Their packets, to the end of the file.
    """
    times = PacketTimes(streams)
    for packet in packets:
        if packet.size:
            times.add(packet)
    start_seconds = (container.start_time or 0) / av.time_base
    return times.time_line(start_seconds, longest_gap_seconds(container))


@dataclass(slots=True)
class _Piece:
    """Packets of one track in a row, on one clock.

    Attributes:
        stream: Number of the track.
        packet: Number of the first packet in its track.
        order: Its place in the file.
        first: When its first presentation begins, seconds as stored; `last`: when its last one ends.
        starts: Times of its packets as stored, sorted.
        is_first: Whether the track begins with it.
        shift: Where it is moved to, once decided.
    """

    stream: int
    packet: int
    order: int
    first: float
    last: float
    starts: np.ndarray
    is_first: bool
    shift: float | None = None


class _Track:
    def __init__(self, time_base: float, *, in_order: bool) -> None:
        self._time_base, self._in_order = time_base, in_order
        self._order, self._sizes = array("q"), array("q")
        self._decoded, self._shown, self._duration = array("d"), array("d"), array("d")

    def add(self, order: int, packet: av.Packet) -> None:
        pts, dts = packet.pts, packet.dts
        decoded = dts if dts is not None or not self._in_order else pts
        self._order.append(order)
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
        # The last packet before a jump may last as long as the jump, as its container has it.
        durations = np.frombuffer(self._duration)
        durations = np.where((durations > 2 * usual) | (durations <= 0), usual, durations)
        pieces = []
        for begin, end in ranges:
            good = np.array([n for n in range(begin, end) if n not in stray]) if stray else np.arange(begin, end)
            head, tail = good[:REORDERED_PACKETS], good[-REORDERED_PACKETS:]
            first, last = float(shown[head].min()), float((shown[tail] + durations[tail]).max())
            starts = np.sort(decoded[good])
            pieces.append(_Piece(stream, begin, self._order[begin], first, last, starts, is_first=begin == 0))
        return pieces, stray

    def _without_repeats(self, ranges: list[tuple[int, int]], shown: np.ndarray) -> list[tuple[int, int]]:
        """Join a range to the one before it where it goes back over the same media: pieces stored with an overlap."""
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
    """Return times of which none is missing: those that are have the time before them."""
    known = ~np.isnan(times)
    if not known.any():
        known = ~np.isnan(instead)
        if not known.any():
            return np.zeros(len(times))
        times = instead
    places = np.maximum.accumulate(np.where(known, np.arange(len(times)), -1))
    return times[np.where(places < 0, int(np.argmax(known)), places)]


def _without_strays(times: np.ndarray, usual: float) -> tuple[np.ndarray, dict[int, float]]:
    """Return times without those few that lie elsewhere than the packets around them, and by how much these move."""
    stray: dict[int, float] = {}
    mended = times.copy()
    for cut in (1 + np.flatnonzero(np.diff(times) < -LONGEST_STEP_BACK_SECONDS)).tolist():
        for count in range(1, MOST_STRAY_PACKETS + 1):
            most = usual * (count + 2) + LONGEST_STEP_BACK_SECONDS
            # Those before the step back were ahead, or those after it are behind.
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
    """Return where a piece begins by what is shown: reordered pictures may be decoded on the clock before it."""
    while cut > 1 and abs(shown[cut - 1] - decoded[cut - 1]) > max(
        TOGETHER_SECONDS, abs(shown[cut - 1] - decoded[cut])
    ):
        cut -= 1
    return cut


def _join(
    pieces: Sequence[_Piece], start_seconds: float, longest_gap: float, stray: dict[int, dict[int, float]]
) -> TimeLine:
    """Place the pieces one after another, in the order of the file."""
    shift = {piece.stream: 0.0 for piece in pieces}
    ends = dict.fromkeys(shift, start_seconds)
    last_common = 0.0  # of the newest jump that several tracks made
    jumps: list[float] = []
    shifts: dict[int, list[tuple[int, float]]] = {stream: [] for stream in shift}
    for number, piece in enumerate(pieces):
        stream = piece.stream
        own, expected = shift[stream], ends[stream]
        if not _continues(piece, own, expected, pieces, longest_gap):
            if own != last_common and _continues(piece, last_common, expected, pieces, longest_gap):
                shift[stream] = last_common  # another track made this jump before
            else:
                partners = _partners(piece, pieces[number + 1 :], ends, longest_gap)
                # After all that any of the tracks has of the piece before, so that nothing is lost.
                shift[stream] = max([expected - piece.first, *(ends[p.stream] - p.first for p in partners)])
                jumps.append(shift[stream] + piece.first - start_seconds)
                if partners:
                    last_common = shift[stream]
        piece.shift = shift[stream]
        ends[stream] = max(expected, piece.last + piece.shift)
        if piece.shift != own or (piece.is_first and piece.shift):
            shifts[stream].append((piece.packet, piece.shift))
    moved = {stream: dict(found) for stream, found in stray.items() if found}
    for stream, found in moved.items():
        for packet in found:
            place = bisect_right(shifts[stream], packet, key=lambda item: item[0])
            found[packet] += shifts[stream][place - 1][1] if place else 0.0
    return TimeLine(tuple(sorted(jumps)), {s: tuple(found) for s, found in shifts.items() if found}, moved)


def _continues(piece: _Piece, shift: float, expected: float, pieces: Sequence[_Piece], longest_gap: float) -> bool:
    """Return whether a piece, so shifted, goes on where its track ended, or after a gap in which others have media."""
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


def _partners(piece: _Piece, later: Sequence[_Piece], ends: Mapping[int, float], longest_gap: float) -> list[_Piece]:
    """Return the pieces of other tracks that begin together with this one, on its clock."""
    following: dict[int, _Piece] = {}
    for other in later:
        if other.stream != piece.stream:
            following.setdefault(other.stream, other)
    expected = ends[piece.stream]
    return [
        other
        for other in following.values()
        if abs(other.first - piece.first) <= TOGETHER_SECONDS
        and abs(ends[other.stream] - expected) <= max(longest_gap, TOGETHER_SECONDS)
    ]
