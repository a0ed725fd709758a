"""Listing of a corpus's files, with few requests that run in parallel."""

from __future__ import annotations

from collections.abc import Mapping

from vidaudio.corpus.columns import PACKS, columns_in_order
from vidaudio.corpus.corpus import Corpus
from vidaudio.shards.parallel_read import in_parallel

# Names and sizes in bytes of the files, by folder.
Listings = Mapping[str, Mapping[str, int]]


def list_stages(corpus: Corpus) -> Listings:
    """Return names and sizes of the files in every stage's and every pack's folder.

    Of a stage's folder, only files of a shard are listed: their names begin with its number. A large folder is listed
    in parallel ranges of a thousand shards, since a store returns one page after the other.
    """
    store = corpus.store
    columns = columns_in_order()
    kinds = [*(column.folder for column in columns if column.per_model), PACKS]
    named = dict(zip(kinds, in_parallel(store, store.folders, kinds), strict=True))
    packs = [f"{PACKS}/{name}" for name in named.pop(PACKS)]
    stages = [column.folder for column in columns if not column.per_model]
    stages += [f"{kind}/{name}" for kind, names in named.items() for name in names]
    asked = [(folder, prefix) for folder in stages for prefix in _prefixes(corpus.shards)]
    asked += [(folder, "") for folder in packs]
    found: dict[str, dict[str, int]] = {}
    for (folder, _), names in zip(asked, in_parallel(store, lambda ask: store.list(*ask), asked), strict=True):
        found.setdefault(folder, {}).update(names)
    return found


def _prefixes(shards: int) -> list[str]:
    """Return prefixes that cover the six-digit numbers of so many shards."""
    thousands = -(-shards // 1000)
    return [""] if thousands <= 1 or thousands > 1000 else [f"{number:03d}" for number in range(thousands)]
