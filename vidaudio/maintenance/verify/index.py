"""Checks of a pack's index against its tables: the index is memory-mapped and compared one training shard at a time."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vidaudio.corpus.corpus import Corpus
from vidaudio.maintenance.verify.encoders import DESCRIBE_AGAIN
from vidaudio.maintenance.verify.files import DAMAGE, named
from vidaudio.maintenance.verify.findings import Findings
from vidaudio.maintenance.verify.manifest_files import local_copy
from vidaudio.maintenance.verify.packs import SHARD_AGAIN, Pack
from vidaudio.shards.checksum import file_checksum_ok
from vidaudio.stream.index import INDEX_FILE, WEIGHT, read_index, sample_schema
from vidaudio.stream.index_checks import columns_in

INDEX_AGAIN = "delete it and pack again: it is made from the tables"


class PackIndex:
    """Rows of a pack's index, by training shard.

    Args:
        mapping: Memory-mapped index file.
        shards: Number of training shards of the pack.

    Raises:
        ValueError: When the file is not a valid index; or another of `DAMAGE`.
    """

    def __init__(self, mapping: mmap.mmap, shards: int) -> None:
        self._mapping = mapping
        table, self.described, _ = read_index(pa.BufferReader(pa.py_buffer(mapping)))
        self.columns = columns_in(self.described)
        self._table = table.replace_schema_metadata(None)
        self._rows = np.full(shards, -1)
        self._equal = np.zeros(shards, bool)
        if self._table.schema == sample_schema(self.columns, weighted=self.described.get(WEIGHT) is not None):
            # If rows of different shards are mixed up, these bounds mean nothing, but then some comparison fails.
            bounds = np.searchsorted(self._table["shard"].to_numpy(), np.arange(shards + 1, dtype=np.int32))
            self._bounds: np.ndarray | None = bounds
        else:
            self._bounds = None

    def compare(self, number: int, table: pa.Table) -> None:
        """Compare the table of training shard `number` of the pack with the index's rows of that shard."""
        if self._bounds is not None:
            column = pa.array(np.full(table.num_rows, number), pa.int32())
            own = table.append_column("shard", column)
            first, last = self._bounds[number : number + 2].tolist()
            self._equal[number] = self._table.slice(first, max(0, last - first)).equals(own)
            if hasattr(mmap, "MADV_DONTNEED"):
                self._mapping.madvise(mmap.MADV_DONTNEED)
        self._rows[number] = table.num_rows

    @property
    def compared(self) -> bool:
        """Whether every training shard was compared."""
        return bool((self._rows >= 0).all())

    @property
    def holds_all(self) -> bool:
        """Whether the index contains exactly the rows of the compared tables, in order."""
        if self._bounds is None or not self._equal.all():
            return False
        ends = np.concatenate([[0], np.cumsum(self._rows)])
        return np.array_equal(self._bounds, ends) and self._table.num_rows == ends[-1]


@contextmanager
def opened_index(corpus: Corpus, pack: Pack, findings: Findings) -> Iterator[PackIndex | None]:
    """Yield a pack's index; None, with a problem or note, if it cannot be compared with the tables."""
    name = f"{pack.folder}/{INDEX_FILE}"
    names = pack.described.shards
    absent = [n for n in names if f"{n}.parquet" not in pack.sizes]
    if INDEX_FILE not in pack.sizes:
        if not absent:
            findings.notes.append(f"{pack.folder} has no index yet; the same pack command writes it")
        yield None
        return
    if absent:
        findings.add_problem(f"{pack.folder}/{absent[0]}.parquet", "is missing, and the index stands", SHARD_AGAIN)
        yield None
        return
    with local_copy(corpus.store, name) as path:
        yield _opened(path, name, len(names), findings)


def check_index(corpus: Corpus, pack: Pack, index: PackIndex, findings: Findings) -> None:
    """Check that the index contains the training shards' tables in order, and describes the pack correctly.

    Args:
        corpus: Corpus of the pack.
        pack: Pack whose training shards were already checked.
        index: Index that was already compared with their tables.
        findings: Findings that problems are added to.
    """
    name = f"{pack.folder}/{INDEX_FILE}"
    try:
        wrong = _otherwise(corpus, pack, index.described)
    except DAMAGE as error:
        findings.add_problem(name, f"is no index of ours ({type(error).__name__})", INDEX_AGAIN)
        return
    wrong += _other_vectors(pack, index, name, findings)
    if wrong:
        findings.add_problem(name, f"says otherwise than the pack of {named(wrong)}", INDEX_AGAIN)
    if index.compared and not index.holds_all:
        findings.add_problem(name, "does not hold the rows of the tables, one after another", INDEX_AGAIN)


def _opened(path: Path, name: str, shards: int, findings: Findings) -> PackIndex | None:
    if not file_checksum_ok(path):
        findings.add_problem(name, "is damaged: its bytes do not give the hash it carries", INDEX_AGAIN)
        return None
    try:
        with path.open("rb") as file:
            return PackIndex(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), shards)
    except DAMAGE as error:
        findings.add_problem(name, f"is no index of ours ({type(error).__name__})", INDEX_AGAIN)
        return None


def _otherwise(corpus: Corpus, pack: Pack, described: dict[str, Any]) -> list[str]:
    """Return the keys of the index's metadata whose values differ from the pack."""
    extract = corpus.settings.extract
    wanted = {
        "tars": [pack.tars.get(n, f"{n}.tar") for n in pack.described.shards],
        "audio": pack.audio,
        "sample_rate": extract.sample_rate,
        "frames_per_second": extract.frames_per_second,
        "plan_hash": pack.described.plan_hash,
        "generation": pack.described.generation,
        "removed_samples": pack.described.removed_samples,
        WEIGHT: pack.described.settings.weight,
    }
    return [key for key, value in wanted.items() if described.get(key) != value]


def _other_vectors(pack: Pack, index: PackIndex, name: str, findings: Findings) -> list[str]:
    """Return what the index says otherwise of the pack's vectors than `pack.json` or the encoders themselves."""
    packed = pack.described.vector_columns
    # An index of an older version names no encoder.
    named = "vectors" in index.described and [column.encoder for column in index.columns] != [c.encoder for c in packed]
    if named or sample_schema(index.columns) != sample_schema(packed):
        return ["vectors"]
    wrong = ["encoder"] if index.described["encoder"] != index.columns[0].fingerprint else []
    for column, own in zip(index.columns, packed, strict=True):
        encoder = pack.encoders.get(own.encoder)
        if encoder is None or encoder.fingerprint in (None, column.fingerprint):
            continue  # an unknown encoder is reported elsewhere
        if encoder.is_certain:
            wrong.append(f"the encoder {own.encoder}")
        else:
            # The index has a checksum that matches; the encoder's own description has none.
            at = f"embeddings/{own.encoder}/encoder.json"
            findings.add_problem(at, f"says otherwise than {name}, whose seal holds", DESCRIBE_AGAIN)
    return wrong
