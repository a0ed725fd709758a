"""URL templates: where each clip's media should be, without checking that it exists."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from vidaudio.errors import ManifestError
from vidaudio.manifest.clip import Clip

FIELDS = ("id", "start", "end", "start_ms", "end_ms", "clip")
_NAMES_A_CUT = {"start", "start_ms", "clip"}
_WHOLE_NUMBER = re.compile(r"0?\d*d?")


def is_template(media: str) -> bool:
    """Return whether `--media` is a template and not a folder."""
    return ("{" in media or "://" in media) and not Path(media).is_dir()


def fill_template(clips: Iterable[Clip], template: str) -> tuple[Clip, ...]:
    """Return the same clips with URLs from a template such as `https://host/{id}_{start:06d}.mp4`.

    The fields are `{id}`, the video's id; `{start}` and `{end}` in seconds; `{start_ms}` and `{end_ms}` in
    milliseconds; and `{clip}`, the clip's id. The four times take a width, as in `{start:06d}`. A template with the
    start or the clip means cuts, which begin at the clip's start; a template with `{id}` alone means whole videos.

    Raises:
        ManifestError: When a field is unknown, no field distinguishes the videos, or a clip's value does not fit a
            field (an open end, a fraction of a second in a whole number).
    """
    pieces = _parse(template)
    used = {name for _, name, _ in pieces if name}
    if not used & {"id", "clip"}:
        raise ManifestError(f"--media {template} is one URL for all clips; it needs {{id}} or {{clip}} in it")
    cut = bool(used & _NAMES_A_CUT)
    url = "://" in template
    return tuple(
        replace(
            clip,
            url=_fill(pieces, clip, quoted=url) if url else str(Path(_fill(pieces, clip, quoted=False)).absolute()),
            media_start_seconds=clip.start_seconds if cut else 0.0,
        )
        for clip in clips
    )


def _parse(template: str) -> list[tuple[str, str | None, str]]:
    """Return text, field or None, and width of every piece."""
    try:
        parsed = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ManifestError(f"--media {template} is not a template: {error}") from error
    for _, name, width, conversion in parsed:
        if name is None:
            continue
        if name not in FIELDS or conversion:
            known = ", ".join(f"{{{known}}}" for known in FIELDS)
            raise ManifestError(f"--media {template}: there is no field {{{name}}}; the fields are {known}")
        if (name in {"id", "clip"} and width) or not _WHOLE_NUMBER.fullmatch(width or ""):
            raise ManifestError(f"--media {template}: {{{name}:{width}}} is no width; write it as in {{start:06d}}")
    return [(text, name, width or "") for text, name, width, _ in parsed]


def _fill(pieces: list[tuple[str, str | None, str]], clip: Clip, *, quoted: bool) -> str:
    filled = ""
    for text, name, width in pieces:
        filled += text
        if name is not None:
            value = _value(clip, name, width)
            filled += quote(value, safe="") if quoted else value
    return filled


def _value(clip: Clip, name: str, width: str) -> str:
    if name == "clip":
        return clip.id
    if name == "id":
        return media_name(clip)
    seconds = clip.start_seconds if name.startswith("start") else clip.end_seconds
    if seconds is None:
        raise ManifestError(f"the clip {clip.id} has no end, which {{{name}}} asks for")
    if name.endswith("_ms"):
        return format(round(seconds * 1000), width)
    if round(seconds, 3).is_integer():
        return format(round(seconds), width)
    if width:
        raise ManifestError(
            f"{clip.id}: {seconds:g} s is not a whole number of seconds, as {{{name}:{width}}} asks for; "
            f"use {{{name}_ms}}"
        )
    return f"{seconds:.3f}".rstrip("0")


def media_name(clip: Clip) -> str:
    """Return a clip's name in file names: the site's video id, or the clip's own id for files and plain URLs."""
    return clip.id if clip.site in {"file", "web"} else clip.video_id
