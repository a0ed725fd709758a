"""Which picture and which sound of a file are used: those that players and FFmpeg's commands choose.

A track marked as default comes before others, one made for people who cannot hear or see, or that comments on the film,
after them. Of equal tracks of sound the first is taken, of equal pictures the largest. Bit rates, by which
libavformat's own search decides, say nothing about it.
"""

from __future__ import annotations

from typing import Any, Literal

from av.stream import Disposition

_FOR_OTHERS = (
    Disposition.hearing_impaired | Disposition.visual_impaired | Disposition.comment | Disposition.descriptions
)


def ranked_tracks(container: Any, kind: Literal["video", "audio"]) -> list[Any]:
    """Return the moving pictures or the sounds of a file, the one to use first; cover pictures are neither.

    A track that cannot be decoded, or has nothing in it as far as its file says, comes last.
    """
    streams = [s for s in container.streams if s.type == kind and not s.disposition & Disposition.attached_pic]
    return sorted(streams, key=_rank)


def _rank(stream: Any) -> tuple[bool, bool, int, int]:
    default = bool(stream.disposition & Disposition.default) + (not stream.disposition & _FOR_OTHERS)
    is_empty = not (stream.frames or stream.duration)
    area = stream.width * stream.height if stream.type == "video" and stream.codec_context is not None else 0
    return stream.codec_context is None, is_empty, -default, -area
