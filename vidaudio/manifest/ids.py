"""Ids: how the name of a video becomes the key of a clip.

An id depends on what a row names, not on the row's position. A name of letters, digits, `_` and `-` alone is its own
id. Any other name is escaped, and a hash of the whole name follows the escaped text. Otherwise `a b` and `a.b` would
both become `a_b`, and `cat/1` and `dog/1` might differ only in a part that was cut off.

One rule depends on the whole list. If two *different* names would get the same id, or ids that differ only in case
(file systems that ignore case would write one file over the other), each of them gets its hash. Only in this case can a
row that is added later change the id of an earlier row. Ids of YouTube clips are never changed: an eleven-character id
is exact, and two ids that differ in case are two videos.
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
# 10 characters of base32 are 50 bits: among 10^6 names that escape to the same text, two hashes are equal with
# probability 4e-4. The command then stops at two rows with one id instead of losing a row.
HASH_LENGTH = 10


def start_suffix(start_seconds: float) -> str:
    """Return `_000012` for 12 s, `_012500m` for 12.5 s: a suffix for clips of one video, exact to the millisecond."""
    milliseconds = round(start_seconds * 1000)
    if milliseconds % 1000 == 0:
        return f"_{milliseconds // 1000:06d}"
    return f"_{milliseconds:06d}m"


@dataclass(frozen=True, slots=True)
class Name:
    """A row's name for its clip, from which the id is made.

    Attributes:
        full: The whole name: a path, a URL or the id that a table gives. Two rows mean the same clip if and only if
            their full names are equal.
        stem: The part of the name that should show in the id.
        suffix: Text that follows the stem, or the hash if there is one; it holds only id characters (`start_suffix`).
        fixed: Whether the id is stem and suffix, whatever else the list holds (YouTube).
    """

    full: str
    stem: str
    suffix: str = ""
    fixed: bool = False

    def plain_id(self) -> str | None:
        """Return the id without a hash; None if the name would have to be escaped or cut."""
        candidate = self.stem + self.suffix
        return candidate if CLIP_ID.fullmatch(candidate) else None

    def hashed_id(self) -> str:
        """Return the end of the escaped stem, a hash of the full name, and the suffix: always a valid id."""
        digest = base64.b32encode(hashlib.sha256(self.full.encode("utf-8", "surrogatepass")).digest()).decode().lower()
        tail = f"-{digest[:HASH_LENGTH]}{self.suffix}"
        # The end of a long path names the file itself, its beginning only the disk.
        return escape(self.stem)[-(MAX_LENGTH - len(tail)) :] + tail


def escape(text: str) -> str:
    """Remove accents from letters, and replace every run of characters that an id cannot hold by one `_`."""
    decomposed = unicodedata.normalize("NFKD", text)
    bare = "".join(character for character in decomposed if not unicodedata.combining(character))
    return re.sub(r"[^A-Za-z0-9_-]+", "_", bare)


def assign_ids(names: Sequence[Name]) -> list[str]:
    """Return one id per name, in order; equal names get equal ids, different names different ids."""
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
