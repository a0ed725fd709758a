"""Ids: how the name of a video becomes the key of a clip.

An id is a function of what a row names, not of where the row stands. A name that is made of letters, digits, `_` and
`-` alone is its own id. Any other name is escaped, and carries a hash of the whole name behind the escaped text,
because `a b` and `a.b` would otherwise both become `a_b`, and `cat/1` and `dog/1` may only differ where the id was cut
short.

One rule has to look at the whole list: where two *different* names would get the same id, or ids that differ in case
only (file systems that fold case would write one file over the other), each of them gets its hash. So a row added later
can change the id of an earlier one in this case alone. Ids of YouTube clips are never changed: an eleven-character id
means what it says, and two that differ in case are two videos.
"""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from vidaudio.manifest.clip import CLIP_ID

MAX_LENGTH = 128
# 10 characters of base32 are 50 bits: among 10^6 names that escape to one and the same text, two agree by chance with
# p = 4e-4, and then the command stops at two rows with one id instead of losing one.
HASH_LENGTH = 10


def start_suffix(start_seconds: float) -> str:
    """`_000012` for 12 s, `_012500m` for 12.5 s: what tells the clips of one video apart, to the millisecond."""
    milliseconds = round(start_seconds * 1000)
    if milliseconds % 1000 == 0:
        return f"_{milliseconds // 1000:06d}"
    return f"_{milliseconds:06d}m"


@dataclass(frozen=True, slots=True)
class Name:
    """What a row calls its clip, before that is an id.

    full: The whole name: a path, a URL or the id that a table gives. Two rows mean one thing if and only if they agree
        here.
    stem: The part of it that should show in the id.
    suffix: Added behind the stem, hash or not; made of id characters already (`start_suffix`).
    fixed: The id is the stem and the suffix whatever else the list holds (YouTube).
    """

    full: str
    stem: str
    suffix: str = ""
    fixed: bool = False

    def plain_id(self) -> str | None:
        """The id without a hash; None if the name would have to be escaped or cut for it."""
        candidate = self.stem + self.suffix
        return candidate if CLIP_ID.fullmatch(candidate) else None

    def hashed_id(self) -> str:
        """The end of the escaped stem, a hash of the full name, the suffix: always a valid id."""
        digest = base64.b32encode(hashlib.sha256(self.full.encode("utf-8", "surrogatepass")).digest()).decode().lower()
        tail = f"-{digest[:HASH_LENGTH]}{self.suffix}"
        # The end of a long path names the file itself, its beginning the disk it lies on.
        return escape(self.stem)[-(MAX_LENGTH - len(tail)) :] + tail


def escape(text: str) -> str:
    """Letters lose their accents, and every run of characters that an id cannot hold becomes one `_`."""
    decomposed = unicodedata.normalize("NFKD", text)
    bare = "".join(character for character in decomposed if not unicodedata.combining(character))
    return re.sub(r"[^A-Za-z0-9_-]+", "_", bare)


def assign_ids(names: Sequence[Name]) -> list[str]:
    """One id a name, in order; equal names get equal ids, different names different ones."""
    plain = [name.plain_id() for name in names]
    claimants: dict[str, set[str]] = defaultdict(set)
    for name, candidate in zip(names, plain, strict=True):
        if candidate is not None:
            claimants[candidate.casefold()].add(name.full)
    return [
        candidate
        if candidate is not None and (name.fixed or len(claimants[candidate.casefold()]) == 1)
        else name.hashed_id()
        for name, candidate in zip(names, plain, strict=True)
    ]
