"""`download.keep`: how long a corpus keeps the raw media.

With `until_extracted`, a shard's tar is deleted once its av table exists. A mark, written first, records that this was
intended. With `none`, the media never reach the corpus: one task fetches a shard into local scratch and extracts it
there. Before av is committed, the fetch outcomes are written beside the future clips table as a *draft*, whose name
contains the hash of the av tar made with them. If a later build finds av without the clips table, it commits the draft
that belongs to that av tar. So a kill between the two commits costs no second fetch, and outcomes of one fetch are
never combined with pictures of another.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa

from vidaudio.config.corpus import RunSettings
from vidaudio.corpus.columns import DOWNLOAD, EXTRACT
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.media_retention import AV, CLIPS, DRAFT, _settle, draft_name, release, release_name
from vidaudio.errors import CorpusError, StoreError, UsageError
from vidaudio.hashing import sha256_of
from vidaudio.pipeline.clip_progress import Advance, ignore_progress
from vidaudio.pipeline.stages.download import FetchedShard, committed_elsewhere, fetch_shard, spending
from vidaudio.pipeline.stages.extract import FetchedMedia, extract_fetched, extract_shard
from vidaudio.pipeline.stages.negative_cache import sweep_negative_caches
from vidaudio.pipeline.stages.retry_rounds import AlreadyCommitted
from vidaudio.shards.commit import (
    CommitRecord,
    committed_shards,
    committed_shards_in,
    encode_table,
    read_record,
    table_name,
)

# Columns with the position of a clip's media in a tar.
_PLACES = ("member", "offset", "length")


def check_keep(keep: str, stages: Collection[str]) -> None:
    """Check that the requested stages are possible with this `download.keep`.

    Raises:
        UsageError: When download is requested without extract although no media are kept.
    """
    if keep == "none" and DOWNLOAD.stage in stages and EXTRACT.stage not in stages:
        raise UsageError(
            "download.keep=none fetches and extracts in one go, so --only must name both download and extract"
        )


def fetch_and_extract(
    corpus: Corpus, shard: int, folder: str, run: RunSettings, advance: Advance = ignore_progress
) -> CommitRecord:
    """Download and extract a shard in one task, with media in local scratch only; commit av first, then clips.

    Any error that is raised carries what had been spent by then: see `spent_by`.

    Args:
        corpus: The corpus.
        shard: Shard number.
        folder: Folder of the download stage.
        run: Settings of this run; `download.keep` is `none`.
        advance: Callback for the number of clips that have just been fetched.

    Raises:
        FetchAborted: As `download_shard`. Nothing is committed.
    """
    store = corpus.store
    if store.exists(table_name(AV, shard)) and _settle(corpus, shard) is not None:
        return read_record(store, table_name(folder, shard))
    with store.workspace() as scratch:
        try:
            fetched = fetch_shard(corpus, shard, scratch, folder, run, advance)
        except AlreadyCommitted as spent:
            return committed_elsewhere(corpus, shard, folder, spent)
        with spending(fetched.report):
            done = _commit_both(corpus, shard, folder, run, fetched, scratch)
    fetched.cache.discard()
    return fetched.record(done)


def _commit_both(
    corpus: Corpus, shard: int, folder: str, run: RunSettings, fetched: FetchedShard, scratch: Path
) -> CommitRecord:
    """Write the draft, commit av, then commit the draft as the clips table."""
    store = corpus.store
    clips = without_media(fetched.table)
    data = encode_table(clips, CommitRecord(DOWNLOAD.stage, shard, corpus.plan_hash, clips.num_rows))

    def draft(av_tar: Path) -> None:
        store.create(f"{folder}/{draft_name(shard, sha256_of(av_tar))}", data)

    extract_fetched(corpus, shard, AV, run, FetchedMedia(fetched.table, fetched.tar), scratch, draft)
    record = _settle(corpus, shard)
    if record is None:
        raise CorpusError(
            f"shard {shard} of {corpus.url} was extracted by another build, from clips that are not known any more; "
            f"delete {corpus.url}/{table_name(AV, shard)} while nothing is running, and build again"
        )
    return record


def without_media(clips: pa.Table) -> pa.Table:
    """Return a download's rows without the positions of their media; references to the user's files stay."""
    for name in _PLACES:
        field = clips.schema.field(name)
        clips = clips.set_column(clips.schema.get_field_index(name), field, pa.nulls(clips.num_rows, field.type))
    return clips


def extract_and_release(
    corpus: Corpus, shard: int, folder: str, run: RunSettings, advance: Advance = ignore_progress
) -> CommitRecord:
    """Extract a shard, then delete its raw media."""
    try:
        record = extract_shard(corpus, shard, folder, run, advance)
    except (CorpusError, StoreError, FileNotFoundError):
        # Another build may have extracted the shard and released its media just before they were read here.
        if not corpus.store.exists(table_name(folder, shard)):
            raise
        record = read_record(corpus.store, table_name(folder, shard))
    release(corpus, shard)
    return record


def finish_interrupted(corpus: Corpus, keep: str) -> None:
    """Finish what a killed run left unfinished.

    This covers av without its clips table, media that were to be deleted, drafts that are no longer needed, and
    negative caches of committed shards.

    Args:
        corpus: The corpus.
        keep: `download.keep` of this run.
    """
    names = corpus.store.list(CLIPS)
    sweep_negative_caches(corpus.store, committed_shards_in(names))
    drafted = {int(match[1]) for name in names if (match := DRAFT.fullmatch(name))}
    if not drafted and keep == "all" and not any(n.endswith(".released") for n in names):
        return
    extracted = committed_shards(corpus.store, AV)
    for shard in sorted(drafted & extracted):
        _settle(corpus, shard)
    names = corpus.store.list(CLIPS)
    for shard in sorted({int(name[:6]) for name in names if name.endswith(".tar") and name[:6].isdigit()} & extracted):
        marked = release_name(shard).partition("/")[2] in names
        if f"{shard:06d}.parquet" in names and (marked or keep != "all"):
            release(corpus, shard)
