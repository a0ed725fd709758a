"""`download.keep`: how long a corpus holds the raw media.

`until_extracted` deletes a shard's tar once its av table stands; a mark, written first, says that this was meant. With
`none` the media never reach the corpus: one task fetches a shard into local scratch and extracts it from there. Its
outcomes are laid down beside the table's place, as a *draft*, before av is committed; whoever finds av standing without
the clips' table takes the draft that belongs to it. So a kill between the two commits costs no second fetch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection

import pyarrow as pa

from vidaudio.errors import CorpusError
from vidaudio.pipeline.corpus import Corpus
from vidaudio.pipeline.released import DRAFT, release_name
from vidaudio.pipeline.stages.download import fetch_shard
from vidaudio.pipeline.stages.extract import extract_fetched, extract_shard
from vidaudio.shards.commit import (
    CommitRecord,
    committed_shards,
    decode_table,
    encode_table,
    read_record,
    read_table,
    table_name,
)
from vidaudio.shards.seal import seal_holds

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


def fetch_and_extract(corpus: Corpus, shard: int, folder: str) -> CommitRecord:
    """Download and extract of a shard in one go, its media in local scratch only; commits av first, then clips.

    Args:
        corpus: Whose; its recipe's `download.keep` is `none`.
        shard: Which.
        folder: Of the download stage.

    Raises:
        FetchingStopped: As `download_shard`. Nothing is committed.
    """
    store = corpus.store
    if store.exists(table_name(AV, shard)) and _settle(corpus, shard) is not None:
        return read_record(store, table_name(folder, shard))
    with store.workspace() as scratch:
        fetched = fetch_shard(corpus, shard, scratch)
        clips = without_media(fetched.table)
        record = CommitRecord("download", shard, corpus.plan_hash, clips.num_rows)
        data = encode_table(clips, record)
        store.create(f"{folder}/{shard:06d}.{hashlib.sha256(data).hexdigest()[:16]}.draft", data)
        extract_fetched(corpus, shard, AV, fetched.table, fetched.tar, scratch)
    if _settle(corpus, shard, first=data) is None:
        raise CorpusError(
            f"shard {shard} of {corpus.url} was extracted by another build, from clips that are not known any more; "
            f"delete {corpus.url}/{table_name(AV, shard)} while nothing is running, and build again"
        )
    return fetched.record(read_record(store, table_name(folder, shard)))


def without_media(clips: pa.Table) -> pa.Table:
    """A download's rows without the places of their media; references to the user's own files stay."""
    for name in _PLACES:
        field = clips.schema.field(name)
        clips = clips.set_column(clips.schema.get_field_index(name), field, pa.nulls(clips.num_rows, field.type))
    return clips


def extract_and_release(corpus: Corpus, shard: int, folder: str) -> CommitRecord:
    """Extract a shard, then let its raw media go."""
    try:
        record = extract_shard(corpus, shard, folder)
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


def finish_interrupted(corpus: Corpus) -> None:
    """What a killed run left half done: av without its clips, media that were to be let go, drafts that are settled."""
    names = corpus.store.list(CLIPS)
    drafted = {int(match[1]) for name in names if (match := DRAFT.fullmatch(name))}
    if not drafted and corpus.recipe.download.keep == "all" and not any(n.endswith(".released") for n in names):
        return
    extracted = committed_shards(corpus.store, AV)
    for shard in sorted(drafted & extracted):
        _settle(corpus, shard)
    names = corpus.store.list(CLIPS)
    for shard in sorted({int(name[:6]) for name in names if name.endswith(".tar") and name[:6].isdigit()} & extracted):
        marked = release_name(shard).partition("/")[2] in names
        if f"{shard:06d}.parquet" in names and (marked or corpus.recipe.download.keep != "all"):
            release(corpus, shard)


def drop_drafts(corpus: Corpus, shard: int) -> None:
    """Forget what was fetched of a shard and never extracted; it is fetched again when the shard's turn comes."""
    if corpus.store.exists(table_name(AV, shard)):
        return
    for name in corpus.store.list(CLIPS):
        if (match := DRAFT.fullmatch(name)) and int(match[1]) == shard:
            corpus.store.remove(f"{CLIPS}/{name}")


def _settle(corpus: Corpus, shard: int, *, first: bytes | None = None) -> CommitRecord | None:
    """Commit the clips' table of a shard whose av stands, from the draft that av was made from; None without one.

    Args:
        corpus, shard: Which.
        first: A draft to prefer over others that fit as well: our own.
    """
    store = corpus.store
    name = table_name(CLIPS, shard)
    drafts = [n for n in store.list(CLIPS) if (match := DRAFT.fullmatch(n)) and int(match[1]) == shard]
    if not store.exists(name):
        av, _ = read_table(store, table_name(AV, shard))
        kept = [data for draft in sorted(drafts) if (data := _read_draft(corpus, draft)) is not None]
        fitting = [data for data in ([first] if first else []) + kept if _done(data) == av["id"].to_pylist()]
        if not fitting:
            return None
        store.create(name, fitting[0])
    for draft in drafts:
        store.remove(f"{CLIPS}/{draft}")
    return read_record(store, name)


def _read_draft(corpus: Corpus, draft: str) -> bytes | None:
    try:
        data = corpus.store.read(f"{CLIPS}/{draft}")
    except FileNotFoundError:
        return None  # settled by another build at this moment
    return data if seal_holds(data) else None


def _done(data: bytes) -> list[str]:
    table, _ = decode_table(data)
    return [i for i, state in zip(table["id"].to_pylist(), table["state"].to_pylist(), strict=True) if state == "done"]
