"""Names and messages for raw media that a corpus deleted on purpose although its tables still refer to them."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pyarrow.compute as pc

from vidaudio.corpus.columns import DOWNLOAD, EXTRACT
from vidaudio.corpus.corpus import Corpus
from vidaudio.media.outcomes import State
from vidaudio.shards.checksum import checksum_ok
from vidaudio.shards.commit import (
    CommitRecord,
    committed_shards,
    committed_shards_in,
    read_record,
    table_name,
)
from vidaudio.shards.parallel_read import read_tables
from vidaudio.shards.store import Store

CLIPS, AV = DOWNLOAD.folder, EXTRACT.folder
# Outcomes of a shard whose media are not kept, before its clips table exists; see vidaudio.pipeline.stages.fused.
DRAFT = re.compile(r"(\d{6,})\.[0-9a-f]{16}\.draft")


def draft_name(shard: int, av_sha256: str) -> str:
    """Return the name of the draft with the outcomes that the av tar with this hash was made from."""
    return f"{shard:06d}.{av_sha256[:16]}.draft"


def _matching_draft(store: Store, shard: int) -> str:
    """Return the name of the draft that the shard's av was made from."""
    sha256 = read_record(store, table_name(AV, shard)).tar_sha256
    assert sha256 is not None, "av always has a tar"
    return draft_name(shard, sha256)


def release_name(shard: int) -> str:
    """Return the file name that marks a shard whose raw media were deleted once extracted (`until_extracted`)."""
    return f"{CLIPS}/{shard:06d}.released"


def shards_without_media(store: Store, shards: Iterable[int]) -> list[int]:
    """Return those of some downloaded shards that cannot be extracted because their media were not kept."""
    tars = {int(name.partition(".")[0]) for name in store.list(CLIPS) if name.endswith(".tar")}
    asked = [shard for shard in shards if shard not in tars]
    tables = read_tables(store, (table_name(CLIPS, shard) for shard in asked), columns=("state", "path"))
    return [
        shard
        for shard, (table, _) in zip(asked, tables, strict=True)
        if pc.any(pc.and_(pc.equal(table["state"], State.DONE.value), pc.is_null(table["path"]))).as_py()
    ]


def media_not_kept(url: str, shard: int) -> str:
    """Return the message for a command that needs the media of such a shard."""
    return (
        f"the raw media of shard {shard} of {url} were not kept (download.keep) and its {AV}/ has to be made again: "
        f"delete {url}/{table_name(CLIPS, shard)} and, where it is, {release_name(shard)}; the next build fetches again"
    )


def fetch_again(shard: int) -> str:
    """Return the remedy for damaged av of such a shard: its bytes come back only from the sites."""
    return (
        f"the raw media were not kept (download.keep): delete it, {table_name(CLIPS, shard)} and, where it is, "
        f"{release_name(shard)}, and build again: the media are fetched again, and the same bytes come back as long as "
        "the sites serve the same"
    )


def release(corpus: Corpus, shard: int) -> None:
    """Delete the raw media of a shard whose av table exists; do nothing where they are deleted already.

    Nobody needs the media any more: a process that still reads them to extract the shard has lost that race.
    """
    record = read_record(corpus.store, table_name(CLIPS, shard))
    if record.tar is None:
        return
    corpus.store.create(release_name(shard), b"")
    corpus.store.remove(f"{CLIPS}/{record.tar}")


def drafted_shards(corpus: Corpus) -> set[int]:
    """Return shards with av and a matching draft but no clips table: the next build only commits the draft."""
    names = corpus.store.list(CLIPS)
    drafted = {int(match[1]) for name in names if (match := DRAFT.fullmatch(name))} - committed_shards_in(names)
    extracted = committed_shards(corpus.store, AV) if drafted else set()
    return {shard for shard in drafted & extracted if _matching_draft(corpus.store, shard) in names}


def settle_drafts(corpus: Corpus, shard: int) -> None:
    """Settle a shard's drafts before clips are removed.

    If av exists, its draft becomes the clips table. Otherwise the drafts are deleted, and the shard is fetched again.
    """
    if corpus.store.exists(table_name(AV, shard)):
        _settle(corpus, shard)
        return
    for name in _drafts(corpus, shard):
        corpus.store.remove(f"{CLIPS}/{name}")


def _settle(corpus: Corpus, shard: int) -> CommitRecord | None:
    """Commit a shard's clips table from the draft that its av was made from, and delete the shard's drafts.

    Return the record of the clips table; None if there is neither a table nor a matching, undamaged draft.
    """
    store = corpus.store
    name = table_name(CLIPS, shard)
    drafts = _drafts(corpus, shard)
    if not store.exists(name):
        made_from = _matching_draft(store, shard)
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
    """Return a draft's bytes; None where it does not exist any more or its checksum is wrong."""
    try:
        data = corpus.store.read(f"{CLIPS}/{draft}")
    except FileNotFoundError:
        return None  # another build has just settled it
    return data if checksum_ok(data) else None
