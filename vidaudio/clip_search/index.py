"""Index of the vectors of a large corpus, which lies beside them and is built again when they change.

It divides the vectors into cells. A search compares its query with the vectors of the nearest cells only. The corpus's
state is recorded with the index, and an index of another state is never searched.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from vidaudio import vector_index
from vidaudio.clip_search.shown import shown_clips
from vidaudio.clip_search.vectors import AllVectors, Nearest, centred_query, highest
from vidaudio.corpus.clip_vectors import ClipVectors, picture_vectors
from vidaudio.corpus.columns import EMBED
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.search_files import (
    IndexState,
    index_name,
    recorded_state,
    rows_name,
    state_name,
    tables_fingerprint,
)
from vidaudio.corpus.tombstones import read_tombstones
from vidaudio.correspondence.windows import unit
from vidaudio.errors import StoreError
from vidaudio.shards.maintenance_lock import LockHeld, maintenance_lock
from vidaudio.text import first_line

if TYPE_CHECKING:
    import faiss

_log = logging.getLogger(__name__)

# A search looks into this share of the cells, but into so many at least: where there are few cells, the neighbours of a
# query are spread over a larger share of them (`python -m benchmarks.search`).
PROBED_SHARE = 1 / 16
LEAST_PROBED = 64
MEAN_KEY = b"vidaudio.mean"
ROWS_SCHEMA = pa.schema([("id", pa.string()), ("shard", pa.int64()), ("length", pa.float32())])


@dataclass(frozen=True)
class CellIndex:
    """Vectors of a large corpus in cells.

    Attributes:
        cells: The centred unit vectors `[N, D]`.
        ids: Clip id of each row `[N]`.
        shards: Shard of each row, int64 `[N]`.
        lengths: Length of each vector once the mean is removed, float32 `[N]`.
        mean: Mean of the unit vectors, float32 `[D]`.
    """

    cells: faiss.IndexIVFFlat
    ids: pa.Array
    shards: np.ndarray
    lengths: np.ndarray
    mean: np.ndarray

    def nearest(self, query: np.ndarray, count: int, shown: np.ndarray, *, is_text: bool = False) -> Nearest:
        """Return nearly the nearest rows among those shown, at most `count`.

        Args:
            query: Unit vector, float32 `[D]`.
            count: Number of rows.
            shown: Which rows may be returned, bool `[N]`. Few of them are compared one by one, which is exact.
            is_text: Whether the query is of words.
        """
        asked = centred_query(query, self.mean, is_text=is_text).astype(np.float32)
        allowed = int(shown.sum())
        if allowed <= vector_index.EXACT_VECTORS:
            rows = np.flatnonzero(shown)
            self.cells.make_direct_map()
            similarity = self.cells.reconstruct_batch(rows) @ asked if len(rows) else np.zeros(0, np.float32)
            best = highest(similarity, count)
            rows, similarity = rows[best], similarity[best]
        else:
            rows, similarity = self._in_cells(asked, min(count, allowed), shown)
        return Nearest(rows, similarity, self._cosines(query, similarity, self.lengths[rows], is_text=is_text))

    def _cosines(self, query: np.ndarray, similarity: np.ndarray, lengths: np.ndarray, *, is_text: bool) -> np.ndarray:
        """Return the cosines of a query with vectors as they were, `[K]`, from what is kept of them.

        A unit vector v is kept as c = (v - m) / l, so that q v = l (q c) + q m, and l l = 1 - 2 v m + m m.
        """
        m = self.mean
        if is_text:
            return similarity * lengths + m @ query
        times_mean = (1 + m @ m - lengths**2) / 2
        return similarity * np.linalg.norm(query - m) * lengths + times_mean - m @ m + m @ query

    def _in_cells(self, asked: np.ndarray, count: int, shown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        import faiss

        options: dict[str, Any] = {}
        if not shown.all():
            # The stubs describe the C++ constructors, which Python does not call.
            bits = np.packbits(shown, bitorder="little")
            options["sel"] = faiss.IDSelectorBitmap(bits)  # type: ignore[call-arg, arg-type]
        probed = probed_cells(self.cells.nlist)
        while True:
            parameters = faiss.SearchParametersIVF(nprobe=probed, **options)  # type: ignore[call-arg]
            similarity, rows = self.cells.search(asked[None], count, params=parameters)
            # Row -1 stands where the cells hold fewer vectors that may be shown: more cells are looked into then.
            found = rows[0] >= 0
            if found.all() or probed >= self.cells.nlist:
                return rows[0][found], similarity[0][found]
            probed = min(4 * probed, self.cells.nlist)


def probed_cells(cells: int) -> int:
    """Return into how many of an index's cells a search looks."""
    return min(cells, max(LEAST_PROBED, round(cells * PROBED_SHARE)))


def open_vectors(corpus: Corpus, encoder: str, *, progress: bool = True) -> AllVectors | CellIndex:
    """Return the vectors of a corpus's pictures, one a clip, to be searched.

    Up to `vector_index.EXACT_VECTORS` clips, they are read and compared one by one. Of more clips, the index in the
    corpus is opened; a missing or outdated one is built first, and written where the corpus may be written to.

    Args:
        corpus: The corpus.
        encoder: Name of the encoder of the vectors.
        progress: Whether to show a progress bar while an index is built.

    Raises:
        CorruptFileError: When a table of vectors is damaged.
    """
    if corpus.clips > vector_index.EXACT_VECTORS:
        opened = _opened(corpus, encoder) or build_index(corpus, encoder, progress=progress)
        if opened is not None:
            return opened
    return AllVectors.gather(picture_vectors(corpus, encoder))


def _opened(corpus: Corpus, encoder: str) -> CellIndex | None:
    """Return the index in the corpus; None where there is none of the corpus's present state."""
    import faiss

    store = corpus.store
    recorded = recorded_state(store, encoder)
    if recorded is None or recorded != _state(corpus, encoder, recorded.rows):
        return None
    try:
        local = store.local_path(index_name(encoder))
        if local is not None:
            # Mapped: only the cells that are searched are read from disk.
            cells = faiss.read_index(str(local), faiss.IO_FLAG_MMAP)
        else:
            with store.workspace() as scratch:
                store.download(index_name(encoder), scratch / "index")
                cells = faiss.read_index(str(scratch / "index"))
        table = pq.read_table(pa.BufferReader(store.read(rows_name(encoder))), schema=ROWS_SCHEMA)
        mean = np.frombuffer(pq.read_schema(pa.BufferReader(store.read(rows_name(encoder)))).metadata[MEAN_KEY], "<f4")
    except (OSError, RuntimeError, KeyError, ValueError, pa.ArrowException) as error:
        _log.warning(f"{store.url}/{index_name(encoder)} cannot be read ({first_line(error)}) and is built again")
        return None
    if not isinstance(cells, faiss.IndexIVFFlat) or not cells.ntotal == table.num_rows == recorded.rows:
        return None
    if cells.d != len(mean):
        return None
    return CellIndex(cells, table["id"].combine_chunks(), table["shard"].to_numpy(), table["length"].to_numpy(), mean)


def build_index(corpus: Corpus, encoder: str, *, progress: bool = True) -> CellIndex | None:
    """Build the index of an encoder's vectors, and write it to the corpus; None where the vectors are few.

    The tables are read twice, so that memory holds the index and no second copy of the vectors. Removed clips and
    superseded rows are left out.
    """
    shown = shown_clips(corpus, encoder)
    state = _state(corpus, encoder, 0, removals=shown.removals)

    def parts(title: str) -> Iterator[ClipVectors]:
        read = picture_vectors(corpus, encoder)
        for part in tqdm(read, desc=title, unit="shard", disable=not progress, dynamic_ncols=True):
            kept = np.flatnonzero(shown.of_shard(part.shard, part.ids))
            yield ClipVectors(part.shard, [part.ids[row] for row in kept], part.vectors[kept])

    index = index_of(parts, corpus.clips)
    if index is not None:
        _write(corpus, encoder, index, state)
    return index


def index_of(parts: Callable[[str], Iterator[ClipVectors]], clips: int) -> CellIndex | None:
    """Return an index of vectors that come in parts; None where they are few.

    Args:
        parts: Function that yields the vectors, always the same ones; its argument names the pass, for a progress bar.
        clips: Number of clips that have vectors, at most.
    """
    sample, mean, count = _looked_through(parts("reading vectors"), clips)
    if count <= vector_index.EXACT_VECTORS:
        return None
    cells = vector_index.empty_cells(unit(sample - mean), count)
    ids, shards, lengths = [], [], []
    for part in parts("indexing"):
        centred = part.vectors - mean
        cells.add(unit(centred))
        ids.append(pa.array(part.ids, pa.string()))
        shards.append(np.full(len(part.ids), part.shard, np.int64))
        lengths.append(np.linalg.norm(centred, axis=1).astype(np.float32))
    return CellIndex(cells, pa.concat_arrays(ids), np.concatenate(shards), np.concatenate(lengths), mean)


def _looked_through(parts: Iterator[ClipVectors], clips: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Return a sample of vectors `[S, D]`, their mean `[D]` and their number; one shard is held at a time."""
    step, count = vector_index.training_step(clips), 0
    sample: list[np.ndarray] = []
    total = np.zeros(1)
    for part in parts:
        sample.append(part.vectors[-count % step :: step].copy())
        total = total + part.vectors.sum(axis=0, dtype=np.float64)
        count += len(part.ids)
    return (
        np.concatenate([np.zeros((0, len(total)), np.float32), *sample]),
        (total / max(1, count)).astype("<f4"),
        count,
    )


def _state(corpus: Corpus, encoder: str, rows: int, *, removals: int | None = None) -> IndexState:
    removals = read_tombstones(corpus.store).tables if removals is None else removals
    return IndexState(tables_fingerprint(corpus.store, EMBED.model_folder(encoder)), removals, rows)


def _write(corpus: Corpus, encoder: str, index: CellIndex, state: IndexState) -> None:
    """Write an index, unless the corpus has changed since; what cannot be written is only built again next time."""
    import faiss

    store = corpus.store
    rows = pa.table([index.ids, index.shards, index.lengths], schema=ROWS_SCHEMA)
    rows = rows.replace_schema_metadata({MEAN_KEY: index.mean.astype("<f4").tobytes()})

    def put(name: str, write: Callable[[Path], object]) -> None:
        with store.workspace() as scratch:
            write(scratch / "new")
            store.put(name, scratch / "new")

    try:
        # A removal holds the lock while it deletes vectors, so none of a clip just removed can come back here.
        with maintenance_lock(store):
            if _state(corpus, encoder, 0) != state:
                return
            store.remove(state_name(encoder))
            put(index_name(encoder), lambda path: faiss.write_index(index.cells, str(path)))
            put(rows_name(encoder), lambda path: pq.write_table(rows, path))
            told = IndexState(state.tables, state.removals, len(index.ids)).as_dict()
            store.replace(state_name(encoder), json.dumps(told, indent=2).encode() + b"\n")
    except (LockHeld, StoreError, OSError) as error:
        _log.warning(f"the index of {store.url} is not kept, and the next search builds it again: {first_line(error)}")
