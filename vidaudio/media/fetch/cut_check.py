"""Check of whether a cut can be decoded from its beginning, and the parameters it may need in front for that.

A keyframe is a place where a decoder may start if it has read the file up to there. H.264 and HEVC keep the parameters
of their pictures in the stream itself, and encoders may write them only once. A cut into MPEG-TS, which has no other
place for these parameters, begins without them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av

from vidaudio.media.container import main_streams, open_media

# Codecs whose parameters are in the stream, in front of all keyframes or only of the first.
PARAMETERS_IN_BAND = frozenset({"h264", "hevc", "vvc", "mpeg1video", "mpeg2video", "mpeg4", "vc1"})
_START_CODES = (b"\x00\x00\x01", b"\x00\x00\x00\x01")
# A stream that has given no picture and no sound after this many packets (of all streams) counts as undecodable.
MOST_PACKETS = 2000
# If the first sound comes this long after the cut's first sound packet, more is missing than a decoder needs to settle.
SOUND_SETTLES_SECONDS = 0.25
ROUNDING_SECONDS = 0.002


def begins_decodable(path: Path, wanted_seconds: float, tracks: int) -> bool:
    """Return whether a cut's first picture and sound decode no later than they are wanted.

    Args:
        path: The cut's file.
        wanted_seconds: Start of the span that the cut was made for, margin included, on the cut's own timeline.
        tracks: Number of tracks that the cut must have.
    """
    try:
        with open_media(path) as container:
            streams = main_streams(container)
            return len(streams) == tracks and _tracks_begin(container, streams, wanted_seconds)
    except (av.FFmpegError, OSError, ValueError, IndexError):
        return False


def _tracks_begin(container: Any, streams: list[Any], wanted_seconds: float) -> bool:
    zero = (container.start_time or 0) / av.time_base
    stored: dict[int, float] = {}
    waiting = {stream.index for stream in streams}
    for number, packet in enumerate(container.demux(streams)):
        stream = packet.stream
        if stream.index not in waiting:
            continue
        # Packets hidden by an edit list are decoded but not shown.
        if packet.size and packet.pts is not None and not packet.is_discard:
            stored[stream.index] = min(float(packet.pts * packet.time_base) - zero, stored.get(stream.index, 1e9))
        try:
            frames = [frame for frame in packet.decode() if not frame.is_corrupt]
        except av.FFmpegError:
            continue  # only whether anything decodes in time matters
        if frames:
            # If the file begins later than the span, its first picture is early enough.
            latest = max(wanted_seconds, stored.get(stream.index, 0.0))
            if stream.type == "audio":
                latest += SOUND_SETTLES_SECONDS
            first = frames[0]
            if first.pts is not None and float(first.pts * first.time_base) - zero > latest + ROUNDING_SECONDS:
                return False
            waiting.remove(stream.index)
            if not waiting:
                return True
        if number > MOST_PACKETS:
            return False
    # A track without packets in the cut is no fault: the source has none there either.
    return not waiting & stored.keys()


def parameters_in_band(stream: Any) -> bytes:
    """Return the parameters at the beginning of the file's stream, to be put in front of a keyframe; empty if none."""
    context = stream.codec_context
    if context is None or context.name not in PARAMETERS_IN_BAND:
        return b""
    extradata = bytes(context.extradata or b"")
    return extradata if extradata.startswith(_START_CODES) else b""


def with_prefix(packet: av.Packet, prefix: bytes) -> av.Packet:
    """Return a copy of a packet with `prefix` in front of its bytes."""
    longer = av.Packet(prefix + bytes(packet))
    longer.stream, longer.time_base = packet.stream, packet.time_base
    longer.pts, longer.dts, longer.duration = packet.pts, packet.dts, packet.duration
    longer.is_keyframe = packet.is_keyframe
    return longer
