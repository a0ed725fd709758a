"""Which clips a search may show: no removed ones, no superseded rows, and only those of a selection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.corpus.columns import EMBED, SCORE
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.superseded import Superseded, superseded
from vidaudio.corpus.tombstones import read_tombstones
from vidaudio.packs.selection import named_columns, parse_selection, selected, usable_clips
from vidaudio.pipeline.stages.scorer_files import chosen_scores

NAMED = "the selection"


@dataclass(frozen=True)
class ShownClips:
    """Answers which rows of a corpus's tables may be shown.

    Attributes:
        removed: Ids of removed clips.
        older: Rows of clips that were tried again.
        wanted: Ids of the selected clips; None for all.
        removals: Number of removals that `removed` is of.
    """

    removed: pa.Array
    older: Superseded
    wanted: pa.Array | None
    removals: int

    def of_shard(self, shard: int, ids: Sequence[str]) -> np.ndarray:
        """Return which rows of a shard may be shown, bool `[N]`."""
        return self.of_rows(np.full(len(ids), shard), pa.array(ids, pa.string()))

    def of_rows(self, shards: np.ndarray, ids: pa.Array) -> np.ndarray:
        """Return which rows may be shown, bool `[N]`.

        Args:
            shards: Shard of each row `[N]`.
            ids: Clip id of each row `[N]`.
        """
        shown = np.ones(len(ids), bool)
        if len(self.removed):
            shown &= ~_is_in(ids, self.removed)
        if self.wanted is not None:
            shown &= _is_in(ids, self.wanted)
        for shard in self.older.shards:
            rows = np.flatnonzero(shards == shard)
            shown[rows] &= np.array(self.older.is_current(int(shard), ids.take(pa.array(rows)).to_pylist()), bool)
        return shown


def _is_in(ids: pa.Array, known: pa.Array) -> np.ndarray:
    return pc.is_in(ids, known).to_numpy(zero_copy_only=False)


def shown_clips(corpus: Corpus, encoder: str, where: str | None = None, scorer: str | None = None) -> ShownClips:
    """Return which clips of a corpus a search may show.

    Args:
        corpus: The corpus.
        encoder: Name of the encoder whose vectors are searched.
        where: Selection over the clips' columns, as of a pack; None for all clips.
        scorer: Name of the scorer whose scores the selection reads; the only one by default.

    Raises:
        SelectionError: When the selection is not valid.
        CorpusError: When a column that the selection reads is missing in some shard.
        ScorerError: When the selection reads scores, and there are none or several.
    """
    removed = read_tombstones(corpus.store)
    ids = pa.array(sorted(removed.ids), pa.string())
    if removed.sources:
        sources = pa.array(sorted(removed.sources), pa.string())
        of_sources = [t["id"].filter(pc.is_in(t["source"], sources)) for t in corpus.tables(["id", "source"])]
        ids = pa.concat_arrays([ids, *(chunk for column in of_sources for chunk in column.chunks)])
    wanted = None if not where else _selection(corpus, encoder, where, scorer)
    return ShownClips(ids, superseded(corpus), wanted, removed.tables)


def _selection(corpus: Corpus, encoder: str, where: str, scorer: str | None) -> pa.Array:
    parse_selection(where, named=NAMED)
    columns = named_columns(where) or set()
    models = {EMBED.stage: encoder}
    if not columns.isdisjoint(SCORE.selectable):
        models[SCORE.stage] = chosen_scores(corpus, scorer)
    batches = (selected(clips, where, named=NAMED) for clips in usable_clips(corpus, models, columns))
    return pa.array([clip_id for clips in batches for clip_id in clips["id"]], pa.string())
