"""Names and messages for raw media that a corpus deleted on purpose although its tables still refer to them."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pyarrow.compute as pc

from vidaudio.media.outcomes import State
from vidaudio.shards.commit import table_name
from vidaudio.shards.parallel_read import read_tables
from vidaudio.shards.store import Store

# Outcomes of a shard whose media are not kept, before its clips table exists; see vidaudio.pipeline.stages.fused.
DRAFT = re.compile(r"(\d{6,})\.[0-9a-f]{16}\.draft")


def draft_name(shard: int, av_sha256: str) -> str:
    """Return the name of the draft with the outcomes that the av tar with this hash was made from."""
    return f"{shard:06d}.{av_sha256[:16]}.draft"


def release_name(shard: int) -> str:
    """Return the file name that marks a shard whose raw media were deleted once extracted (`until_extracted`)."""
    return f"clips/{shard:06d}.released"


def shards_without_media(store: Store, shards: Iterable[int]) -> list[int]:
    """Return those of some downloaded shards that cannot be extracted because their media were not kept."""
    tars = {int(name.partition(".")[0]) for name in store.list("clips") if name.endswith(".tar")}
    asked = [shard for shard in shards if shard not in tars]
    tables = read_tables(store, (table_name("clips", shard) for shard in asked), columns=("state", "path"))
    return [
        shard
        for shard, (table, _) in zip(asked, tables, strict=True)
        if pc.any(pc.and_(pc.equal(table["state"], State.DONE.value), pc.is_null(table["path"]))).as_py()
    ]


def media_not_kept(url: str, shard: int) -> str:
    """Return the message for a command that needs the media of such a shard."""
    return (
        f"the raw media of shard {shard} of {url} were not kept (download.keep) and its av/ has to be made again: "
        f"delete {url}/clips/{shard:06d}.parquet and, where it is, {release_name(shard)}; the next build fetches again"
    )


def fetch_again(shard: int) -> str:
    """Return the remedy for damaged av of such a shard: its bytes come back only from the sites."""
    return (
        f"the raw media were not kept (download.keep): delete it, clips/{shard:06d}.parquet and, where it is, "
        f"{release_name(shard)}, and build again: the media are fetched again, and the same bytes come back as long as "
        "the sites serve the same"
    )
