"""Reader of MUSIC's lists: JSON of the form {"version": ..., "videos": {"flute": [ids], "flute violin": [ids]}}.

Solos, duets and MUSIC-21 are three files of this form. The ids are whole videos: there are no cuts and no splits. The
key of a duet names two instruments, separated by a space. An underscore within a name (`acoustic_guitar`) becomes a
space in the label, since text encoders read labels.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from vidaudio.errors import ManifestError
from vidaudio.manifest.clip import Clip
from vidaudio.manifest.rows import BadRow, Listing, Parsed, Place, collect, parse_rows
from vidaudio.manifest.text import is_text, parse_json, read_text
from vidaudio.manifest.youtube import youtube_clip
from vidaudio.text import storable_text

_STRING_OR_LINE_END = re.compile(r'"(?:[^"\\]|\\.)*"|\r\n|\r|\n')


def read_music(*paths: str | Path, split: str | None = None, skip_bad_rows: bool = False) -> Listing:
    """Read MUSIC lists, one after the other; an id of several instruments becomes one clip with all their labels.

    Args:
        paths: `MUSIC_solo_videos.json`, `MUSIC_duet_videos.json`, `MUSIC21_solo_videos.json`.
        split: Split of every row, as the lists have none; None leaves it open.
        skip_bad_rows: Whether malformed rows are left out; otherwise the list is refused.

    Raises:
        ManifestError: As `collect`; or when a list is missing or does not have this form.
    """

    def parse(row: tuple[str, object]) -> Clip:
        instruments, video_id = row
        if not isinstance(video_id, str):
            raise ManifestError(f"{video_id!r} is not a YouTube id (a string)")
        labels = tuple(storable_text(name.replace("_", " ")) for name in instruments.split())
        if not labels:
            raise ManifestError(f"the video {video_id!r} stands under no instrument")
        return youtube_clip(video_id, dataset="music", split=split, labels=tuple(dict.fromkeys(labels)))

    rows = (row for path in paths for row in parse_rows(_rows(Path(path)), parse))
    return collect(rows, skip_bad_rows=skip_bad_rows)


def _rows(path: Path) -> Iterator[Parsed[tuple[str, object]] | BadRow]:
    """Yield instruments and id of every entry, with the entry's line."""
    text = read_text(path)
    if not is_text(text):
        raise ManifestError(f"{path} holds bytes that are not UTF-8; save the list as UTF-8")
    try:
        # Pairs, not a dict: of two equal keys a dict keeps the last, and the videos of the first would be lost.
        document = parse_json(text, _Pairs)
    except json.JSONDecodeError as error:
        raise ManifestError(f"{path}:{error.lineno} is not JSON: {error.msg}") from error
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from error
    # The strings of a document have the same order in the text and in a walk over the parsed document.
    lines = _string_lines(text)
    found = False
    for key, value in _top_level(document, path):
        next(lines)
        if key != "videos":
            _pass_strings(value, lines)
            continue
        if not isinstance(value, _Pairs):
            raise ManifestError(f'{path}: "videos" is not an object of instruments')
        found = True
        for instruments, ids in value:
            line = next(lines)
            if not isinstance(ids, list) or isinstance(ids, _Pairs):
                raise ManifestError(f"{path}:{line}: {instruments!r} is followed by something other than a list of ids")
            for video_id in ids:
                if isinstance(video_id, str):
                    line = next(lines)
                else:
                    _pass_strings(video_id, lines)
                yield Parsed(Place(path, line), (instruments, video_id))
    if not found:
        raise ManifestError(f'{path} has no "videos"; a MUSIC list maps each instrument to YouTube ids there')


class _Pairs(list):
    """The (key, value) pairs of a JSON object."""


def _top_level(document: object, path: Path) -> _Pairs:
    if not isinstance(document, _Pairs):
        raise ManifestError(f'{path} is not a MUSIC list: a JSON object with "videos" was expected')
    return document


def _string_lines(text: str) -> Iterator[int]:
    """Yield the line of every JSON string in the text, keys included, in order."""
    line = 1
    for token in _STRING_OR_LINE_END.finditer(text):
        if token[0][0] == '"':
            yield line
        else:
            line += 1


def _pass_strings(value: object, lines: Iterator[int]) -> None:
    """Advance `lines` past the strings inside a value that is not read."""
    waiting = [value]
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, str):
            next(lines)
        elif isinstance(inner, _Pairs):
            for _, further in inner:
                next(lines)
                waiting.append(further)
        elif isinstance(inner, list):
            waiting += inner
