"""What a scorer reads of a shard: sound, times and vectors of every clip that is extracted and embedded."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import soundfile

from vidaudio.corpus.columns import EXTRACT, FACTS
from vidaudio.corpus.corpus import Corpus
from vidaudio.correspondence.model import SAMPLE_RATE
from vidaudio.correspondence.scorer import ScoredClip
from vidaudio.errors import CorpusError
from vidaudio.hashing import hashed
from vidaudio.media.outcomes import State
from vidaudio.shards.commit import read_table, table_name
from vidaudio.shards.corruption import CorruptFileError
from vidaudio.shards.read import TarReader


@dataclass(frozen=True)
class ListedClip:
    """A clip with what its list says about it.

    Attributes:
        id: Of the clip.
        label: Its first label; empty without one.
        clip: What is scored of it.
    """

    id: str
    label: str
    clip: ScoredClip


def check_sample_rate(corpus: Corpus) -> None:
    """Check that the corpus keeps sound of the rate that scorers hear.

    Raises:
        CorpusError: When it does not.
    """
    kept = corpus.settings.extract.sample_rate
    if kept != SAMPLE_RATE:
        raise CorpusError(
            f"{corpus.url} keeps sound of {kept} Hz, and scorers hear {SAMPLE_RATE} Hz; begin a corpus with "
            f"extract.sample_rate={SAMPLE_RATE}"
        )


def read_scored_clips(
    corpus: Corpus, shard: int, vectors_folder: str, wanted: Callable[[str], bool] = lambda clip_id: True
) -> Iterator[ListedClip]:
    """Yield the clips of a shard that have sound, pictures and vectors, in the order of its table.

    Args:
        corpus: The corpus.
        shard: Shard number.
        vectors_folder: Folder of the pictures' vectors.
        wanted: Which clips to read, by id.

    Raises:
        CorruptFileError: When a sound cannot be read.
    """
    av, record = read_table(corpus.store, table_name(EXTRACT.folder, shard))
    envelopes = read_envelopes(corpus, shard)
    vectors = _vectors(corpus, shard, vectors_folder)
    listed = corpus.table(shard)
    sources = dict(zip(listed["id"].to_pylist(), hashed(listed["source"]).tolist(), strict=True))
    labels = dict(zip(listed["id"].to_pylist(), listed["labels"].to_pylist(), strict=True))
    tar_name = f"{EXTRACT.folder}/{record.tar}"
    with TarReader(corpus.store, tar_name) as tar:
        for row in av.to_pylist():
            own = vectors.get(row["id"])
            if row["state"] != State.DONE or own is None or not wanted(row["id"]):
                continue
            try:
                sound = io.BytesIO(tar.read(row["audio_offset"], row["audio_length"]))
                samples, _ = soundfile.read(sound, dtype="int16")
            except soundfile.LibsndfileError as error:
                named = f"{corpus.url}/{tar_name}: {row['id']}"
                raise CorruptFileError(tar_name, f"{named} is no sound: {error}") from error
            seen = envelopes.get(row["id"], (None, None))
            clip = ScoredClip(samples, row["audio_start_seconds"], row["grid_seconds"], own, sources[row["id"]], *seen)
            yield ListedClip(row["id"], next(iter(labels[row["id"]] or ()), ""), clip)


def read_envelopes(corpus: Corpus, shard: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return motion and onset envelopes of the clips of a shard, by id; none without facts or without motion."""
    name = table_name(FACTS.folder, shard)
    if not corpus.store.exists(name):
        return {}
    table, _ = read_table(corpus.store, name)
    columns = (table[field] for field in ("id", "motion_envelope", "onset_envelope"))
    return {
        clip_id.as_py(): (_as_float32(motion), _as_float32(onsets))
        for clip_id, motion, onsets in zip(*columns, strict=True)
        if motion.is_valid and onsets.is_valid
    }


def _as_float32(envelope: pa.ListScalar) -> np.ndarray:
    return envelope.values.to_numpy().astype(np.float32)


def _vectors(corpus: Corpus, shard: int, folder: str) -> dict[str, np.ndarray]:
    """Return the vectors of every clip's pictures, float32 `[pictures, D]` by id."""
    table, _ = read_table(corpus.store, table_name(folder, shard))
    if not table.num_rows:
        return {}
    ids = table["id"].to_numpy(zero_copy_only=False)
    values = table["embedding"].combine_chunks().flatten().to_numpy().reshape(len(ids), -1).astype(np.float32)
    edges = np.flatnonzero(ids[1:] != ids[:-1]) + 1
    return dict(zip(ids[[0, *edges]], np.split(values, edges), strict=True))
