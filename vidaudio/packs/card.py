"""The card of a pack: Markdown with its contents, origin and rights; it has a checksum, but no date or host name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.config.corpus import PackBlock
from vidaudio.corpus.columns import DOWNLOAD, Column, columns_in_order
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.corpus_file import read_corpus_file
from vidaudio.corpus.superseded import superseded
from vidaudio.hashing import find_hashes, hashed
from vidaudio.json_values import parse_object
from vidaudio.markdown import markdown_table
from vidaudio.media.outcomes import State
from vidaudio.packs.description import read_pack_file
from vidaudio.packs.string_counts import TextCounts
from vidaudio.shards.checksum import OPEN_SEAL, with_checksum
from vidaudio.shards.commit import CommitRecord, committed_shards, table_name
from vidaudio.shards.parallel_read import read_tables
from vidaudio.text import storable_text

CARD_FILE = "CARD.md"
LONGEST_LIST = 25
LONGEST_CELL = 200
UNKNOWN = "not stated"
_LEFT_OUT = {
    "not_extracted": "without usable media",
    "where": "not selected by `where`",
    "keep_top": "not among those that correspond best (`keep_top`, `keep_per_label`)",
    "too_short": "too short for a window",
    "near_duplicate": "near-duplicates of clips that are kept (`dedup`)",
}


def write_card(corpus: Corpus, folder: str) -> None:
    """Write or replace the card of a pack whose shards all exist."""
    corpus.store.replace(f"{folder}/{CARD_FILE}", with_checksum(card_text(corpus, folder).encode()))


def card_text(corpus: Corpus, folder: str) -> str:
    """Return the text of the card, with zeros in the place of its checksum."""
    described = read_pack_file(corpus.store, folder)
    about = read_corpus_file(corpus.store)
    counts = _count_samples(corpus, folder, described.shards)
    owners = _count_owners(corpus, counts.ids)
    settings, extract = described.settings, corpus.settings.extract
    hours = counts.seconds / 3600
    selection = f"`{settings.where}`" if settings.where else "every usable clip"
    lines = [
        f"# {about['recipe']['name']}: the training set `{settings.name}`",
        "",
        f"{sum(counts.splits.values()):,} samples of {len(counts.ids):,} clips from {counts.sources:,} sources, "
        f"{hours:,.2f} hours of sound, in {len(described.shards):,} shards. "
        "Made by `vidaudio pack`; every tar is a plain WebDataset.",
        "",
        "## What is in it",
        "",
        *_table(("split", "samples"), _cells(counts.splits)),
        "",
        *_table(("list", "samples"), _cells(counts.datasets)),
        "",
        *(_top("label", "samples", dict(_cells(counts.labels))) if counts.labels else ["No labels."]),
        "",
        "## How it was made",
        "",
        f"* Pictures: {extract.frames_per_second:g} a second, {extract.frame_size} pixels square.",
        f"* Sound: mono, {extract.sample_rate:,} Hz, 16 bit, {settings.audio}; window: {_window(settings)}.",
        f"* Vectors: {', '.join(column.encoder for column in described.vector_columns)}.",
        f"* Selection: {selection}; seed {settings.seed}.",
        *([f"* Training draws samples by `{settings.weight}`."] if settings.weight is not None else []),
        f"* Plan: `{described.plan_hash}`, of corpus `{corpus.plan_hash}`.",
        f"* Versions: {', '.join(f'{name} {number}' for name, number in sorted(about['versions'].items()))}.",
        "",
        "## What became of the list",
        "",
        *_table(("stage", "outcome", "clips"), funnel(corpus)),
        "",
        *_table(
            ("left out of this pack", "clips"),
            ((_LEFT_OUT.get(cause, cause), clips) for cause, clips in described.left_out.items()),
        ),
        "",
        f"Removed since it was packed: {described.removed_samples:,} samples.",
        "",
        "## Whose it is",
        "",
        "The clips belong to those who made and uploaded them. This card lists what their pages said when they were "
        "fetched; it grants no licence. Before you publish clips, or a model trained on them, look at the licences "
        "below and at the terms of the sites and of the lists, and cite the lists as their authors ask.",
        "",
        *_owners("licence", owners.licences),
        "",
        f"{len(owners.uploaders) - (UNKNOWN in owners.uploaders):,} uploaders are named.",
        "",
        *_owners("uploader", owners.uploaders),
        "",
        "## How to take a clip down",
        "",
        "Write its id, or its source (`site:video id`), into a file, one a line, and run "
        "`vidaudio remove CORPUS ids.txt`: it leaves every shard of the corpus and every training set, this one too, "
        "and is never fetched again.",
        "",
        f"<!-- {OPEN_SEAL.decode()} -->",
        "",
    ]
    return "\n".join(lines)


def _window(settings: PackBlock) -> str:
    return settings.window if settings.windows_per_clip is None else f"{settings.windows_per_clip} drawn of each clip"


class _Samples:
    """Counts over the samples of a pack.

    Attributes:
        ids: Sorted hashes of the clips, each once; uint64.
        sources: Number of different sources.
        seconds: Duration of the sound, in seconds.
        splits, datasets, labels: Number of samples of each split, dataset and label.
    """

    def __init__(self) -> None:
        self.ids = np.zeros(0, np.uint64)
        self.sources = 0
        self.seconds = 0.0
        self.splits: Counter[str] = Counter()
        self.datasets: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()


def _count_samples(corpus: Corpus, folder: str, names: Iterable[str]) -> _Samples:
    counted = _Samples()
    ids: list[np.ndarray] = []
    sources: list[np.ndarray] = []
    columns = ("id", "source", "split", "dataset", "labels", "samples")
    for table, _ in read_tables(corpus.store, (f"{folder}/{name}.parquet" for name in names), columns=columns):
        ids.append(np.unique(hashed(table["id"])))
        sources.append(np.unique(hashed(table["source"])))
        counted.seconds += (pc.sum(table["samples"]).as_py() or 0) / corpus.settings.extract.sample_rate
        counted.splits.update(table["split"].to_pylist())
        counted.datasets.update(table["dataset"].to_pylist())
        counted.labels.update(label for labels in table["labels"].to_pylist() for label in labels or ())
    counted.ids = np.unique(np.concatenate(ids))
    del ids
    counted.sources = len(np.unique(np.concatenate(sources)))
    return counted


class _Owners:
    def __init__(self) -> None:
        self.uploaders = TextCounts()
        self.licences = TextCounts()


def _count_owners(corpus: Corpus, ids: np.ndarray) -> _Owners:
    """Count uploaders and licences as the clips' pages stated them, each clip once.

    Args:
        corpus: Corpus of the pack.
        ids: Sorted hashes of the clips to count.
    """
    counted = _Owners()
    if not len(ids):
        return counted
    # A clip that was fetched twice, because its first try failed at a later stage, counts once.
    older = superseded(corpus)
    for table, record in _committed_tables(corpus, DOWNLOAD, ("id", "state", "info")):
        speaks = pa.array(older.is_current(record.shard, table["id"].to_pylist()), pa.bool_())
        rows = table.filter(pc.and_(pc.equal(table["state"], "done"), speaks))
        rows = rows.filter(pa.array(find_hashes(ids, hashed(rows["id"]))[1]))
        texts = rows["info"].to_pylist() if "info" in rows.column_names else [None] * rows.num_rows
        infos = [_info(text) for text in texts]
        counted.uploaders.add(_plain(info.get("uploader") or info.get("channel")) for info in infos)
        counted.licences.add(_plain(info.get("licence")) for info in infos)
    return counted


def _info(text: Any) -> Mapping[str, Any]:
    """Parse what a clip's page stated; empty if the table, perhaps from someone else, has no valid text."""
    try:
        return parse_object(text) if text and isinstance(text, str) else {}
    except ValueError:
        return {}


def funnel(corpus: Corpus) -> Iterator[tuple[str, str, int]]:
    """Yield stage, outcome and number of clips; a clip that was tried again counts only with its newest try.

    Columns with a folder per model are left out: a pack has a line of its own for its vectors.
    """
    older = superseded(corpus)
    for column in (column for column in columns_in_order() if not column.per_model):
        counted: Counter[str] = Counter()
        for table, record in _committed_tables(corpus, column, ("id", "state", "reason")):
            speaks = older.is_current(record.shard, table["id"].to_pylist())
            for counts, outcome in zip(speaks, _outcomes(column, table), strict=True):
                counted[outcome] += counts
        yield from ((column.stage, outcome, clips) for outcome, clips in _ranked(+counted))


def _committed_tables(corpus: Corpus, column: Column, fields: Sequence[str]) -> Iterator[tuple[pa.Table, CommitRecord]]:
    """Yield some fields of all committed tables of a column, in the order of the shards."""
    names = (table_name(column.folder, shard) for shard in sorted(committed_shards(corpus.store, column.folder)))
    return read_tables(corpus.store, names, columns=fields)


def _outcomes(column: Column, table: pa.Table) -> list[str]:
    """Return the outcome of every row; a table without outcomes has only clips that came through."""
    if not column.has_outcomes:
        return [State.DONE.value] * table.num_rows
    pairs = zip(table["state"].to_pylist(), table["reason"].to_pylist(), strict=True)
    return [f"{state}: {reason}" if reason else state for state, reason in pairs]


def _plain(text: Any) -> str:
    """Return an external text as one table cell, without line breaks and with Markdown characters escaped."""
    shown = str(text) if text and isinstance(text, str | int | float) else UNKNOWN
    words = storable_text(" ".join(shown.split()), max_characters=LONGEST_CELL)
    return "".join(f"\\{c}" if c in "\\|`*_[]<>" else c for c in words)


def _cells(counted: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Return texts, escaped for a table, with their counts."""
    return ((_plain(text), number) for text, number in counted.items())


def _ranked(counted: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))


def _top(name: str, unit: str, counted: Mapping[str, int]) -> list[str]:
    ranked = _ranked(counted)
    rest = ranked[LONGEST_LIST:]
    shown = ranked[:LONGEST_LIST] + ([(f"{len(rest):,} others", sum(n for _, n in rest))] if rest else [])
    return _table((name, unit), shown)


def _owners(name: str, counted: TextCounts) -> list[str]:
    shown = counted.largest(LONGEST_LIST)
    rest = len(counted) - len(shown)
    if rest:
        shown.append((f"{rest:,} others", counted.total - sum(clips for _, clips in shown)))
    return _table((name, "clips"), shown)


def _table(heads: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> list[str]:
    formatted = ([*texts, f"{number:,}"] for *texts, number in rows)
    return markdown_table(heads, formatted, texts=len(heads) - 1)
