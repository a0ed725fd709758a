"""Tombstones: which clips were taken out of a corpus for good, so that nothing ever brings them back.

Each removal is one table, `removed-000000.parquet` and so on: created exclusively, sealed, never changed. It is written
before anything else is touched, so whatever is interrupted afterwards is known to be owed.
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
from vidaudio.shards.parquet_limits import read_whole
from vidaudio.shards.store import Store, open_store
from vidaudio.shards.table_checks import check_texts

TOMBSTONE_FILE = "removed-{:06d}.parquet"
_TOMBSTONE_NAME = re.compile(r"removed-\d{6}\.parquet")
_METADATA_KEY = b"vidaudio"
# A clip has its id and source; a whole source, clips that a later list may bring included, has no id.
SCHEMA = pa.schema([("id", pa.string()), ("source", pa.string())])


@dataclass(frozen=True, slots=True)
class Tombstones:
    """Everything that was ever removed from a corpus.

    Attributes:
        ids: Of clips.
        sources: Removed whole.
        tables: How many removals there were.
    """

    ids: frozenset[str] = frozenset()
    sources: frozenset[str] = frozenset()
    tables: int = 0

    def __bool__(self) -> bool:
        return bool(self.ids or self.sources)

    def covers(self, clip_id: str, source: str) -> bool:
        """Whether this clip was removed, by itself or with its source."""
        return clip_id in self.ids or source in self.sources

    def among(self, clips: Iterable[Clip]) -> frozenset[str]:
        """Ids of those of `clips` that were removed."""
        return frozenset(clip.id for clip in clips if self.covers(clip.id, clip.source))


def read_tombstones(store: Store) -> Tombstones:
    """The tombstones that stand at this moment.

    Raises:
        CorpusError: One of their tables is damaged.
    """
    return tombstones_among(store, store.list(""))


def tombstones_among(store: Store, names: Collection[str]) -> Tombstones:
    """The tombstones among the files of a corpus's own folder, for those who have listed it already."""
    tables = tuple(sorted(name for name in names if _TOMBSTONE_NAME.fullmatch(name)))
    if not tables:
        return Tombstones()
    # The names alone do not say what is in them: another corpus may have been begun at the same URL.
    return _read(store.url, tuple((name, store.version(name)) for name in tables))


def write_tombstones(store: Store, ids: Mapping[str, str], sources: Sequence[str], note: str | None) -> None:
    """Add a table of tombstones.

    Args:
        store: Of the corpus.
        ids: Of the removed clips, with their sources.
        sources: Removed whole.
        note: Why, in the words of whoever removes; kept with the table.
    """
    rows = [{"id": clip_id, "source": source} for clip_id, source in sorted(ids.items())]
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


def is_tombstone_file(name: str) -> bool:
    """Whether a file of this name holds tombstones."""
    return _TOMBSTONE_NAME.fullmatch(name) is not None


def describe_tombstones(store: Store, name: str) -> dict[str, Any]:
    """When a removal was, and why: `removed_at` (UTC), `note`."""
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
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            # Read wrongly it would bring back what somebody was promised is gone: rather nothing is done.
            raise CorpusError(
                f"{url}/{name} is damaged ({reason}), and says which clips were removed: take it back from a copy of "
                "the corpus, or delete it and remove them again"
            ) from error
        is_whole = pc.is_null(table["id"])
        # Each once: a small file can repeat a text millions of times.
        sources.update(pc.unique(table["source"].filter(is_whole)).to_pylist())
        ids.update(pc.unique(table["id"].drop_null()).to_pylist())
    return Tombstones(frozenset(ids), frozenset(sources), len(tables))


def _checked(data: bytes) -> pa.Table:
    """Return a table of tombstones, which may come from somebody else, with ids and sources that are such.

    Raises:
        One of `TABLE_DAMAGE`: The bytes were changed, or are not what a removal writes.
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
