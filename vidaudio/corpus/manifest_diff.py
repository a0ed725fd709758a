"""Comparison of a manifest with a corpus: finds new rows, and checks that all other rows are unchanged.

Rows are compared by 64-bit hashes of their ids and contents, so that ten million rows take little memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.corpus.tombstones import Tombstones
from vidaudio.errors import CorpusError
from vidaudio.hashing import find_hashes, hashed
from vidaudio.manifest import SCHEMA
from vidaudio.manifest.checks import storable_table
from vidaudio.manifest.source import ChosenRows, RowSource
from vidaudio.text import number_of

_log = logging.getLogger(__name__)

_ODD = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)


def new_rows(
    url: str,
    standing: Callable[[Sequence[str] | None], Iterable[pa.Table]],
    rows: RowSource,
    removed: Tombstones | None = None,
) -> RowSource | None:
    """Return the rows of a manifest that a corpus does not have; None where it has them all.

    Removed clips may be missing from the manifest, and no new clips of removed sources are added.

    Args:
        url: URL of the corpus, for messages.
        standing: Function that yields the corpus's rows, with all columns or some; a retried clip may occur more than
            once.
        rows: The manifest.
        removed: Tombstones of the corpus; None for none.

    Raises:
        CorpusError: When rows of the corpus are missing from the manifest or changed.
    """
    there, contents = _hashes(standing(None))
    added = np.ones(rows.num_rows, bool)
    met = _removed_among(standing(["id", "source"]), there, removed) if removed else np.zeros(len(there), bool)
    refused = 0
    differing, example = 0, None
    first = 0
    for table in rows.tables():
        ids = hashed(table["id"])
        places, found = find_hashes(there, ids)
        unwanted = ~found & is_removed(table, removed) if removed else np.zeros(len(ids), bool)
        refused += int(np.count_nonzero(unwanted))
        added[first : first + len(ids)] = ~found & ~unwanted
        met[places[found]] = True
        changed = found & (contents[places] != _contents(table))
        if changed.any() and example is None:
            example = table["id"][int(np.argmax(changed))].as_py()
        differing += int(np.count_nonzero(changed))
        first += len(ids)
    missing = int(np.count_nonzero(~met))
    if missing or differing:
        if example is None:
            example = _first_among(standing(["id"]), there[~met])
        raise CorpusError(
            f"the corpus at {url} was begun with another list, and committed shards never change: of its "
            f"{len(there)} clips {missing} are not in this list and {differing} differ, such as {example}. "
            "Rows may only be added; name another folder, or take the list back."
        )
    if refused:
        rows_left = number_of(refused, "row of the list is of a source", "rows of the list are of sources")
        _log.warning(f"{rows_left} removed from {url}: left out")
    return ChosenRows(rows, added) if added.any() else None


def _removed_among(tables: Iterable[pa.Table], there: np.ndarray, removed: Tombstones) -> np.ndarray:
    """Return which of the clips with these id hashes were removed, bool `[clips]`."""
    gone = np.zeros(len(there), bool)
    for table in tables:
        ids = hashed(table["id"])[is_removed(table, removed)]
        gone[np.searchsorted(there, ids)] = True
    return gone


def is_removed(table: pa.Table, removed: Tombstones) -> np.ndarray:
    """Return which rows were removed, by themselves or with their source, bool `[rows]`."""
    ids, sources = (pa.array(sorted(names), pa.string()) for names in (removed.ids, removed.sources))
    mask = pc.or_(pc.is_in(table["id"], ids), pc.is_in(table["source"], sources))
    return mask.to_numpy(zero_copy_only=False) if isinstance(mask, pa.Array) else mask.to_numpy()


def _hashes(tables: Iterable[pa.Table]) -> tuple[np.ndarray, np.ndarray]:
    """Return sorted unique hashes of ids, and the hashes of their rows' contents, both uint64 `[clips]`."""
    ids, contents = zip(*((hashed(table["id"]), _contents(table)) for table in tables), strict=True)
    # Retries of a clip have the same contents, so any of them will do.
    unique, places = np.unique(np.concatenate(ids), return_index=True)
    return unique, np.concatenate(contents)[places]


def _first_among(tables: Iterable[pa.Table], wanted: np.ndarray) -> str | None:
    for table in tables:
        found = np.isin(hashed(table["id"]), wanted)
        if found.any():
            return table["id"][int(np.argmax(found))].as_py()
    return None


def _contents(table: pa.Table) -> np.ndarray:
    """Return a hash of every row except its shard, uint64 `[rows]`; texts are normalized as a manifest is read now."""
    table = storable_table(table)
    total = np.zeros(table.num_rows, np.uint64)
    for name in SCHEMA.names:
        if name == "shard":
            continue
        column = table[name].combine_chunks()
        for values in _simple(column):
            total = (total ^ values) * _ODD
            total ^= total >> _SHIFT
    return total


def _simple(column: pa.Array) -> list[np.ndarray]:
    """Return hashes that together distinguish any two values of a column."""
    null = column.is_null().to_numpy(zero_copy_only=False).astype(np.uint64)
    if pa.types.is_list(column.type):
        lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.uint64)
        # Put each item's length in front: ["ab", "c"] must not look like ["a", "bc"].
        items = column.flatten()
        sizes = pc.cast(pc.binary_length(items), pa.string())
        marked = pc.binary_join_element_wise(sizes, items, ":")
        joined = pc.binary_join(pa.ListArray.from_arrays(_offsets(lengths), marked), "")
        return [null, lengths, _hash(joined)]
    if pa.types.is_string(column.type):
        return [null, _hash(pc.fill_null(column, ""))]
    return [null, pd.util.hash_array(pc.fill_null(column, 0.0).to_numpy())]


def _offsets(lengths: np.ndarray) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))


def _hash(texts: pa.Array) -> np.ndarray:
    return pd.util.hash_array(texts.to_numpy(zero_copy_only=False), categorize=False)
