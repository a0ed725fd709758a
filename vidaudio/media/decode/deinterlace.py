"""Deinterlacing: one progressive picture of an interlaced frame, both fields' lines at the moment of the first field.

An interlaced frame weaves two pictures of different moments. Scaled as it is, everything that moves becomes a comb.
FFmpeg's bwdif keeps the lines of the field shown first, at the frame's own time, and interpolates the other lines from
the neighbouring frames. It runs only for the few frames that are kept.
"""

from __future__ import annotations

import av
from av.filter import Graph

# Minimum height and width that bwdif accepts.
LEAST_LINES = 4


def is_interlaced(frame: av.VideoFrame) -> bool:
    """Return whether the frame is flagged as two fields and large enough to be deinterlaced."""
    return frame.interlaced_frame and min(frame.width, frame.height) >= LEAST_LINES


def deinterlaced(before: av.VideoFrame | None, frame: av.VideoFrame, after: av.VideoFrame | None) -> av.VideoFrame:
    """Return the picture of an interlaced frame at its own time, with the field order that the frame is flagged with.

    Args:
        before: Frame shown before it; None for the first frame. Ignored if its size or pixel format differs.
        frame: Interlaced frame; `is_interlaced` is true for it.
        after: Frame shown after it; None for the last frame. Ignored if its size or pixel format differs.

    Raises:
        av.FFmpegError: When the filter does not accept frames of this kind.
    """
    around = [other if other is not None and _alike(other, frame) else None for other in (before, after)]
    graph = Graph()
    graph.threads = 1
    graph.link_nodes(
        # PyAV reads the format of a frame as that of a stream; its stubs do not say so.
        graph.add_buffer(template=frame, time_base=frame.time_base),  # type: ignore[arg-type]
        # A frame without neighbours would seem to stand still to bwdif; estdif uses only the frame's own lines.
        graph.add("bwdif", mode="send_frame", deint="interlaced") if any(around) else graph.add("estdif", mode="frame"),
        graph.add("buffersink"),
    ).configure()
    for shown in (around[0] or frame, frame, around[1] or frame):
        graph.vpush(shown)
    graph.vpull()  # discard the output for the preceding frame
    return graph.vpull()


def _alike(one: av.VideoFrame, other: av.VideoFrame) -> bool:
    return (one.width, one.height, one.format.name) == (other.width, other.height, other.format.name)
