"""Purge of shards: deletes the media and facts of removed clips from every column of a shard.

A purge is the only operation that changes committed shards. A tar is rewritten without the clips' members and named by
its new hash. Its table is replaced by one that names the new tar and marks the clips as `removed`. The old tar is
deleted last. If the purge is interrupted and run again, the result is the same; a reader that has the old tar open can
finish.

A rewritten file gets a new hash and checksum. The old ones are therefore verified first: otherwise a new checksum would
cover existing damage.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.corpus.columns import DOWNLOAD, Column, columns_in_order
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.media_retention import release_name
from vidaudio.hashing import sha256_of
from vidaudio.media.outcomes import State
from vidaudio.shards.checksum import checksum_ok
from vidaudio.shards.commit import (
    TABLE_DAMAGE,
    CommitRecord,
    damaged_table,
    decode_table,
    encode_table,
    table_name,
)
from vidaudio.shards.corruption import CorruptFileError, CorruptionLog
from vidaudio.shards.read import TarReader
from vidaudio.shards.store import Store
from vidaudio.shards.tar import BadTar, Member, ShardWriter, list_members


def purge_shard(corpus: Corpus, shard: int, removed: Collection[str], damage: CorruptionLog) -> int:
    """Remove clips from every column of a shard; return how many tables were changed.

    Call only while holding `vidaudio.shards.maintenance_lock.maintenance_lock`.

    Args:
        corpus: Corpus to purge.
        shard: Shard number.
        removed: Ids of the clips to remove; ids of other shards have no effect.
        damage: Log that collects the columns left unchanged because they cannot be read whole.
    """
    store = corpus.store
    changed = 0
    for column in columns_in_order():
        for folder in column.folders(store):
            with damage.collecting():
                if not store.exists(table_name(folder, shard)):
                    continue
                if column.has_tars:
                    changed += _purge_table(store, column, folder, shard, removed)
                else:
                    changed += _purge_rows(store, folder, shard, removed)
    return changed


def read_whole_table(store: Store, name: str) -> tuple[pa.Table, CommitRecord]:
    """Read a committed table and its record after verifying the checksum of all its bytes.

    Raises:
        CorruptFileError: When the bytes do not match the checksum or cannot be decoded.
    """
    data = store.read(name)
    if not checksum_ok(data):
        raise CorruptFileError(
            name, f"the table {store.url}/{name} is damaged: its bytes do not give the hash it carries"
        )
    try:
        return decode_table(data)
    except TABLE_DAMAGE as error:
        raise damaged_table(store, name, error) from error


def _purge_rows(store: Store, folder: str, shard: int, removed: Collection[str]) -> int:
    """Delete the removed clips' rows from a table without a tar; return the number of tables changed."""
    name = table_name(folder, shard)
    table, record = read_whole_table(store, name)
    gone = pc.is_in(table["id"], pa.array(sorted(removed), pa.string()))
    if not pc.any(gone).as_py():
        return 0
    kept = table.filter(pc.invert(gone))
    store.replace(name, encode_table(kept, replace(record, rows=kept.num_rows)))
    return 1


def _purge_table(store: Store, column: Column, folder: str, shard: int, removed: Collection[str]) -> int:
    """Reduce removed rows of a table with a tar to id and state, and rewrite the tar; return tables changed."""
    name = table_name(folder, shard)
    table, record = read_whole_table(store, name)
    rows = table.to_pylist()
    going = {row["id"] for row in rows if row["id"] in removed and row["state"] != State.REMOVED}
    if not going:
        return 0
    # Media that the corpus did not keep need no new tar; the remaining rows keep the offsets they had.
    may_be_released = column.stage == DOWNLOAD.stage
    has_tar = record.tar is not None and not (may_be_released and store.exists(release_name(shard)))
    if has_tar and record.tar != f"{shard:06d}.{(record.tar_sha256 or '')[:8]}.tar":
        raise CorruptFileError(name, f"{store.url}/{name} names the tar {record.tar}, which is not this shard's")
    places: Mapping[str, Member] = Places({}, name, store.url)
    with store.workspace() as scratch:
        if has_tar:
            new = scratch / "kept.tar"
            copy_without(store, folder, record, going, new, scratch)
            places = Places(list_members(new), f"{folder}/{record.tar}", store.url)
            sha, size = sha256_of(new), new.stat().st_size
            tar = f"{shard:06d}.{sha[:8]}.tar"
            store.put(f"{folder}/{tar}", new)
            changed = replace(record, tar=tar, tar_sha256=sha, tar_bytes=size)
        else:
            changed = record
        blank = dict.fromkeys(table.schema.names)
        told = []
        for row in rows:
            if row["id"] in going:
                told.append(blank | {"id": row["id"], "state": State.REMOVED.value})
            else:
                told.append(row | column.moved(row, places) if has_tar else row)
        schema = table.schema.remove_metadata()
        store.replace(name, encode_table(pa.Table.from_pylist(told, schema=schema), changed))
    if has_tar and changed.tar != record.tar:
        store.remove(f"{folder}/{record.tar}")
    return 1


class Places(dict[str, Member]):
    """Members of a tar by name; looking up a missing member raises `CorruptFileError` for that tar."""

    def __init__(self, found: Mapping[str, Member], tar: str, url: str) -> None:
        super().__init__(found)
        self._tar, self._url = tar, url

    def __missing__(self, member: str) -> Member:
        raise CorruptFileError(self._tar, f"{self._url}/{self._tar} does not hold {member}, which its table names")


def copy_without(
    store: Store, folder: str, record: CommitRecord, keys: Collection[str], target: Path, scratch: Path
) -> None:
    """Copy a shard's tar without the samples of some keys, with one sample in memory at a time.

    Args:
        store: Store of the corpus.
        folder: Folder of the stage or pack.
        record: Record of the table that names the tar.
        keys: Keys of the samples to leave out.
        target: Path of the new tar.
        scratch: Local folder for a copy of a remote tar.

    Raises:
        CorruptFileError: When the tar is missing, its bytes do not match the recorded hash, or it is not a valid tar.
    """
    name = f"{folder}/{record.tar}"
    source = store.local_path(name)
    if source is None and store.exists(name):
        source = scratch / "old.tar"
        store.download(name, source)
    if source is None or not source.is_file():
        raise CorruptFileError(name, f"{store.url}/{name} is gone, though its table stands")
    if sha256_of(source) != record.tar_sha256:
        raise CorruptFileError(name, f"{store.url}/{name} is damaged: its bytes do not give the hash in its table")
    try:
        local = LocalTar(source)
    except BadTar as error:
        raise CorruptFileError(name, f"{store.url}/{name} is no tar of ours: {error}") from error
    with local, ShardWriter(target) as writer:
        for key, parts in local.samples():
            if key not in keys:
                writer.write(key, {ending: local.read(member) for ending, member in parts.items()})


class LocalTar:
    """A tar on local disk that is read sample by sample."""

    def __init__(self, path: Path) -> None:
        from vidaudio.shards.store import LocalStore

        self._members = list_members(path)
        self._reader = TarReader(LocalStore(path.parent), path.name)

    def samples(self) -> Iterator[tuple[str, dict[str, Member]]]:
        """Yield each sample's key and its members by file ending, in the tar's order."""
        grouped: dict[str, dict[str, Member]] = {}
        for name, member in self._members.items():
            key, _, ending = name.partition(".")
            grouped.setdefault(key, {})[ending] = member
        yield from grouped.items()

    def read(self, member: Member) -> bytes:
        """Return the bytes of a member."""
        return self._reader.read(member.offset, member.length)

    def __enter__(self) -> LocalTar:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
