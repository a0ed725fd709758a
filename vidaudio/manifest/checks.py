"""Checks of manifest rows: for a single clip of a list, and in columns for a table of clips.

A `Clip` refuses values that no stage could process. These further checks run when a list is read and when a build opens
a manifest, so that a value which would block a shard later is found while its row can still be named.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.errors import ManifestError
from vidaudio.manifest.clip import Clip
from vidaudio.manifest.fields import MAX_SECONDS, RANGE
from vidaudio.shards.names import is_name_part
from vidaudio.text import CHANGED_IN_ARROW, number_of, storable_text

# Limit of a field of a list. A longer field is no caption: it is an open quote, a document, a picture in base64.
MAX_FIELD_CHARACTERS = 131_072

_NAMES = ("dataset", "split")
_WORDS = ("labels", "captions")
_TEXTS = ("source", "dataset", "url", "split", "labels", "captions")
# What no system accepts: a NUL in a path, any control character in a URL.
_BAD_URL = r"\x00|^(?:[A-Za-z][A-Za-z0-9+.-]*://|[Ff][Ii][Ll][Ee]:).*[\x01-\x1f\x7f]"
_NO_SPLIT = "cannot be part of a file's name, as that of a training shard; name it otherwise, such as train"
_BAD_URL_IN_PYTHON = re.compile(_BAD_URL, re.DOTALL)


def checked_clip(clip: Clip) -> Clip:
    """Return a list's clip with its texts made storable.

    Raises:
        ManifestError: When a field is too long, a time is out of range, the URL holds control characters, or the split
            cannot be part of a training shard's name.
    """
    for name in _TEXTS:
        value = getattr(clip, name)
        for text in (value,) if isinstance(value, str) else value or ():
            if len(text) > MAX_FIELD_CHARACTERS:
                raise ManifestError(f"the {name} has {too_many(len(text))}")
    if problem := _time_problem(clip):
        raise ManifestError(problem)
    if _BAD_URL_IN_PYTHON.search(clip.url):
        raise ManifestError(f"the URL or path {clip.url!r} holds control characters")
    values: dict[str, Any] = {name: _storable_name(getattr(clip, name)) for name in _NAMES}
    if not _is_split(values["split"]):
        split = storable_text(repr(values["split"]), max_characters=100)
        raise ManifestError(f"the split {split} {_NO_SPLIT}")
    values |= {name: storable_words(getattr(clip, name), name) for name in _WORDS}
    changed = {name: value for name, value in values.items() if value != getattr(clip, name)}
    return replace(clip, **changed) if changed else clip


def check_table(table: pa.Table, where: str) -> None:
    """Refuse texts and times that no clip of a list may have.

    Args:
        table: Rows with all columns of a manifest.
        where: Origin of the rows, for messages.

    Raises:
        ManifestError: When a value is invalid; for a text that is too long, names the column, otherwise the first clip
            and the number of clips.
    """
    for name in _TEXTS:
        texts = pc.list_flatten(table[name]) if name in _WORDS else table[name]
        longest = pc.max(pc.utf8_length(texts)).as_py() or 0
        if longest > MAX_FIELD_CHARACTERS:
            raise ManifestError(f"{where}: the column {name} holds a text of {too_many(longest)}")
    odd = [split for split in pc.unique(table["split"]).to_pylist() if not _is_split(_storable_name(split))]
    splits = pc.is_in(table["split"], value_set=pa.array(odd, table["split"].type))
    _refuse(table, splits, where, "split", f"what {_NO_SPLIT}")
    bad_urls = pc.match_substring_regex(table["url"], f"(?s){_BAD_URL}")
    _refuse(table, bad_urls, where, "url", "a URL or path with control characters")
    for name in ("start_seconds", "end_seconds", "media_start_seconds"):
        seconds = table[name]
        fits = pc.and_(pc.greater_equal(seconds, 0.0), pc.less_equal(seconds, MAX_SECONDS))
        _refuse(table, pc.fill_null(pc.invert(fits), False), where, name, f"no time ({RANGE})")
    behind = pc.fill_null(pc.greater_equal(table["media_start_seconds"], table["end_seconds"]), False)
    _refuse(table, behind, where, "media_start_seconds", "a time behind the clip's end")


def storable_table(table: pa.Table) -> pa.Table:
    """Return rows with their texts made storable, in those columns of `dataset, split, labels, captions` that exist."""
    for place, name in enumerate(table.column_names):
        column = table[name]
        if name in _NAMES and _changes(column, name):
            values: list = [_storable_name(value) for value in column.to_pylist()]
        elif name in _WORDS and _changes(pc.list_flatten(column), name):
            values = [words and list(storable_words(words, name)) for words in column.to_pylist()]
        else:
            continue
        table = table.set_column(place, table.schema.field(name), pa.chunked_array([pa.array(values, column.type)]))
    return table


def storable_words(words: Iterable[str | None], name: str) -> tuple[str, ...]:
    """Return labels or captions made storable; if any text changes, empty and repeated texts are removed.

    Args:
        words: The texts.
        name: `labels`, which are single lines, or `captions`, which may have several lines.
    """
    keep = name == "captions"
    before = [word or "" for word in words]
    after = [storable_text(word, max_characters=MAX_FIELD_CHARACTERS, keep_line_ends=keep) for word in before]
    if after == before:
        return tuple(before)
    return tuple(dict.fromkeys(word for word in map(str.strip, after) if word))


def too_many(characters: int) -> str:
    """Return a message part about a field with `characters` characters."""
    return f"{characters:,} characters; at most {MAX_FIELD_CHARACTERS:,} are read"


def _is_split(split: str | None) -> bool:
    """Return whether a split can be packed, as it names its training shards; a missing split is drawn later."""
    return not split or is_name_part(split)


def _time_problem(clip: Clip) -> str | None:
    media, end = clip.media_start_seconds, clip.end_seconds
    for what, seconds in (("clip starts", clip.start_seconds), ("clip ends", end), ("file starts", media)):
        if seconds is not None and not (math.isfinite(seconds) and 0 <= seconds <= MAX_SECONDS):
            return f"the {what} at {seconds:g} s; {RANGE}"
    if media is not None and end is not None and media >= end:
        return f"the file starts at {media:g} s, behind the clip's end at {end:g} s"
    return None


def _refuse(table: pa.Table, wrong: pa.ChunkedArray, where: str, column: str, what: str) -> None:
    rows = table.select(["id", column]).filter(wrong)
    if rows.num_rows:
        value = storable_text(repr(rows[column][0].as_py()), max_characters=100)
        clips = number_of(rows.num_rows, "clip has", "clips have")
        raise ManifestError(f"{where}: {clips} in {column} {what}; the first is {rows['id'][0].as_py()} with {value}")


def _changes(texts: pa.ChunkedArray, name: str) -> bool:
    """Return whether any text of a column would be changed."""
    pattern = CHANGED_IN_ARROW if name == "captions" else rf"{CHANGED_IN_ARROW}|[\t\n]"
    return bool(pc.any(pc.match_substring_regex(texts, pattern)).as_py())


def _storable_name(name: str | None) -> str | None:
    return name and storable_text(name, max_characters=MAX_FIELD_CHARACTERS)
