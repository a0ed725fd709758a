"""download: one extraction and one transfer a source, one media file a clip, into one tar."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from vidaudio.manifest import Clip
from vidaudio.media.fetch import ClipSpan, Fetched, FetchOptions, fetch_source
from vidaudio.pipeline.corpus import Corpus
from vidaudio.shards.commit import CommitRecord, commit
from vidaudio.shards.tar import ShardWriter, members

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("state", pa.string()),
        ("reason", pa.string()),
        ("message", pa.string()),
        ("member", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("path", pa.string()),
        ("size_bytes", pa.int64()),
        ("sha256", pa.string()),
        ("media_start_seconds", pa.float64()),
        ("info", pa.string()),
    ]
)


def download_shard(corpus: Corpus, shard: int, folder: str) -> CommitRecord:
    """Fetch every clip of a shard. Failures are rows of the table, never exceptions."""
    rows = corpus.rows(shard)
    block = corpus.recipe.download
    options = FetchOptions(
        min_short_side=block.min_short_side,
        copy_local=block.copy_local,
        keep_whole=block.keep_whole,
        ytdlp=block.ytdlp,
        extractors=block.extractors,
    )
    with corpus.store.workspace() as scratch:
        media = scratch / "media"
        media.mkdir()
        fetched = _fetch_all(rows, media, options, tries=block.tries, threads=corpus.recipe.dask.downloads_per_worker)
        tar = scratch / "shard.tar"
        with ShardWriter(tar) as writer:
            for clip in rows:
                got = fetched[clip.id]
                if got.path is not None and not got.is_reference:
                    info = json.dumps(dict(got.info), sort_keys=True, ensure_ascii=False).encode()
                    writer.write(clip.id, {got.path.suffix[1:].lower(): got.path.read_bytes(), "json": info})
                    got.path.unlink()
        table = _table(rows, fetched, tar)
        return commit(corpus.store, folder, shard, stage="download", plan_hash=corpus.plan_hash, table=table, tar=tar)


def _fetch_all(
    rows: Sequence[Clip], folder: Path, options: FetchOptions, *, tries: int, threads: int
) -> dict[str, Fetched]:
    """What became of every clip, by id; the rows of one source and URL are fetched together."""

    def where(clip: Clip) -> tuple[str, str]:
        return clip.source, clip.url

    groups = [(key[1], list(clips)) for key, clips in groupby(sorted(rows, key=where), key=where)]

    def fetch(number: int) -> list[Fetched]:
        url, clips = groups[number]
        wanted = [ClipSpan(c.id, c.start_seconds, c.end_seconds, c.media_start_seconds) for c in clips]
        own = folder / f"{number:06d}"
        own.mkdir()
        done: list[Fetched] = []
        for attempt in range(1, tries + 1):
            results = fetch_source(url, wanted, own, options)
            again = {r.id for r in results if r.outcome.transient and attempt < tries}
            done += [r for r in results if r.id not in again]
            wanted = [span for span in wanted if span.id in again]
            if not wanted:
                break
        return done

    with ThreadPoolExecutor(max_workers=threads) as pool:
        return {result.id: result for results in pool.map(fetch, range(len(groups))) for result in results}


def _table(rows: Sequence[Clip], fetched: dict[str, Fetched], tar: Path) -> pa.Table:
    inside = members(tar)
    columns: dict[str, list] = {name: [] for name in SCHEMA.names}
    for clip in rows:
        got = fetched[clip.id]
        member = None
        if got.path is not None and not got.is_reference:
            member = inside[f"{clip.id}.{got.path.suffix[1:].lower()}"]
        values = {
            "id": clip.id,
            "state": got.outcome.state.value,
            "reason": got.outcome.reason and got.outcome.reason.value,
            "message": got.outcome.message,
            "member": member and member.name,
            "offset": member and member.offset,
            "length": member and member.length,
            "path": str(got.path) if got.path is not None and got.is_reference else None,
            "size_bytes": got.size_bytes,
            "sha256": got.sha256,
            "media_start_seconds": got.media_start_seconds,
            "info": json.dumps(dict(got.info), sort_keys=True, ensure_ascii=False),
        }
        for name, value in values.items():
            columns[name].append(value)
    return pa.table(columns, schema=SCHEMA)
