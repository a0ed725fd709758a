"""Choice of the formats to download: the fewest bytes that still have the required picture size and sound quality.

Pictures end up as squares of `min_short_side` pixels and sound as 16 kHz mono. So the best choice is the smallest
picture whose *short* side (the width of a portrait video) has that many pixels, and the smallest sound of sufficient
quality.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vidaudio.media.fetch.format_traits import (
    Format,
    is_recording,
    lacks,
    language,
    least,
    picture_drawbacks,
    sound_drawbacks,
)

# Below this, sound is audibly bad; such a sound is taken only if there is no other.
ENOUGH_AUDIO_KBPS = 64.0
ENOUGH_AUDIO_HZ = 16_000
# A segmented format costs one request per segment, and sites count requests: it must be smaller by this factor.
SEGMENTED_COSTS = 2.0
# Rough size of a format without size and rate, for comparison only: bits per pixel and frame, and the sound's rate.
_BITS_PER_PIXEL = 0.1
_UNTOLD_AUDIO_KBPS = 128.0
_UNTOLD_SHORT_SIDE = 360
_SINGLE_FILE = frozenset({"http", "https", "ftp", "ftps", "file"})
_SEGMENTED = frozenset({"m3u8", "m3u8_native", "http_dash_segments", "ism", "f4m"})


def choose_formats(formats: Iterable[Format], min_short_side: int, duration_seconds: float | None) -> list[Format]:
    """Return the one or two formats to download: one file with both, or first the picture's and then the sound's.

    Drawbacks (`picture_drawbacks`, `sound_drawbacks`) decide before size, and only if there is a choice: a video that
    exists only in HDR is taken in HDR.

    Args:
        formats: Formats as yt-dlp lists them, worst first in its own judgement.
        min_short_side: Pixels that the picture's shorter side should have at least; if no format has them, the largest
            is taken.
        duration_seconds: Duration of the video, if known; used to estimate sizes from rates.

    Returns:
        An empty list if there is neither picture nor sound; sound alone if there is no picture at all.
    """
    usable = [f for f in formats if is_recording(f) and not f.get("has_drm")]
    usable = [f for f in usable if _protocols(f) <= _SINGLE_FILE | _SEGMENTED] or usable
    best_language = max((language(f) for f in usable if not lacks(f, "acodec")), default=-1)

    def against(choice: list[Format]) -> tuple[bool, ...]:
        picture, sound = choice[0], choice[-1]
        return (*sound_drawbacks(sound, best_language), *picture_drawbacks(picture))

    sounds = [f for f in usable if lacks(f, "vcodec")]
    sounds = least(sounds, key=lambda f: sound_drawbacks(f, best_language))
    sound = _smallest_enough_sound(sounds, duration_seconds)
    choices: list[list[Format]] = []
    for picture in usable:
        if lacks(picture, "vcodec"):
            continue
        if not lacks(picture, "acodec"):
            choices.append([picture])
        elif sound is not None:
            choices.append([picture, sound])
    if not choices:
        pictures = least([f for f in usable if not lacks(f, "vcodec")], key=picture_drawbacks)
        return pictures[-1:] or ([sound] if sound is not None else [])

    choices = least(choices, key=against)
    sized = [(c, side) for c in choices if (side := short_side(c[0])) is not None]
    if not sized:
        return choices[-1]  # no format states its size: take yt-dlp's own best
    covering = [c for c, side in sized if side >= min_short_side]
    if not covering:
        largest = max(side for _, side in sized)
        covering = [c for c, side in sized if side == largest]
    return min(covering, key=lambda choice: sum(_cost(f, duration_seconds) for f in choice))


class FormatChooser:
    """`choose_formats` as a value of yt-dlp's `format` option. Yields each file by itself; vidaudio merges them.

    Args:
        min_short_side: Pixels that the picture's shorter side should have at least.
    """

    def __init__(self, min_short_side: int) -> None:
        self.min_short_side = min_short_side

    def __call__(self, context: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the chosen formats."""
        formats = context["formats"]
        yield from (dict(f) for f in choose_formats(formats, self.min_short_side, _duration(formats)))


def short_side(fmt: Format) -> int | None:
    """Return the shorter side of the picture in pixels; a lone height counts as the short side (landscape)."""
    sides = [side for side in (fmt.get("width"), fmt.get("height")) if side]
    if len(sides) == 1 and fmt.get("width"):
        return int(sides[0] * 9 / 16)
    return int(min(sides)) if sides else None


def estimated_bytes(fmt: Format, duration_seconds: float | None) -> float:
    """Return the stated size, else an estimate from the rate or picture size; without a duration, for one second."""
    told = fmt.get("filesize") or fmt.get("filesize_approx")
    if told:
        return float(told) if duration_seconds else float(told) / _seconds_from(fmt, told)
    return _kbps(fmt) * 125.0 * (duration_seconds or 1.0)


def _cost(fmt: Format, duration_seconds: float | None) -> float:
    single = _protocols(fmt) <= _SINGLE_FILE
    return estimated_bytes(fmt, duration_seconds) * (1.0 if single else SEGMENTED_COSTS)


def _smallest_enough_sound(sounds: list[Format], duration_seconds: float | None) -> Format | None:
    """Return the cheapest sound of sufficient quality; if there is none, the one with the highest rate."""
    if not sounds:
        return None
    enough = [
        f for f in sounds if _kbps(f) >= ENOUGH_AUDIO_KBPS and (f.get("asr") or ENOUGH_AUDIO_HZ) >= ENOUGH_AUDIO_HZ
    ]
    if enough:
        return min(enough, key=lambda f: _cost(f, duration_seconds))
    return max(sounds, key=_kbps)


def _protocols(fmt: Format) -> set[str]:
    protocol = fmt.get("protocol") or str(fmt.get("url") or "").partition(":")[0] or "https"
    return set(protocol.split("+"))


def _kbps(fmt: Format) -> float:
    if lacks(fmt, "vcodec"):
        return float(fmt.get("abr") or fmt.get("tbr") or _UNTOLD_AUDIO_KBPS)
    if fmt.get("tbr") or fmt.get("vbr"):
        return float(fmt.get("tbr") or fmt["vbr"])
    side = short_side(fmt) or _UNTOLD_SHORT_SIDE
    sound = 0.0 if lacks(fmt, "acodec") else _UNTOLD_AUDIO_KBPS
    return side * side * 16 / 9 * (fmt.get("fps") or 25) * _BITS_PER_PIXEL / 1000 + sound


def _seconds_from(fmt: Format, told_bytes: float) -> float:
    return max(told_bytes / (_kbps(fmt) * 125.0), 1e-3)


def _duration(formats: Iterable[Format]) -> float | None:
    """Return the video's duration from any format with both a size and a rate.

    yt-dlp does not pass the duration to the selector.
    """
    for fmt in formats:
        size, rate = fmt.get("filesize") or fmt.get("filesize_approx"), fmt.get("tbr")
        if size and rate:
            return size / (rate * 125.0)
    return None
