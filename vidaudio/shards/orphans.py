"""Removal of orphans: tars of interrupted or losing tasks in a stage's folder, which no table will ever name.

A shard's table is created once and never changes. So a tar beside a table that names another tar is dead, and can be
removed at any time, even while other processes work. A tar without a table may belong to a commit in progress, and the
next build usually makes it again under the same name. It is kept unless the caller knows that it is abandoned.
"""

from __future__ import annotations

import re
import time

from vidaudio.shards.commit import read_record
from vidaudio.shards.store import Store

_STAGE_TAR = re.compile(r"(\d{6})\.[0-9a-f]{8}\.tar")


def sweep_orphans(store: Store, folder: str, *, abandoned_after: float | None = None) -> list[str]:
    """Remove a stage's orphaned tars; return their names.

    Args:
        store: Store of the corpus.
        folder: Folder of the stage, such as `av`.
        abandoned_after: Age in seconds after which tars of shards without a table are removed too; None keeps them.
            Only safe if no task can be between writing its tar and its table: its commit would name a missing tar.
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
            # A single tar beside a table is the table's own, except in a damaged corpus: the table need not be read.
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
    # If the table's own tar is missing, the corpus is damaged, and the other tars may help to repair it.
    return [name for name in names if name != own] if own in names else []
