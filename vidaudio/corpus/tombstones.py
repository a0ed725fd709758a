"""Tombstones: clips that were removed from a corpus for good, recorded so that no run ever brings them back.

Each removal is one table, `removed-000000.parquet` and so on. It is created exclusively, carries a checksum, and never
changes. It is written before anything else is changed, so that an interrupted removal is known and can be finished.
"""

from __future__ import annotations

import datetime
import functools
import io
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vidaudio.corpus.manifest_parts import ROW_TEXTS
from vidaudio.errors import CorpusError
from vidaudio.json_values import parse_object
from vidaudio.manifest import Clip
from vidaudio.shards.checksum import OPEN_SEAL, SEAL_KEY, checksum_ok, with_checksum
from vidaudio.shards.commit import TABLE_DAMAGE
from vidaudio.shards.open import open_store
from vidaudio.shards.parquet_limits import read_whole
from vidaudio.shards.store import Store
from vidaudio.shards.table_checks import check_texts
from vidaudio.text import first_line

TOMBSTONE_FILE = "removed-{:06d}.parquet"
_TOMBSTONE_NAME = re.compile(r"removed-\d{6}\.parquet")
_METADATA_KEY = b"vidaudio"
# A removed clip has id and source. A removed source, with all clips that a later manifest may add, has no id.
SCHEMA = pa.schema([("id", pa.string()), ("source", pa.string())])


@dataclass(frozen=True, slots=True)
class Tombstones:
    """Everything that was ever removed from a corpus.

    Attributes:
        ids: Ids of removed clips.
        sources: Sources that were removed completely.
        tables: Number of removals.
    """

    ids: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()
    tables: int = 0

    def __bool__(self) -> bool:
        return bool(self.ids or self.sources)

    def covers(self, clip_id: str, source: str) -> bool:
        """Return whether this clip was removed, by itself or with its source."""
        return clip_id in self.ids or source in self.sources

    def among(self, clips: Iterable[Clip]) -> frozenset[str]:
        """Return the ids of the removed clips among `clips`."""
        return frozenset(clip.id for clip in clips if self.covers(clip.id, clip.source))


def read_tombstones(store: Store) -> Tombstones:
    """Read the tombstones that exist at this moment.

    Raises:
        CorpusError: When one of the tables is damaged.
    """
    return tombstones_among(store, store.list(""))


def tombstones_among(store: Store, names: Collection[str]) -> Tombstones:
    """Read the tombstones among the files of a corpus's own folder, if these are listed already."""
    tables = tuple(sorted(name for name in names if _TOMBSTONE_NAME.fullmatch(name)))
    if not tables:
        return Tombstones()
    # Names do not identify the contents: another corpus may have been created at the same URL.
    return _read(store.url, tuple((name, store.version(name)) for name in tables))


def write_tombstones(store: Store, ids: Mapping[str, str], sources: Sequence[str], note: str | None) -> None:
    """Add a table of tombstones.

    Args:
        store: Store of the corpus.
        ids: Ids of the removed clips, with their sources.
        sources: Sources that are removed completely.
        note: The user's reason for the removal; stored in the table. None for none.
    """
    rows: list[dict[str, str | None]] = [{"id": clip_id, "source": source} for clip_id, source in sorted(ids.items())]
    rows += [{"id": None, "source": source} for source in sorted(sources)]
    when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    described = json.dumps({"removed_at": when, "note": note}, sort_keys=True, ensure_ascii=False).encode()
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({_METADATA_KEY: described, SEAL_KEY: OPEN_SEAL}), sink)
    data = with_checksum(sink.getvalue())
    number = len([name for name in store.list("") if _TOMBSTONE_NAME.fullmatch(name)])
    while not store.create(TOMBSTONE_FILE.format(number), data):
        number += 1


def describe_tombstones(store: Store, name: str) -> dict[str, Any]:
    """Return time and reason of a removal: `removed_at` (UTC), `note`."""
    return parse_object(pq.read_schema(io.BytesIO(store.read(name))).metadata[_METADATA_KEY])


@functools.lru_cache(maxsize=8)
def _read(url: str, tables: tuple[tuple[str, str], ...]) -> Tombstones:
    """Read removals, given by name and version."""
    store = open_store(url)
    ids: set[str] = set()
    sources: set[str] = set()
    for name, _ in tables:
        data = store.read(name)
        try:
            table = _checked(data)
        except TABLE_DAMAGE as error:
            reason = first_line(error)
            # If it were misread, clips that somebody was promised are gone would come back; stop instead.
            raise CorpusError(
                f"{url}/{name} is damaged ({reason}), and says which clips were removed: take it back from a copy of "
                "the corpus, or delete it and remove them again"
            ) from error
        is_whole = pc.is_null(table["id"])
        # Unique values only: a small file can repeat a text millions of times.
        sources.update(pc.unique(table["source"].filter(is_whole)).to_pylist())
        ids.update(pc.unique(table["id"].drop_null()).to_pylist())
    return Tombstones(frozenset(ids), frozenset(sources), len(tables))


def _checked(data: bytes) -> pa.Table:
    """Return a table of tombstones after checks; the table may come from somebody else.

    Raises:
        One of `TABLE_DAMAGE`: When the bytes were changed, or are not what a removal writes.
    """
    if not checksum_ok(data):
        raise ValueError("its bytes do not give the hash it carries")
    schema = pq.read_schema(pa.BufferReader(data))
    for wanted in SCHEMA:
        if schema.get_field_index(wanted.name) < 0 or schema.field(wanted.name).type != wanted.type:
            raise ValueError(f"its column {wanted.name} is missing, or is not {wanted.type}")
    table = read_whole(data, SCHEMA.names)
    table.validate(full=True)
    for name in SCHEMA.names:
        check_texts(table[name], ROW_TEXTS[name], name)
    if table["source"].null_count:
        raise ValueError("its column source lacks values")
    return table
