"""Clips cut out of a longer file by copying packets, with the exact place of each cut on the source's timeline.

Nothing is encoded again. A cut begins at the keyframe at or before the first moment wanted, so that a decoder can start
there. Its timestamps begin near 0, so that players show it as a short video. The place of the cut's time 0 on the
source's timeline is measured, not computed from the requested span: every packet of the finished cut is read back and
compared with the packet it was copied from. A cut in which any packet differs by more than `TOLERANCE_SECONDS` is an
error.

A marked keyframe may still depend on parameters or pictures that come only before it. So the first picture and sound of
every cut are decoded as a test. If that fails, the cut is made again with the stream's parameters in front, then from
earlier keyframes. If nothing helps, the file is kept whole.

PyAV copies the packets because FFmpeg's command line accepts only a seek position, not a choice of packets: it either
leaves hours of empty time before the cut (-copyts), or hides the cut's beginning behind an edit list that rounds to
milliseconds.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from vidaudio.media.container import codec_names, main_streams, muxer_for, open_media, start_time
from vidaudio.media.decode.timeline import CONTINUOUS, PacketTimes, TimeLine, longest_gap_seconds
from vidaudio.media.fetch.cut_check import PARAMETERS_IN_BAND, begins_decodable, parameters_in_band, with_prefix
from vidaudio.text import first_line

# Matroska stores whole milliseconds; other containers are exact.
TOLERANCE_SECONDS = Fraction(1, 1000)
# Sound codecs need a few packets before their output is correct.
SOUND_SETTLES_SECONDS = Fraction(1, 10)
# Ticks per second of MP4's edit lists; the default of 1000 would round the start of the sound to milliseconds.
MP4_TIMESCALE = 90_000
# Keyframes before its window from which a cut is tried, in this order, before the file is kept whole.
KEYFRAMES_BACK = (0, 1, 2, 4, 8)


class CannotCut(Exception):
    """A file that cannot be cut exactly; the message says why. Keeping the whole file is always correct."""


@dataclass(frozen=True, slots=True)
class Track:
    """Packets of one stream in file order: presentation and decoding times in ticks of `time_base`."""

    stream: int
    is_video: bool
    time_base: Fraction
    pts: tuple[int, ...]
    dts: tuple[int | None, ...]
    keyframe: tuple[bool, ...]

    def seconds(self, packet: int) -> Fraction:
        """Return the presentation time of a packet as stored in the file (the file's time 0 is not subtracted)."""
        return self.pts[packet] * self.time_base


@dataclass(frozen=True, slots=True)
class MediaIndex:
    """Times of every packet of a file's picture and sound; `start` and `end` bound the presentation, in seconds.

    If the file's clock jumps, all times are on its joined timeline. `time_line` moves packets to that timeline.
    """

    path: Path
    format_name: str
    codecs: frozenset[str]
    start: Fraction
    end: Fraction
    tracks: tuple[Track, ...]
    time_line: TimeLine = CONTINUOUS

    @property
    def duration_seconds(self) -> float:
        """Return the duration measured from the packets; the duration in a file's header may be wrong."""
        return float(self.end - self.start)


@dataclass(frozen=True, slots=True)
class Cut:
    """One cut: its file, where the file's time 0 lies on the source's timeline, and how often the clock jumps in it."""

    path: Path
    media_start_seconds: float
    time_jumps: int = 0


@dataclass(frozen=True, slots=True)
class _Range:
    """Packets that one cut takes of one track: `first .. last`, except those presented before `earliest` (ticks)."""

    first: int
    last: int
    earliest: int

    def packets(self, track: Track) -> Iterator[int]:
        return (i for i in range(self.first, self.last + 1) if track.pts[i] >= self.earliest)


def read_index(path: Path) -> MediaIndex:
    """Read the times of every packet without decoding; takes about 4 us per packet.

    Raises:
        CannotCut: When the file is not readable to its end, or has packets without a presentation time.
    """
    try:
        with open_media(path) as container:
            streams = main_streams(container)
            if not streams:
                raise CannotCut("the file has neither picture nor sound")
            if any(_needs_its_beginning(stream) for stream in streams):
                raise CannotCut("H.264 in 4:4:4 may decode only from its first packet")
            start = start_time(container)
            rows: dict[int, list[tuple[int, int | None, bool, int]]] = {stream.index: [] for stream in streams}
            times = PacketTimes(streams)
            for packet in container.demux(streams):
                if packet.size == 0:  # the marker that flushes decoders
                    continue
                if packet.pts is None:
                    raise CannotCut("the file has packets without a presentation time")
                times.add(packet)
                row = (packet.pts, packet.dts, packet.is_keyframe, packet.duration or 0)
                rows[packet.stream.index].append(row)
            line = times.time_line(float(start), longest_gap_seconds(container))
            tracks = tuple(_track(stream, rows[stream.index], line) for stream in streams if rows[stream.index])
            last = [
                max(pts + row[3] for pts, row in zip(track.pts, rows[track.stream], strict=True)) * track.time_base
                for track in tracks
            ]
            codecs = frozenset(codec_names(streams))
            return MediaIndex(path, container.format.name, codecs, start, max([start, *last]), tracks, line)
    except (av.FFmpegError, OSError) as error:
        raise _cannot_cut(error) from error


def _needs_its_beginning(stream: Any) -> bool:
    """Return whether a stream may decode only from its first packet: H.264 in 4:4:4.

    Old x264 versions wrote 4:4:4 wrongly. Decoders correct it by the x264 version, which only the first packet
    contains.
    """
    codec = stream.codec_context
    return codec is not None and codec.name == "h264" and "444" in (getattr(codec, "pix_fmt", None) or "")


def _track(stream: Any, rows: list[tuple[int, int | None, bool, int]], line: TimeLine) -> Track:
    pts, dts, keyframe, _ = zip(*rows, strict=True)
    if line.shifts or line.stray:
        seconds = (line.shift_seconds(stream.index, number) for number in range(len(rows)))
        ticks = [round(s / stream.time_base) for s in seconds]
        pts = tuple(t + shift for t, shift in zip(pts, ticks, strict=True))
        dts = tuple(None if t is None else t + shift for t, shift in zip(dts, ticks, strict=True))
    return Track(stream.index, stream.type == "video", stream.time_base, pts, dts, keyframe)


def cut_windows(
    index: MediaIndex, windows: Mapping[str, tuple[float, float]], folder: Path, *, margin_seconds: float = 1.0
) -> dict[str, Cut]:
    """Cut windows out of an indexed file, all in one pass over the file per attempt.

    Args:
        index: Index of the file to cut.
        windows: Name of each cut, and the span that it must hold in seconds on the file's own timeline.
        folder: Folder to which the cuts are written, as `<name>.<extension>`.
        margin_seconds: Time kept before and after each span, so that decoders can settle and neighbouring frames exist.

    Returns:
        The cut of each name.

    Raises:
        CannotCut: When a cut is inexact or cannot be written. All files of cuts are then deleted.
        OSError: When the disk is full or fails. All files of cuts are then deleted.
    """
    if not index.tracks:
        raise CannotCut("the file has no packets")
    muxer, extension = muxer_for(index.format_name, set(index.codecs))
    margin = Fraction(margin_seconds)
    spans = {name: (Fraction(start) - margin, Fraction(end) + margin) for name, (start, end) in windows.items()}
    paths = {name: folder / f"{name}.{extension}" for name in windows}
    cuts: dict[str, Cut] = {}
    try:
        for way in _ways(muxer, index):
            plans = {
                name: plan_cut(index, *spans[name], keyframes_back=way.keyframes_back)
                for name in windows
                if name not in cuts
            }
            _copy_packets(
                index, plans, {name: paths[name] for name in plans}, muxer, with_parameters=way.with_parameters
            )
            for name, plan in plans.items():
                path, measured = paths[name], float(_measured_start(index, plan, paths[name]))
                begins = float(spans[name][0]) - measured
                if begins_decodable(path, begins, len(index.tracks)):
                    begin, end = windows[name]
                    cuts[name] = Cut(path, measured, sum(begin <= at < end for at in index.time_line.jumps))
            if len(cuts) == len(windows):
                return {name: cuts[name] for name in windows}
        raise CannotCut("the first picture or sound of a cut cannot be decoded, wherever it begins")
    except (av.FFmpegError, OSError, ValueError, CannotCut) as error:
        for path in paths.values():
            path.unlink(missing_ok=True)
        raise _cannot_cut(error) from error


@dataclass(frozen=True, slots=True)
class _Way:
    """One way to make a cut: how many keyframes before its window, and whether the stream's parameters go in front."""

    keyframes_back: int
    with_parameters: bool


def _ways(muxer: str, index: MediaIndex) -> Iterator[_Way]:
    """Yield the ways to make a cut, the shortest cut first."""
    yield _Way(0, with_parameters=False)
    in_band = muxer == "mpegts" and bool(index.codecs & PARAMETERS_IN_BAND)
    for back in KEYFRAMES_BACK:
        if back or in_band:
            yield _Way(back, with_parameters=in_band)


def plan_cut(index: MediaIndex, start: Fraction, end: Fraction, *, keyframes_back: int = 0) -> tuple[_Range, ...]:
    """Return the packets that a cut takes of each track; `start` and `end` are seconds on the file's own timeline.

    The first track decides where the cut begins: at its last keyframe shown at or before `start` (its first keyframe if
    there is none), or `keyframes_back` keyframes earlier. Pictures decoded after that keyframe but shown before it
    depend on pictures outside the cut, and are left out.

    Raises:
        CannotCut: When no keyframe is marked.
    """
    leading, *following = index.tracks
    start, end = start + index.start, end + index.start
    keyframes = [i for i, is_key in enumerate(leading.keyframe) if is_key]
    if not keyframes:
        raise CannotCut("the file marks no keyframe")
    start_ticks, end_ticks = start / leading.time_base, math.floor(end / leading.time_base)
    before = [i for i in keyframes if leading.pts[i] <= start_ticks] or keyframes[:1]
    first = before[max(0, len(before) - 1 - keyframes_back)]
    # Everything decoded up to the end is needed to show the pictures up to the end, even if some are shown later.
    decoded = (pts if dts is None else min(pts, dts) for pts, dts in zip(leading.pts, leading.dts, strict=True))
    last = max((i for i, ticks in enumerate(decoded) if ticks <= end_ticks and i >= first), default=first)
    ranges = [_Range(first, last, leading.pts[first])]
    sound_from = min(start, leading.seconds(first)) - SOUND_SETTLES_SECONDS
    for track in following:
        from_ticks, to_ticks = math.ceil(sound_from / track.time_base), math.floor(end / track.time_base)
        inside = [i for i, pts in enumerate(track.pts) if from_ticks <= pts <= to_ticks]
        earliest = min((track.pts[i] for i in inside), default=0)
        ranges.append(_Range(inside[0], inside[-1], earliest) if inside else _Range(0, -1, 0))
    return tuple(ranges)


def _origin(index: MediaIndex, plan: Sequence[_Range]) -> Fraction:
    """Return the source timestamp that becomes 0 in the cut, in seconds.

    Packets before the source's own time 0 exist only for the decoder, and the source's edit list hides them. They stay
    negative so that the cut hides them too. The origin is a multiple of the coarsest tick, because any other shift
    would round the timestamps in that tick.
    """
    used = [(track, part) for track, part in zip(index.tracks, plan, strict=True) if part.last >= part.first]
    earliest = max(min(part.earliest * track.time_base for track, part in used), index.start)
    tick = max(track.time_base for track, _ in used)
    return math.floor(earliest / tick) * tick


class _Writer:
    """Writer of one cut."""

    def __init__(
        self, path: Path, muxer: str, streams: Sequence[Any], origin: Fraction, *, with_parameters: bool = False
    ) -> None:
        # bitexact: no random ids and no dates, so that the same packets give the same bytes.
        options = {"fflags": "+bitexact"} | ({"movie_timescale": str(MP4_TIMESCALE)} if muxer == "mp4" else {})
        self.output = av.open(str(path), "w", format=muxer, container_options=options)
        self.streams = {}
        for stream in streams:
            copy = self.output.add_stream_from_template(stream, opaque=True)
            copy.time_base = stream.time_base
            self.streams[stream.index] = copy
        self.origin = origin
        # By stream: the parameters that its first keyframe needs in front.
        self.parameters = {s.index: parameters_in_band(s) for s in streams} if with_parameters else {}

    def write(self, packet: Any) -> None:
        """Write a packet shifted to the cut's timeline; then restore the packet, since other cuts may take it too."""
        if packet.is_keyframe and (parameters := self.parameters.pop(packet.stream.index, b"")):
            packet = with_prefix(packet, parameters)
        stream, time_base = packet.stream, packet.time_base
        pts, dts, duration = packet.pts, packet.dts, packet.duration
        shift = round(self.origin / time_base)
        packet.pts = pts - shift
        packet.dts = None if dts is None else dts - shift
        packet.stream = self.streams[stream.index]
        try:
            self.output.mux_one(packet)
        finally:
            packet.stream, packet.time_base = stream, time_base
            packet.pts, packet.dts, packet.duration = pts, dts, duration

    def close(self) -> None:
        self.output.close()


def _copy_packets(
    index: MediaIndex,
    plans: Mapping[str, Sequence[_Range]],
    paths: Mapping[str, Path],
    muxer: str,
    *,
    with_parameters: bool,
) -> None:
    """Copy every packet into every cut that takes it, in one pass over the file."""
    begins: dict[tuple[int, int], list[str]] = {}
    for name, plan in plans.items():
        for track, part in zip(index.tracks, plan, strict=True):
            if part.last >= part.first:
                begins.setdefault((track.stream, part.first), []).append(name)
    ranges = {
        (name, track.stream): part
        for name, plan in plans.items()
        for track, part in zip(index.tracks, plan, strict=True)
    }
    unfinished = {name: sum(part.last >= part.first for part in plan) for name, plan in plans.items()}
    active: dict[int, list[str]] = {track.stream: [] for track in index.tracks}
    counted = dict.fromkeys(active, 0)
    writers: dict[str, _Writer] = {}
    with open_media(index.path) as container, ExitStack() as stack:
        streams = [container.streams[track.stream] for track in index.tracks]
        for packet in container.demux(streams):
            if packet.size == 0:
                continue
            stream = packet.stream.index
            number = counted[stream]
            counted[stream] += 1
            index.time_line.move(packet, number)
            for name in begins.get((stream, number), ()):
                active[stream].append(name)
                if name not in writers:
                    origin = _origin(index, plans[name])
                    writer = _Writer(paths[name], muxer, streams, origin, with_parameters=with_parameters)
                    writers[name] = writer
                    stack.callback(writer.close)
            for name in list(active[stream]):
                part = ranges[name, stream]
                if packet.pts >= part.earliest:
                    writers[name].write(packet)
                if number == part.last:
                    active[stream].remove(name)
                    unfinished[name] -= 1
            if not any(unfinished.values()):
                break


def _measured_start(index: MediaIndex, plan: Sequence[_Range], path: Path) -> Fraction:
    """Return the place of the cut's time 0 on the source's timeline, in seconds, measured by comparing packets."""
    cut = read_index(path)
    by_kind = {track.is_video: track for track in cut.tracks}
    shift: Fraction | None = None
    for track, part in zip(index.tracks, plan, strict=True):
        packets = list(part.packets(track))
        if not packets:
            continue
        copied = by_kind.get(track.is_video)
        if copied is None or len(copied.pts) != len(packets):
            raise CannotCut("packets were lost in cutting")
        for number, packet in enumerate(packets):
            difference = track.seconds(packet) - copied.seconds(number)
            shift = difference if shift is None else shift
            if abs(difference - shift) > TOLERANCE_SECONDS:
                raise CannotCut(f"timestamps moved by {float(difference - shift):.4f} s in cutting")
    assert shift is not None, "a plan takes at least one keyframe"
    return shift + cut.start - index.start


def _cannot_cut(error: Exception) -> Exception:
    """Return the exception to raise in place of an error from libav: disk errors stay as they are."""
    if isinstance(error, CannotCut) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
        return error
    return CannotCut(first_line(error, without_paths=True))
