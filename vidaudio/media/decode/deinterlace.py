"""One progressive picture of an interlaced frame: both fields' lines at the moment of the first.

An interlaced frame weaves two pictures of different moments; scaled as it is, whatever moves becomes a comb. FFmpeg's
bwdif keeps the lines of the field shown first, at the frame's own time, and interpolates the others from the frames
around it. It is run for the few frames that are kept, never for all of them.
"""

from __future__ import annotations

import av
from av.filter import Graph

# bwdif takes no less.
LEAST_LINES = 4


def is_interlaced(frame: av.VideoFrame) -> bool:
    """Whether the frame is flagged as two fields, and large enough to be taken apart."""
    return frame.interlaced_frame and min(frame.width, frame.height) >= LEAST_LINES


def deinterlaced(before: av.VideoFrame | None, frame: av.VideoFrame, after: av.VideoFrame | None) -> av.VideoFrame:
    """The picture of an interlaced frame at its own time: a frame out for a frame in, field order as flagged.

    Args:
        before: The frame shown before it; None for the first, and ignored where it is of another kind.
        frame: With `is_interlaced`.
        after: The frame shown after it; None for the last, and ignored likewise.

    Raises:
        av.FFmpegError: It is of a kind that the filter cannot take.
    """
    around = [other if other is not None and _alike(other, frame) else None for other in (before, after)]
    graph = Graph()
    graph.threads = 1
    graph.link_nodes(
        graph.add_buffer(template=frame, time_base=frame.time_base),
        # By itself a frame would seem to stand still to a filter that looks at others: estdif looks at its lines alone.
        graph.add("bwdif", mode="send_frame", deint="interlaced") if any(around) else graph.add("estdif", mode="frame"),
        graph.add("buffersink"),
    ).configure()
    for shown in (around[0] or frame, frame, around[1] or frame):
        graph.vpush(shown)
    graph.vpull()  # of the frame before it, made in passing
    return graph.vpull()


def _alike(one: av.VideoFrame, other: av.VideoFrame) -> bool:
    return (one.width, one.height, one.format.name) == (other.width, other.height, other.format.name)
