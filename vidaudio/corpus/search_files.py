"""Files of a corpus's search indices: `search/ENCODER.index`, and beside it the rows and the state that it is of.

An index holds vectors of clips, so a removal must find it and delete it. `search` builds it again.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vidaudio.config.corpus import stable_hash
from vidaudio.corpus.columns import SEARCH
from vidaudio.json_values import parse_object
from vidaudio.shards.commit import is_table
from vidaudio.shards.store import Store

FORMAT = 1


@dataclass(frozen=True, slots=True)
class IndexState:
    """What an index is of; it is current while the corpus has the same state.

    Attributes:
        tables: Hash of names and sizes of the committed tables of vectors.
        removals: Number of removals whose clips the index leaves out.
        rows: Number of vectors.
        format: Version of the files.
    """

    tables: str
    removals: int
    rows: int
    format: int = FORMAT

    def as_dict(self) -> dict[str, Any]:
        """Return the state, JSON-able."""
        return asdict(self)


def index_name(encoder: str) -> str:
    """Return the name of the index of an encoder's vectors."""
    return f"{SEARCH}/{encoder}.index"


def rows_name(encoder: str) -> str:
    """Return the name of the table that says which clip each vector of an index is of."""
    return f"{SEARCH}/{encoder}.parquet"


def state_name(encoder: str) -> str:
    """Return the name of the file with an index's state; it is written last, and an index without it does not count."""
    return f"{SEARCH}/{encoder}.json"


def tables_fingerprint(store: Store, folder: str) -> str:
    """Return a hash of the names and sizes of the committed tables in a folder."""
    return stable_hash(sorted((name, size) for name, size in store.list(folder).items() if is_table(name)))


def recorded_state(store: Store, encoder: str) -> IndexState | None:
    """Return the state that an encoder's index is of; None without an index, or if its state cannot be read."""
    name = state_name(encoder)
    if not store.exists(name):
        return None
    try:
        state = IndexState(**parse_object(store.read(name)))
    except (TypeError, ValueError):
        return None
    return state if state.format == FORMAT else None


def drop_search_indices(store: Store, removals: int) -> None:
    """Delete the indices that may hold vectors of removed clips.

    Call only while holding `vidaudio.shards.maintenance_lock.maintenance_lock`.

    Args:
        store: Store of the corpus.
        removals: Number of removals so far. Indices that were built after all of them stay.
    """
    names = store.list(SEARCH)
    encoders = {name.rpartition(".")[0] for name in names}
    current = {encoder for encoder in encoders if (s := recorded_state(store, encoder)) and s.removals == removals}
    for name in sorted(names):
        if name.rpartition(".")[0] not in current:
            store.remove(f"{SEARCH}/{name}")
