"""Long lists: planned, written, compared and read in pieces, they come out as if they had been held whole."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidaudio.corpus import manifest_parts as part_files
from vidaudio.corpus import shard_plan as plans
from vidaudio.corpus.manifest_diff import new_rows
from vidaudio.corpus.manifest_parts import ManifestPart, ManifestPartFile, ManifestPartReader, create_part
from vidaudio.corpus.shard_plan import assign_shards, manifest_hash, plan_shards, planned_tables
from vidaudio.errors import CorpusError, ManifestError
from vidaudio.manifest import SCHEMA, Clip, read_manifest, table_from_clips, write_manifest
from vidaudio.manifest import source as sources
from vidaudio.manifest.source import ChosenRows, ParquetRows, RowSource, TableRows, open_manifest
from vidaudio.shards.checksum import file_checksum_ok
from vidaudio.shards.open import open_store
from vidaudio.shards.store import LocalStore


def clips(number: int, *, seed: int = 0, grouped: bool = False) -> list[Clip]:
    """Clips of a few sources each, together or scattered; some with texts, nulls and unusual letters."""
    draw = random.Random(seed)
    made = []
    for index in range(number):
        source = index // 3 if grouped else draw.randrange(number // 3 + 1)
        made.append(
            Clip(
                id=f"c{index:05d}",
                source=f"web:{source}",
                dataset="d",
                url=f"https://example.org/{source}",
                media_start_seconds=draw.choice([None, 0.0, 1.5]),
                start_seconds=float(index % 7),
                end_seconds=draw.choice([None, 20.0]),
                split=draw.choice([None, "train", "test"]),
                labels=tuple(draw.sample(["Hund", "Möwe", "", "a b"], draw.randrange(3))),
                captions=tuple(draw.sample(["one", "two"], draw.randrange(3))),
            )
        )
    return made


@pytest.fixture
def in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that is done in pieces is done in small ones."""
    monkeypatch.setattr(sources, "PIECE_ROWS", 37)
    monkeypatch.setattr(sources, "WHOLE_ROWS", 10)
    monkeypatch.setattr(plans, "BUCKET_ROWS", 50)
    monkeypatch.setattr(part_files, "ROW_GROUP_CLIPS", 64)


def listed(path: Path, listed_clips: list[Clip], row_group: int) -> RowSource:
    pq.write_table(table_from_clips(listed_clips), path, row_group_size=row_group)
    return open_manifest(path)


@pytest.mark.parametrize("row_group", [1, 10, 97, 1000])
@pytest.mark.parametrize("grouped", [True, False])
def test_a_list_in_pieces_is_planned_as_a_whole_one(in_pieces, tmp_path: Path, row_group: int, grouped: bool):
    there = clips(300, grouped=grouped)
    whole = assign_shards(table_from_clips(there), 8)
    rows = listed(tmp_path / "list.parquet", there, row_group)
    assert isinstance(rows, ParquetRows)
    plan = plan_shards(rows, 8)
    # A list that is in order already is not written to disk once more.
    assert (plan.positions is None) == grouped
    planned = list(planned_tables(rows, plan))
    assert len(planned) > 4
    assert pa.concat_tables(planned).combine_chunks().equals(whole)
    assert plan.clips.tolist() == np.bincount(whole["shard"].to_numpy()).tolist()
    assert manifest_hash(planned) == manifest_hash(whole)


def test_a_hash_tells_apart_what_only_looks_alike():
    one = Clip("a", "web:a", "d", "u", labels=("ab", "c"))
    others = [
        replace(one, labels=("a", "bc")),
        replace(one, labels=("ab",), captions=("c",)),
        replace(one, labels=("ab", "c", "")),
        replace(one, dataset="du", url="x"),
        replace(one, media_start_seconds=0.0),
        replace(one, split=""),
        replace(one, end_seconds=1.0),
    ]
    hashes = {manifest_hash(table_from_clips([clip])) for clip in [one, *others]}
    assert len(hashes) == len(others) + 1


def test_ids_that_come_twice_are_found_far_apart(in_pieces, tmp_path: Path):
    there = clips(200)
    there[180] = replace(there[180], id=there[3].id)
    with pytest.raises(ManifestError, match=r"1 id comes more than once, the first is c00003"):
        listed(tmp_path / "list.parquet", there, 20)


def test_rows_that_no_clip_can_be_are_named_with_their_place(in_pieces, tmp_path: Path):
    table = table_from_clips(clips(200)).to_pandas()
    table.loc[150, "id"] = "no id"
    pq.write_table(pa.Table.from_pandas(table, schema=SCHEMA, preserve_index=False), tmp_path / "list.parquet")
    with pytest.raises(ManifestError, match=r"rows 149 to 185: 1 id is not .*'no id'"):
        open_manifest(tmp_path / "list.parquet")
    with pytest.raises(ManifestError, match="1 id is not"):
        read_manifest(tmp_path / "list.parquet")


def test_a_long_file_that_is_no_list_is_named_as_by_the_whole_reader(in_pieces, tmp_path: Path):
    pq.write_table(pa.table({"id": list(map(str, range(50)))}), tmp_path / "list.parquet")
    with pytest.raises(ManifestError, match="it has no column source"):
        open_manifest(tmp_path / "list.parquet")
    with pytest.raises(ManifestError, match="there is no manifest"):
        open_manifest(tmp_path / "nothing.parquet")


class TestParts:
    @pytest.fixture(params=["local", "memory"])
    def store(self, request: pytest.FixtureRequest, tmp_path: Path):
        url = str(tmp_path / "corpus") if request.param == "local" else f"memory://parts-{tmp_path.name}"
        return open_store(url)

    def write(self, store, number: int = 300, first_shard: int = 5) -> tuple[ManifestPart, pa.Table]:
        rows = TableRows(table_from_clips(clips(number)))
        plan = plan_shards(rows, 8)
        part = ManifestPart("manifest-000001.parquet", "added", first_shard, len(plan.clips), number)
        assert create_part(store, part, plan.clips, planned_tables(rows, plan, first_shard))
        assert not create_part(store, part, plan.clips, planned_tables(rows, plan, first_shard))
        return part, pa.concat_tables(planned_tables(rows, plan, first_shard)).combine_chunks()

    def test_every_shard_is_found_in_one_row_group(self, in_pieces, store):
        part, planned = self.write(store)
        file = ManifestPartReader(store, store.list(""))[part.name]
        assert file.described == part
        for shard in np.random.default_rng(0).permutation(part.shards) + part.first_shard:
            assert file.rows(shard).equals(planned.filter(pa.compute.equal(planned["shard"], int(shard))))
        groups = list(file.tables())
        assert len(groups) > 3
        ends = [group["shard"][-1].as_py() for group in groups]
        assert len(set(ends)) == len(groups)
        assert pa.concat_tables(groups).combine_chunks().equals(planned)
        assert file.shard_clips.tolist() == np.bincount(planned["shard"].to_numpy())[part.first_shard :].tolist()

    def test_equal_rows_are_equal_bytes_however_they_came(self, in_pieces, tmp_path: Path):
        there = clips(300)
        written = []
        for number, row_group in enumerate((1, 50, 300)):
            rows = listed(tmp_path / f"{number}.parquet", there, row_group)
            plan = plan_shards(rows, 8)
            part = ManifestPart("manifest.parquet", "list", 0, len(plan.clips), 300)
            store = LocalStore(tmp_path / str(number))
            create_part(store, part, plan.clips, planned_tables(rows, plan))
            written.append(store.read("manifest.parquet"))
        assert written[0] == written[1] == written[2]

    def test_a_part_is_sealed_and_damage_is_one_sentence(self, in_pieces, tmp_path: Path):
        store = LocalStore(tmp_path)
        part, _ = self.write(store)
        path = tmp_path / part.name
        whole = path.read_bytes()
        assert file_checksum_ok(path)
        for place in np.random.default_rng(1).integers(0, len(whole), 40).tolist():
            flipped = bytearray(whole)
            flipped[place] ^= 1 << (place % 8)
            path.write_bytes(bytes(flipped))
            assert not file_checksum_ok(path)
            # Whatever else is wrong with what can be read of it, the only error is one in words.
            with contextlib.suppress(CorpusError):
                ManifestPartFile(store, part.name, len(whole)).rows(9)
        with pytest.raises(CorpusError, match="is not there any more"):
            ManifestPartReader(store, {})[part.name]


class TestGrowth:
    def grown(self, standing: list[Clip], now: list[Clip]) -> list[str] | None:
        table = table_from_clips(standing)

        def pieces(columns=None):
            return (table.select(columns or SCHEMA.names).slice(first, 7) for first in range(0, len(table), 7))

        added = new_rows("corpus", pieces, TableRows(table_from_clips(now)))
        return None if added is None else [i for t in added.tables(["id"]) for i in t["id"].to_pylist()]

    def test_only_new_rows_are_added_wherever_they_stand(self):
        there = clips(60)
        new = [replace(clip, id=f"new-{clip.id}") for clip in there[:5]]
        assert self.grown(there, there) is None
        assert self.grown(there, list(reversed(there))) is None
        assert self.grown(there, [new[0], *there[:30], *new[1:3], *there[30:], *new[3:]]) == [n.id for n in new]
        # A clip that was tried again stands twice.
        assert self.grown([*there, there[4]], [*there, new[0]]) == [new[0].id]

    @pytest.mark.parametrize(
        "change",
        [
            {"labels": ("x", "yz")},
            {"labels": ("xy",)},
            {"captions": ("x", "y")},
            {"split": ""},
            {"media_start_seconds": 0.0},
            {"end_seconds": None},
            {"url": "v"},
        ],
    )
    def test_a_changed_row_is_named(self, change: dict):
        there = [*clips(20), Clip("odd", "web:1", "d", "u", end_seconds=9.0, labels=("x", "y"))]
        with pytest.raises(CorpusError, match=r"of its 21 clips 0 are not in this list and 1 differ, such as odd"):
            self.grown(there, [*there[:-1], replace(there[-1], **change)])

    def test_a_missing_row_is_named(self):
        there = clips(20)
        with pytest.raises(CorpusError, match=r"of its 20 clips 2 are not in this list and 0 differ, such as c00003"):
            self.grown(there, [*there[:3], *there[5:]])

    def test_chosen_rows_are_those_chosen(self, in_pieces):
        rows = TableRows(table_from_clips(clips(100)))
        chosen = np.arange(100) % 3 == 1
        some = ChosenRows(rows, chosen)
        assert some.num_rows == 33
        ids = [i for table in some.tables(["id"]) for i in table["id"].to_pylist()]
        assert ids == [f"c{number:05d}" for number in range(1, 100, 3)]


def test_planning_a_long_list_takes_little_more_memory_than_a_short_one(tmp_path: Path):
    """200 bytes a row would be held by any plan that keeps the rows; a plan of numbers keeps a fifth."""
    code = """
        import resource, sys
        from vidaudio.manifest import source
        from vidaudio.corpus import shard_plan as plan
        source.WHOLE_ROWS, plan.BUCKET_ROWS = 100, 2000
        from vidaudio.corpus.shard_plan import manifest_hash, plan_shards, planned_tables
        for path in sys.argv[1:]:
            rows = source.open_manifest(path)
            plan_ = plan_shards(rows, 250)
            manifest_hash(planned_tables(rows, plan_))
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    """
    longest = 100_000
    table = table_from_clips(clips(1000)).drop_columns(["id", "captions"])
    numbers = np.arange(longest)
    columns = {name: pa.concat_tables([table] * (longest // 1000))[name] for name in table.column_names}
    # Captions of 1 kB: 100 MB in all.
    columns["captions"] = pa.array([[f"{number:01000d}"] for number in numbers], pa.list_(pa.string()))
    columns["id"] = pa.array([f"c{number:07d}" for number in numbers])
    long = pa.table({name: columns[name] for name in SCHEMA.names}, schema=SCHEMA)
    for name, rows in (("short", 5_000), ("long", longest)):
        pq.write_table(long.slice(0, rows), tmp_path / f"{name}.parquet", row_group_size=2_000)
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(code),
        *(str(tmp_path / f"{n}.parquet") for n in ("short", "long")),
    ]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    short, grown = map(int, answer.stdout.split())
    assert grown - short < 60e6


def test_a_written_manifest_is_opened_as_it_is_read(tmp_path: Path):
    there = clips(50)
    write_manifest(there, tmp_path / "m.parquet")
    rows = open_manifest(tmp_path / "m.parquet")
    assert pa.concat_tables(rows.tables()).equals(read_manifest(tmp_path / "m.parquet"))
