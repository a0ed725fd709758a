"""Media that a corpus let go on purpose: how that is written down beside the tables that still speak of it."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pyarrow.compute as pc

from vidaudio.media.outcomes import State
from vidaudio.shards.commit import table_name
from vidaudio.shards.parallel_read import read_tables
from vidaudio.shards.store import Store

# The outcomes of a shard whose media are not kept, before its clips' table stands; see vidaudio.pipeline.stages.fused.
DRAFT = re.compile(r"(\d{6,})\.[0-9a-f]{16}\.draft")


def draft_name(shard: int, av_sha256: str) -> str:
    """The draft of the outcomes from which the av tar with this hash was made."""
    return f"{shard:06d}.{av_sha256[:16]}.draft"


def release_name(shard: int) -> str:
    """The mark of a shard whose raw media were deleted once they were extracted (`download.keep: until_extracted`)."""
    return f"clips/{shard:06d}.released"


def shards_without_media(store: Store, shards: Iterable[int]) -> list[int]:
    """Those of some downloaded shards that cannot be extracted, since media that they had were not kept."""
    tars = {int(name.partition(".")[0]) for name in store.list("clips") if name.endswith(".tar")}
    asked = [shard for shard in shards if shard not in tars]
    tables = read_tables(store, (table_name("clips", shard) for shard in asked), columns=("state", "path"))
    return [
        shard
        for shard, (table, _) in zip(asked, tables, strict=True)
        if pc.any(pc.and_(pc.equal(table["state"], State.DONE.value), pc.is_null(table["path"]))).as_py()
    ]


def media_not_kept(url: str, shard: int) -> str:
    """What to tell whoever needs the media of such a shard."""
    return (
        f"the raw media of shard {shard} of {url} were not kept (download.keep) and its av/ has to be made again: "
        f"delete {url}/clips/{shard:06d}.parquet and, where it is, {release_name(shard)}; the next build fetches again"
    )


def fetch_again(shard: int) -> str:
    """The remedy for damage to av of such a shard: its bytes come back only from the sites."""
    return (
        f"the raw media were not kept (download.keep): delete it, clips/{shard:06d}.parquet and, where it is, "
        f"{release_name(shard)}, and build again: the media are fetched again, and the same bytes come back as long as "
        "the sites serve the same"
    )
