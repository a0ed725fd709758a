"""`--retry-failed`: chosen clips that failed are planned again, into new shards at the end of the corpus.

Committed shards never change, so a clip that comes through at the second try stands in a new shard, which from then on
speaks for it. What is still waiting in an unfinished shard is not planned twice.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.errors import CorpusError
from vidaudio.media.reasons import TRANSIENT, Reason, State
from vidaudio.pipeline.corpus import Corpus
from vidaudio.shards.commit import committed_shards, read_table, table_name

TRANSIENT_WORD, ALL_WORD = "transient", "all"


def parse_reasons(text: str) -> frozenset[Reason]:
    """Reasons from `transient` (all that may pass later), `all`, or reasons with commas between.

    Raises:
        CorpusError: A reason that does not exist; names those that do.
    """
    words = [word.strip() for word in text.split(",") if word.strip()]
    chosen: set[Reason] = set()
    for word in words:
        if word == ALL_WORD:
            chosen |= set(Reason)
        elif word == TRANSIENT_WORD:
            chosen |= TRANSIENT
        elif word in set(Reason):
            chosen.add(Reason(word))
        else:
            known = ", ".join([TRANSIENT_WORD, ALL_WORD, *sorted(Reason)])
            raise CorpusError(f"--retry-failed knows no reason {word!r}; it knows {known}")
    if not chosen:
        raise CorpusError("--retry-failed names no reason")
    return frozenset(chosen)


def plan_retry(corpus: Corpus, reasons: Collection[Reason]) -> Corpus:
    """The corpus with the failed clips of these reasons planned once more; the same where there are none.

    Raises:
        CorpusError: Another build grew the corpus at this moment.
    """
    ids = failed_clips(corpus, reasons)
    if not ids:
        return corpus
    manifest = corpus.manifest()
    rows = manifest.filter(pc.is_in(manifest["id"], pa.array(ids)))
    grown = corpus.grown(rows, "retry")
    last = grown.parts[-1]
    if len(grown.parts) != len(corpus.parts) + 1 or last.kind != "retry" or last.clips != len(ids):
        raise CorpusError(f"another build has added to {corpus.url} at this moment; run the command again")
    return grown


def failed_clips(corpus: Corpus, reasons: Collection[Reason]) -> Sequence[str]:
    """Ids of the clips whose newest outcome is a failure for one of these reasons, in order of shards."""
    superseded = corpus.superseded()
    ids: list[str] = []
    for folder in ("clips", "av"):
        for shard in sorted(committed_shards(corpus.store, folder)):
            table, _ = read_table(corpus.store, table_name(folder, shard))
            rows = zip(*(table[name].to_pylist() for name in ("id", "state", "reason")), strict=True)
            ids += [
                clip_id
                for clip_id, state, reason in rows
                if state == State.FAILED and reason in reasons and superseded.get(clip_id, shard) == shard
            ]
    return ids
