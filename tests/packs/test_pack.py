"""Packing: a selection of clips, split by source, as training shards that say where everything came from."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from tests.media_world import pack_here
from tests.packs.plans import planned
from tests.pipeline.dask_cluster import dask_cluster
from vidaudio.cli.app import app
from vidaudio.corpus.corpus import open_corpus
from vidaudio.errors import BuildError, CorpusError, RecipeError
from vidaudio.maintenance.status import corpus_status
from vidaudio.manifest import clips_from_table
from vidaudio.packs import input_cache
from vidaudio.packs.gather import gathered
from vidaudio.packs.input_cache import is_worthwhile, sources_folder, write_sources
from vidaudio.packs.plan import begin_pack, missing_tasks, plan_pack
from vidaudio.packs.vectors import packed_columns
from vidaudio.packs.write import finish_pack, pack_shard
from vidaudio.pipeline import build as running
from vidaudio.pipeline.build import pack
from vidaudio.pipeline.stages.embed import prepare_encoder
from vidaudio.shards.commit import read_table, table_name
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

    def test_packing_with_dask_and_by_hand_gives_the_same_bytes(self, packed_corpus, packed_as, monkeypatch, caplog):
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
        assert "is there already" not in caplog.text
        pack(packed_corpus.url, settings, progress=False)
        assert "training/by-dask is there already, with these settings and clips: no shard was written" in caplog.text
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
        for table in folder.glob("*-*.parquet"):
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
    with pytest.raises(BuildError, match="shorter than its table says"):
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
