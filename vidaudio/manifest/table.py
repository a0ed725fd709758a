"""Reader of a table of URLs or paths (csv, tsv, jsonl, Parquet), whose columns become the fields of a clip."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vidaudio.errors import ManifestError
from vidaudio.manifest.checks import MAX_FIELD_CHARACTERS, storable_words, too_many
from vidaudio.manifest.clip import Clip
from vidaudio.manifest.fields import parse_seconds
from vidaudio.manifest.ids import Name, assign_ids, start_suffix
from vidaudio.manifest.public_url import public_url
from vidaudio.manifest.records import Record, read_records
from vidaudio.manifest.rows import CLEANED, BadRow, Listing, Parsed, collect, parse_rows
from vidaudio.manifest.scan import without_video_ending
from vidaudio.manifest.text import is_text
from vidaudio.manifest.youtube import check_video_id, video_id_of, watch_url
from vidaudio.media.tar_files import NotATar, files_in_tar, place_in_tar
from vidaudio.text import escaped_name, storable_text

# Names of a field's column if the mapping does not give one. Fields without a name here are unused unless mapped:
# `duration` is often that of the whole video, and `source` any remark.
DEFAULT_COLUMNS: dict[str, tuple[str, ...]] = {
    "url": ("url", "path", "file"),
    "youtube_id": ("youtube_id", "ytid"),
    "start": ("start", "start_seconds", "start_time"),
    "end": ("end", "end_seconds", "end_time"),
    "duration": (),
    "id": ("id",),
    "source": (),
    "label": ("label", "labels"),
    "caption": ("caption", "captions"),
    "split": ("split",),
}
_SEVERAL_COLUMNS = {"label", "caption"}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BARE_SITE = re.compile(r"(www\.|(m\.)?youtube\.com/|youtu\.be/)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TableOptions:
    """Options for reading the rows of a table.

    Attributes:
        columns: Column of each field, or several columns for `label` and `caption`; an empty text switches a field off.
            The fields: `url` (a site's page, a file's http(s) or file: URL, a path) and `youtube_id`, of which a row
            needs one; `start`, `end`, `duration` (seconds or a clock time such as 1:05.5); `id`; `source` (`site:video
            id`); `label`, `caption`, `split`.
        label_separator: Text between several labels in one field; None means one label per field. Lists in jsonl and
            Parquet need no separator.
        caption_separator: The same for captions.
        root: Folder that relative paths begin at; None means the table's folder.
        dataset: Name of the data set; None means the table's name.
        split: Split of every row; None reads the split from its column.
        cut_files: Whether each file is a cut that begins at the row's start, instead of the whole video.
        check_files: Whether a path without a file makes a bad row; otherwise missing files show only in the build.
    """

    columns: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    label_separator: str | None = None
    caption_separator: str | None = None
    root: str | Path | None = None
    dataset: str | None = None
    split: str | None = None
    cut_files: bool = False
    check_files: bool = True


def read_table(
    path: str | Path,
    *,
    options: TableOptions | None = None,
    table_format: str | None = None,
    skip_bad_rows: bool = False,
) -> Listing:
    """Read a table with one clip per row; with starts, a video may have several rows.

    The ids are the table's own if it has them, and `<video id>_<start>` for YouTube. Other ids are made from the path
    below the root or from the URL (see `ids`), followed by the start if the row has one.

    Args:
        path: The table.
        options: How to read the rows; None means the defaults.
        table_format: `csv`, `tsv`, `jsonl` or `parquet`; None means that the file's ending decides.
        skip_bad_rows: Whether malformed rows are left out; otherwise the table is refused.

    Raises:
        ManifestError: As `collect`; or when the table is missing or does not have its format, a field is unknown, or a
            field is mapped to a column that does not exist (the message names the existing columns).
    """
    path = Path(path)
    options = options or TableOptions()
    names, records = read_records(path, table_format)
    reader = _RowReader(path, options, _columns(options.columns, names, path))
    rows = list(parse_rows(records, reader.draft))
    ids = iter(assign_ids([row.value.name for row in rows if isinstance(row, Parsed)]))
    return collect((_with_id(row, ids) for row in rows), skip_bad_rows=skip_bad_rows)


@dataclass(frozen=True, slots=True)
class _Draft:
    """A clip with a provisional id, and the name that its id is made from once all rows are known.

    Attributes:
        name: Name that the id is made from.
        clip: The clip.
        cleaned: Whether characters were removed from the clip's texts.
    """

    name: Name
    clip: Clip
    cleaned: bool


def _with_id(row: Parsed[_Draft] | BadRow, ids: Iterator[str]) -> Parsed[Clip] | BadRow:
    if isinstance(row, BadRow):
        return row
    remarks = (*row.remarks, CLEANED) if row.value.cleaned else row.remarks
    return Parsed(row.place, replace(row.value.clip, id=next(ids)), remarks)


def _columns(
    mapping: Mapping[str, str | Sequence[str]], names: Sequence[str], path: Path
) -> dict[str, tuple[str, ...]]:
    """Return the columns of every field: those of the mapping, or else the default ones that exist."""
    unknown = [name for name in mapping if name not in DEFAULT_COLUMNS]
    if unknown:
        raise ManifestError(f"there is no field {unknown[0]!r}; the fields are {', '.join(DEFAULT_COLUMNS)}")
    columns: dict[str, tuple[str, ...]] = {}
    for name, defaults in DEFAULT_COLUMNS.items():
        if name not in mapping:
            columns[name] = tuple(column for column in defaults if column in names)
            if len(columns[name]) > 1:
                raise ManifestError(
                    f"{path} has the columns {' and '.join(columns[name])}, which could all be {name}; say which "
                    f"one is, with --column {name}=NAME"
                )
            continue
        wanted = mapping[name]
        chosen = tuple(filter(None, [wanted] if isinstance(wanted, str) else wanted))
        if len(chosen) > 1 and name not in _SEVERAL_COLUMNS:
            raise ManifestError(f"the field {name} is mapped to {len(chosen)} columns; only labels and captions may be")
        for column in chosen:
            if column not in names:
                raise ManifestError(f"{path} has no column {column!r} for {name}; its columns are {', '.join(names)}")
        columns[name] = chosen
    if not columns["url"] and not columns["youtube_id"]:
        raise ManifestError(
            f"no column of {path} is known to say where the videos are; name it with --column url=NAME or "
            f"--column youtube_id=NAME; its columns are {', '.join(names)}"
        )
    return columns


class _RowReader:
    """Reader of one table's records, by its options and columns."""

    def __init__(self, path: Path, options: TableOptions, columns: Mapping[str, tuple[str, ...]]) -> None:
        self._options = options
        self._columns = columns
        self._root = Path(os.path.abspath(options.root if options.root is not None else path.parent))
        self._dataset = storable_text(options.dataset or path.stem)

    def draft(self, record: Record) -> _Draft:
        """Return the clip of a record.

        Raises:
            ManifestError: When the record is not a valid clip; gives the reason.
        """
        start, end = self._cut(record)
        address, video = self._address(record), self._text(record, "youtube_id")
        if video is not None:
            check_video_id(video)
            address = _Address(address.url if address else watch_url(video), f"youtube:{video}", video, video)
        if address is None:
            raise ManifestError("it has no URL, path or YouTube id")
        own_source = self._text(record, "source")
        words = {
            "split": tuple(filter(None, [self._options.split or self._cell(record, "split")])),
            "labels": self._texts(record, "label", self._options.label_separator),
            "captions": self._texts(record, "caption", self._options.caption_separator),
        }
        storable = {name: storable_words(texts, name) for name, texts in words.items()}
        clip = Clip(
            id="unnamed",
            source=_checked_source(own_source) if own_source else address.source,
            dataset=self._dataset,
            url=address.url,
            media_start_seconds=(start or 0.0) if self._options.cut_files else None,
            start_seconds=start or 0.0,
            end_seconds=end,
            split=next(iter(storable["split"]), None),
            labels=storable["labels"],
            captions=storable["captions"],
        )
        return _Draft(_name(self._text(record, "id"), address, start), clip, storable != words)

    def _cut(self, record: Record) -> tuple[float | None, float | None]:
        start, end, duration = (self._seconds(record, name) for name in ("start", "end", "duration"))
        if end is None and duration is not None:
            end = (start or 0.0) + duration
        return start, end

    def _address(self, record: Record) -> _Address | None:
        value = self._address_text(record)
        if value is None:
            return None
        if _BARE_SITE.match(value):
            value = f"https://{value}"
        scheme = _SCHEME.match(value)
        if value[:5].lower() == "file:":
            return _file_url(value)
        if scheme is None:
            return self._local(value)
        if scheme[1].lower() not in {"http", "https"}:
            raise ManifestError(f"{public_url(value)} is neither an http(s) URL nor a path")
        try:
            parts = urlsplit(value)
        except ValueError as error:
            raise ManifestError(f"{public_url(value)} is not a URL: {error}") from error
        if not parts.hostname:
            raise ManifestError(f"{public_url(value)} is a URL without a host")
        video = video_id_of(value)
        if video is not None:
            return _Address(watch_url(video), f"youtube:{video}", video, video)
        public = public_url(value)
        return _Address(value, f"web:{public}", public, f"{parts.hostname}{unquote(parts.path)}")

    def _address_text(self, record: Record) -> str | None:
        """Return the cell unchanged: file names may hold characters that other texts may not."""
        value = self._cell(record, "url")
        if value is not None and not is_text(value):
            raise ManifestError("its URL or path holds what is no text (bytes that are not UTF-8)")
        return value

    def _local(self, value: str) -> _Address:
        # Only `~/` means the home folder: `~dog.mp4` is an ordinary file name.
        given = Path(value).expanduser() if value.startswith("~/") else Path(value)
        path = Path(os.path.abspath(self._root / given))
        if self._options.check_files and not _is_file(path):
            raise ManifestError(f"there is no file {path}")
        # A name below the root does not depend on where the root is.
        name = path.relative_to(self._root).as_posix() if path.is_relative_to(self._root) else path.as_posix()
        return _Address(str(path), f"file:{escaped_name(name)}", name, name)

    def _cell(self, record: Record, name: str) -> str | None:
        values = [_as_text(record.get(column), column) for column in self._columns[name]]
        return values[0] if values else None

    def _text(self, record: Record, name: str) -> str | None:
        value = self._cell(record, name)
        if value is None:
            return None
        if not is_text(value):
            raise ManifestError(f"the field {name} holds what is no text (bytes that are not UTF-8)")
        return storable_text(value, max_characters=MAX_FIELD_CHARACTERS).strip() or None

    def _texts(self, record: Record, name: str, separator: str | None) -> tuple[str, ...]:
        texts: list[str] = []
        for column in self._columns[name]:
            value = record.get(column)
            items = value if isinstance(value, list | tuple) else [value]
            for item in items:
                text = _as_text(item, column)
                texts += (text.split(separator) if separator else [text]) if text else []
        return tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))

    def _seconds(self, record: Record, name: str) -> float | None:
        text = self._text(record, name)
        return None if text is None else parse_seconds(text, name)


@dataclass(frozen=True, slots=True)
class _Address:
    """The address of a row's media: URL or path, source, and the full and the readable name that an id is made from."""

    url: str
    source: str
    full: str
    stem: str


def _file_url(value: str) -> _Address:
    """Return the address of a `file:` URL, unchanged; only the build decides whether it is a file of this machine."""
    try:
        name = unquote(urlsplit(value).path)
    except ValueError as error:
        raise ManifestError(f"{value} is not a URL: {error}") from error
    if not name.strip("/"):
        raise ManifestError(f"{value} names no file")
    return _Address(value, f"file:{escaped_name(name)}", value, name)


def _is_file(path: Path) -> bool:
    """Return whether the file exists, by itself or in a tar; a name that is too long for any file counts as missing."""
    try:
        if path.is_file():
            return True
        place = place_in_tar(path)
        return place is not None and place[1] in files_in_tar(place[0])
    except (OSError, NotATar):
        return False


def _name(own_id: str | None, address: _Address, start: float | None) -> Name:
    if own_id is not None:
        return Name(full=own_id, stem=own_id)
    if address.source.startswith("youtube:"):
        return Name(full=address.full, stem=address.stem, suffix=start_suffix(start or 0.0), fixed=True)
    suffix = "" if start is None else start_suffix(start)
    return Name(full=address.full, stem=without_video_ending(address.stem), suffix=suffix)


def _as_text(value: object, column: str) -> str | None:
    """Return a cell as text; None if it is empty (null, NaN, blank)."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bytes):  # Parquet texts whose writer did not mark them as text
        try:
            value = value.decode()
        except UnicodeDecodeError as error:
            raise ManifestError(f"the column {column!r} holds bytes that are not UTF-8") from error
    if isinstance(value, list | tuple | dict):
        raise ManifestError(f"the column {column!r} holds a {type(value).__name__}, where one value is expected")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))  # pandas converts whole numbers to floats if one is missing
    text = str(value).strip()
    if len(text) > MAX_FIELD_CHARACTERS:
        raise ManifestError(f"the column {column!r} has {too_many(len(text))}")
    return text or None


def _checked_source(text: str) -> str:
    if ":" not in text:
        raise ManifestError(f"the source {text!r} is not of the form site:video")
    return text
