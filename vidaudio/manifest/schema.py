"""The one table that every list becomes, and the conversion between its rows and `Clip`s."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields

import pyarrow as pa

from vidaudio.errors import ManifestError
from vidaudio.manifest.clip import Clip

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("dataset", pa.string()),
        ("url", pa.string()),
        ("media_start_seconds", pa.float64()),
        ("start_seconds", pa.float64()),
        ("end_seconds", pa.float64()),
        ("split", pa.string()),
        ("labels", pa.list_(pa.string())),
        ("captions", pa.list_(pa.string())),
        ("shard", pa.int32()),
    ]
)

# Columns without nulls; the other columns may be null.
REQUIRED = ("id", "source", "dataset", "url", "start_seconds")


def table_from_clips(clips: Iterable[Clip]) -> pa.Table:
    """Return a table of `SCHEMA`, one row per clip, in order."""
    rows = list(clips)
    columns = {field.name: [getattr(clip, field.name) for clip in rows] for field in fields(Clip)}
    return pa.table(columns, schema=SCHEMA)


def clips_from_table(table: pa.Table) -> list[Clip]:
    """Return the clips of a table of `SCHEMA`, in order; a null list of labels or captions becomes an empty one.

    Raises:
        ManifestError: When a row is not a valid `Clip`; names its id.
    """
    columns = [table.column(field.name).to_pylist() for field in fields(Clip)]
    clips = []
    for row in zip(*columns, strict=True):
        values = dict(zip(SCHEMA.names, row, strict=True))
        values["labels"] = tuple(values["labels"] or ())
        values["captions"] = tuple(values["captions"] or ())
        try:
            clips.append(Clip(**values))
        except ManifestError as error:
            raise ManifestError(f"the clip {values['id']}: {error}") from error
    return clips
