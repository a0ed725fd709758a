"""Packing: a selection of clips, split by source, as training shards that say where everything came from."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import pickle
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import soundfile
from typer.testing import CliRunner

from tests.media_world import pack_here
from tests.pipeline.dask_cluster import dask_cluster
from vidaudio.cli.app import app
from vidaudio.config.corpus import PackBlock, stable_hash
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.errors import CorpusError, RecipeError
from vidaudio.maintenance.status import corpus_status
from vidaudio.manifest import clips_from_table
from vidaudio.packs import input_cache, selection
from vidaudio.packs import plan as pack_plan
from vidaudio.packs.gather import gathered
from vidaudio.packs.input_cache import is_worthwhile, sources_folder, write_sources
from vidaudio.packs.plan import PackPlan, begin_pack, missing_tasks, plan_pack
from vidaudio.packs.vectors import packed_columns
from vidaudio.packs.write import finish_pack, pack_shard
from vidaudio.pipeline import build as running
from vidaudio.pipeline.build import pack
from vidaudio.pipeline.stages.embed import prepare_encoder
from vidaudio.shards.commit import read_table, table_name
from vidaudio.shards.parallel_read import read_tables
from vidaudio.shards.read import TarReader
from vidaudio.shards.store import LocalStore
from vidaudio.stream.index import open_index
from vidaudio.stream.reader import SampleReader
from vidaudio.stream.windows import Windows, WindowShape


def samples_of(folder: str) -> dict[str, dict[str, bytes]]:
    """Members of every tar by sample key and ending, as plain tarfile reads them."""
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted(Path(folder).glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, ending = member.name.split(".", 1)
                found.setdefault(key, {})[ending] = tar.extractfile(member).read()
    return found


def sound(parts: dict[str, bytes]) -> np.ndarray:
    values, rate = soundfile.read(io.BytesIO(parts.get("flac") or parts["wav"]), dtype="int16")
    assert rate == 16_000
    return values


def vectors(parts: dict[str, bytes]) -> np.ndarray:
    return np.load(io.BytesIO(parts["clip.npy"]))


def planned(corpus: Corpus, **settings: object) -> PackPlan:
    block = PackBlock(**{**corpus.pack.model_dump(exclude_none=True), **settings})
    return plan_pack(corpus, block, {"embed": prepare_encoder(corpus)})


def ids(plan: PackPlan) -> set[str]:
    return {sample.clip_id for task in plan.tasks for sample in task.samples}


class TestDefault:
    def test_ids_labels_and_splits_reach_the_training_shard(self, built_corpus, media_world):
        samples = samples_of(f"{built_corpus.url}/training/default")
        described = {key: json.loads(parts["json"]) for key, parts in samples.items()}
        assert {entry["id"] for entry in described.values()} == set(media_world.usable) - {"silent"}
        for clip in clips_from_table(built_corpus.manifest()):
            for entry in described.values():
                if entry["id"] == clip.id:
                    assert tuple(entry["labels"]) == clip.labels
                    assert (entry["source"], entry["dataset"]) == (clip.source, "world")
                    assert entry["split"] == (clip.split or entry["split"])
        assert described["multi_b"]["labels"] == ["second", "shared"]
        assert described["multi_c"]["start_seconds"] == 6.5

    def test_shards_bear_their_split_and_hold_no_more_than_asked(self, built_corpus):
        for path in Path(built_corpus.url, "training", "default").glob("*.tar"):
            with tarfile.open(path) as tar:
                described = [json.load(tar.extractfile(m)) for m in tar if m.name.endswith(".json")]
            assert {entry["split"] for entry in described} == {path.name.split("-")[0]}
            assert len(described) <= 5

    def test_a_sample_holds_its_clips_sound_and_vectors(self, built_corpus):
        samples = samples_of(f"{built_corpus.url}/training/default")
        for shard in range(built_corpus.shards):
            av, record = read_table(built_corpus.store, table_name("av", shard))
            embedded, _ = read_table(
                built_corpus.store, table_name(f"embeddings/{prepare_encoder(built_corpus)}", shard)
            )
            own = np.stack(embedded["embedding"].to_numpy()) if len(embedded) else np.zeros((0, 32))
            with TarReader(built_corpus.store, f"av/{record.tar}") as tar:
                for row in av.to_pylist():
                    if row["id"] not in samples:
                        continue
                    parts = samples[row["id"]]
                    assert parts["flac"] == tar.read(row["audio_offset"], row["audio_length"])
                    assert np.array_equal(vectors(parts), own[np.array(embedded["id"].to_pylist()) == row["id"]])
                    described = json.loads(parts["json"])
                    assert described["grid_seconds"] == row["grid_seconds"]
                    assert described["frame_seconds"] == row["frame_seconds"]


class TestSelection:
    @pytest.mark.parametrize(
        ("where", "wanted"),
        [
            (None, None),
            ("silent", {"silent"}),
            ("not silent and seconds > 7", {"fractal", "long"}),
            ("id == 'bars' or id in ['clock']", {"bars", "clock"}),
            ("motion > 0 and frame_seconds.str.len() == 22", {"long"}),
            ("split == 'val'", {"clock"}),
            ("id.str.startswith('multi')", {"multi_a", "multi_b", "multi_c"}),
        ],
    )
    def test_where_selects_by_the_clips_columns(self, built_corpus, media_world, where, wanted):
        found = ids(planned(built_corpus, where=where, name="x"))
        assert found == (set(media_world.usable) if wanted is None else wanted)

    @pytest.mark.parametrize(
        ("where", "looked_at"),
        [
            (None, set()),
            ("not silent and seconds > 7", {"silent", "seconds"}),
            ("motion > 0 and frame_seconds.str.len() >= 4 & (rms_dbfs < 0)", {"motion", "frame_seconds", "rms_dbfs"}),
            ("labels.str.len() == 0 or dataset != 'seconds'", {"labels", "dataset"}),
            ("`seconds` > 1", {"seconds"}),
        ],
    )
    def test_no_column_is_read_that_nobody_looks_at_and_the_plan_is_the_same(
        self, built_corpus, monkeypatch, where, looked_at
    ):
        read = []

        def noted(store, names, *, columns):
            read.append(set(columns))
            return read_tables(store, names, columns=columns)

        monkeypatch.setattr(selection, "read_tables", noted)
        few = planned(built_corpus, where=where, name="x")
        monkeypatch.setattr(pack_plan, "named_columns", lambda where: None)
        every = planned(built_corpus, where=where, name="x")
        assert few == every
        assert [asdict(task) for task in few.tasks] == [asdict(task) for task in every.tasks]
        assert read[1] == set(selection.CLIP_FACTS)
        needed = {"id", "state", "samples", "audio_start_seconds", "grid_seconds"}
        assert needed | (looked_at & read[1]) <= read[0] <= needed | looked_at

    @pytest.mark.parametrize(
        "where",
        ["nosuch > 1", "silent and (", "seconds >", "seconds + 1", "id", "3", "True", "x = 1", "@os", "silent )"],
    )
    def test_where_that_selects_nothing_sensible_is_named(self, built_corpus, where):
        with pytest.raises(RecipeError, match=r"pack\.where") as caught:
            planned(built_corpus, where=where, name="x")
        assert where in str(caught.value)

    def test_a_selection_of_none_is_refused(self, built_corpus):
        with pytest.raises(CorpusError, match="nothing to pack"):
            planned(built_corpus, where="seconds > 1000", name="x")
        with pytest.raises(CorpusError, match="none of 1 clips is long enough for a window"):
            planned(built_corpus, where="id == 'brief'", window="middle", name="x")

    def test_a_clip_without_labels_has_none_to_an_expression_too(self, built_corpus, media_world, monkeypatch):
        """In a list's table no label may be null or an empty list; a whole expression must not fail over which."""
        tables = Corpus.tables

        def with_nulls(corpus: Corpus, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
            for rows in tables(corpus, columns):
                if "labels" not in rows.column_names:
                    yield rows
                    continue
                kept = pa.array(["second" in labels for labels in rows["labels"].to_pylist()])
                labels = pc.if_else(kept, rows["labels"], pa.scalar(None, rows["labels"].type))
                yield rows.set_column(rows.schema.get_field_index("labels"), "labels", labels)

        monkeypatch.setattr(Corpus, "tables", with_nulls)
        assert ids(planned(built_corpus, where="labels.str.join(',').str.contains('second')", name="x")) == {"multi_b"}
        without = ids(planned(built_corpus, where="labels.str.len() == 0", name="x"))
        assert without == set(media_world.usable) - {"multi_b"}


class TestSplits:
    def test_clips_of_one_source_are_on_one_side_whatever_the_seed(self, built_corpus):
        sides = set()
        fractions = {"train": 1.0, "val": 1.0, "test": 1.0}
        for seed in range(12):
            plan = planned(built_corpus, seed=seed, split_fractions=fractions, name="x")
            of_clip = {sample.clip_id: task.split for task in plan.tasks for sample in task.samples}
            assert of_clip["multi_a"] == of_clip["multi_b"] == of_clip["multi_c"]
            sides.add(of_clip["multi_a"])
            # The list's own split stands, also for the other clips of its source.
            assert of_clip["clock"] == "val"
            assert of_clip["bars"] == "train"
            assert of_clip["web_a"] == of_clip["web_b"] == "test"
        assert sides == {"train", "val", "test"}

    def test_the_order_in_which_shares_are_written_decides_nothing(self, built_corpus):
        shares = {"train": 1.0, "val": 2.0, "test": 3.0}
        plans = [
            planned(built_corpus, split_fractions={name: shares[name] for name in order}, seed=seed, name="x")
            for seed in range(3)
            for order in itertools.permutations(shares)
        ]
        assert len({plan.plan_hash for plan in plans}) == 3

    @pytest.mark.parametrize("fractions", [{}, {"train": 0.0}, {"train": 1.0, "val": -0.1}])
    def test_shares_that_are_none_are_refused(self, built_corpus, fractions):
        with pytest.raises(RecipeError, match="split_fractions"):
            planned(built_corpus, split_fractions=fractions, name="x")

    def test_the_plan_is_the_same_each_time_and_its_order_depends_on_the_seed(self, built_corpus):
        assert planned(built_corpus, name="x") == planned(built_corpus, name="x")
        orders = set()
        for seed in range(6):
            plan = planned(built_corpus, seed=seed, clips_per_shard=100, where="split == 'train'", name="x")
            orders.add(tuple(sample.key for sample in plan.tasks[0].samples))
        assert len(orders) > 1
        assert len({frozenset(order) for order in orders}) == 1


class TestPlan:
    @pytest.mark.parametrize("settings", [{}, {"window": 2, "seed": 3}, {"max_segment_seconds": 8.0}])
    def test_hash_and_order_are_those_of_all_samples_in_memory(self, built_corpus, settings):
        plan = planned(built_corpus, name="x", clips_per_shard=3, **settings)
        content = [[task.split, task.number, [asdict(s) for s in task.samples]] for task in plan.tasks]
        described = {"corpus": built_corpus.plan_hash, "encoder": prepare_encoder(built_corpus), "content": content}
        assert plan.plan_hash == stable_hash({**described, "settings": plan.settings.identity()})
        for split in {task.split for task in plan.tasks}:
            keys = [sample.key for task in plan.tasks if task.split == split for sample in task.samples]
            seed = plan.settings.seed
            assert keys == sorted(keys, key=lambda key: hashlib.sha256(f"{seed}:{key}".encode()).hexdigest())
        assert plan.samples == sum(len(task.samples) for task in plan.tasks)
        assert plan.tasks.names == [task.name for task in plan.tasks]

    def test_windows_by_their_old_name_are_the_same_pack(self, packed_corpus, packed_as):
        new = planned(packed_corpus, name="x", window="drawn", windows_per_clip=2)
        assert planned(packed_corpus, name="x", window=2) == new
        # As older versions hashed it.
        assert new.settings.identity() == {**packed_corpus.pack.identity(), "name": "x", "window": 2}
        two = Path(packed_as("two", window="drawn", windows_per_clip=2))
        stored = json.loads((two / "pack.json").read_text())
        del stored["settings"]["windows_per_clip"], stored["format"]
        (two / "pack.json").write_text(json.dumps(stored | {"settings": {**stored["settings"], "window": 2}}))
        before = {path: path.read_bytes() for path in two.iterdir()}
        settings = PackBlock(**{**packed_corpus.pack.model_dump(exclude_none=True), "name": "two", "window": 2})
        pack(packed_corpus.url, settings, progress=False)
        assert {path: path.read_bytes() for path in two.iterdir()} == before
        other = packed_corpus.pack.model_copy(update={"name": "two", "window": "middle"})
        with pytest.raises(CorpusError, match="window: 'drawn' there, 'middle' now; windows_per_clip: 2 there, None"):
            pack(packed_corpus.url, other, progress=False)

    def test_reading_in_small_pieces_gives_the_same_plan(self, built_corpus, monkeypatch):
        whole = planned(built_corpus, name="x", seed=4)
        monkeypatch.setattr(selection, "BATCH_CLIPS", 1)
        again = planned(built_corpus, name="x", seed=4)
        assert (again, again.tasks[0]) == (whole, whole.tasks[0])

    def test_every_clip_is_packed_or_left_out_for_one_cause(self, built_corpus, media_world):
        plan = planned(built_corpus, name="x", where="id != 'bars'", window="middle")
        assert plan.left_out == {"not_extracted": len(media_world.reasons), "where": 1, "too_short": 1}
        assert len(ids(plan)) + sum(plan.left_out.values()) == built_corpus.clips


class TestSources:
    """What pack tasks read of clips that were made ready for them."""

    def test_the_same_bytes_and_every_table_is_read_once(self, built_corpus, packed_as, tmp_path, monkeypatch):
        block = built_corpus.pack.model_copy(update={"name": "one-by-one", "clips_per_shard": 1, "frames": True})
        models = {"embed": prepare_encoder(built_corpus)}
        copy = shutil.copytree(built_corpus.url, tmp_path / "corpus", ignore=shutil.ignore_patterns("training", "runs"))
        corpora = {"tables": built_corpus, "sources": open_corpus(str(copy))}
        packed, reads = {}, {}
        read = LocalStore.read
        for way, corpus in corpora.items():
            names: list[str] = []
            monkeypatch.setattr(
                LocalStore, "read", lambda store, name, names=names: names.append(name) or read(store, name)
            )
            plan = plan_pack(corpus, block, models)
            begin_pack(corpus, plan, models)
            names.clear()
            tasks = missing_tasks(corpus.store, plan)
            if way == "sources":
                tasks = tasks.reading(sources_folder(plan.plan_hash))
                for shard in tasks.source_shards().tolist():
                    columns = packed_columns(corpus.store, block, models["embed"])
                    write_sources(corpus, shard, columns, tasks.sources)
            for task in tasks:
                pack_shard(corpus, task, models)
            reads[way] = Counter(name.split("/")[0] for name in names if name.startswith(("av/", "embeddings/")))
            finish_pack(corpus, plan)
            folder = Path(corpus.url, plan.folder)
            packed[way] = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert packed["sources"] == packed["tables"]
        shards = len(plan.tasks.source_shards())
        assert reads["sources"] == {"av": shards, "embeddings": shards}
        assert reads["tables"] == {"av": len(plan.tasks), "embeddings": len(plan.tasks)}
        assert not corpora["sources"].store.list(sources_folder(plan.plan_hash))
        shutil.rmtree(Path(built_corpus.url, "training", "one-by-one"))

    def test_they_are_made_where_they_save_reading_and_missed_ones_do_no_harm(self, built_corpus):
        few = planned(built_corpus, name="x", clips_per_shard=100)
        assert not is_worthwhile(few.tasks)
        task = planned(built_corpus, name="x", clips_per_shard=100).tasks.reading("runs/packs/none")[0]
        with (
            built_corpus.store.workspace() as scratch,
            gathered(built_corpus, task, {"embed": prepare_encoder(built_corpus)}, scratch) as clips,
        ):
            assert clips[task.samples[0].clip_id].row.id == task.samples[0].clip_id


class TestForms:
    def test_pcm_and_flac_hold_the_same_samples(self, built_corpus, packed_as: Callable[..., str]):
        flac = samples_of(f"{built_corpus.url}/training/default")
        pcm = samples_of(packed_as("pcm", audio="pcm16"))
        assert set(flac) == set(pcm)
        for key, parts in pcm.items():
            assert parts["wav"][:4] == b"RIFF"
            assert np.array_equal(sound(parts), sound(flac[key]))
            assert parts["json"] == flac[key]["json"]
            assert parts["clip.npy"] == flac[key]["clip.npy"]

    @pytest.mark.parametrize("audio", ["flac", "pcm16"])
    def test_long_sound_is_cut_into_overlapping_segments_on_their_own_clock(self, built_corpus, packed_as, audio):
        whole = samples_of(packed_as("unsegmented", max_segment_seconds=100.0))["long"]
        packed = samples_of(packed_as(f"short-{audio}", max_segment_seconds=8.0, audio=audio))
        segments = {key: parts for key, parts in packed.items() if key.startswith("long-")}
        assert len(segments) > 4
        original, facts = sound(whole), json.loads(whole["json"])
        covered = np.zeros(len(original), bool)
        for parts in segments.values():
            described = json.loads(parts["json"])
            start = round((described["start_seconds"] - facts["audio_start_seconds"]) * 16_000)
            values = sound(parts)
            assert len(values) == described["samples"] <= 8 * 16_000
            assert np.array_equal(values, original[start : start + len(values)])
            covered[start : start + len(values)] = True
            assert described["id"] == "long"
            assert described["audio_start_seconds"] == 0.0
            # Each picture is the whole clip's at that time.
            numbers = [
                facts["grid_seconds"].index(round(s + described["start_seconds"])) for s in described["grid_seconds"]
            ]
            assert np.array_equal(vectors(parts), vectors(whole)[numbers])
        assert covered.all()

    def test_middle_windows_are_those_that_evaluation_reads(self, built_corpus, packed_as):
        packed = samples_of(packed_as("middle", window="middle"))
        index = open_index(packed_as("unsegmented", max_segment_seconds=100.0))
        windows, reader = Windows(index, WindowShape()), SampleReader(index)
        keys = index.table["key"].to_pylist()
        assert {key.rsplit("-w", 1)[0] for key in packed} == {keys[row] for row in windows.usable}
        assert "brief" in keys
        for row in windows.usable:
            parts = packed[f"{keys[row]}-w0000"]
            audio, own = reader.window(row, windows.middle(row))
            assert len(audio) == 65_535
            assert np.array_equal(sound(parts), audio)
            assert vectors(parts).shape == (3, 32)
            assert np.array_equal(vectors(parts), own)

    def test_n_windows_hold_three_vectors_and_four_seconds_each(self, packed_as):
        packed = samples_of(packed_as("two", window="drawn", windows_per_clip=2))
        clips: dict[str, int] = {}
        for key, parts in packed.items():
            assert len(sound(parts)) == 65_535
            assert vectors(parts).shape == (3, 32)
            assert vectors(parts).dtype == np.float16
            clips[key.rsplit("-w", 1)[0]] = clips.get(key.rsplit("-w", 1)[0], 0) + 1
        assert clips["long"] == clips["fractal"] == 2
        assert max(clips.values()) == 2

    def test_pictures_come_along_where_asked(self, built_corpus, packed_as):
        packed = samples_of(packed_as("pictures", frames=True))
        plain = samples_of(f"{built_corpus.url}/training/default")
        for shard in range(built_corpus.shards):
            av, record = read_table(built_corpus.store, table_name("av", shard))
            with TarReader(built_corpus.store, f"av/{record.tar}") as tar:
                for row in av.to_pylist():
                    if row["id"] not in packed:
                        continue
                    own = [tar.read(*p) for p in zip(row["frame_offsets"], row["frame_lengths"], strict=True)]
                    parts = packed[row["id"]]
                    assert [parts[name] for name in sorted(parts) if name.endswith(".jpg")] == own
        assert not any(name.endswith(".jpg") for parts in plain.values() for name in parts)


class TestAgain:
    def test_other_settings_under_the_same_name_are_refused(self, packed_corpus):
        settings = packed_corpus.pack.model_copy(update={"audio": "pcm16", "seed": 5})
        differ = r"packed otherwise \(audio: 'flac' there, 'pcm16' now; seed: 0 there, 5 now\).*--name NAME"
        with pytest.raises(CorpusError, match=differ):
            pack(packed_corpus.url, settings, progress=False)

    def test_packing_with_dask_and_by_hand_gives_the_same_bytes(self, packed_corpus, packed_as, monkeypatch):
        # Dask's workers read what was made ready for them, here; by hand the tables are read.
        monkeypatch.setattr(input_cache, "PAYS_FROM_VISITS", 0)
        by_hand = Path(packed_as("by-hand", audio="pcm16", clips_per_shard=3))
        settings = packed_corpus.pack.model_copy(update={"audio": "pcm16", "clips_per_shard": 3, "name": "by-dask"})
        status = pack(packed_corpus.url, settings, progress=False)
        assert ("by-dask", 5, 11) in {(pack.name, pack.shards, pack.samples) for pack in status.packs}
        other = by_hand.parent / "by-dask"
        tars = sorted(path.name for path in by_hand.glob("*.tar"))
        assert tars == sorted(path.name for path in other.glob("*.tar"))
        assert all((by_hand / name).read_bytes() == (other / name).read_bytes() for name in tars)
        before = {path: path.stat().st_mtime_ns for path in other.iterdir()}
        pack(packed_corpus.url, settings, progress=False)
        assert {path: path.stat().st_mtime_ns for path in other.iterdir()} == before

    def test_two_packs_at_once_end_in_one(self, packed_corpus, packed_as):
        alone = Path(packed_as("by-hand", audio="pcm16", clips_per_shard=3))
        block = packed_corpus.pack.model_copy(update={"name": "race", "audio": "pcm16", "clips_per_shard": 3})
        with ThreadPoolExecutor(3) as pool:
            folders = [future.result() for future in [pool.submit(pack_here, packed_corpus, block) for _ in range(3)]]
        raced = {path.name: path.read_bytes() for path in Path(folders[0]).iterdir()}
        assert {path.name for path in alone.iterdir()} == set(raced)
        assert all((alone / name).read_bytes() == data for name, data in raced.items() if name.endswith(".tar"))

    def test_a_tar_that_was_complete_before_its_table_stands_and_is_described(self, packed_corpus, packed_as):
        folder = Path(packed_as("interrupted", clips_per_shard=3))
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        for table in folder.glob("*.parquet"):
            table.unlink()
        pack_here(
            packed_corpus,
            packed_corpus.pack.model_copy(update={"name": "interrupted", "clips_per_shard": 3}),
        )
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_short_av_tar_is_named_and_nothing_is_packed_of_it(built_corpus, tmp_path):
    folder = shutil.copytree(built_corpus.url, tmp_path / "corpus")
    for tar in (folder / "av").glob("*.tar"):
        with tar.open("r+b") as file:
            file.truncate(3000)
    with pytest.raises(CorpusError, match="shorter than its table says"):
        pack(str(folder), built_corpus.pack.model_copy(update={"name": "again"}), progress=False)
    assert not list((folder / "training" / "again").glob("*.parquet"))


@pytest.mark.parametrize(
    ("spelling", "meant"),
    [
        ("window=middle", {"window": "middle"}),
        ("pack.window=middle", {"window": "middle"}),
        ("windows_per_clip=10", {"window": "drawn", "windows_per_clip": 10}),
        ("pack.window=10", {"window": "drawn", "windows_per_clip": 10}),
    ],
)
def test_the_command_takes_settings_by_both_their_names(built_corpus, monkeypatch, spelling, meant):
    asked = []

    def noted(corpus, settings, **options):
        asked.append((settings, options))
        return corpus_status(corpus)

    monkeypatch.setattr(running, "pack", noted)
    result = CliRunner().invoke(app, ["pack", built_corpus.url, "--name", "x", "--set", spelling, "--quiet", "--json"])
    assert result.exit_code == 0, result.output
    wanted = built_corpus.pack.model_copy(update={"name": "x", **meant})
    assert asked == [(wanted, {"scheduler": None, "progress": False})]


def test_the_command_packs_on_a_scheduler_that_is_named(packed_corpus, packed_as, tmp_path):
    alone = Path(packed_as("by-hand", audio="pcm16", clips_per_shard=3))
    with dask_cluster(tmp_path / "dask", 1) as cluster:
        settings = ["--set", "audio=pcm16", "--set", "clips_per_shard=3", "--name", "elsewhere"]
        arguments = ["pack", packed_corpus.url, *settings, "--scheduler", cluster.address, "--quiet"]
        result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    for tar in alone.glob("*.tar"):
        assert (alone.parent / "elsewhere" / tar.name).read_bytes() == tar.read_bytes()


@pytest.mark.parametrize("where", ["nonsense", "seconds", "seconds >"])
def test_a_selection_that_is_none_is_named_as_it_was_typed(built_corpus, where):
    typed = {
        "--where": ["--where", where],
        "pack.where": ["--set", f"where={where}"],
    }
    for named, arguments in typed.items():
        result = CliRunner().invoke(app, ["pack", built_corpus.url, "--name", "x", "--quiet", *arguments])
        assert isinstance(result.exception, RecipeError)
        assert str(result.exception).startswith(f"{named} {where!r} ")
        # As it is where an error comes back from another process.
        assert str(pickle.loads(pickle.dumps(result.exception))) == str(result.exception)
    assert not (Path(built_corpus.url) / "training" / "x").exists()
