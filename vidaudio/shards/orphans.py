"""Orphans: tars that interrupted or beaten tasks left in a stage's folder, and that no table will ever name.

A shard's table is created once and stands for good, so a tar beside a table that names another one is dead from then
on: it can be removed at any moment, whoever else is at work. A tar without a table may be somebody's next commit, and
usually is made again, under the same name, by the next build; it is left alone unless the caller knows better.
"""

from __future__ import annotations

import re
import time

from vidaudio.shards.commit import read_record
from vidaudio.shards.store import Store

_STAGE_TAR = re.compile(r"(\d{6})\.[0-9a-f]{8}\.tar")


def sweep_orphans(store: Store, folder: str, *, abandoned_after: float | None = None) -> list[str]:
    """Remove a stage's orphaned tars; returns their names.

    Args:
        store: Of the corpus.
        folder: Of the stage, such as `av`.
        abandoned_after: Also remove tars of shards without a table that are older than this, in seconds. Only where no
            task can still be between its tar and its table: its commit would name a tar that is gone. None leaves them.
    """
    found = store.list(folder)
    tars: dict[str, list[str]] = {}
    for name in found:
        if match := _STAGE_TAR.fullmatch(name):
            tars.setdefault(match[1], []).append(name)
    swept: list[str] = []
    for shard, names in sorted(tars.items()):
        table = f"{shard}.parquet"
        if table in found:
            # One tar beside a table is the table's own in all but a damaged corpus: no need to read it.
            orphans = [] if len(names) == 1 else _not_of(store, f"{folder}/{table}", names)
        elif abandoned_after is None or store.exists(f"{folder}/{table}"):
            orphans = []
        else:
            orphans = [n for n in names if time.time() - store.modified(f"{folder}/{n}") > abandoned_after]
        for name in sorted(orphans):
            store.remove(f"{folder}/{name}")
            swept.append(name)
    return swept


def _not_of(store: Store, table: str, names: list[str]) -> list[str]:
    own = read_record(store, table).tar
    # A table whose own tar is gone is damage, and what lies beside it may help to mend it.
    return [name for name in names if name != own] if own in names else []
