"""A column that is declared here, by one `Column` and one stage function, is one of the corpus to every command."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import soundfile

from tests.media_world import MediaWorld, world_recipe
from vidaudio.config.corpus import CorpusRecipe, PackBlock, RunSettings
from vidaudio.corpus import columns
from vidaudio.corpus.columns import EXTRACT, Column, Members
from vidaudio.corpus.corpus import Corpus, create_or_open, open_corpus
from vidaudio.errors import CorpusError, RecipeError
from vidaudio.maintenance.export import TABLE_FILE, export
from vidaudio.maintenance.remove import remove
from vidaudio.maintenance.status import StageStatus, corpus_status
from vidaudio.maintenance.verify import verify_corpus
from vidaudio.manifest import read_manifest
from vidaudio.packs.card import CARD_FILE
from vidaudio.pipeline import stages
from vidaudio.pipeline.build import build, pack
from vidaudio.pipeline.clip_progress import Advance, ignore_progress
from vidaudio.pipeline.dry_run import dry_run
from vidaudio.pipeline.shard_tasks import missing_shards
from vidaudio.shards.commit import CommitRecord, commit, encode_table, read_table, table_name
from vidaudio.shards.open import open_store
from vidaudio.shards.read import TarReader
from vidaudio.shards.tar import ShardWriter, list_members

NAME = "loudness2"
LOUDNESS = Column(
    NAME,
    NAME,
    pa.schema([("id", pa.string()), (NAME, pa.float64())]),
    needs=("extract",),
    selectable=(NAME,),
)
# Louder are all tones; the clip without any has no number.
LOUD = f"{NAME} > -60"


def extracted(corpus: Corpus, shard: int) -> tuple[list[dict[str, Any]], str]:
    """Return the rows of a shard's clips that came through, and the name of their tar."""
    av, record = read_table(corpus.store, table_name(EXTRACT.folder, shard))
    return [row for row in av.to_pylist() if row["state"] == "done"], f"{EXTRACT.folder}/{record.tar}"


def measure(
    corpus: Corpus, shard: int, folder: str, _: RunSettings, advance: Advance = ignore_progress
) -> CommitRecord:
    """The stage: the level of every clip's sound, dB; nothing for silence."""
    rows, tar_name = extracted(corpus, shard)
    levels = []
    with TarReader(corpus.store, tar_name) as tar:
        for row in rows:
            sound, _ = soundfile.read(io.BytesIO(tar.read(row["audio_offset"], row["audio_length"])))
            power = float(np.mean(sound**2))
            levels.append(10 * np.log10(power) if power > 1e-9 else None)
            advance(1)
    table = pa.table({"id": [row["id"] for row in rows], NAME: levels}, schema=LOUDNESS.schema)
    return commit(corpus.store, folder, shard, stage=NAME, plan_hash=corpus.plan_hash, table=table)


@pytest.fixture(scope="module")
def declared(built_corpus: Corpus) -> Iterator[None]:
    """The column and its stage, declared after the shared corpus was built without them, in this process only."""
    functions = stages.stage_functions

    def with_measure(keep: str = "all") -> Mapping[str, stages.StageFunction]:
        return {**functions(keep), NAME: measure}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "COLUMNS", (*columns.COLUMNS, LOUDNESS))
        patch.setattr(stages, "stage_functions", with_measure)
        yield


@pytest.fixture(scope="module")
def recipe(tiny_clip: Path) -> CorpusRecipe:
    return world_recipe(tiny_clip, f"pack.where='{LOUD}'")


@pytest.fixture(scope="module")
def listed(media_world: MediaWorld) -> str:
    return str(media_world.manifest)


@pytest.fixture(scope="module")
def whole(declared: None, recipe: CorpusRecipe, listed: str, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A corpus built from nothing, with the column, and packed by it."""
    url = str(tmp_path_factory.mktemp("toy") / "corpus")
    plan = dry_run(recipe, listed, url)
    assert list(plan.missing_shards) == ["download", "extract", "facts", "embed", NAME]
    assert plan.missing_shards[NAME] == plan.shards
    build(recipe, listed, url, progress=False)
    return open_corpus(url)


@pytest.fixture
def copied(whole: Corpus, tmp_path: Path) -> Corpus:
    return open_corpus(str(shutil.copytree(whole.url, tmp_path / "corpus", ignore=shutil.ignore_patterns("runs"))))


def levels(corpus: Corpus) -> dict[str, float | None]:
    """Level by clip, of all tables."""
    found: dict[str, float | None] = {}
    for shard in range(corpus.shards):
        table, _ = read_table(corpus.store, table_name(NAME, shard))
        found |= zip(table["id"].to_pylist(), table[NAME].to_pylist(), strict=True)
    return found


def packed_ids(corpus: Corpus, name: str) -> set[str]:
    tables = [read_table(corpus.store, f"training/{name}/{path.name}")[0] for path in _tables(corpus, name)]
    return {clip for table in tables for clip in table["id"].to_pylist()}


def _tables(corpus: Corpus, name: str) -> list[Path]:
    return sorted(Path(corpus.url, "training", name).glob("*-*.parquet"))


def problems(corpus: Corpus) -> dict[str, str]:
    return {problem.file: problem.what for problem in verify_corpus(corpus.url, progress=False).problems}


def stage_of(corpus: Corpus) -> StageStatus:
    (stage,) = (stage for stage in corpus_status(corpus.url).stages if stage.name == NAME)
    return stage


def test_a_build_from_nothing_makes_it_and_packs_by_it(whole: Corpus, media_world: MediaWorld, recipe, listed):
    assert set(levels(whole)) == set(media_world.usable)
    assert [clip for clip, level in levels(whole).items() if level is None] == ["silent"]
    assert packed_ids(whole, "default") == set(media_world.usable) - {"silent"}
    assert (stage_of(whole).shards, stage_of(whole).done) == (whole.shards, len(media_world.usable))
    assert f"  {NAME:<10}{len(media_world.usable):>9,} done\n" in f"{corpus_status(whole.url)}\n"
    assert verify_corpus(whole.url, progress=False).ok
    card = Path(whole.url, "training", "default", CARD_FILE).read_text()
    assert f"| {NAME} | done | {len(media_world.usable)} |" in card
    assert set(dry_run(recipe, listed, whole.url).missing_shards.values()) == {0}


def test_a_build_adds_it_to_a_corpus_that_stands(
    declared: None, built_corpus: Corpus, whole: Corpus, recipe: CorpusRecipe, listed: str, tmp_path: Path
):
    folder = shutil.copytree(built_corpus.url, tmp_path / "corpus", ignore=shutil.ignore_patterns("runs"))
    corpus = open_corpus(str(folder))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert not stage_of(corpus).shards
    with pytest.raises(CorpusError, match=rf"4 of 4 shards of .* have no {NAME} yet; build first"):
        pack(corpus.url, PackBlock(name="by-level", where=LOUD), progress=False)
    assert dry_run(recipe, listed, corpus.url, only=NAME).missing_shards == {NAME: corpus.shards}
    other = recipe.model_copy(update={"pack": recipe.pack.model_copy(update={"name": "other"})})
    plan = dry_run(other, listed, corpus.url, only=f"{NAME},pack")
    assert plan.pack is not None
    assert plan.pack.when == "after_shards"
    with pytest.raises(CorpusError, match=f"have no {NAME} yet; build first"):
        dry_run(other, listed, corpus.url, only="pack")
    build(recipe, listed, corpus.url, only=NAME, progress=False)
    assert {path: path.read_bytes() for path in before} == before
    tables = [table_name(NAME, shard) for shard in range(corpus.shards)]
    assert [Path(corpus.url, name).read_bytes() for name in tables] == [
        Path(whole.url, name).read_bytes() for name in tables
    ]
    assert dry_run(recipe, listed, corpus.url, only=NAME).missing_shards == {NAME: 0}
    pack(corpus.url, PackBlock(name="by-level", where=f"{LOUD} and seconds > 7"), progress=False)
    assert packed_ids(corpus, "by-level") == {"fractal", "long"}
    assert problems(corpus) == {}


def test_a_selection_by_it_takes_the_clips_that_have_such_a_value(copied: Corpus):
    known = {clip: level for clip, level in levels(copied).items() if level is not None}
    middle = sorted(known.values())[len(known) // 2]
    pack(copied.url, PackBlock(name="half", where=f"{NAME} >= {middle!r}"), progress=False)
    assert packed_ids(copied, "half") == {clip for clip, level in known.items() if level >= middle}


def test_damaged_and_lost_tables_are_found(copied: Corpus):
    damaged, lost, others, strangers, whose = (Path(copied.url, table_name(NAME, shard)) for shard in (0, 1, 2, 3, 99))
    store = open_store(copied.url)
    table, record = read_table(store, table_name(NAME, 2))
    others.write_bytes(encode_table(table.append_column("more", table["id"]), record))
    table, record = read_table(store, table_name(NAME, 3))
    whose.write_bytes(strangers.read_bytes())
    rows = pa.Table.from_pylist([*table.to_pylist(), {"id": "nobody", NAME: -3.0}], schema=LOUDNESS.schema)
    strangers.write_bytes(encode_table(rows, replace(record, rows=len(rows))))
    flipped = bytearray(damaged.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    damaged.write_bytes(flipped)
    lost.unlink()
    found = {file.removeprefix(f"{NAME}/"): what for file, what in problems(copied).items()}
    assert set(found) == {f"{shard:06d}.parquet" for shard in (0, 1, 2, 3, 99)}
    assert "damaged" in found["000000.parquet"]
    assert found["000001.parquet"] == "is missing, and training/default was made from it"
    assert found["000002.parquet"] == "has other columns than this version writes"
    assert found["000003.parquet"] == "has rows of clips that the shard does not have: nobody"
    assert "stray shard" in found["000099.parquet"]


def test_a_lost_table_that_it_was_made_from_is_found(copied: Corpus):
    Path(copied.url, table_name("av", 0)).unlink()
    found = problems(copied)
    assert found[table_name(NAME, 0)] == "stands without av/000000.parquet, which it was made from"


def test_a_build_makes_a_lost_table_again(copied: Corpus, whole: Corpus, recipe: CorpusRecipe, listed: str):
    Path(copied.url, table_name(NAME, 1)).unlink()
    report = verify_corpus(copied.url, progress=False)
    assert [problem.file for problem in report.problems] == [table_name(NAME, 1)]
    assert f"the plan of training/default could not be made again without {table_name(NAME, 1)}" in report.notes
    build(recipe, listed, copied.url, progress=False)
    assert levels(copied) == levels(whole)
    assert problems(copied) == {}


def test_a_removal_takes_a_clips_row_out(copied: Corpus):
    before = levels(copied)
    remove(copied.url, ["bars"], progress=False)
    after = levels(copied)
    assert after == {clip: level for clip, level in before.items() if clip != "bars"}
    assert stage_of(copied).done == len(after)
    assert problems(copied) == {}


def test_an_export_lists_it_and_selects_by_it(copied: Corpus, tmp_path: Path):
    def rows(folder: Path) -> list[dict[str, str]]:
        with (folder / TABLE_FILE).open(newline="") as file:
            return list(csv.DictReader(file))

    export(copied.url, tmp_path / "all", progress=False)
    assert {row["id"]: float(row[NAME]) if row[NAME] else None for row in rows(tmp_path / "all")} == levels(copied)
    export(copied.url, tmp_path / "loud", where=LOUD, progress=False)
    assert {row["id"] for row in rows(tmp_path / "loud")} == set(levels(copied)) - {"silent"}
    Path(copied.url, table_name(NAME, 1)).unlink()
    with pytest.raises(CorpusError, match=rf"1 of 4 shards of .* have no {NAME} yet"):
        export(copied.url, tmp_path / "lost", where=LOUD, progress=False)
    export(copied.url, tmp_path / "without", progress=False)
    assert NAME not in rows(tmp_path / "without")[0]


def test_it_is_refused_where_what_it_needs_is_neither_there_nor_wanted(
    declared: None, recipe: CorpusRecipe, listed: str, tmp_path: Path
):
    url = str(tmp_path / "corpus")
    for ask in (dry_run, build):
        with pytest.raises(CorpusError, match=f"{NAME} needs what download and extract would leave there"):
            ask(recipe, listed, url, only=NAME)
        # The pack's selection names the column, too.
        with pytest.raises(CorpusError, match=f"pack needs what {NAME} would leave there"):
            ask(recipe, listed, url, only="download,extract,embed,pack")
    corpus = create_or_open(url, recipe, read_manifest(listed))
    with pytest.raises(CorpusError, match=f"{NAME} reads what extract writes, and that is not there yet"):
        missing_shards(corpus, [NAME], {})
    assert next(iter(missing_shards(corpus, ["extract", "download", NAME], {}))) == (0, ["download", "extract", NAME])


def test_where_it_is_not_declared_it_is_nothing(built_corpus: Corpus, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(columns, "COLUMNS", tuple(c for c in columns.COLUMNS if c.stage != NAME))
    with pytest.raises(RecipeError, match=NAME):
        pack(built_corpus.url, PackBlock(name="none", where=LOUD), progress=False)
    assert not columns.belongs(NAME)


COVERS = Column(
    "cover",
    "covers",
    pa.schema([(name, pa.string()) for name in ("id", "state", "reason")] + [("at", pa.int64()), ("size", pa.int64())]),
    needs=("extract",),
    tar_members=(Members(lambda row: [f"{row['id']}.jpg"] if row["state"] == "done" else [], "at", "size"),),
)


def cover(corpus: Corpus, shard: int) -> None:
    """A stage with a tar: the first picture of every clip."""
    rows, tar_name = extracted(corpus, shard)
    with corpus.store.workspace() as scratch, TarReader(corpus.store, tar_name) as av:
        tar = scratch / "covers.tar"
        with ShardWriter(tar) as writer:
            for row in rows:
                picture = av.read(row["frame_offsets"][0], row["frame_lengths"][0])
                writer.write(row["id"], {"jpg": picture, "json": b"{}"})
        inside = [list_members(tar)[f"{row['id']}.jpg"] for row in rows]
        table = pa.Table.from_pylist(
            [
                {"id": row["id"], "state": "done", "at": member.offset, "size": member.length}
                for row, member in zip(rows, inside, strict=True)
            ],
            schema=COVERS.schema,
        )
        commit(corpus.store, "covers", shard, stage="cover", plan_hash=corpus.plan_hash, table=table, tar=tar)


def test_a_column_with_a_tar_is_verified_and_purged_by_its_members(
    built_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(columns, "COLUMNS", (COVERS, *columns.COLUMNS))
    folder = shutil.copytree(built_corpus.url, tmp_path / "corpus", ignore=shutil.ignore_patterns("runs", NAME))
    corpus = open_corpus(str(folder))
    for shard in range(corpus.shards):
        cover(corpus, shard)
    assert problems(corpus) == {}
    shard = next(n for n in range(corpus.shards) if "bars" in corpus.table(n)["id"].to_pylist())
    tars = set((folder / "covers").glob(f"{shard:06d}.*.tar"))
    remove(corpus.url, ["bars"], progress=False)
    assert problems(corpus) == {}
    table, record = read_table(corpus.store, table_name("covers", shard))
    states = dict(zip(table["id"].to_pylist(), table["state"].to_pylist(), strict=True))
    assert states.pop("bars") == "removed"
    assert set(states.values()) == {"done"}
    assert tars.isdisjoint((folder / "covers").glob("*.tar"))
    assert set(list_members(folder / "covers" / record.tar)) == {f"{c}.{e}" for c in states for e in ("jpg", "json")}
    moved = table.set_column(3, "at", pa.array([None if at is None else at + 1 for at in table["at"].to_pylist()]))
    Path(corpus.url, table_name("covers", shard)).write_bytes(encode_table(moved, record))
    assert "at another place than its table says" in problems(corpus)[f"covers/{record.tar}"]
    (folder / "covers" / record.tar).unlink()
    assert problems(corpus)[f"covers/{record.tar}"] == "is missing, and its table still stands"
