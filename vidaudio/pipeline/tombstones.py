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
import pyarrow.parquet as pq

from vidaudio.errors import CorpusError
from vidaudio.manifest import Clip
from vidaudio.shards.seal import OPEN_SEAL, SEAL_KEY, seal_holds, sealed
from vidaudio.shards.store import Store, open_store

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
    data = sealed(sink.getvalue())
    number = len([name for name in store.list("") if _TOMBSTONE_NAME.fullmatch(name)])
    while not store.create(TOMBSTONE_FILE.format(number), data):
        number += 1


def is_tombstone_file(name: str) -> bool:
    """Whether a file of this name holds tombstones."""
    return _TOMBSTONE_NAME.fullmatch(name) is not None


def describe_tombstones(store: Store, name: str) -> dict[str, Any]:
    """When a removal was, and why: `removed_at` (UTC), `note`."""
    return json.loads(pq.read_schema(io.BytesIO(store.read(name))).metadata[_METADATA_KEY])


@functools.lru_cache(maxsize=8)
def _read(url: str, tables: tuple[tuple[str, str], ...]) -> Tombstones:
    """Read removals, given by name and version."""
    store = open_store(url)
    ids: set[str] = set()
    sources: set[str] = set()
    for name, _ in tables:
        data = store.read(name)
        # Read wrongly it would bring back what somebody was promised is gone: rather nothing is done.
        if not seal_holds(data):
            raise CorpusError(
                f"{url}/{name} is damaged, and says which clips were removed: take it back from a copy of the corpus, "
                "or delete it and remove them again"
            )
        for row in pq.read_table(io.BytesIO(data), use_threads=False).to_pylist():
            if row["id"] is None:
                sources.add(row["source"])
            else:
                ids.add(row["id"])
    return Tombstones(frozenset(ids), frozenset(sources), len(tables))
