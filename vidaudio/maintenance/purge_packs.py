"""Purge of packs: deletes every trace of removed clips.

Their samples are deleted from tars, tables, index and card, which `pack.json` records, and their rows from the list of
clips that are left out.

A rewritten tar gets a new name with its hash, `train-000000.0a1b2c3d.tar`. A loader that has the old index open keeps
reading the old tar until it is deleted, as the last step. The generation is raised because a position in the pack now
means another sample.
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.tombstones import Tombstones
from vidaudio.hashing import sha256_of
from vidaudio.maintenance.purge_shards import Places, copy_without, read_whole_table
from vidaudio.packs.card import CARD_FILE, write_card
from vidaudio.packs.description import PACK_FILE, PackDamaged, PackDescription, read_pack_file
from vidaudio.packs.left_out import purge_left_out
from vidaudio.packs.sample_format import sample_places, sound_format
from vidaudio.packs.write import write_pack_index
from vidaudio.shards.commit import CommitRecord, encode_table, read_record
from vidaudio.shards.corruption import CorruptFileError, CorruptionLog
from vidaudio.shards.tar import list_members
from vidaudio.stream.index import INDEX_FILE


def purge_packs(corpus: Corpus, removed: Tombstones, damage: CorruptionLog) -> int:
    """Remove removed clips from every pack; return how many samples were removed.

    Call only while holding `vidaudio.shards.maintenance_lock.maintenance_lock`. If it is interrupted anywhere and run
    again, the result is the same.

    Args:
        corpus: Corpus whose packs are purged.
        removed: Clips and sources to remove.
        damage: Log that collects the files left unchanged because they cannot be read whole.
    """
    gone = 0
    for name in corpus.store.folders("training"):
        folder = f"training/{name}"
        with damage.collecting():
            if corpus.store.exists(f"{folder}/{PACK_FILE}"):
                gone += _purge_pack(corpus, folder, removed, damage)
    return gone


def _purge_pack(corpus: Corpus, folder: str, removed: Tombstones, damage: CorruptionLog) -> int:
    store = corpus.store
    try:
        described = read_pack_file(store, folder)
    except PackDamaged as error:
        raise CorruptFileError(f"{folder}/{PACK_FILE}", str(error)) from error
    standing = store.list(folder)
    names = [name for name in described.shards if f"{name}.parquet" in standing]
    gone = 0
    records: dict[str, CommitRecord] = {}
    for name in names:
        with damage.collecting():
            gone += _purge_shard(corpus, folder, name, described, removed)
        with damage.collecting():
            records[name] = read_record(store, f"{folder}/{name}.parquet")
    # Shards that are not packed yet have lost nothing: count only the samples that existing tables have lost.
    lost = described.removed_samples + gone
    if len(records) == len(described.shards):
        lost = described.samples - sum(record.rows for record in records.values())
    if lost != described.removed_samples:
        generation = max(removed.tables, described.generation + 1)
        changed = replace(described, removed_samples=lost, generation=generation)
        store.replace(f"{folder}/{PACK_FILE}", changed.encode())
    with damage.collecting():
        purge_left_out(store, folder, removed)
    # Do this even if nothing changed in this run: an earlier purge may have been interrupted here.
    if lost and INDEX_FILE in standing:
        with damage.collecting():
            write_pack_index(corpus, folder)
        with damage.collecting():
            if CARD_FILE in standing:
                write_card(corpus, folder)
    own = {record.tar for record in records.values()}
    for file in standing:
        stem, _, ending = file.partition(".")
        if ending.endswith("tar") and stem in records and file not in own:
            store.remove(f"{folder}/{file}")
    return gone


def _purge_shard(corpus: Corpus, folder: str, name: str, described: PackDescription, removed: Tombstones) -> int:
    store = corpus.store
    table_at = f"{folder}/{name}.parquet"
    table, record = read_whole_table(store, table_at)
    columns = zip(*(table[column].to_pylist() for column in ("key", "id", "source")), strict=True)
    going = {key for key, clip, source in columns if removed.covers(clip, source)}
    if not going:
        return 0
    if record.tar not in (f"{name}.tar", f"{name}.{(record.tar_sha256 or '')[:8]}.tar"):
        raise CorruptFileError(
            table_at, f"{store.url}/{table_at} names the tar {record.tar}, which is not this shard's"
        )
    audio = sound_format(described.settings.audio)
    with store.workspace() as scratch:
        new = scratch / "kept.tar"
        copy_without(store, folder, record, going, new, scratch)
        places = Places(list_members(new), f"{folder}/{record.tar}", store.url)
        sha, size = sha256_of(new), new.stat().st_size
        tar = f"{name}.{sha[:8]}.tar"
        store.put(f"{folder}/{tar}", new)
    kept = []
    for row in table.to_pylist():
        if row["key"] not in going:
            kept.append(row | sample_places(places, row["key"], audio, described.vector_columns))
    changed = replace(record, rows=len(kept), tar=tar, tar_sha256=sha, tar_bytes=size)
    rows = pa.Table.from_pylist(kept, schema=table.schema.remove_metadata())
    store.replace(table_at, encode_table(rows, changed))
    return len(going)
