"""Checks of the manifest's files against their record in `corpus.json`, one row group at a time."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vidaudio.config.corpus import stable_hash
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.corpus_file import CORPUS_FILE, read_corpus_file
from vidaudio.corpus.manifest_parts import ManifestPart
from vidaudio.corpus.shard_plan import manifest_hash
from vidaudio.maintenance.verify.files import DAMAGE
from vidaudio.maintenance.verify.findings import Findings
from vidaudio.shards.checksum import file_checksum_ok
from vidaudio.shards.links import NotFollowed
from vidaudio.shards.parquet_limits import read_within
from vidaudio.shards.scratch import temporary_folder
from vidaudio.shards.store import Store

LIST_AGAIN = "take it back from a copy of the corpus, or begin another one with the same list and settings"


def check_list(corpus: Corpus, findings: Findings) -> bool:
    """Check settings and manifest against their hashes; return False if the clips of each shard are unknown."""
    described = read_corpus_file(corpus.store)
    settings = {"settings": described.get("identity"), "manifest": described.get("manifest_sha256")}
    if stable_hash(settings) != corpus.plan_hash or not _within(described.get("identity"), corpus.settings.identity()):
        findings.add_problem(CORPUS_FILE, "is damaged: its settings and list do not give the plan it names", LIST_AGAIN)
    for number, part in enumerate(corpus.parts):
        try:
            with local_copy(corpus.store, part.name) as path:
                fits = _part_fits(path, part, described.get("manifest_sha256") if number == 0 else None)
        except NotFollowed as error:
            findings.add_problem(part.name, str(error), LIST_AGAIN)
            return False
        except FileNotFoundError:
            findings.add_problem(
                part.name, "is missing: it is the list, and says which clips are in which shard", LIST_AGAIN
            )
            findings.notes.append("without its list nothing else of the corpus could be looked at")
            return False
        except DAMAGE as error:
            findings.add_problem(part.name, f"is damaged ({type(error).__name__})", LIST_AGAIN)
            return False
        if not fits:
            findings.add_problem(part.name, "is damaged: it is not the list that the corpus was made from", LIST_AGAIN)
            return False
    return True


@contextlib.contextmanager
def local_copy(store: Store, name: str) -> Iterator[Path]:
    """Yield the path of a local file, or of a temporary copy of a remote one."""
    local = store.local_path(name)
    if local is not None:
        yield local
        return
    with temporary_folder() as scratch:
        copy = scratch / Path(name).name
        store.download(name, copy)
        yield copy


def _part_fits(path: Path, part: ManifestPart, sha256: str | None) -> bool:
    """Return whether a manifest part is unchanged; `sha256` is the recorded hash of its rows, None if there is none."""
    with pq.ParquetFile(path) as file:
        by_group: list[np.ndarray] = []
        groups = _groups(file, path, by_group)
        found = manifest_hash(groups) if sha256 is not None else None
        deque(groups, maxlen=0)
        shards = np.concatenate(by_group)
        bounds = np.searchsorted(shards, np.arange(part.first_shard, part.first_shard + part.shards + 1))
        fits = file_checksum_ok(path) and len(shards) == part.clips and bounds[0] == 0 and bounds[-1] == part.clips
        fits = fits and bool((np.diff(bounds) > 0).all() and (np.diff(shards) >= 0).all())
        return fits and found == sha256 and _bounds_are_true(file, shards)


def _groups(file: pq.ParquetFile, path: Path, shards: list[np.ndarray]) -> Iterator[pa.Table]:
    """Yield every row group after validating it; append its rows' shards to `shards`."""
    for number in range(file.num_row_groups):
        table = read_within(file, lambda: path, [number])
        table.validate(full=True)
        shards.append(table["shard"].to_numpy())
        yield table


def _within(recorded: Any, now: Any) -> bool:
    """Return whether all recorded settings have the same value now; a later version may add settings."""
    if isinstance(recorded, dict) and isinstance(now, dict):
        return all(key in now and _within(value, now[key]) for key, value in recorded.items())
    return recorded == now


def _bounds_are_true(file: pq.ParquetFile, shards: np.ndarray) -> bool:
    """Return whether the row groups' statistics of `shard` are correct: searches skip row groups by them."""
    place = file.schema_arrow.get_field_index("shard")
    first = 0
    for number in range(file.num_row_groups):
        group = file.metadata.row_group(number)
        # Nested list columns come before it, so the index among the leaf columns is found by name.
        column = next(
            (c for c in map(group.column, range(place, group.num_columns)) if c.path_in_schema == "shard"), None
        )
        own = shards[first : first + group.num_rows]
        first += group.num_rows
        if column is None or not len(own):
            return False
        if column.statistics is not None and (column.statistics.min, column.statistics.max) != (own.min(), own.max()):
            return False
    return True
