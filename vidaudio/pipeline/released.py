"""Media that a corpus let go on purpose: how that is written down beside the tables that still speak of it."""

from __future__ import annotations

import re

# The outcomes of a shard whose media are not kept, before its clips' table stands; see vidaudio.pipeline.keep.
DRAFT = re.compile(r"(\d{6,})\.[0-9a-f]{16}\.draft")


def draft_name(shard: int, av_sha256: str) -> str:
    """The draft of the outcomes from which the av tar with this hash was made."""
    return f"{shard:06d}.{av_sha256[:16]}.draft"


def release_name(shard: int) -> str:
    """The mark of a shard whose raw media were deleted once they were extracted (`download.keep: until_extracted`)."""
    return f"clips/{shard:06d}.released"


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
