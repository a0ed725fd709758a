"""Choice of the video and audio track of a file: the ones that players and FFmpeg's commands choose.

A track marked as default comes before others. A track made for people who cannot hear or see, or with comments on the
film, comes after them. Of equal audio tracks the first is taken, of equal video tracks the largest. Bit rates, by which
libavformat's own search decides, do not show which track is wanted.
"""

from __future__ import annotations

from typing import Any, Literal

from av.stream import Disposition

_FOR_OTHERS = (
    Disposition.hearing_impaired | Disposition.visual_impaired | Disposition.comment | Disposition.descriptions
)


def ranked_tracks(container: Any, kind: Literal["video", "audio"]) -> list[Any]:
    """Return the video or audio tracks of a file, best first, without cover pictures.

    Tracks without a decoder come last, and before them those that are empty according to the file.
    """
    streams = [s for s in container.streams if s.type == kind and not s.disposition & Disposition.attached_pic]
    return sorted(streams, key=_rank)


def _rank(stream: Any) -> tuple[bool, bool, int, int]:
    default = bool(stream.disposition & Disposition.default) + (not stream.disposition & _FOR_OTHERS)
    is_empty = not (stream.frames or stream.duration)
    area = stream.width * stream.height if stream.type == "video" and stream.codec_context is not None else 0
    return stream.codec_context is None, is_empty, -default, -area
