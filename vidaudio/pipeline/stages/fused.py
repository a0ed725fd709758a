"""`download.keep`: how long a corpus holds the raw media.

`until_extracted` deletes a shard's tar once its av table stands; a mark, written first, says that this was meant. With
`none` the media never reach the corpus: one task fetches a shard into local scratch and extracts it from there. Its
outcomes are laid down beside the table's place before av is committed, as a *draft* that bears the hash of the av tar
made with them; whoever finds av standing without the clips' table takes the draft that belongs to its very tar. So a
kill between the two commits costs no second fetch, and outcomes of one fetch never stand beside pictures of another.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pyarrow as pa

from vidaudio.config.corpus import RunSettings
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.media_retention import DRAFT, draft_name, release_name
from vidaudio.errors import CorpusError
from vidaudio.pipeline.clip_progress import Advance, ignore_progress
from vidaudio.pipeline.stages.download import FetchedShard, committed_elsewhere, fetch_shard, spending
from vidaudio.pipeline.stages.extract import extract_fetched, extract_shard
from vidaudio.pipeline.stages.negative_cache import sweep_negative_caches
from vidaudio.pipeline.stages.retry_rounds import AlreadyCommitted
from vidaudio.shards.checksum import checksum_ok
from vidaudio.shards.commit import (
    CommitRecord,
    committed_shards,
    committed_shards_in,
    encode_table,
    read_record,
    table_name,
)
from vidaudio.shards.tar import sha256_of

CLIPS, AV = "clips", "av"
# What a row says of where its media lie in a tar.
_PLACES = ("member", "offset", "length")


def check_keep(keep: str, stages: Collection[str]) -> None:
    """What can be done of a chain where media are not kept.

    Raises:
        CorpusError: A download without its extract, though the media are to be kept nowhere.
    """
    if keep == "none" and "download" in stages and "extract" not in stages:
        raise CorpusError(
            "download.keep=none fetches and extracts in one go, so --only must name both download and extract"
        )


def fetch_and_extract(
    corpus: Corpus, shard: int, folder: str, run: RunSettings, advance: Advance = ignore_progress
) -> CommitRecord:
    """Download and extract of a shard in one go, its media in local scratch only; commits av first, then clips.

    Args:
        corpus: The corpus.
        shard: Shard number.
        folder: Folder of the download stage.
        run: Settings of this run; `download.keep` is `none`.
        advance: Called with the number of clips that have just been fetched.

    Raises:
        FetchingStopped: As `download_shard`. Nothing is committed.

    Whatever it raises knows what had been spent by then: `spent_by(error)`.
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
    """The draft, av, and what the draft becomes."""
    store = corpus.store
    clips = without_media(fetched.table)
    data = encode_table(clips, CommitRecord("download", shard, corpus.plan_hash, clips.num_rows))

    def draft(av_tar: Path) -> None:
        store.create(f"{folder}/{draft_name(shard, sha256_of(av_tar))}", data)

    extract_fetched(corpus, shard, AV, run, fetched.table, fetched.tar, scratch, draft)
    record = _settle(corpus, shard)
    if record is None:
        raise CorpusError(
            f"shard {shard} of {corpus.url} was extracted by another build, from clips that are not known any more; "
            f"delete {corpus.url}/{table_name(AV, shard)} while nothing is running, and build again"
        )
    return record


def without_media(clips: pa.Table) -> pa.Table:
    """A download's rows without the places of their media; references to the user's own files stay."""
    for name in _PLACES:
        field = clips.schema.field(name)
        clips = clips.set_column(clips.schema.get_field_index(name), field, pa.nulls(clips.num_rows, field.type))
    return clips


def extract_and_release(
    corpus: Corpus, shard: int, folder: str, run: RunSettings, advance: Advance = ignore_progress
) -> CommitRecord:
    """Extract a shard, then let its raw media go."""
    try:
        record = extract_shard(corpus, shard, folder, run, advance)
    except (CorpusError, FileNotFoundError):
        # Another build may have extracted the shard and let its media go while we were about to read them.
        if not corpus.store.exists(table_name(folder, shard)):
            raise
        record = read_record(corpus.store, table_name(folder, shard))
    release(corpus, shard)
    return record


def release(corpus: Corpus, shard: int) -> None:
    """Delete the raw media of a shard whose av table stands; nothing happens where they are gone already.

    Nobody needs them any more: whoever still reads them to extract the shard has lost that race.
    """
    record = read_record(corpus.store, table_name(CLIPS, shard))
    if record.tar is None:
        return
    corpus.store.create(release_name(shard), b"")
    corpus.store.remove(f"{CLIPS}/{record.tar}")


def finish_interrupted(corpus: Corpus, keep: str) -> None:
    """Finish what a killed run left half done.

    That is av without its clips, media that were to be let go, drafts that are settled, verdicts on videos of shards
    that are committed.

    Args:
        corpus: The corpus.
        keep: This run's `download.keep`.
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


def drafted_shards(corpus: Corpus) -> set[int]:
    """Shards whose av stands and whose clips' table does not, but is laid down: the next build only settles them."""
    names = corpus.store.list(CLIPS)
    drafted = {int(match[1]) for name in names if (match := DRAFT.fullmatch(name))} - committed_shards_in(names)
    extracted = committed_shards(corpus.store, AV) if drafted else set()
    return {
        shard
        for shard in drafted & extracted
        if draft_name(shard, read_record(corpus.store, table_name(AV, shard)).tar_sha256) in names
    }


def settle_drafts(corpus: Corpus, shard: int) -> None:
    """Before clips are removed: a draft whose av stands becomes the table; others are forgotten, and fetched again."""
    if corpus.store.exists(table_name(AV, shard)):
        _settle(corpus, shard)
        return
    for name in _drafts(corpus, shard):
        corpus.store.remove(f"{CLIPS}/{name}")


def _settle(corpus: Corpus, shard: int) -> CommitRecord | None:
    """Commit the clips' table of a shard whose av stands, from the draft that av was made from; None without one."""
    store = corpus.store
    name = table_name(CLIPS, shard)
    drafts = _drafts(corpus, shard)
    if not store.exists(name):
        made_from = draft_name(shard, read_record(store, table_name(AV, shard)).tar_sha256)
        if made_from not in drafts:
            return None
        data = _read_draft(corpus, made_from)
        if data is not None:
            store.create(name, data)
        elif not store.exists(name):
            return None
    for draft in drafts:
        store.remove(f"{CLIPS}/{draft}")
    return read_record(store, name)


def _drafts(corpus: Corpus, shard: int) -> list[str]:
    return [n for n in corpus.store.list(CLIPS) if (match := DRAFT.fullmatch(n)) and int(match[1]) == shard]


def _read_draft(corpus: Corpus, draft: str) -> bytes | None:
    try:
        data = corpus.store.read(f"{CLIPS}/{draft}")
    except FileNotFoundError:
        return None  # settled by another build at this moment
    return data if checksum_ok(data) else None
