"""Manifests on disk: written completely or not at all, and checked once when read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from vidaudio.errors import ManifestError
from vidaudio.files import atomic_write
from vidaudio.manifest.checks import check_table, storable_table
from vidaudio.manifest.clip import CLIP_ID, Clip
from vidaudio.manifest.parquet_file import check_name, damage_named, open_parquet
from vidaudio.manifest.schema import REQUIRED, SCHEMA, table_from_clips
from vidaudio.paths import local_list
from vidaudio.text import number_of

ROW_GROUP = 20_000


def write_manifest(clips: Iterable[Clip], path: str | Path) -> None:
    """Write clips as Parquet, in order, in row groups of `ROW_GROUP`; the parent folder is created.

    The file appears under its name only when it is complete; an earlier file of that name is kept until then.

    Raises:
        ManifestError: When an id comes twice, or the file cannot be written, is a URL, or has a name that is not UTF-8.
    """
    path = local_list(path)
    if path.is_dir():
        raise ManifestError(f"{path} is a folder; name the manifest's file, such as {path / 'manifest.parquet'}")
    check_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            atomic_write(path) as temporary,
            parquet.ParquetWriter(temporary.absolute(), SCHEMA, compression="zstd") as writer,
        ):
            for group in _groups(_distinct(clips)):
                writer.write_table(table_from_clips(group))
    except OSError as error:
        raise ManifestError(f"{path} cannot be written: {error.strerror or error}") from error


def read_manifest(path: str | Path) -> pa.Table:
    """Read a manifest as a checked table of `SCHEMA`.

    Columns beyond the schema are left out, and types that hold the same values (such as pandas writes) are cast.

    Raises:
        ManifestError: When the file is missing or not Parquet, a column is missing or of another type, a required value
            is missing, an id is invalid or comes twice, a cut does not end after its start, a time is invalid, or a
            text is too long.
    """
    path = local_list(path)
    if not path.exists():
        raise ManifestError(f"there is no manifest at {path}; `vidaudio manifest` writes one from a list of videos")
    if path.is_dir():
        raise ManifestError(f"{path} is a folder, not a manifest; `vidaudio manifest folder` makes one from it")
    file = open_parquet(path)
    with damage_named(path):
        table = file.read()
        table.validate(full=True)
    missing = [name for name in SCHEMA.names if name not in table.column_names]
    if missing:
        raise ManifestError(
            f"{path} is not a manifest: it has no column {', '.join(missing)} (it has "
            f"{', '.join(table.column_names)}); `vidaudio manifest table` makes a manifest from any table"
        )
    table = checked_table(table.select(SCHEMA.names), str(path), SCHEMA.names)
    _check_distinct(table, path)
    return table


def checked_table(table: pa.Table, where: str, columns: Sequence[str]) -> pa.Table:
    """Return rows with their columns cast to the schema's types; values are checked if all columns are present.

    Texts (labels, captions, splits, data sets) are made storable.

    Args:
        table: Rows of a list, with at least `columns`.
        where: Origin of the rows, for messages.
        columns: Columns to keep, in this order.

    Raises:
        ManifestError: As `read_manifest`, except that ids may come twice.
    """
    table = _cast(table, where, columns)
    if list(columns) == SCHEMA.names:
        _check(table, where)
    return storable_table(table)


def _distinct(clips: Iterable[Clip]) -> Iterator[Clip]:
    seen: set[str] = set()
    for clip in clips:
        if clip.id in seen:
            raise ManifestError(f"two clips have the id {clip.id}; ids are unique in a manifest")
        seen.add(clip.id)
        yield clip


def _groups(clips: Iterator[Clip]) -> Iterator[list[Clip]]:
    while group := list(islice(clips, ROW_GROUP)):
        yield group


def _cast(table: pa.Table, where: str, columns: Sequence[str]) -> pa.Table:
    wanted = [SCHEMA.field(name) for name in columns]
    cast = []
    for field in wanted:
        column = table.column(field.name)
        try:
            cast.append(column.cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise ManifestError(
                f"{where} is not a manifest: column {field.name} is {column.type}, not {field.type}"
            ) from error
    return pa.table(cast, schema=pa.schema(wanted))


def _check_distinct(table: pa.Table, path: Path) -> None:
    ids = table.column("id")
    if pc.count_distinct(ids).as_py() != len(ids):
        counts = pc.value_counts(ids)
        twice = counts.filter(pc.greater(counts.field("counts"), 1))
        raise ManifestError(
            f"{path}: {number_of(len(twice), 'id comes', 'ids come')} more than once, the first is "
            f"{twice[0]['values'].as_py()}"
        )


def _check(table: pa.Table, path: str) -> None:
    """Refuse values that no `Clip` could have, column by column, so that a million rows need no Python loop."""
    for name in REQUIRED:
        if table.column(name).null_count:
            raise ManifestError(f"{path}: {number_of(table.column(name).null_count, 'row has', 'rows have')} no {name}")
    ids = table.column("id")
    invalid = ids.filter(pc.invert(pc.match_substring_regex(ids, f"^{CLIP_ID.pattern}$")))
    if len(invalid):
        raise ManifestError(
            f"{path}: {number_of(len(invalid), 'id is', 'ids are')} not 1 to 128 letters, digits, _ or -, the first is "
            f"{invalid[0].as_py()!r}"
        )
    sources = table.column("source")
    odd = sources.filter(pc.invert(pc.match_substring_regex(sources, "(?s)^[^:]+:.")))
    if len(odd):
        raise ManifestError(f"{path}: {len(odd):,} sources are not site:video, the first is {odd[0].as_py()!r}")
    for name in ("labels", "captions"):
        if pc.list_flatten(table.column(name)).null_count:
            raise ManifestError(
                f"{path}: the column {name} holds lists with nulls in them; lists of texts are expected"
            )
    start, end = table.column("start_seconds"), table.column("end_seconds")
    starts_fit = pc.and_(pc.is_finite(start), pc.greater_equal(start, 0.0))
    ends_fit = pc.fill_null(pc.and_(pc.is_finite(end), pc.greater(end, start)), True)
    fits = pc.and_(starts_fit, ends_fit)
    wrong = table.filter(pc.invert(fits))
    if len(wrong):
        raise ManifestError(
            f"{path}: {number_of(len(wrong), 'clip has', 'clips have')} a cut that starts before 0 or does not end "
            f"after its start, the first is {wrong['id'][0].as_py()}"
        )
    check_table(table, path)
