"""Purging: the members and rows of removed clips leave every column of a shard.

Committed shards never change, but for this. A tar is written anew without the members, under the name of its new hash;
the table is replaced by one that says `removed` and names the new tar; the old tar goes last. Interrupted anywhere and
done again, it ends the same; whoever reads the old tar at that moment reads on.

What is rewritten gets a new hash and a new seal. So the old ones are checked before: else damage would be sealed in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from vidaudio.corpus.columns import model_folders
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.media_retention import release_name
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
from vidaudio.shards.tar import BadTar, Member, ShardWriter, list_members, sha256_of


def purge_shard(corpus: Corpus, shard: int, removed: Collection[str], damage: CorruptionLog) -> int:
    """Take clips out of every column of a shard; returns how many tables had to change.

    Only under `vidaudio.shards.maintenance_lock.maintenance_lock`.

    Args:
        corpus: Whose.
        shard: Its number.
        removed: Ids; those of other shards do no harm.
        damage: Notes the columns that stay as they are, since they cannot be read whole.
    """
    store = corpus.store
    changed = 0
    for folder, moved in (("clips", _moved_clip), ("av", _moved_av)):
        with damage.collecting():
            if _stands(store, folder, shard):
                changed += _purge_table(store, folder, shard, removed, moved)
    for folder in model_folders(store):
        with damage.collecting():
            if _stands(store, folder, shard):
                changed += _purge_rows(store, folder, shard, removed)
    return changed


def _stands(store: Store, folder: str, shard: int) -> bool:
    return store.exists(table_name(folder, shard))


def read_whole_table(store: Store, name: str) -> tuple[pa.Table, CommitRecord]:
    """A committed table and its record, of which every byte is as it was committed.

    Raises:
        Damaged: It is not.
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
    """Of a table without a tar the rows go."""
    name = table_name(folder, shard)
    table, record = read_whole_table(store, name)
    gone = pc.is_in(table["id"], pa.array(sorted(removed), pa.string()))
    if not pc.any(gone).as_py():
        return 0
    kept = table.filter(pc.invert(gone))
    replace_file(store, name, encode_table(kept, replace(record, rows=kept.num_rows)))
    return 1


def _purge_table(store: Store, folder: str, shard: int, removed: Collection[str], moved: Any) -> int:
    """Of a table with a tar the rows stay, and say so."""
    name = table_name(folder, shard)
    table, record = read_whole_table(store, name)
    rows = table.to_pylist()
    going = {row["id"] for row in rows if row["id"] in removed and row["state"] != State.REMOVED}
    if not going:
        return 0
    # Media that were let go need no new tar; the rows that are left go on saying where their own once were.
    has_tar = record.tar is not None and (folder != "clips" or not store.exists(release_name(shard)))
    if has_tar and record.tar != f"{shard:06d}.{record.tar_sha256[:8]}.tar":
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
                told.append(row | moved(row, places) if has_tar else row)
        schema = table.schema.remove_metadata()
        replace_file(store, name, encode_table(pa.Table.from_pylist(told, schema=schema), changed))
    if has_tar and changed.tar != record.tar:
        store.remove(f"{folder}/{record.tar}")
    return 1


class Places(dict[str, Member]):
    """The members of a tar, by name; one that is missing is damage of that tar."""

    def __init__(self, found: Mapping[str, Member], tar: str, url: str) -> None:
        super().__init__(found)
        self._tar, self._url = tar, url

    def __missing__(self, member: str) -> Member:
        raise CorruptFileError(self._tar, f"{self._url}/{self._tar} does not hold {member}, which its table names")


def _moved_clip(row: Mapping[str, Any], places: Mapping[str, Member]) -> dict[str, Any]:
    if row["member"] is None:
        return {}
    return {"offset": places[row["member"]].offset, "length": places[row["member"]].length}


def _moved_av(row: Mapping[str, Any], places: Mapping[str, Member]) -> dict[str, Any]:
    if row["state"] != State.DONE:
        return {}
    sound = places[f"{row['id']}.flac"]
    frames = [places[f"{row['id']}.{number:03d}.jpg"] for number in range(len(row["frame_seconds"]))]
    return {
        "audio_offset": sound.offset,
        "audio_length": sound.length,
        "frame_offsets": [frame.offset for frame in frames],
        "frame_lengths": [frame.length for frame in frames],
    }


def copy_without(
    store: Store, folder: str, record: CommitRecord, keys: Collection[str], target: Path, scratch: Path
) -> None:
    """Write a shard's tar once more, without the samples of these keys; a sample at a time is held.

    Args:
        store: Of the corpus.
        folder: Of the stage or pack.
        record: Of the table that names the tar.
        keys: Of samples.
        target: The new tar.
        scratch: For a copy of one that is remote.

    Raises:
        Damaged: The tar is gone, or has other bytes than were committed.
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
    """A tar on local disk, read sample by sample."""

    def __init__(self, path: Path) -> None:
        from vidaudio.shards.store import LocalStore

        self._members = list_members(path)
        self._reader = TarReader(LocalStore(path.parent), path.name)

    def samples(self) -> Iterator[tuple[str, dict[str, Member]]]:
        """Key and members by ending, in the tar's order."""
        grouped: dict[str, dict[str, Member]] = {}
        for name, member in self._members.items():
            key, _, ending = name.partition(".")
            grouped.setdefault(key, {})[ending] = member
        yield from grouped.items()

    def read(self, member: Member) -> bytes:
        return self._reader.read(member.offset, member.length)

    def __enter__(self) -> LocalTar:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()


def replace_file(store: Store, name: str, data: bytes) -> None:
    """Put bytes in the place of a file, at once."""
    with store.workspace() as scratch:
        (scratch / "new").write_bytes(data)
        store.put(name, scratch / "new")
