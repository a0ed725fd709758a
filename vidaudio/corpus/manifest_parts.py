"""Parts of a corpus's manifest on disk: written once in a stream, with a checksum, and read by row groups.

A part's row groups end where shards end, and its metadata contains the number of rows of every shard. So the rows of
one shard are found without a search, in one row group, however long the manifest is and wherever it is stored.
"""

from __future__ import annotations

import base64
import io
import json
import threading
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vidaudio.corpus.corpus_file import MAX_SHARDS
from vidaudio.errors import CorpusError
from vidaudio.json_values import parse_object
from vidaudio.manifest import SCHEMA
from vidaudio.shards.checksum import OPEN_SEAL, SEAL_KEY, file_checksum_ok, write_checksum
from vidaudio.shards.parquet_limits import read_within
from vidaudio.shards.store import Store
from vidaudio.shards.table_checks import ID_PATTERN, check_texts

ROW_GROUP_CLIPS = 4096
# A build writes checked clips only, but the part may come from somebody else.
ROW_TEXTS = {"id": ID_PATTERN, "source": r"\A[^:\x00]+:[^\x00]+\z", "url": r"\A[^\x00]+\z"}
_PART_KEY = b"vidaudio"
_SHARDS_KEY = b"vidaudio.shard_clips"
_DAMAGE = (
    *(pa.ArrowException, OSError, KeyError, TypeError, ValueError, EOFError, zlib.error, IndexError),
    *(AttributeError, OverflowError, MemoryError),
)
KINDS = ("list", "added", "retry")
# Bytes that one request reads from an object store: the end of a file, with its metadata, and a range of a file that is
# read completely.
TAIL_BYTES = 1 << 20
STRETCH_BYTES = 16 << 20


class ListDamaged(CorpusError):
    """A part of the manifest is missing or damaged.

    Attributes:
        name: File name of the part.
        what: What is wrong with the part, as part of a sentence.
    """

    def __init__(self, url: str, name: str, what: str) -> None:
        super().__init__(f"the list {url}/{name} {what}")
        self.name, self.what = name, what


@dataclass(frozen=True, slots=True)
class ManifestPart:
    """A part of the manifest: its file, why it was made (`list`, `added` or `retry`), and its shards."""

    name: str
    kind: str
    first_shard: int
    shards: int
    clips: int


def create_part(store: Store, part: ManifestPart, shard_clips: np.ndarray, tables: Iterable[pa.Table]) -> bool:
    """Write a part unless it exists; return False where it exists already.

    Args:
        store: Store of the corpus.
        part: Description of the part.
        shard_clips: Number of rows of each of the part's shards, int `[shards]`.
        tables: The planned rows, in order, in pieces of any size.
    """
    counts = base64.b64encode(zlib.compress(np.asarray(shard_clips, "<i4").tobytes(), 9))
    described = json.dumps(asdict(part), sort_keys=True).encode()
    schema = SCHEMA.with_metadata({_PART_KEY: described, _SHARDS_KEY: counts, SEAL_KEY: OPEN_SEAL})
    with store.workspace() as scratch:
        path = scratch / "part.parquet"
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for group in _regrouped(tables, _group_rows(shard_clips)):
                writer.write_table(group.replace_schema_metadata(schema.metadata), row_group_size=group.num_rows)
        write_checksum(path)
        return store.put_new(part.name, path)


def _group_rows(shard_clips: np.ndarray) -> list[int]:
    """Return the number of rows of every row group: whole shards, at least `ROW_GROUP_CLIPS` rows but for the last."""
    groups, held = [], 0
    for clips in shard_clips.tolist():
        held += clips
        if held >= ROW_GROUP_CLIPS:
            groups.append(held)
            held = 0
    return groups + [held] * (held > 0)


def _regrouped(tables: Iterable[pa.Table], sizes: Sequence[int]) -> Iterator[pa.Table]:
    """Yield the same rows in tables of these sizes."""
    pieces, held = [], 0
    stream = iter(tables)
    for size in sizes:
        while held < size:
            pieces.append(next(stream))
            held += pieces[-1].num_rows
        whole = pa.concat_tables(pieces)
        # Copied out of the larger table, so that equal rows are written as equal bytes.
        yield whole.slice(0, size).combine_chunks()
        pieces, held = [whole.slice(size)], held - size


class ManifestPartReader:
    """The parts of one corpus, each opened on first use and kept open.

    Args:
        store: Store of the corpus.
        sizes: Bytes of the files in the corpus's own folder, by name.
    """

    def __init__(self, store: Store, sizes: Mapping[str, int]) -> None:
        self._store = store
        self._sizes = dict(sizes)
        self._opened: dict[str, ManifestPartFile] = {}
        self._lock = threading.Lock()

    @property
    def names(self) -> Collection[str]:
        """Names of all files in the corpus's own folder when the corpus was opened."""
        return self._sizes.keys()

    def __getitem__(self, name: str) -> ManifestPartFile:
        with self._lock:
            if name not in self._opened:
                if name not in self._sizes:
                    raise ListDamaged(self._store.url, name, "is not there any more")
                self._opened[name] = ManifestPartFile(self._store, name, self._sizes[name])
            return self._opened[name]


class ManifestPartFile:
    """Reader of one part. Any number of threads may use it; a remote part is fetched by ranges.

    Args:
        store: Store of the corpus.
        name: File name of the part.
        size_bytes: Size of the file.

    Raises:
        ListDamaged: When the part is damaged; all methods raise it, too.
    """

    def __init__(self, store: Store, name: str, size_bytes: int) -> None:
        self._url, self._name = store.url, name
        self._lock = threading.Lock()
        self._ranges: _Ranges | None = None
        self._recent: dict[int, pa.Table] = {}
        self.digest = ""
        with self._damage_named():
            local = store.local_path(name)
            if local is None:
                self._ranges = _Ranges(store, name, size_bytes)
            else:
                _check_bytes(local)
            # `read_within` opens the source again where the part must be read in another way.
            self._source = local if local is not None else self._ranges
            self._file = pq.ParquetFile(self._source)
            # Digest of all bytes of the file, stored in the file itself.
            self.digest = self._file.metadata.metadata.get(SEAL_KEY, b"").decode()
            _check_schema(self._file.schema_arrow)
            metadata = self._file.schema_arrow.metadata
            self.described = _part_of(parse_object(metadata[_PART_KEY]), name)
            self.shard_clips = _unpacked_counts(metadata[_SHARDS_KEY], self.described)
            self._shard_ends = np.cumsum(self.shard_clips)
            groups = range(self._file.num_row_groups)
            self._group_ends = np.cumsum([self._file.metadata.row_group(number).num_rows for number in groups])

    def rows(self, shard: int) -> pa.Table:
        """Return the rows of one shard, by its number in the corpus."""
        place = shard - self.described.first_shard
        if not 0 <= place < len(self._shard_ends):
            raise ListDamaged(self._url, self._name, f"does not have the shard {shard}")
        last = int(self._shard_ends[place])
        first = last - int(self.shard_clips[place])
        group = int(np.searchsorted(self._group_ends, first, side="right"))
        with self._lock, self._damage_named():
            table = self._group(group)
            first -= int(self._group_ends[group]) - table.num_rows
            rows = table.slice(first, int(self.shard_clips[place]))
            if rows["shard"].to_pylist() != [shard] * int(self.shard_clips[place]):
                raise ValueError(f"the rows of shard {shard} are not where they should be")
        return rows

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """Yield all rows, in order, by row groups."""
        for number in range(self._file.num_row_groups):
            with self._lock, self._damage_named():
                if self._ranges is not None:
                    self._ranges.stretch = STRETCH_BYTES
                table = self._checked(number, columns)
            yield table

    def _group(self, number: int) -> pa.Table:
        if number not in self._recent:
            if self._ranges is not None:
                self._ranges.load(*_span(self._file.metadata.row_group(number)))
            table = self._checked(number)
            # Neighbouring shards are read one after the other, so the last two groups are enough.
            self._recent = {**dict(list(self._recent.items())[-1:]), number: table}
        return self._recent[number]

    def _checked(self, number: int, columns: Sequence[str] | None = None) -> pa.Table:
        """Return one row group, after a check of its ids, sources and URLs."""
        table = read_within(self._file, lambda: self._source, [number], columns).replace_schema_metadata(None)
        table.validate(full=True)
        for name, pattern in ROW_TEXTS.items():
            if name in table.column_names:
                check_texts(table[name], pattern, name)
                if table[name].null_count:
                    raise ValueError(f"its column {name} lacks values")
        return table

    @contextmanager
    def _damage_named(self) -> Iterator[None]:
        try:
            yield
        except _DAMAGE as error:
            text = str(error).strip() or type(error).__name__
            raise ListDamaged(self._url, self._name, f"is damaged ({text.splitlines()[0]})") from error


def _check_bytes(path: Path) -> None:
    """Check a local part's checksum before its footer is parsed: some damaged footers crash the process in Arrow."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL_BYTES))
        # Parts from before there were checksums have none.
        if SEAL_KEY in file.read() and not file_checksum_ok(path):
            raise ValueError("its checksum does not fit its contents")


def _check_schema(schema: pa.Schema) -> None:
    """Check that a part has the columns of a manifest."""
    for field in SCHEMA:
        if schema.get_field_index(field.name) < 0 or schema.field(field.name).type != field.type:
            raise ValueError(f"its column {field.name} is missing, or is not {field.type}")


def _part_of(told: Mapping[str, Any], name: str) -> ManifestPart:
    """Return a part's description of itself, after a check of its values."""
    part = ManifestPart(**told)
    counts = (part.first_shard, part.shards, part.clips)
    if not all(isinstance(count, int) and not isinstance(count, bool) and count >= 0 for count in counts):
        raise ValueError("it counts wrongly")
    if part.name != name or part.kind not in KINDS or part.shards > MAX_SHARDS:
        raise ValueError("it describes another part")
    return part


def _unpacked_counts(packed: bytes, part: ManifestPart) -> np.ndarray:
    """Return the number of rows of each of a part's shards, int64 `[shards]`."""
    # Limit the output: a few bytes can unpack to any size.
    data = zlib.decompressobj().decompress(base64.b64decode(packed), 4 * part.shards + 1)
    counts = np.frombuffer(data, "<i4").astype(np.int64)
    if (len(counts), counts.sum()) != (part.shards, part.clips) or (counts < 0).any():
        raise ValueError("its shards are not those it says it has")
    return counts


def _span(group: pq.RowGroupMetaData) -> tuple[int, int]:
    """Return begin and end of a row group's bytes in the file."""
    columns = [group.column(number) for number in range(group.num_columns)]
    begins = [min(filter(None, (c.dictionary_page_offset, c.data_page_offset))) for c in columns]
    ends = [begin + c.total_compressed_size for begin, c in zip(begins, columns, strict=True)]
    return min(begins), max(ends)


class _Ranges(io.RawIOBase):
    """A file in a store, read through a window that is fetched as a whole."""

    def __init__(self, store: Store, name: str, size: int) -> None:
        self._store, self._name, self._size = store, name, size
        self._place = self._begin = 0
        self._window = b""
        self.stretch = 0
        self.load(max(0, size - TAIL_BYTES), size)

    def load(self, begin: int, end: int) -> None:
        """Fetch these bytes into the window, for later reads."""
        self._begin, self._window = begin, self._store.read_range(self._name, begin, end - begin)
        self.stretch = 0

    def read(self, size: int = -1) -> bytes:
        end = self._size if size is None or size < 0 else min(self._size, self._place + size)
        if not self._begin <= self._place <= end <= self._begin + len(self._window):
            stretch = self.stretch
            self.load(self._place, min(self._size, max(end, self._place + stretch)))
            self.stretch = stretch
        data = self._window[self._place - self._begin : end - self._begin]
        self._place = end
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True
