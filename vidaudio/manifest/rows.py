"""From the rows of a list to its clips: bad rows are gathered, equal rows merged, contradictions reported.

Every reader yields `Parsed` and `BadRow` in the list's order; `collect` makes the `Listing` that readers return. Bad
rows are gathered instead of stopping at the first, so that one message is enough to repair a list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from vidaudio.errors import ManifestError
from vidaudio.manifest.checks import checked_clip
from vidaudio.manifest.clip import Clip
from vidaudio.manifest.public_url import public_url
from vidaudio.text import storable_text

SHOWN = 20
# Characters of a reason shown from its beginning and its end: it may quote a field of any length.
_SHOWN_OF_REASON = 120
_LONGEST_LINE = 5_000
CLEANED = "control characters, broken characters or marks of reading direction were taken out of the words"

Row = TypeVar("Row")
Value = TypeVar("Value", covariant=True)


@dataclass(frozen=True, slots=True)
class Place:
    """The position of a row: a file, and its physical line (or the row of a Parquet table), counted from 1."""

    path: Path
    number: int | None = None
    unit: str = "line"

    def __str__(self) -> str:
        if self.number is None:
            return str(self.path)
        return f"{self.path}:{self.number}" if self.unit == "line" else f"{self.path} {self.unit} {self.number}"


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that could not be read, and the reason."""

    place: Place
    reason: str

    def __post_init__(self) -> None:
        reason = self.reason
        if len(reason) > 2 * _SHOWN_OF_REASON:
            reason = f"{reason[:_SHOWN_OF_REASON]} ... {reason[-_SHOWN_OF_REASON:]}"
        object.__setattr__(self, "reason", storable_text(reason))

    def __str__(self) -> str:
        return storable_text(f"{self.place}: {self.reason}", max_characters=_LONGEST_LINE)


@dataclass(frozen=True, slots=True)
class Parsed(Generic[Value]):
    """The parsed value of a row, and the row's position.

    Attributes:
        place: File and line.
        value: Parsed value.
        remarks: Oddities of a row that can still be read; the result counts them in a note.
    """

    place: Place
    value: Value
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Listing:
    """The result of reading a list.

    Attributes:
        clips: Clips, one per distinct id, in the order of their first rows.
        rows: Number of data rows, bad ones included (comments, the header and blank lines do not count).
        merged: Number of rows that repeated an earlier row's cut, whose labels and captions were added to that row's
            clip.
        bad_rows: Rows that were left out; empty unless bad rows are skipped.
        notes: Other information for the user, one sentence each.
    """

    clips: tuple[Clip, ...]
    rows: int
    merged: int = 0
    bad_rows: tuple[BadRow, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def sources(self) -> int:
        """Number of distinct videos."""
        return len({clip.source for clip in self.clips})


def parse_rows(rows: Iterable[Parsed[Row] | BadRow], parse: Callable[[Row], Value]) -> Iterator[Parsed[Value] | BadRow]:
    """Apply `parse` to every row; a row for which it raises a `ManifestError` becomes a `BadRow` with that reason."""
    for row in rows:
        if isinstance(row, BadRow):
            yield row
            continue
        try:
            value = parse(row.value)
        except ManifestError as error:
            yield BadRow(row.place, str(error))
        else:
            yield Parsed(row.place, value, row.remarks)


def collect(rows: Iterable[Parsed[Clip] | BadRow], *, skip_bad_rows: bool, notes: tuple[str, ...] = ()) -> Listing:
    """Collect the clips of a list.

    Rows with the same id, cut, source, URL and split are one clip: their labels and captions are joined in order,
    without repeats. If only one of them has a split, the clip has that split. `notes` come first in the result's notes.

    Raises:
        ManifestError: When there are bad rows and `skip_bad_rows` is False, two rows of one id contradict each other,
            or no row is left. The first `SHOWN` positions are named, with the number of the others.
    """
    good, bad = split_good_and_bad(map(_checked, rows))
    refuse_bad_rows(bad, skip_bad_rows=skip_bad_rows)
    clips: dict[str, Clip] = {}
    places: dict[str, Place] = {}
    contradictions: list[str] = []
    for row in good:
        clip = row.value
        first = clips.setdefault(clip.id, clip)
        if first is clip:
            places[clip.id] = row.place
            continue
        difference = _difference(first, clip)
        if difference:
            contradictions.append(f"{places[clip.id]} and {row.place}: {clip.id} {difference}")
        else:
            clips[clip.id] = replace(
                first,
                split=first.split or clip.split,
                labels=_union(first.labels, clip.labels),
                captions=_union(first.captions, clip.captions),
            )
    if contradictions:
        raise ManifestError(
            f"{_count(len(contradictions), 'pair')} of rows give one id to different clips; keep one of each pair, or "
            f"read the lists into separate manifests:\n{_shown(contradictions)}"
        )
    if not clips:
        raise ManifestError("the list holds no clip" + (f": all {len(bad):,} rows are malformed" if bad else ""))
    notes += _remarks(good)
    return Listing(tuple(clips.values()), len(good) + len(bad), len(good) - len(clips), tuple(bad), notes)


def _checked(row: Parsed[Clip] | BadRow) -> Parsed[Clip] | BadRow:
    """Return a row with its clip's texts made storable, or a `BadRow` if the clip is not valid."""
    if isinstance(row, BadRow):
        return row
    try:
        clip = checked_clip(row.value)
    except ManifestError as error:
        return BadRow(row.place, str(error))
    return row if clip is row.value else Parsed(row.place, clip, (*row.remarks, CLEANED))


def _remarks(rows: Iterable[Parsed[Clip]]) -> tuple[str, ...]:
    """Return a sentence for each kind of remark: the number of rows and the first of them."""
    places: dict[str, list[Place]] = {}
    for row in rows:
        for remark in row.remarks:
            places.setdefault(remark, []).append(row.place)
    return tuple(
        storable_text(f"{_count(len(found), 'row')} ({found[0]}{' first' if len(found) > 1 else ''}): {remark}")
        for remark, found in places.items()
    )


def split_good_and_bad(rows: Iterable[Parsed[Value] | BadRow]) -> tuple[list[Parsed[Value]], list[BadRow]]:
    """Return the rows that could be read and those that could not, each in order."""
    good: list[Parsed[Value]] = []
    bad: list[BadRow] = []
    for row in rows:
        if isinstance(row, BadRow):
            bad.append(row)
        else:
            good.append(row)
    return good, bad


def refuse_bad_rows(bad: list[BadRow], *, skip_bad_rows: bool) -> None:
    """Refuse bad rows.

    Raises:
        ManifestError: When there are bad rows and `skip_bad_rows` is False; lists them.
    """
    if bad and not skip_bad_rows:
        raise ManifestError(
            f"{_count(len(bad), 'row')} cannot be read; mend them, or leave them out with --skip-bad-rows "
            f"(skip_bad_rows=True):\n{shown_rows(bad)}"
        )


def shown_rows(bad: Iterable[BadRow]) -> str:
    """Return the first `SHOWN` bad rows, one per line, and the number of the others."""
    return _shown([str(row) for row in bad])


def _shown(lines: list[str]) -> str:
    more = [f"  ... and {len(lines) - SHOWN:,} more"] if len(lines) > SHOWN else []
    shown = (storable_text(line, max_characters=_LONGEST_LINE) for line in lines[:SHOWN])
    return "\n".join([f"  {line}" for line in shown] + more)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _union(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(first + second))


def _difference(first: Clip, second: Clip) -> str | None:
    """Return in words why two rows of one id are not the same clip; None if they are."""
    if _cut(first) != _cut(second):
        return f"is {_cut_text(first)} and {_cut_text(second)}"
    # Two signed URLs of one file are interchangeable.
    one, other = public_url(first.url), public_url(second.url)
    if (first.source, one) != (second.source, other):
        return f"is at {one} and at {other}"
    if first.split and second.split and first.split != second.split:
        return f"is in {first.split} and in {second.split}"
    return None


def _cut(clip: Clip) -> tuple[float, float | None]:
    # To the millisecond, as in ids: 30 and 30.0000001 are the same start.
    return round(clip.start_seconds, 3), None if clip.end_seconds is None else round(clip.end_seconds, 3)


def _cut_text(clip: Clip) -> str:
    end = "the end" if clip.end_seconds is None else f"{clip.end_seconds:g} s"
    return f"{clip.start_seconds:g} s to {end}"
