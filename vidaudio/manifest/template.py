"""URL templates: where the media of every clip would be, without looking whether it is there."""

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
    """Whether `--media` names a template and not a folder."""
    return ("{" in media or "://" in media) and not Path(media).is_dir()


def fill_template(clips: Iterable[Clip], template: str) -> tuple[Clip, ...]:
    """The same clips with URLs from a template such as `https://host/{id}_{start:06d}.mp4`.

    Fields: `{id}` the video's id, `{start}` and `{end}` in seconds, `{start_ms}` and `{end_ms}` in milliseconds (all
        four
    take a width, `{start:06d}`), `{clip}` the clip's id. A template that names the start or the clip means cuts, which
    begin at the clip's start; one with `{id}` alone means whole videos.

    Raises:
        ManifestError: A field that there is not, no field that tells videos apart, or a clip that a field cannot write
            (an end that is open, a fraction of a second in a whole number).
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
    """(text, field or None, width) for every piece."""
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
    """What files of a clip's video are named by: the video's id on a site, the clip's id for files and plain URLs."""
    return clip.id if clip.site in {"file", "web"} else clip.video_id
