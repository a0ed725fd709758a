"""What `verify` keeps of a corpus are columns and hashes: it finds what it would with all rows held by name."""

from __future__ import annotations

import json
import mmap
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.verify_memory import NO_TAR, write_whole_corpus
from tests.maintenance.checks import check
from vidaudio.config.corpus import load_corpus_recipe
from vidaudio.corpus import manifest_parts
from vidaudio.corpus.corpus import create_or_open, open_corpus
from vidaudio.maintenance.verify import manifest_lookup, split_leaks, verify_corpus
from vidaudio.maintenance.verify.findings import Findings
from vidaudio.maintenance.verify.index import PackIndex
from vidaudio.maintenance.verify.manifest_lookup import ListedClips, origin_digest, words_digest
from vidaudio.maintenance.verify.packs import Pack, RebuiltPlan
from vidaudio.maintenance.verify.split_leaks import SplitLeakCheck, sources_by_side
from vidaudio.maintenance.verify.vector_digests import ClipVectors, shard_vectors, vector_digest
from vidaudio.manifest import Clip, clips_from_table, table_from_clips
from vidaudio.manifest.source import TableRows
from vidaudio.shards.checksum import OPEN_SEAL, SEAL_KEY, write_checksum
from vidaudio.shards.commit import CommitRecord, encode_table, read_table
from vidaudio.shards.open import open_store
from vidaudio.shards.parallel_read import in_order
from vidaudio.shards.store import LocalStore
from vidaudio.stream.index import INDEX_DAMAGE, SAMPLE_SCHEMA

# What a row of a training table has beside its names.
TABLE_SCHEMA = SAMPLE_SCHEMA.remove(SAMPLE_SCHEMA.get_field_index("shard"))
NO_SAMPLE = dict.fromkeys(("samples", "audio_offset", "audio_length", "vectors_offset", "vectors_length"), 0)
NO_SAMPLE |= {"audio_start_seconds": 0.0, "frame_seconds": [], "grid_seconds": [], "labels": [], "captions": []}


def few_hashes(texts: pa.ChunkedArray) -> np.ndarray:
    """Three hashes for all texts."""
    return np.array([sum(map(ord, text)) % 3 for text in texts.to_pylist()], np.uint64)


@pytest.fixture
def colliding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_lookup, "hashed", few_hashes)
    monkeypatch.setattr(split_leaks, "hashed", few_hashes)


def mix_up(table: Path) -> None:
    """Samples of a training shard with other words, another split, another source, and of a clip that is not listed."""
    rows, record = read_table(open_store(table.parent), table.name)
    changed = rows.to_pylist()
    # Of clips to which the list gives no split, so that only their being on two sides is wrong.
    drawn = [row for row in changed if row["id"].startswith("multi")]
    drawn[0]["labels"] = ["something else"]
    drawn[1]["split"] = "val"
    next(row for row in changed if row not in drawn)["id"] = "nobody"
    table.write_bytes(encode_table(pa.Table.from_pylist(changed, schema=rows.schema), record))


class TestWholeCorpus:
    def test_the_same_is_found_where_hashes_meet(self, copied: Path, monkeypatch: pytest.MonkeyPatch):
        mix_up(copied / "training" / "default" / "train-000000.parquet")
        apart = check(copied)
        words = " ".join(problem.what for problem in apart.problems)
        for expected in ("other labels or captions", "nobody, which the list does not have", "which is in"):
            assert expected in words
        monkeypatch.setattr(manifest_lookup, "hashed", few_hashes)
        monkeypatch.setattr(split_leaks, "hashed", few_hashes)
        assert check(copied) == apart

    def test_without_a_table_of_vectors_it_is_that_table_that_the_plan_wants(self, copied: Path):
        (encoder,) = (copied / "embeddings").iterdir()
        last = f"{open_corpus(str(copied)).shards - 1:06d}.parquet"
        (encoder / last).unlink()
        report = check(copied)
        lost = f"embeddings/{encoder.name}/{last}"
        assert lost in {problem.file for problem in report.problems}
        assert [n for n in report.notes if "plan" in n] == [
            f"the plan of training/default could not be made again without {lost}"
        ]

    def test_a_corpus_that_has_grown_is_why_the_plan_is_not_made_again(self, copied: Path):
        corpus = open_corpus(str(copied))
        (clip,) = (clip for clip in clips_from_table(corpus.manifest()) if clip.id == "bars")
        corpus.grown(TableRows(table_from_clips([replace(clip, id="later", source="file:later.mp4")])), "added")
        (note,) = (note for note in check(copied).notes if "plan" in note)
        assert note.startswith("the plan of training/default cannot be made again (1 of ")
        assert "not embedded yet" in note

    def test_a_value_changed_in_any_row_group_of_the_list_is_found(self, tmp_path: Path, monkeypatch):
        monkeypatch.setattr(manifest_parts, "ROW_GROUP_CLIPS", 4)
        rows = [Clip(f"c{n:02d}", f"web:{n}", "d", f"https://example.org/{n}", split="train") for n in range(12)]
        recipe = load_corpus_recipe("folder", ("shard_clips=2", "embed.encoder.precision=float32"))
        url = tmp_path / "corpus"
        create_or_open(str(url), recipe, table_from_clips(rows))
        assert check(url).ok
        path = url / "manifest.parquet"
        whole = path.read_bytes()
        groups = pq.ParquetFile(path).num_row_groups
        assert groups == 3
        for group in range(groups):
            path.write_bytes(whole)
            rewrite_group(path, group)
            (problem,) = check(url).problems
            assert problem.file == "manifest.parquet"
            assert problem.what == "is damaged: it is not the list that the corpus was made from"

    def test_the_measured_corpus_is_fine_and_is_verified_as_a_remote_one(self, tmp_path: Path):
        report = verify_corpus(write_whole_corpus(tmp_path, 700), sample=NO_TAR, progress=False)
        assert report.problems == ()
        assert report.counts["clips"] == report.counts["training_samples"] == 700
        assert report.counts["tars"] == 3 + 2
        assert report.counts["tars_hashed"] == 0
        assert not any("plan" in note or "index" in note for note in report.notes)


def rewrite_group(path: Path, number: int) -> None:
    """Another label for one row of one row group, sealed again."""
    file = pq.ParquetFile(path)
    groups = [file.read_row_group(group) for group in range(file.num_row_groups)]
    metadata = file.schema_arrow.metadata | {SEAL_KEY: OPEN_SEAL}
    rows = groups[number].to_pylist()
    rows[1]["labels"] = ["changed"]
    groups[number] = pa.Table.from_pylist(rows, schema=groups[number].schema)
    schema = groups[0].schema.with_metadata(metadata)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for group in groups:
            writer.write_table(group.replace_schema_metadata(metadata))
    write_checksum(path)


@pytest.mark.parametrize("seed", range(5))
def test_of_clips_that_come_again_every_place_is_known_and_the_last_row_counts(colliding, seed: int):
    draw = random.Random(seed)
    rows = [{"id": f"c{draw.randrange(30)}", "nth": n} for n in range(60)]
    pieces = [pa.Table.from_pylist(rows[first : first + 7]) for first in range(0, 60, 7)]
    clips = ListedClips(pa.concat_tables(pieces))
    asked = {f"c{draw.randrange(40)}" for _ in range(12)}
    places = {clip: [row["nth"] for row in rows if row["id"] == clip] for clip in asked}
    places = {clip: there for clip, there in places.items() if there}
    assert clips.places(asked) == places
    assert clips.of(asked) == {clip: rows[there[-1]] for clip, there in places.items()}


def test_digests_differ_exactly_where_the_texts_do():
    texts = [None, [], [""], ["a"], ["b"], ["a", "b"], ["b", "a"], ["a,b"], ['a","b'], ["ab"], [None], ["null"]]
    pairs = [(mine, others) for mine in texts for others in texts]
    assert len({words_digest(*pair) for pair in pairs}) == len(pairs)
    sources = [None, "", "a", "b", "ab", "a:b"]
    assert len({origin_digest(s, d) for s in sources for d in sources}) == len(sources) ** 2


@pytest.mark.parametrize("seed", range(5))
def test_a_clips_vectors_are_those_of_the_newest_shard_that_has_any(seed: int):
    """As if the shards' vectors were put into one dict, a shard after another."""
    draw = random.Random(seed)
    names = [f"c{n}" for n in range(12)]
    shards = [draw.sample(names, 5) for _ in range(6)]
    clips = ListedClips(pa.table({"id": [clip for shard in shards for clip in shard]}))
    vectors, whole = ClipVectors(np.full(6, 5)), {}
    for shard, own in enumerate(shards):
        if shard == draw.randrange(6):
            continue
        # Mostly the shard's own clips, in any order, with any number of pictures; some of other shards, or of none.
        ids = [clip for clip in [*own, *draw.sample([*names, "nobody"], 2)] for _ in range(draw.randrange(3))]
        draw.shuffle(ids)
        values = np.random.default_rng(shard).normal(size=(len(ids), 4)).astype(np.float16)
        vectors.add(shard, shard_vectors(own, ids, values))
        found: dict[str, bytes] = {}
        for clip, value in zip(ids, values, strict=True):
            found[clip] = found.get(clip, b"") + vector_digest(value)
        whole |= found
    places = clips.places([*names, "nobody"])
    assert {c: vectors.of(c, places.get(c, ())) for c in [*names, "nobody"]} == {
        c: whole.get(c) for c in [*names, "nobody"]
    }


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("hashes", ["all", "three"])
def test_sources_on_two_sides_are_told_as_by_their_names(tmp_path: Path, monkeypatch, seed: int, hashes: str):
    if hashes == "three":
        monkeypatch.setattr(split_leaks, "hashed", few_hashes)
    draw = random.Random(seed)
    store = LocalStore(tmp_path)
    ids = [f"c{n}" for n in range(24)]
    split = {clip: draw.choice([None, None, "train"]) for clip in ids}
    facts = ListedClips(pa.table({"id": ids, "split": pa.array([split[clip] for clip in ids], pa.string())}))
    pack = Pack("training/p", {}, {}, None, None, facts, RebuiltPlan())
    found, expected, first = SplitLeakCheck(), [], {}
    for number, name in enumerate(("test-000000", "train-000000", "train-000001", "val-000000")):
        # With seed 0 no source is on two sides.
        rows = [
            {"id": clip, "source": f"{name if seed == 0 else ''}s{draw.randrange(40)}", "split": name[:-7]}
            for clip in [*draw.sample(ids, 8), "nobody"]
        ]
        at = f"training/p/{name}.parquet"
        record = CommitRecord("pack", number, "", len(rows))
        whole = [NO_SAMPLE | row | {"key": row["id"]} for row in rows]
        assert store.create(at, encode_table(pa.Table.from_pylist(whole, schema=TABLE_SCHEMA), record))
        found.add(name, sources_by_side(rows, facts.of(row["id"] for row in rows)))
        for row in rows:
            if split.get(row["id"], "none at all") is None:
                other = first.setdefault(row["source"], row["split"])
                if other != row["split"]:
                    expected.append((at, f"has {row['source']} in {row['split']}, which is in {other} too"))
    findings = Findings()
    found.report_to(store, pack, findings)
    # With seed 0 the two of the train split may share sources, which is no fault.
    assert [(problem.file, problem.what) for problem in findings.problems] == expected
    assert bool(expected) == (seed > 0)
    assert not findings.counts


def samples(rows: int, seed: int) -> pa.Table:
    """A training shard's table."""
    draw = random.Random(seed)
    made = []
    for n in range(rows):
        row = {"key": f"k{seed}-{n}", "id": f"c{n}", "source": "s", "dataset": "d", "split": "train"}
        row |= {"labels": draw.sample(["a", "b"], draw.randrange(3)), "captions": []}
        row |= {"samples": draw.randrange(9), "audio_start_seconds": 0.5, "frame_seconds": [0.0, 1.0]}
        row |= {"grid_seconds": [0.0, 1.0], "audio_offset": n, "audio_length": 1}
        row |= {"vectors_offset": n, "vectors_length": 1}
        made.append(row)
    return pa.Table.from_pylist(made, schema=TABLE_SCHEMA)


def numbered(tables: list[pa.Table]) -> list[pa.Table]:
    return [
        table.append_column("shard", pa.array([n] * len(table), pa.int32())).select(SAMPLE_SCHEMA.names)
        for n, table in enumerate(tables)
    ]


def written_otherwise(tables: list[pa.Table]) -> Iterator[tuple[str, pa.Table]]:
    """What an index may hold in the place of the tables' rows."""
    whole = pa.concat_tables(numbered(tables))
    rows = whole.to_pylist()
    yield "two rows change places", whole.take(pa.array([1, 0, *range(2, len(rows))]))
    yield "a row is missing", whole.slice(1)
    yield "a row comes twice", pa.concat_tables([whole, whole.slice(len(rows) - 1)])
    yield "a shard is missing", pa.concat_tables(numbered(tables)[:-1])
    yield "a shard too many", pa.concat_tables(numbered([*tables, tables[0]]))
    yield "shards change places", pa.concat_tables(numbered([tables[1], tables[0], *tables[2:]]))
    yield "in another order of shards", pa.concat_tables([numbered(tables)[n] for n in (1, 0, 2)])
    yield "another label", pa.Table.from_pylist([*rows[:-1], rows[-1] | {"labels": ["c"]}], schema=SAMPLE_SCHEMA)
    yield "another number", pa.Table.from_pylist([rows[0] | {"shard": 1}, *rows[1:]], schema=SAMPLE_SCHEMA)
    yield "no number", pa.Table.from_pylist([rows[0] | {"shard": None}, *rows[1:]], schema=SAMPLE_SCHEMA)
    yield "a shard below all", pa.Table.from_pylist([rows[0] | {"shard": -1}, *rows], schema=SAMPLE_SCHEMA)
    yield "no rows", whole.slice(0, 0)
    yield "other columns", whole.set_column(7, "samples", whole["samples"].cast(pa.int32()))


def index_of(table: pa.Table, path: Path, shards: int) -> PackIndex:
    described = {"tars": [f"{n}.tar" for n in range(shards)], "audio": "flac", "sample_rate": 16_000}
    described |= {"frames_per_second": 1.0, "encoder": {"dimensions": 4}}
    schema = table.schema.with_metadata({b"vidaudio": json.dumps(described).encode()})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_table(table)
    with path.open("rb") as file:
        return PackIndex(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), shards)


REFUSED = {
    "a shard too many",
    "another number",
    "no number",
    "a shard below all",
    "shards change places",
    "in another order of shards",
    "other columns",
}


@pytest.mark.parametrize("sizes", [(5, 5, 5), (4, 1, 6), (1, 2, 1)])
def test_an_index_is_compared_a_shard_at_a_time_as_it_would_be_whole(tmp_path: Path, sizes: tuple[int, ...]):
    tables = [samples(rows, seed) for seed, rows in enumerate(sizes)]
    whole = pa.concat_tables(numbered(tables))
    others = [*written_otherwise(tables), ("as it should be", whole)]
    for nth, (name, other) in enumerate(others):
        try:
            index = index_of(other, tmp_path / f"{nth}.arrow", len(tables))
        except INDEX_DAMAGE:
            # What no pack writes is refused before anything is compared.
            assert name in REFUSED, name
            continue
        for number in random.Random(nth).sample(range(len(tables)), len(tables)):
            assert not index.compared
            index.compare(number, tables[number])
        assert index.compared
        assert index.holds_all == other.equals(whole) == (name == "as it should be"), name


def test_results_come_in_order_and_few_are_begun_before_they_are_taken():
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        return item * item

    with ThreadPoolExecutor(3) as pool:
        for taken, result in enumerate(in_order(pool, work, range(50), ahead=5)):
            assert result == taken * taken
            assert len(begun) <= taken + 1 + 5
    assert sorted(begun) == list(range(50))
