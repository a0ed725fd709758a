"""Which clips a pack takes, and on which side each goes: the corpus read in pieces, a few numbers a clip kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.errors import CorpusError, RecipeError
from vidaudio.manifest.source import hashed
from vidaudio.pipeline.corpus import Corpus
from vidaudio.pipeline.recipe import PackBlock
from vidaudio.pipeline.stages.extract import SCHEMA as AV_SCHEMA
from vidaudio.pipeline.superseded import superseded
from vidaudio.shards.commit import committed_shards, table_name
from vidaudio.shards.read_many import read_tables

# Columns of the extract stage that a selection sees and a sample is cut by.
CLIP_FACTS = [c for c in AV_SCHEMA.names if c not in ("reason", "message", "frame_offsets", "frame_lengths")]
# Clips looked at together: enough that pandas' own time does not count.
BATCH_CLIPS = 8192


def usable_clips(corpus: Corpus, encoder_name: str) -> Iterator[pd.DataFrame]:
    """Clips that are extracted and embedded, a row each, some thousands at a time, in the list's order.

    The columns are the list's, and the facts of sound and pictures. A clip that was tried again comes once.

    Raises:
        CorpusError: A shard is not embedded yet.
    """
    embedded = committed_shards(corpus.store, f"embeddings/{encoder_name}")
    check_embedded(corpus.url, len(embedded), corpus.shards)
    older = superseded(corpus)
    names = (table_name("av", shard) for shard in range(corpus.shards))
    rows: list[pa.Table] = []
    facts: list[pa.Table] = []
    held = 0
    for shard, (av, _) in enumerate(read_tables(corpus.store, names, columns=CLIP_FACTS)):
        listed = corpus.table(shard)
        rows.append(listed.filter(pa.array(older.speaks(shard, listed["id"].to_pylist()), pa.bool_())))
        # Before pandas sees it: rows without facts would make floats of whole numbers.
        facts.append(av.filter(pc.equal(av["state"], "done")).drop_columns(["state"]))
        held += listed.num_rows
        if held >= BATCH_CLIPS:
            yield _joined(rows, facts)
            rows, facts, held = [], [], 0
    if rows:
        yield _joined(rows, facts)


def check_embedded(url: str, embedded: int, shards: int) -> None:
    """Whether a corpus can be packed: all its shards, and those that it is about to get, must be embedded.

    Raises:
        CorpusError: A shard is not.
    """
    if embedded < shards:
        raise CorpusError(f"{shards - embedded} of {shards} shards of {url} are not embedded yet; build first")


def _joined(rows: list[pa.Table], facts: list[pa.Table]) -> pd.DataFrame:
    listed, known = (pa.concat_tables(tables).to_pandas(use_threads=False) for tables in (rows, facts))
    for name in ("labels", "captions"):
        # As everywhere else no list is an empty one, also to an expression over the columns.
        listed[name] = [() if texts is None else texts for texts in listed[name]]
    return listed.merge(known, on="id", how="inner", validate="one_to_one")


def selected(clips: pd.DataFrame, where: str | None, *, named: str = "pack.where") -> pd.DataFrame:
    """The rows for which an expression over their columns holds; all without one. Each row is judged by itself.

    `named` is what whoever wrote the expression calls it, for messages.

    Raises:
        RecipeError: It is no such expression.
    """
    if not where:
        return clips
    try:
        mask = clips.assign(silent=clips.silent.astype(bool)).eval(
            where, engine="python", local_dict={}, global_dict={}
        )
    except Exception as error:
        # pandas' evaluator raises whatever its parser and NumPy raise; all of it is about the expression.
        columns = "seconds, rms_dbfs, silent, motion, decode_errors, split, dataset, id ..."
        raise RecipeError(f"{named} {where!r} is not a selection over the columns {columns}: {error}") from error
    if not (isinstance(mask, pd.Series) and mask.dtype == bool):
        raise RecipeError(f"{named} {where!r} must be true or false for every clip")
    return clips[mask]


def assign_splits(clips: pd.DataFrame, settings: PackBlock) -> list[str]:
    """The split of every clip of a list in memory, as `Splits` decides it."""
    splits = Splits(settings)
    splits.add(clips)
    names, codes = splits.decided()
    return [names[code] for code in codes]


class Splits:
    """The list's own split, or one drawn by a hash of the source, so that a source is never on both sides.

    A clip without a split of its own goes where the list has put another clip of its source. Sources are known by
    64-bit hashes.

    Raises:
        RecipeError: The settings' shares are none.
    """

    def __init__(self, settings: PackBlock) -> None:
        shares = settings.split_fractions
        total = sum(shares.values())
        if not shares or total <= 0 or min(shares.values()) < 0:
            raise RecipeError("pack.split_fractions must be shares >= 0 that sum to more than 0")
        self._seed = settings.seed
        self._bounds = np.cumsum([share / total for share in shares.values()])
        self._shares = list(shares)
        self._codes = {name: code for code, name in enumerate(shares)}
        self._chosen: list[np.ndarray] = []
        self._listed: list[np.ndarray] = []
        self._sources: list[np.ndarray] = []

    def add(self, clips: pd.DataFrame) -> None:
        """Some clips, in the list's order."""
        own = [s if isinstance(s, str) and s else None for s in clips["split"]]
        codes = [
            self._code(split) if split is not None else self._code(self._drawn(source))
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

    def _code(self, split: str) -> int:
        return self._codes.setdefault(split, len(self._codes))

    def _drawn(self, source: str) -> str:
        digest = hashlib.sha256(f"{self._seed}:{source}".encode()).digest()
        fraction = int.from_bytes(digest[:8]) / 2**64
        place = int(np.searchsorted(self._bounds, fraction, side="right"))
        return self._shares[min(place, len(self._shares) - 1)]
