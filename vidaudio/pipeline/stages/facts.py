"""The facts stage: measures the clips of a shard that was extracted before there were facts.

The extract stage writes them in its own pass. Older corpora are measured from their media, without being fetched again.
Where the media were not kept, sound and pictures are measured as the corpus keeps them, and motion stays unknown.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import soundfile

from vidaudio.config.corpus import RunSettings
from vidaudio.corpus.columns import DOWNLOAD, EXTRACT, FACTS
from vidaudio.corpus.corpus import Corpus
from vidaudio.errors import MediaError
from vidaudio.media.decode.pool import decoders
from vidaudio.media.facts.measure import measure_media
from vidaudio.media.outcomes import State
from vidaudio.media.pictures import read_frame
from vidaudio.pipeline.clip_progress import Advance, ignore_progress
from vidaudio.pipeline.stages.crash_attribution import attempt
from vidaudio.pipeline.stages.extract import decoder_options, extract_clip, media_tar
from vidaudio.pipeline.stages.facts_table import facts_row, facts_table
from vidaudio.shards.commit import CommitRecord, commit, read_table, table_name
from vidaudio.shards.corruption import CorruptFileError
from vidaudio.shards.read import TarReader

# Clip by id: what was measured of it.
Measured = dict[str, Mapping[str, Any]]


def facts_shard(
    corpus: Corpus, shard: int, folder: str, run: RunSettings, advance: Advance = ignore_progress
) -> CommitRecord:
    """Measure every extracted clip of a shard whose facts are not there yet.

    Raises:
        CorruptFileError: When the corpus's own sound or pictures of a clip are needed and cannot be read.
    """
    av, record = read_table(corpus.store, table_name(EXTRACT.folder, shard))
    done = {row["id"]: row for row in av.to_pylist() if row["state"] == State.DONE}
    media = _from_media(corpus, shard, list(done), run, advance)
    kept = {clip_id: row for clip_id, row in done.items() if clip_id not in media}
    measured = media | (_from_corpus(corpus, f"{EXTRACT.folder}/{record.tar}", kept, advance) if kept else {})
    table = facts_table([facts_row(clip_id, measured[clip_id]) for clip_id in done])
    return commit(corpus.store, folder, shard, stage=FACTS.stage, plan_hash=corpus.plan_hash, table=table)


def _from_media(corpus: Corpus, shard: int, ids: list[str], run: RunSettings, advance: Advance) -> Measured:
    """Decode the media of some clips of a shard once more; a clip that does not decode as it did is left out.

    All are left out where media in a tar were not kept.
    """
    clips, record = read_table(corpus.store, table_name(DOWNLOAD.folder, shard))
    in_tar = pc.any(pc.and_(pc.equal(clips["state"], State.DONE.value), pc.is_null(clips["path"]))).as_py()
    if in_tar and (record.tar is None or not corpus.store.exists(f"{DOWNLOAD.folder}/{record.tar}")):
        return {}
    listed, wanted = {clip.id: clip for clip in corpus.rows(shard)}, set(ids)
    measured: Measured = {}
    with (
        corpus.store.workspace() as scratch,
        attempt(corpus.store, shard, run.id) as trial,
        decoders.borrowed(decoder_options(corpus, run)) as extractor,
    ):
        tar: Path | None = media_tar(corpus, shard, record, clips, scratch)
        for fetched in clips.to_pylist():
            if fetched["id"] not in wanted:
                continue
            result = extract_clip(extractor, trial, fetched, listed[fetched["id"]], tar)
            if result is not None and result.outcome.state is State.DONE:
                measured[fetched["id"]] = result.measured
                advance(1)
    return measured


def _from_corpus(corpus: Corpus, tar_name: str, rows: Mapping[str, Mapping[str, Any]], advance: Advance) -> Measured:
    """Measure sound and pictures of some clips as the corpus keeps them; motion stays unknown.

    Raises:
        CorruptFileError: When a member cannot be read.
    """
    measured: Measured = {}
    with TarReader(corpus.store, tar_name) as tar:
        for clip_id, row in rows.items():
            named = f"{corpus.url}/{tar_name}: {clip_id}"
            try:
                sound = io.BytesIO(tar.read(row["audio_offset"], row["audio_length"]))
                samples, sample_rate = soundfile.read(sound, dtype="int16")
                spans = zip(row["frame_offsets"], row["frame_lengths"], strict=True)
                images = [np.asarray(read_frame(tar.read(*span), name=named)) for span in spans]
            except (soundfile.LibsndfileError, MediaError) as error:
                raise CorruptFileError(tar_name, f"{named} cannot be read: {error}") from error
            measured[clip_id] = measure_media(samples, sample_rate, row["audio_start_seconds"], images)
            advance(1)
    return measured
