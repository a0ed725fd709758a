"""Traits of a site's format apart from its size: is it a recording, which language, SDR or HDR, flat or spherical.

Sites list formats that are not recordings of the video (storyboards, sprites, a narration for blind viewers) beside
recordings, and these are often the smallest. Some traits are a drawback only if another format does not have them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Format = Mapping[str, Any]
Item = TypeVar("Item")

# Fewer frames per second than this is a jerky preview, not the video.
FEWEST_FRAMES_PER_SECOND = 5.0
_STILLS = re.compile(r"story ?board|sprite|thumbnail|trick ?play|i-?frames? only", re.IGNORECASE)
# In the languages in which sites name such a track; `\bAD\b` is the broadcasters' abbreviation.
_DESCRIBED = re.compile(
    r"(?i:descripti(ve|on)|described|describes-video|audio[ -]?des[ck]ri|syntolk|synstolk|visually impaired)"
    r"|тифлокоммент|解説放送|音声解説|화면해설|口述影像|\bAD\b"
)
_ALTERED_SOUND = re.compile(r"\bDRC\b|ambisonic|commentary", re.IGNORECASE)
_ALTERED_PICTURE = re.compile(r"AI-upscaled|super.?resolution", re.IGNORECASE)
_SPHERICAL = re.compile(r"equirect|360\s?°|\bmesh\b|threed|\bvr\s?(180|360)?\b|cubemap|fisheye", re.IGNORECASE)
_PREVIEW = re.compile(r"\bpreview|trailer", re.IGNORECASE)
_PREMIUM = re.compile(r"\bpremium\b", re.IGNORECASE)
_HDR_NOTE = re.compile(r"\b(HDR(10\+?|12)?|HLG|PQ|dolby.?vision|DV)\b")
# Transfer functions of ITU-T H.273 that appear in codec strings: PQ and HLG.
_HDR_TRANSFERS = frozenset({16, 18})


def is_recording(fmt: Format) -> bool:
    """Return whether a format holds the video's own picture or sound, not stills of it or a narration over it."""
    if lacks(fmt, "vcodec") and lacks(fmt, "acodec"):
        return False
    if "mhtml" in (fmt.get("ext"), fmt.get("protocol")):
        return False
    return not (_STILLS.search(_names(fmt)) or is_described(fmt))


def is_described(fmt: Format) -> bool:
    """Return whether the format's sound contains a narrator who describes the picture."""
    return not lacks(fmt, "acodec") and bool(_DESCRIBED.search(_names(fmt)))


def is_hdr(fmt: Format) -> bool:
    """Return whether the picture is HDR: by the codec's transfer function, else as the site states, else by profile.

    yt-dlp calls every 10-bit picture HDR, so the transfer function in the codec's name comes first.
    """
    codec = str(fmt.get("vcodec") or "").lower()
    parts = codec.split(".")
    if parts[0].startswith(("dvh", "dva", "dvav")):
        return True
    place = {"vp09": 6, "av01": 7}.get(parts[0])
    if place is not None and len(parts) > place and parts[place].isdigit():
        return int(parts[place]) in _HDR_TRANSFERS
    told = fmt.get("dynamic_range")
    if told:
        return str(told).upper() != "SDR"
    if _HDR_NOTE.search(_names(fmt)):
        return True
    return (parts[0] in ("vp9", "vp09") and parts[1:2] in (["2"], ["02"], ["3"], ["03"])) or (
        parts[0] == "av01" and parts[3:4] in (["10"], ["12"])
    )


def picture_drawbacks(fmt: Format) -> tuple[bool, ...]:
    """Return the drawbacks of a format's picture, the weightiest first; compare them with those of other formats."""
    names, frames = _names(fmt), fmt.get("fps")
    return (
        (fmt.get("preference") or 0) <= -10,  # the site calls it damaged
        bool(frames and frames < FEWEST_FRAMES_PER_SECOND),
        bool(_PREVIEW.search(names)),
        is_hdr(fmt),
        bool(_SPHERICAL.search(names)),
        bool(_ALTERED_PICTURE.search(names)),
        bool(_PREMIUM.search(names)),  # offered, but often refused on request
    )


def sound_drawbacks(fmt: Format, best_language: int) -> tuple[bool, ...]:
    """Return the drawbacks of a format's sound, the weightiest first.

    Args:
        fmt: The format; one without sound has no drawbacks.
        best_language: The highest preference of any format of the video: that of the original language.
    """
    if lacks(fmt, "acodec"):
        return (False, False, False)
    return (
        language(fmt) < best_language,
        (fmt.get("preference") or 0) <= -10,
        bool(_ALTERED_SOUND.search(_names(fmt))),
    )


def least(items: list[Item], key: Callable[[Item], tuple[bool, ...]]) -> list[Item]:
    """Return the items with the fewest and lightest drawbacks, in their order."""
    lowest = min(map(key, items), default=None)
    return [item for item in items if key(item) == lowest]


def language(fmt: Format) -> int:
    """Return the site's preference for the language of the format's sound: 10 for the original at YouTube.

    -1 if the site states no preference.
    """
    told = fmt.get("language_preference")
    return -1 if told is None else told


def lacks(fmt: Format, codec: str) -> bool:
    """Return True if the site says that there is no such codec; a codec that it does not name counts as present."""
    return fmt.get(codec) == "none"


def _names(fmt: Format) -> str:
    """Return what the site calls the format, in all its naming fields."""
    return " ".join(str(fmt.get(name) or "") for name in ("format_id", "format_note", "format", "resolution"))
