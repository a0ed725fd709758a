"""Selection of a pack's clips and of their splits: the corpus is read in batches, and few numbers per clip are kept."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.config.corpus import PackBlock
from vidaudio.corpus.columns import DOWNLOAD, EMBED, EXTRACT, SCORE, Column, columns_in_order
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.superseded import superseded
from vidaudio.errors import CorpusError, RecipeError
from vidaudio.expressions import Expression, ExpressionError, kind_of
from vidaudio.hashing import find_hashes, hashed
from vidaudio.manifest import SCHEMA as LIST_SCHEMA
from vidaudio.packs.description import is_plain_name
from vidaudio.packs.split_draw import drawn_split, share_bounds
from vidaudio.shards.commit import CommitRecord, committed_shards, table_name
from vidaudio.shards.parallel_read import read_tables

# Fields of the extract stage that selections can read and that samples are cut by.
CLIP_FACTS = ["id", "state", *EXTRACT.selectable]
LONGEST_SHOWN = 200
LONGEST_SPLIT = 64
MOST_SPLITS = 1_000
# Clips per batch: enough that pandas' overhead does not matter.
BATCH_CLIPS = 8192


def selectable_types() -> dict[str, pa.DataType]:
    """Return the types of all fields that a selection may name, those of the manifest and of every column, by name."""
    types = {field.name: field.type for field in LIST_SCHEMA}
    for column in columns_in_order():
        types |= {name: column.declared_schema.field(name).type for name in column.selectable}
    return types


def columns_with(fields: Collection[str]) -> list[Column]:
    """Return the columns besides extract that have one of these fields as a selectable one, in order."""
    return [c for c in columns_in_order() if c.stage != EXTRACT.stage and not set(c.selectable).isdisjoint(fields)]


def pack_columns(settings: PackBlock) -> list[Column]:
    """Return the columns that a pack reads besides extract: the vectors, and those whose fields the selection reads.

    Raises:
        SelectionError: When the selection is not valid.
    """
    read = columns_with({*(named_columns(settings.where) or ()), *([settings.weight] if settings.weight else [])})
    return [EMBED, *read, *([SCORE] if reads_scores(settings) and SCORE not in read else [])]


@dataclass(frozen=True, slots=True)
class ClipBatch:
    """Some thousand clips of a corpus, in manifest order.

    Attributes:
        listed: Wanted manifest columns of all clips; a clip that was tried again occurs once.
        usable: The clips that are extracted and embedded, one row each: wanted columns of the manifest and wanted
            selectable fields.
        outcomes: By id, state and reason in download or extract of the clips that are not extracted; empty unless they
            are asked for.
    """

    listed: pa.Table
    usable: pd.DataFrame
    outcomes: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)


def usable_clips(
    corpus: Corpus, models: Mapping[str, str], columns: Collection[str] | None = None
) -> Iterator[pd.DataFrame]:
    """Yield the clips that are extracted and embedded, one row each, some thousands at a time, in manifest order.

    The columns are those of the manifest and the selectable fields of the corpus's columns. A clip that was tried again
    occurs once. Arguments and errors are those of `clip_batches`.
    """
    return (batch.usable for batch in clip_batches(corpus, models, columns))


def clip_batches(
    corpus: Corpus, models: Mapping[str, str], columns: Collection[str] | None = None, *, outcomes: bool = False
) -> Iterator[ClipBatch]:
    """Yield all clips of a corpus, some thousands at a time, in manifest order.

    Args:
        corpus: Opened corpus.
        models: Name of the model by stage; that of the embed stage has the clips' vectors.
        columns: Columns that are needed besides `id`; None for all that every shard has.
        outcomes: Whether the outcomes of clips that are not extracted are needed.

    Raises:
        CorpusError: When a shard is not embedded yet, or has no table of another column that is needed.
    """
    wanted = {"id", *(columns if columns is not None else selectable_types())}
    further = columns_with(wanted) if columns is not None else _complete_columns(corpus, models)
    for column in (EMBED, *further):
        committed = committed_shards(corpus.store, column.folder_for(models))
        check_complete(corpus.url, column, len(committed), corpus.shards)
    older = superseded(corpus)
    of_list = [name for name in LIST_SCHEMA.names if name in wanted or name == "shard"]
    rows: list[pa.Table] = []
    facts: list[pa.Table] = []
    others: dict[str, tuple[str, str | None]] = {}
    held = 0
    of_av = [name for name in CLIP_FACTS if name in wanted or name == "state"]
    read = _read(corpus, EXTRACT.folder, [*of_av, "reason"] if outcomes else of_av)
    beside = [_read(corpus, c.folder_for(models), joined_fields(c, wanted)) for c in further]
    fetched = _fetch_outcomes(corpus) if outcomes else iter(())
    # All are read in the order of the shards. The manifest is read in long stretches, not with one request for every
    # few shards.
    for (shard, listed), (av, _), *tables in zip(rows_by_shard(corpus, of_list), read, *beside, strict=True):
        rows.append(listed.filter(pa.array(older.is_current(shard, listed["id"].to_pylist()), pa.bool_())))
        if outcomes:
            # A clip that was not fetched has no row in the tables of extract.
            others |= _outcomes_of(rows[-1], next(fetched)) | _outcomes_of(rows[-1], av)
        av = EXTRACT.completed(av, of_av).select(of_av)
        # Filter before the conversion to pandas: missing values would turn integers into floats.
        done = av.filter(pc.equal(av["state"], "done")).drop_columns(["state"])
        for column, (table, _) in zip(further, tables, strict=True):
            done = joined(done, column, table, wanted)
        facts.append(done)
        held += listed.num_rows
        if held >= BATCH_CLIPS:
            yield _joined(rows, facts, others)
            rows, facts, others, held = [], [], {}, 0
    if rows:
        yield _joined(rows, facts, others)


def _fetch_outcomes(corpus: Corpus) -> Iterator[pa.Table]:
    """Yield the outcomes of the download stage by shard; empty tables if its tables are not all there."""
    fields = ["id", "state", "reason"]
    if len(committed_shards(corpus.store, DOWNLOAD.folder)) < corpus.shards:
        schema = pa.schema([DOWNLOAD.declared_schema.field(name) for name in fields])
        return itertools.repeat(schema.empty_table(), corpus.shards)
    return (table for table, _ in _read(corpus, DOWNLOAD.folder, fields))


def _outcomes_of(listed: pa.Table, av: pa.Table) -> dict[str, tuple[str, str | None]]:
    """Return state and reason of those of a shard's current clips that are not done in a stage, by id."""
    failed = av.filter(pc.and_(pc.not_equal(av["state"], "done"), pc.is_in(av["id"], listed["id"].combine_chunks())))
    columns = (failed[name].to_pylist() for name in ("id", "state", "reason"))
    return {clip_id: (state, reason) for clip_id, state, reason in zip(*columns, strict=True)}


def _complete_columns(corpus: Corpus, models: Mapping[str, str]) -> list[Column]:
    """Return the columns with selectable fields, besides extract, of which every shard has a table."""
    known = [c for c in columns_with(selectable_types()) if not c.per_model or c.stage in models]
    return [c for c in known if len(committed_shards(corpus.store, c.folder_for(models))) >= corpus.shards]


def _read(corpus: Corpus, folder: str, fields: Sequence[str]) -> Iterator[tuple[pa.Table, CommitRecord]]:
    names = (table_name(folder, shard) for shard in range(corpus.shards))
    return read_tables(corpus.store, names, columns=fields)


def joined_fields(column: Column, wanted: Collection[str]) -> list[str]:
    """Return the fields of a column's table that `joined` needs for the wanted fields."""
    needed = {"id", "state", *(name for name in column.selectable if name in wanted)}
    return [name for name in column.declared_schema.names if name in needed]


def joined(facts: pa.Table, column: Column, table: pa.Table, wanted: Collection[str]) -> pa.Table:
    """Return facts of clips, one row a clip, with the wanted selectable fields of another column's table appended.

    A clip that is not done in that column, or has no row there, has null values.
    """
    fields = joined_fields(column, wanted)
    table = column.completed(table, fields)
    if column.has_outcomes:
        table = table.filter(pc.equal(table["state"], "done"))
    places = pc.index_in(facts["id"], table["id"].combine_chunks())
    for name in fields:
        if name in column.selectable:
            facts = facts.append_column(column.declared_schema.field(name), table[name].take(places))
    return facts


def rows_by_shard(corpus: Corpus, columns: list[str]) -> Iterator[tuple[int, pa.Table]]:
    """Yield every shard and its manifest rows, in order; `columns` must include `shard`."""
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


def check_complete(url: str, column: Column, committed: int, shards: int) -> None:
    """Check that all shards that a corpus has or is about to get have a table of a column that a selection reads.

    Raises:
        CorpusError: When a shard has none.
    """
    if committed < shards:
        lacking = "are not embedded" if column.stage == EMBED.stage else f"have no {column.stage}"
        raise CorpusError(f"{shards - committed} of {shards} shards of {url} {lacking} yet; build first")


def _joined(rows: list[pa.Table], facts: list[pa.Table], outcomes: Mapping[str, tuple[str, str | None]]) -> ClipBatch:
    table = pa.concat_tables(rows)
    listed, known = (each.to_pandas(use_threads=False) for each in (table, pa.concat_tables(facts)))
    for name in {"labels", "captions"} & set(listed.columns):
        # A missing list counts as an empty one here as elsewhere, also in an expression over the columns.
        listed[name] = [() if texts is None else texts for texts in listed[name]]
    return ClipBatch(table, listed.merge(known, on="id", how="inner", validate="one_to_one"), outcomes)


class SelectionError(RecipeError):
    """An error for an expression that is not a valid selection.

    Args:
        expression: The expression as it was given.
        reason: What is wrong with the expression.
        named: Name of the expression for its author, such as `pack.where`.
    """

    def __init__(self, expression: str, reason: str, named: str) -> None:
        super().__init__(expression, reason, named)
        self.expression, self.reason, self.named = expression, reason, named

    def __str__(self) -> str:
        long = len(self.expression) > LONGEST_SHOWN
        shown = f"{self.expression[:LONGEST_SHOWN]}..." if long else self.expression
        return f"{self.named} {shown!r} {self.reason}"

    def called(self, named: str) -> SelectionError:
        """Return the same error with another name for the expression."""
        return SelectionError(self.expression, self.reason, named)


def parse_selection(where: str, *, named: str = "pack.where") -> Expression:
    """Parse a selection over the clips' columns.

    Args:
        where: The expression, see `vidaudio.expressions`.
        named: Name of the expression for its author, used in messages.

    Raises:
        SelectionError: When it is not valid; the message points at the place, and names the columns or what to write.
    """
    try:
        return Expression.parse(where, {name: kind_of(type_) for name, type_ in selectable_types().items()})
    except ExpressionError as error:
        raise SelectionError(where, f"is not a selection over the columns of clips: {error}", named) from error


def named_columns(where: str | None) -> set[str] | None:
    """Return the columns that a selection reads, for `usable_clips`, where None means all columns.

    Raises:
        SelectionError: When the selection is not valid.
    """
    return set(parse_selection(where).columns) if where else set()


def reads_scores(settings: PackBlock) -> bool:
    """Return whether a pack's selection reads scores, which depend on a scorer.

    Near-duplicates are compared by the sound vectors of a scorer only if the settings name one.

    Raises:
        SelectionError: When the selection is not valid.
    """
    named = named_columns(settings.where) or set()
    compares_sounds = settings.dedup is not None and settings.scorer is not None
    ranks = settings.keep_top is not None or settings.keep_per_label is not None
    return (
        compares_sounds
        or ranks
        or settings.fix_offset is not None
        or not {*named, settings.weight}.isdisjoint(SCORE.selectable)
    )


def selected(clips: pd.DataFrame, where: str | None, *, named: str = "pack.where") -> pd.DataFrame:
    """Return the rows that satisfy an expression over their columns, or all rows without one; rows are independent.

    Raises:
        SelectionError: When the expression is not valid.
    """
    if not where:
        return clips
    expression = parse_selection(where, named=named)
    types = selectable_types()
    columns = {name: pa.array(clips[name], types[name], from_pandas=True) for name in expression.columns}
    return clips[expression.evaluate(columns)]


class Splits:
    """Split of every clip: the manifest's own, or one drawn by a hash of the source, so draws never divide a source.

    A clip without its own split gets the split that the manifest gives another clip of the same source. Sources are
    identified by 64-bit hashes.

    Raises:
        RecipeError: When the split fractions are invalid.
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
        """Add some clips, in manifest order."""
        own = [s if isinstance(s, str) and s else None for s in clips["split"]]
        codes = [
            self._code(split) if split is not None else self._code(drawn_split(source, self._seed, self._bounds))
            for split, source in zip(own, clips["source"], strict=True)
        ]
        self._chosen.append(np.asarray(codes, np.int16))
        self._listed.append(np.asarray([split is not None for split in own], bool))
        self._sources.append(hashed(pa.chunked_array([pa.array(clips["source"], pa.string())])))

    def decided(self) -> tuple[list[str], np.ndarray]:
        """Return the sorted names of the splits, and for every added clip the index of its split in them."""
        chosen, listed = np.concatenate(self._chosen), np.concatenate(self._listed)
        if listed.any() and not listed.all():
            sources = np.concatenate(self._sources)
            # If the clips of a source have several splits, the first one applies.
            known, first = np.unique(sources[listed], return_index=True)
            places, found = find_hashes(known, sources)
            led = ~listed & found
            chosen[led] = chosen[listed][first][places[led]]
        names = sorted(self._codes)
        ranks = np.empty(len(names), np.int16)
        for rank, name in enumerate(names):
            ranks[self._codes[name]] = rank
        return names, ranks[chosen]

    def hashed_sources(self) -> np.ndarray:
        """Return a hash of the source of every added clip, uint64 `[clips]`."""
        return np.concatenate(self._sources)

    def drawn(self) -> np.ndarray:
        """Return which of the added clips have no split in the manifest, bool `[clips]`."""
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
