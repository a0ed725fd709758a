"""`--retry-failed`: plans chosen failed clips again, into new shards at the end of the corpus.

Committed shards never change. A clip that succeeds at the second try is stored in a new shard, and from then on that
shard's row is the clip's current outcome. A clip that still waits in an unfinished shard is not planned twice.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.config.recipes import recipe_names
from vidaudio.corpus.columns import columns_in_order
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.corrupt_hashes import write_corrupt_hashes
from vidaudio.corpus.superseded import superseded
from vidaudio.errors import CorpusError, UsageError
from vidaudio.manifest import SCHEMA
from vidaudio.manifest.source import RowSource
from vidaudio.media.fetch.types import are_remote
from vidaudio.media.outcomes import TRANSIENT, Reason, State
from vidaudio.shards.commit import committed_shards, table_name
from vidaudio.shards.parallel_read import read_tables

TRANSIENT_WORD, ALL_WORD = "transient", "all"


def parse_reasons(asked: str | Collection[str]) -> frozenset[Reason]:
    """Parse failure reasons, given as a string with commas or as a list of such strings.

    `transient` means all reasons that may pass later, `all` every reason.

    Raises:
        UsageError: When a reason does not exist (the message names those that do), no reason is given, or the value is
            neither a string nor a list of strings.
    """
    if isinstance(asked, Collection) and all(isinstance(word, str) for word in asked):
        listed = [asked] if isinstance(asked, str) else asked
    else:
        raise UsageError(f"retry_failed wants reasons, as a text or a list of texts, not {asked!r}")
    chosen: set[Reason] = set()
    for word in (word.strip() for text in listed for word in text.split(",") if word.strip()):
        if word == ALL_WORD:
            chosen |= set(Reason)
        elif word == TRANSIENT_WORD:
            chosen |= TRANSIENT
        elif word in set(Reason):
            chosen.add(Reason(word))
        else:
            known = ", ".join([TRANSIENT_WORD, ALL_WORD, *sorted(Reason)])
            raise UsageError(f"--retry-failed knows no reason {word!r}; it knows {known}{_hint(word)}")
    if not chosen:
        raise UsageError("--retry-failed names no reason")
    return frozenset(chosen)


def _hint(word: str) -> str:
    """Return a hint for a user who wrote the option without a value, so that it took the next word as its reasons."""
    if not Path(word).suffix and word not in recipe_names("pipelines"):
        return ""
    return f". It took {word!r} for one: write it in front of the option, or --retry-failed={TRANSIENT_WORD}"


def plan_retry(corpus: Corpus, reasons: Collection[Reason]) -> Corpus:
    """Return the corpus with the failed clips of these reasons planned once more; the same corpus where there are none.

    Raises:
        CorpusError: When another build grew the corpus at the same time.
    """
    ids = _retried_ids(corpus, reasons)
    rows = _RetriedRows(corpus, ids)
    if not rows.num_rows:
        return corpus
    grown = corpus.grown(rows, "retry")
    last = grown.parts[-1]
    if len(grown.parts) != len(corpus.parts) + 1 or last.kind != "retry" or last.clips != rows.num_rows:
        raise CorpusError(f"another build has added to {corpus.url} at this moment; run the command again")
    write_corrupt_hashes(corpus, last.name, rows, ids)
    return grown


def retried_rows(corpus: Corpus, reasons: Collection[Reason]) -> RowSource:
    """Return the rows of the clips that `plan_retry` would plan once more."""
    return _RetriedRows(corpus, _retried_ids(corpus, reasons))


def _retried_ids(corpus: Corpus, reasons: Collection[Reason]) -> dict[int, pa.Array]:
    """Return ids by shard: failed clips, and fetched clips that earlier versions dropped as corrupt."""
    chosen = dict(_by_shard(corpus, reasons, State.FAILED))
    for shard, ids in _by_shard(corpus, set(reasons) & {Reason.CORRUPT}, State.DROPPED):
        rows = corpus.table(shard)
        fetched = rows.filter(pc.and_(pc.is_in(rows["id"], ids), are_remote(rows["url"])))["id"].combine_chunks()
        if len(fetched):
            chosen[shard] = pa.concat_arrays([chosen[shard], fetched]) if shard in chosen else fetched
    return dict(sorted(chosen.items()))


def nothing_retried(corpus: Corpus, reasons: Collection[Reason]) -> str:
    """Return a sentence that says why no clip is retried although a retry was requested."""
    dropped = sum(len(ids) for _, ids in _by_shard(corpus, reasons, State.DROPPED))
    named = "any reason" if reasons == frozenset(Reason) else ", ".join(sorted(reasons))
    said = f"--retry-failed plans nothing: no clip of {corpus.url} stands as failed for {named}"
    if not dropped:
        return said
    clips, they = ("1 clip was", "it stays") if dropped == 1 else (f"{dropped:,} clips were", "they stay")
    return f"{said}; {clips} dropped for what is in the media, which another try does not change, and {they} so"


def failed_clips(corpus: Corpus, reasons: Collection[Reason]) -> Sequence[str]:
    """Return the ids of the clips whose newest outcome is a failure for one of these reasons, in shard order."""
    return [clip_id for ids in _retried_ids(corpus, reasons).values() for clip_id in ids.to_pylist()]


def _by_shard(corpus: Corpus, reasons: Collection[Reason], state: State) -> Iterator[tuple[int, pa.Array]]:
    """Yield each shard that has clips whose newest outcome is this state for one of these reasons, and their ids."""
    if not reasons:
        return
    older = superseded(corpus)
    wanted = pa.array(sorted(reasons), pa.string())
    found: dict[int, list[pa.Array]] = {}
    for folder in (column.folder for column in columns_in_order() if column.has_outcomes and not column.per_model):
        names = [table_name(folder, shard) for shard in sorted(committed_shards(corpus.store, folder))]
        for table, record in read_tables(corpus.store, names, columns=("id", "state", "reason")):
            chosen = pc.and_(pc.equal(table["state"], state.value), pc.is_in(table["reason"], wanted))
            ids = table["id"].filter(chosen)
            ids = ids.filter(pa.array(older.is_current(record.shard, ids.to_pylist()), pa.bool_()))
            if len(ids):
                found.setdefault(record.shard, []).append(ids.combine_chunks())
    for shard in sorted(found):
        yield shard, pa.concat_arrays(found.pop(shard))


class _RetriedRows(RowSource):
    """The rows of chosen clips, read from the shards in which they were tried before."""

    def __init__(self, corpus: Corpus, ids: dict[int, pa.Array]) -> None:
        self._corpus, self._ids = corpus, ids
        self.num_rows = sum(map(len, ids.values()))

    def tables(self, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        for shard, ids in self._ids.items():
            rows = self._corpus.table(shard)
            yield rows.filter(pc.is_in(rows["id"], ids)).select(columns or SCHEMA.names)
