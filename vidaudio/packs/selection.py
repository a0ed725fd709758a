"""Which clips a pack takes, and on which side each goes: the corpus read in pieces, a few numbers a clip kept."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.config.corpus import PackBlock
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.superseded import superseded
from vidaudio.errors import CorpusError, RecipeError
from vidaudio.expressions import Expression, ExpressionError, kind_of
from vidaudio.manifest import SCHEMA as LIST_SCHEMA
from vidaudio.manifest.source import hashed
from vidaudio.packs.description import is_plain_name
from vidaudio.packs.split_draw import drawn_split, share_bounds
from vidaudio.pipeline.stages.extract import SCHEMA as AV_SCHEMA
from vidaudio.pipeline.stages.extract import completed
from vidaudio.shards.commit import committed_shards, table_name
from vidaudio.shards.parallel_read import read_tables

# Columns of the extract stage that a selection sees and a sample is cut by.
CLIP_FACTS = [c for c in AV_SCHEMA.names if c not in ("reason", "message", "frame_offsets", "frame_lengths")]
# The columns that `where` may look at. Every clip of a selection is done, so its state says nothing.
SELECTABLE = {
    field.name: field.type for field in (*LIST_SCHEMA, *AV_SCHEMA) if field.name in {*LIST_SCHEMA.names, *CLIP_FACTS}
}
del SELECTABLE["state"]
LONGEST_SHOWN = 200
LONGEST_SPLIT = 64
MOST_SPLITS = 1_000
# Clips looked at together: enough that pandas' own time does not count.
BATCH_CLIPS = 8192


def usable_clips(corpus: Corpus, encoder_name: str, columns: Collection[str] | None = None) -> Iterator[pd.DataFrame]:
    """Clips that are extracted and embedded, a row each, some thousands at a time, in the list's order.

    The columns are the list's, and the facts of sound and pictures. A clip that was tried again comes once.

    Args:
        corpus: Opened.
        encoder_name: Of the folder with its vectors.
        columns: Those that are needed, and `id`; all by default.

    Raises:
        CorpusError: A shard is not embedded yet.
    """
    embedded = committed_shards(corpus.store, f"embeddings/{encoder_name}")
    check_embedded(corpus.url, len(embedded), corpus.shards)
    older = superseded(corpus)
    names = (table_name("av", shard) for shard in range(corpus.shards))
    wanted = {"id", *(columns if columns is not None else [*LIST_SCHEMA.names, *CLIP_FACTS])}
    of_list = [name for name in LIST_SCHEMA.names if name in wanted or name == "shard"]
    of_av = [name for name in CLIP_FACTS if name in wanted or name == "state"]
    rows: list[pa.Table] = []
    facts: list[pa.Table] = []
    held = 0
    read = read_tables(corpus.store, names, columns=of_av)
    # Both in the order of the shards; the list in long stretches, and not a request for every few shards.
    for (shard, listed), (av, _) in zip(_rows_by_shard(corpus, of_list), read, strict=True):
        rows.append(listed.filter(pa.array(older.is_current(shard, listed["id"].to_pylist()), pa.bool_())))
        # Before pandas sees it: rows without facts would make floats of whole numbers.
        facts.append(completed(av, of_av).select(of_av).filter(pc.equal(av["state"], "done")).drop_columns(["state"]))
        held += listed.num_rows
        if held >= BATCH_CLIPS:
            yield _joined(rows, facts)
            rows, facts, held = [], [], 0
    if rows:
        yield _joined(rows, facts)


def _rows_by_shard(corpus: Corpus, columns: list[str]) -> Iterator[tuple[int, pa.Table]]:
    """Every shard and its rows of the list, in order; `shard` is among the columns."""
    expected = 0
    for table in corpus.tables(columns):
        shards = table["shard"].to_numpy()
        # Row groups end where shards end.
        edges = [0, *(np.flatnonzero(np.diff(shards)) + 1).tolist(), len(shards)]
        for first, last in itertools.pairwise(edges):
            if shards[first] != expected:
                raise CorpusError(f"the list of {corpus.url} is damaged: the rows of shard {expected} are not in place")
            yield expected, table.slice(first, last - first)
            expected += 1


def check_embedded(url: str, embedded: int, shards: int) -> None:
    """Whether a corpus can be packed: all its shards, and those that it is about to get, must be embedded.

    Raises:
        CorpusError: A shard is not.
    """
    if embedded < shards:
        raise CorpusError(f"{shards - embedded} of {shards} shards of {url} are not embedded yet; build first")


def _joined(rows: list[pa.Table], facts: list[pa.Table]) -> pd.DataFrame:
    listed, known = (pa.concat_tables(tables).to_pandas(use_threads=False) for tables in (rows, facts))
    for name in {"labels", "captions"} & set(listed.columns):
        # As everywhere else no list is an empty one, also to an expression over the columns.
        listed[name] = [() if texts is None else texts for texts in listed[name]]
    return listed.merge(known, on="id", how="inner", validate="one_to_one")


class SelectionError(RecipeError):
    """An expression that is no selection.

    Args:
        expression: As it was given.
        reason: What is wrong with it.
        named: What whoever wrote the expression calls it.
    """

    def __init__(self, expression: str, reason: str, named: str) -> None:
        super().__init__(expression, reason, named)
        self.expression, self.reason, self.named = expression, reason, named

    def __str__(self) -> str:
        long = len(self.expression) > LONGEST_SHOWN
        shown = f"{self.expression[:LONGEST_SHOWN]}..." if long else self.expression
        return f"{self.named} {shown!r} {self.reason}"

    def called(self, named: str) -> SelectionError:
        """The same of an expression that goes by another name."""
        return SelectionError(self.expression, self.reason, named)


def parse_selection(where: str, *, named: str = "pack.where") -> Expression:
    """Read a selection over the clips' columns.

    Args:
        where: The expression, see `vidaudio.expressions`.
        named: What whoever wrote the expression calls it, for messages.

    Raises:
        SelectionError: It is none; points at the place, and names the columns or what to write instead.
    """
    try:
        return Expression.parse(where, {name: kind_of(type_) for name, type_ in SELECTABLE.items()})
    except ExpressionError as error:
        raise SelectionError(where, f"is not a selection over the columns of clips: {error}", named) from error


def named_columns(where: str | None) -> set[str] | None:
    """Return the columns that a selection looks at, for `usable_clips`, where None stands for all.

    Raises:
        SelectionError: It is no selection.
    """
    return set(parse_selection(where).columns) if where else set()


def selected(clips: pd.DataFrame, where: str | None, *, named: str = "pack.where") -> pd.DataFrame:
    """Return the rows for which an expression over their columns holds; all without one. Each row is judged by itself.

    Raises:
        SelectionError: It is no such expression; calls it by `named`.
    """
    if not where:
        return clips
    expression = parse_selection(where, named=named)
    columns = {name: pa.array(clips[name], SELECTABLE[name], from_pandas=True) for name in expression.columns}
    return clips[expression.evaluate(columns)]


class Splits:
    """The list's own split, or one drawn by a hash of the source, so that a source is never on both sides.

    A clip without a split of its own goes where the list has put another clip of its source. Sources are known by
    64-bit hashes.

    Raises:
        RecipeError: The settings' shares are none.
    """

    def __init__(self, settings: PackBlock) -> None:
        self._seed = settings.seed
        self._bounds = share_bounds(settings.split_fractions)
        self._codes: dict[str, int] = {}
        for name in self._bounds.names:
            self._code(name)
        self._chosen: list[np.ndarray] = []
        self._listed: list[np.ndarray] = []
        self._sources: list[np.ndarray] = []

    def add(self, clips: pd.DataFrame) -> None:
        """Some clips, in the list's order."""
        own = [s if isinstance(s, str) and s else None for s in clips["split"]]
        codes = [
            self._code(split) if split is not None else self._code(drawn_split(source, self._seed, self._bounds))
            for split, source in zip(own, clips["source"], strict=True)
        ]
        self._chosen.append(np.asarray(codes, np.int16))
        self._listed.append(np.asarray([split is not None for split in own], bool))
        self._sources.append(hashed(pa.chunked_array([pa.array(clips["source"], pa.string())])))

    def decided(self) -> tuple[list[str], np.ndarray]:
        """Names of the splits, sorted, and of every clip that was added the place of its split among them."""
        chosen, listed = np.concatenate(self._chosen), np.concatenate(self._listed)
        if listed.any() and not listed.all():
            sources = np.concatenate(self._sources)
            # Of several splits of a source's clips the first counts.
            known, first = np.unique(sources[listed], return_index=True)
            places = np.minimum(np.searchsorted(known, sources), len(known) - 1)
            led = ~listed & (known[places] == sources)
            chosen[led] = chosen[listed][first][places[led]]
        names = sorted(self._codes)
        ranks = np.empty(len(names), np.int16)
        for rank, name in enumerate(names):
            ranks[self._codes[name]] = rank
        return names, ranks[chosen]

    def hashed_sources(self) -> np.ndarray:
        """Return a hash of the source of every clip that was added, uint64."""
        return np.concatenate(self._sources)

    def drawn(self) -> np.ndarray:
        """Return which of the clips that were added have no split of their own, bool."""
        return ~np.concatenate(self._listed)

    def _code(self, split: str) -> int:
        if split not in self._codes:
            if not is_plain_name(split) or len(split) > LONGEST_SPLIT:
                raise RecipeError(
                    f"the split {split[:LONGEST_SPLIT]!r} cannot be part of the names of files: a split is a word such "
                    "as train, val or test; mend the list's column, or pack.split_fractions"
                )
            if len(self._codes) >= MOST_SPLITS:
                raise RecipeError(
                    f"the list names more than {MOST_SPLITS:,} splits, {split!r} among them; is its column of splits "
                    "one of something else?"
                )
        return self._codes.setdefault(split, len(self._codes))
