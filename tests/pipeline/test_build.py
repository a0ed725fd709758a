"""Builds: every clip has an outcome, the same list and settings give the same bytes, and nothing is done twice."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import open_clip
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from tests.media_world import MediaWorld, pack_here, world_recipe, world_run
from vidaudio.corpus.corpus import CORPUS_FILE, Corpus, create_or_open, open_corpus
from vidaudio.encoders.load import load_encoder
from vidaudio.encoders.spec import EncoderSpec
from vidaudio.errors import BuildError, CorpusError, EncoderError, UsageError
from vidaudio.hashing import sha256_of
from vidaudio.maintenance.status import corpus_status
from vidaudio.manifest import clips_from_table, read_manifest, write_manifest
from vidaudio.pipeline.build import build
from vidaudio.pipeline.shard_tasks import missing_shards
from vidaudio.pipeline.stages.download import download_shard
from vidaudio.pipeline.stages.embed import embed_shard, prepare_encoder
from vidaudio.pipeline.stages.extract import extract_shard
from vidaudio.shards.commit import read_table, table_name
from vidaudio.shards.read import TarReader
from vidaudio.shards.tar import list_members


def contents(folder: str | Path) -> dict[str, bytes]:
    """Every file that two builds must agree on, by name."""
    root = Path(folder)
    files = {str(path.relative_to(root)): path for path in sorted(root.rglob("*")) if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if not name.startswith("runs/")}


def rows_of(corpus: Corpus, folder: str) -> dict[str, dict]:
    tables = [read_table(corpus.store, table_name(folder, shard))[0] for shard in range(corpus.shards)]
    return {row["id"]: row | {"shard": shard} for shard, table in enumerate(tables) for row in table.to_pylist()}


def encoder_folder(corpus: Corpus) -> str:
    (name,) = corpus.store.folders("embeddings")
    return f"embeddings/{name}"


@pytest.fixture
def copied(built_corpus: Corpus, tmp_path: Path) -> Path:
    return shutil.copytree(built_corpus.url, tmp_path / "corpus")


class TestOutcomes:
    def test_every_clip_leaves_with_an_outcome_and_the_others_with_their_reasons(self, built_corpus, media_world):
        downloaded, extracted = rows_of(built_corpus, "clips"), rows_of(built_corpus, "av")
        listed = [clip.id for clip in clips_from_table(read_manifest(media_world.manifest))]
        assert sorted(downloaded) == sorted(listed)
        last = downloaded | extracted
        assert {i: row["reason"] for i, row in last.items() if row["state"] != "done"} == media_world.reasons
        assert {i for i, row in last.items() if row["state"] == "done"} == set(media_world.usable)
        assert all(row["message"] for row in last.values() if row["state"] != "done")

    def test_status_counts_them(self, built_corpus, media_world):
        status = corpus_status(built_corpus.url)
        stages = status.as_dict()["stages"]
        assert stages["download"]["done"] == 15
        assert stages["extract"]["done"] == len(media_world.usable) == 11
        assert stages["extract"]["others"] == [
            {"state": "dropped", "reason": reason, "clips": 1} for reason in others_in_order(status, "extract")
        ]
        assert set(others_in_order(status, "extract")) == {"no_audio", "no_video", "too_short", "corrupt"}
        assert stages["embed"]["done"] == 11
        assert status.as_dict()["packs"]["default"]["samples"] == 11
        assert "2 failed: not_found" in str(status)

    def test_local_files_are_referred_to_and_served_ones_are_in_the_tar(self, built_corpus, media_world):
        downloaded = rows_of(built_corpus, "clips")
        for clip, row in downloaded.items():
            if row["state"] != "done":
                continue
            if clip.startswith("web"):
                _, record = read_table(built_corpus.store, table_name("clips", row["shard"]))
                with TarReader(built_corpus.store, f"clips/{record.tar}") as tar:
                    media = tar.read(row["offset"], row["length"])
                assert row["path"] is None
                assert (hashlib.sha256(media).hexdigest(), len(media)) == (row["sha256"], row["size_bytes"])
            else:
                path = Path(row["path"])
                assert path.parent == media_world.folder
                assert (sha256_of(path), path.stat().st_size) == (row["sha256"], row["size_bytes"])
                assert row["member"] is None

    def test_clips_of_one_source_share_a_shard_and_cut_different_seconds(self, built_corpus):
        extracted = rows_of(built_corpus, "av")
        for group, seconds in (("multi_a multi_b multi_c", (5, 5, 5.5)), ("web_a web_b", (5, 6))):
            rows = [extracted[clip] for clip in group.split()]
            assert len({row["shard"] for row in rows}) == 1
            for row, length in zip(rows, seconds, strict=True):
                assert abs(row["seconds"] - length) < 0.05
                assert len(row["frame_seconds"]) == int(np.ceil(length))

    def test_silence_is_kept_and_marked(self, built_corpus):
        extracted = rows_of(built_corpus, "av")
        assert {clip for clip, row in extracted.items() if row["silent"]} == {"silent"}
        assert extracted["silent"]["rms_dbfs"] < -70 < extracted["bars"]["rms_dbfs"]


def others_in_order(status, stage: str) -> list[str]:
    return [entry["reason"] for entry in status.as_dict()["stages"][stage]["others"]]


class TestEmbeddings:
    def test_they_equal_open_clips_own_on_the_same_jpegs(self, built_corpus, tiny_clip):
        model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{tiny_clip}")
        model.eval()
        extracted = rows_of(built_corpus, "av")
        for shard in range(built_corpus.shards):
            embedded, _ = read_table(built_corpus.store, table_name(encoder_folder(built_corpus), shard))
            _, record = read_table(built_corpus.store, table_name("av", shard))
            ids, seconds, own = [], [], []
            with TarReader(built_corpus.store, f"av/{record.tar}") as tar:
                for clip, row in extracted.items():
                    if row["shard"] != shard or row["state"] != "done":
                        continue
                    places = list(zip(row["frame_offsets"], row["frame_lengths"], strict=True))
                    with torch.inference_mode():
                        own.append(model.encode_image(torch.stack([preprocess(jpeg(tar, *p)) for p in places])))
                    ids += [clip] * len(places)
                    seconds += row["frame_seconds"]
            assert embedded["id"].to_pylist() == ids
            assert embedded["frame_seconds"].to_pylist() == seconds
            if own:
                ours = torch.tensor(np.stack(embedded["embedding"].to_numpy())).float()
                assert torch.cosine_similarity(ours, torch.cat(own)).min() > 0.99999

    def test_the_shard_does_not_change_a_vector(self, built_corpus, tiny_clip):
        """The same picture in another company: bfloat16, one clip alone against its whole shard."""
        encoder = load_encoder(EncoderSpec(str(tiny_clip), None, "bfloat16", 8))
        av, record = read_table(built_corpus.store, table_name("av", 0))
        rows = [row for row in av.to_pylist() if row["state"] == "done"]
        with TarReader(built_corpus.store, f"av/{record.tar}") as tar:
            squares = [
                [encoder.square(jpeg(tar, *p)) for p in zip(row["frame_offsets"], row["frame_lengths"], strict=True)]
                for row in rows
            ]
        together = encoder.embed_squares([square for clip in squares for square in clip])
        alone = np.concatenate([encoder.embed_squares(clip) for clip in squares])
        assert len(squares) > 1
        assert np.array_equal(together, alone)

    def test_another_encoders_vectors_lie_in_another_folder(self, built_corpus, copied):
        corpus = open_corpus(str(copied))
        block = corpus.settings.embed.encoder.model_copy(update={"precision": "bfloat16"})
        embed = corpus.settings.embed.model_copy(update={"encoder": block})
        other = replace(corpus, settings=corpus.settings.model_copy(update={"embed": embed}))
        before = contents(copied)
        name = prepare_encoder(other)
        assert f"embeddings/{name}" != encoder_folder(built_corpus)
        embed_shard(other, 0, f"embeddings/{name}", world_run())
        after = contents(copied)
        assert {k: after[k] for k in before} == before
        assert set(after) - set(before) == {f"embeddings/{name}/encoder.json", f"embeddings/{name}/000000.parquet"}
        with pytest.raises(EncoderError, match="this worker has the encoder"):
            embed_shard(other, 1, encoder_folder(built_corpus), world_run())

    def test_a_description_of_another_encoder_under_the_same_name_is_refused(self, built_corpus, copied):
        path = copied / encoder_folder(built_corpus) / "encoder.json"
        described = json.loads(path.read_text())
        path.write_text(json.dumps(described | {"mean": [0.0, 0.0, 0.0]}))
        with pytest.raises(EncoderError, match="another encoder of the same name"):
            prepare_encoder(open_corpus(str(copied)))


def jpeg(tar: TarReader, offset: int, length: int) -> Image.Image:
    return Image.open(io.BytesIO(tar.read(offset, length)))


class TestTwice:
    def test_a_second_build_does_nothing(self, built_corpus, media_world, tiny_clip):
        before = {path: path.stat().st_mtime_ns for path in Path(built_corpus.url).rglob("*") if path.is_file()}
        build(world_recipe(tiny_clip), str(media_world.manifest), built_corpus.url, progress=False)
        after = {path: path.stat().st_mtime_ns for path in Path(built_corpus.url).rglob("*") if path.is_file()}
        assert after == before

    def test_another_build_elsewhere_gives_the_same_bytes(self, built_corpus, media_world, tiny_clip, tmp_path):
        """Other place, other copy of the list, other number of workers."""
        manifest = shutil.copy(media_world.manifest, tmp_path / "copy.parquet")
        recipe = world_recipe(tiny_clip, "dask.workers=1", "dask.shards_in_flight=1", "dask.downloads_per_worker=1")
        build(recipe, str(manifest), str(tmp_path / "corpus"), progress=False)
        ours, other = contents(built_corpus.url), contents(tmp_path / "corpus")
        assert set(other) == {name for name in ours if not name.startswith("training/") or "/default/" in name}
        assert [name for name in other if other[name] != ours[name]] == []

    def test_what_is_missing_is_made_again_with_the_same_bytes(self, built_corpus, copied, media_world, tiny_clip):
        before = contents(copied)
        gone = [name for name in before if name.startswith(("av/000001.", f"{encoder_folder(built_corpus)}/000001."))]
        gone += [name for name in before if name.startswith("training/default/train-000000.")]
        assert len(gone) == 5
        for name in gone:
            (copied / name).unlink()
        kept = {copied / name: (copied / name).stat().st_mtime_ns for name in contents(copied)}
        build(world_recipe(tiny_clip), str(media_world.manifest), str(copied), progress=False)
        assert contents(copied) == before
        assert {path: path.stat().st_mtime_ns for path in kept} == kept

    def test_two_builds_at_once_end_in_one_corpus(self, built_corpus, media_world, tiny_clip, tmp_path):
        script = tmp_path / "build.py"
        script.write_text(
            "import sys\n"
            "from pathlib import Path\n"
            "from tests.media_world import world_recipe\n"
            "from vidaudio.pipeline.build import build\n"
            "if __name__ == '__main__':\n"
            "    recipe = world_recipe(Path(sys.argv[1]), 'dask.workers=1', 'dask.shards_in_flight=4')\n"
            "    print('ready', flush=True)\n"
            "    sys.stdin.readline()\n"
            "    build(recipe, sys.argv[2], sys.argv[3], only=['download', 'extract'], progress=False)\n"
        )
        root = Path(__file__).parents[2]
        command = [sys.executable, str(script), str(tiny_clip), str(media_world.manifest), str(tmp_path / "corpus")]
        builders = [
            subprocess.Popen(command, env=environment(root), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        for builder in builders:
            assert builder.stdout.readline() == "ready\n"
        for builder in builders:
            builder.stdin.write("go\n")
            builder.stdin.flush()
        for builder in builders:
            builder.communicate(timeout=400)
        assert [builder.returncode for builder in builders] == [0, 0]
        ours, raced = contents(built_corpus.url), contents(tmp_path / "corpus")
        assert set(raced) == {name for name in ours if not name.startswith(("training/", "embeddings/"))}
        assert [name for name in raced if raced[name] != ours[name]] == []
        tasks = [pq.read_table(path).num_rows for path in (tmp_path / "corpus").rglob("tasks.parquet")]
        assert len(tasks) == 2


def environment(root: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(root)}


class TestRefusals:
    """Committed shards never change: what would change them is refused, and nothing is touched."""

    @pytest.mark.parametrize(
        ("setting", "words"),
        [
            ("extract.jpeg_quality=80", r"extract\.jpeg_quality: 92 there, 80 now"),
            ("shard_clips=5", r"shard_clips: 4 there, 5 now"),
            ("embed.encoder.precision=bfloat16", r"embed\.encoder\.precision: 'float32' there, 'bfloat16' now"),
            ("embed.encoder.batch_size=16", r"embed\.encoder\.batch_size: 8 there, 16 now"),
        ],
    )
    def test_a_changed_setting_is_named(self, built_corpus, media_world, tiny_clip, setting, words):
        before = contents(built_corpus.url)
        with pytest.raises(CorpusError, match=words):
            build(world_recipe(tiny_clip, setting), str(media_world.manifest), built_corpus.url, progress=False)
        assert contents(built_corpus.url) == before

    def test_what_decides_no_byte_may_change(self, built_corpus, media_world, tiny_clip):
        recipe = world_recipe(tiny_clip, "extract.deadline_seconds=7", "download.tries=1", "dask.workers=1")
        build(recipe, str(media_world.manifest), built_corpus.url, progress=False)

    def test_auto_goes_on_with_the_dtype_that_stands(self, built_corpus, media_world, tiny_clip, monkeypatch):
        """Also on a processor where another one would be chosen for a new corpus."""
        monkeypatch.setattr("vidaudio.encoders.spec.best_precision", lambda: "float16")
        recipe = world_recipe(tiny_clip, "embed.encoder.precision=auto")
        build(recipe, str(media_world.manifest), built_corpus.url, progress=False)

    def test_a_changed_list_is_refused(self, built_corpus, media_world, tiny_clip, tmp_path):
        clips = clips_from_table(read_manifest(media_world.manifest))
        before = contents(built_corpus.url)
        changes = {
            "1 are not in this list and 0 differ": clips[1:],
            "0 are not in this list and 1 differ": [replace(clips[0], labels=("other",)), *clips[1:]],
        }
        for difference, changed in changes.items():
            write_manifest(changed, tmp_path / "changed.parquet")
            with pytest.raises(CorpusError, match=f"of its 17 clips {difference}, such as"):
                build(world_recipe(tiny_clip), str(tmp_path / "changed.parquet"), built_corpus.url, progress=False)
        assert contents(built_corpus.url) == before

    def test_a_corpus_that_another_build_is_just_beginning_is_left_to_it(
        self, built_corpus, media_world, tiny_clip, tmp_path
    ):
        """Its manifest stands and corpus.json does not yet: ours must not be written over another list."""
        folder = tmp_path / "corpus"
        folder.mkdir()
        clips = clips_from_table(read_manifest(media_world.manifest))
        shutil.copy(Path(built_corpus.url) / "manifest.parquet", folder / "manifest.parquet")
        write_manifest(clips[:5], tmp_path / "five.parquet")
        with pytest.raises(CorpusError, match="of another list"):
            build(world_recipe(tiny_clip), str(tmp_path / "five.parquet"), str(folder), progress=False)
        assert [path.name for path in folder.iterdir()] == ["manifest.parquet"]
        # The same list may go on from there.
        create_or_open(str(folder), world_recipe(tiny_clip), read_manifest(media_world.manifest))
        assert (folder / CORPUS_FILE).read_bytes() == (Path(built_corpus.url) / CORPUS_FILE).read_bytes()

    def test_an_encoder_that_wants_larger_pictures_is_refused_before_any_work(self, media_world, tiny_clip, tmp_path):
        recipe = world_recipe(tiny_clip, "extract.frame_size=48")
        with pytest.raises(EncoderError, match=r"wants pictures of 64 px and the corpus keeps 48; .*frame_size=64"):
            build(recipe, str(media_world.manifest), str(tmp_path / "corpus"), progress=False)
        assert not (tmp_path / "corpus" / "clips").exists()

    @pytest.mark.parametrize(
        ("only", "error", "words"),
        [
            (["fetch"], UsageError, "no stage fetch; the stages are download, extract, facts, embed, pack"),
            (["pack"], CorpusError, "pack needs what download and extract and embed would leave there"),
        ],
    )
    def test_stages_that_cannot_be_done_are_named(self, media_world, tiny_clip, tmp_path, only, error, words):
        with pytest.raises(error, match=words):
            build(
                world_recipe(tiny_clip), str(media_world.manifest), str(tmp_path / "corpus"), only=only, progress=False
            )

    def test_a_stage_without_its_input_is_refused(self, media_world, tiny_clip, tmp_path):
        corpus = create_or_open(str(tmp_path / "corpus"), world_recipe(tiny_clip), read_manifest(media_world.manifest))
        with pytest.raises(CorpusError, match="extract reads what download writes"):
            missing_shards(corpus, ["extract"], {})
        download_shard(corpus, 0, "clips", world_run())
        with pytest.raises(CorpusError, match="extract reads what download writes"):
            missing_shards(corpus, ["extract", "embed"], {})
        assert dict(missing_shards(corpus, ["download", "extract"], {})) == {
            0: ["extract"],
            **{shard: ["download", "extract"] for shard in range(1, corpus.shards)},
        }

    def test_places_and_lists_that_are_missing_are_asked_for(self, media_world, tiny_clip, tmp_path):
        with pytest.raises(UsageError, match="where should the corpus be"):
            build(world_recipe(tiny_clip), str(media_world.manifest), progress=False)
        with pytest.raises(UsageError, match="which list"):
            build(world_recipe(tiny_clip), None, str(tmp_path / "corpus"), progress=False)
        with pytest.raises(CorpusError, match="there is no corpus at"):
            corpus_status(str(tmp_path / "nowhere"))

    def test_a_corpus_file_that_is_none_is_named(self, copied):
        (copied / CORPUS_FILE).write_text("{")
        with pytest.raises(CorpusError, match=r"corpus\.json is not JSON"):
            open_corpus(str(copied))
        (copied / CORPUS_FILE).write_text('{"format": 99}')
        with pytest.raises(CorpusError, match="format 99; this version reads 1"):
            open_corpus(str(copied))


class TestFailures:
    def test_a_task_that_fails_is_named_and_what_the_others_did_stays(self, copied, media_world, tiny_clip):
        shard = rows_of(open_corpus(str(copied)), "clips")["web_a"]["shard"]
        before = contents(copied)
        shutil.rmtree(copied / "av")
        next(copied.glob(f"clips/{shard:06d}.*.tar")).unlink()
        with pytest.raises(BuildError, match=rf"1 task failed \(extract-{shard:06d}: .*{shard:06d}\.\w+\.tar is gone"):
            build(
                world_recipe(tiny_clip, "dask.workers=1"),
                str(media_world.manifest),
                str(copied),
                only=["extract"],
                progress=False,
            )
        after = contents(copied)
        assert [name for name in after if after[name] != before[name]] == []
        missing = sorted(name.split(".")[0] for name in set(before) - set(after))
        assert missing == [f"av/{shard:06d}", f"av/{shard:06d}", f"clips/{shard:06d}"]
        (journal,) = set(copied.glob("runs/*/tasks.parquet")) - journals_with_embed(copied)
        assert pq.read_table(journal)["stage"].to_pylist() == ["extract"] * 3


def journals_with_embed(folder: Path) -> set[Path]:
    return {path for path in folder.glob("runs/*/tasks.parquet") if "embed" in pq.read_table(path)["stage"].to_pylist()}


class TestStagesByHand:
    def test_files_that_vanish_or_change_after_download_are_failed_rows(self, media_world, tiny_clip, tmp_path):
        folder = tmp_path / "world"
        folder.mkdir()
        names = ["bars", "clock", "brief"]
        clips = [c for c in clips_from_table(read_manifest(media_world.manifest)) if c.id in names]
        for name in names:
            shutil.copy(media_world.folder / f"{name}.mp4", folder)
        moved = [replace(clip, url=str(folder / Path(clip.url).name)) for clip in clips]
        write_manifest(moved, tmp_path / "list.parquet")
        build(
            world_recipe(tiny_clip, "dask.workers=1"),
            str(tmp_path / "list.parquet"),
            str(tmp_path / "corpus"),
            only=["download"],
            progress=False,
        )
        corpus = open_corpus(str(tmp_path / "corpus"))
        assert {row["state"] for row in rows_of(corpus, "clips").values()} == {"done"}
        assert not (tmp_path / "corpus" / "av").exists()
        (folder / "bars.mp4").unlink()
        with (folder / "brief.mp4").open("ab") as file:
            file.write(b"more")
        extract_shard(corpus, 0, "av", world_run())
        rows = rows_of(corpus, "av")
        assert {clip: (row["state"], row["reason"]) for clip, row in rows.items()} == {
            "bars": ("failed", "not_found"),
            "clock": ("done", None),
            "brief": ("failed", "corrupt"),
        }

    def test_local_files_are_copied_where_asked(self, media_world, tiny_clip, tmp_path):
        recipe = world_recipe(tiny_clip, "download.copy_local=true", "shard_clips=100")
        corpus = create_or_open(str(tmp_path / "corpus"), recipe, read_manifest(media_world.manifest))
        record = download_shard(corpus, 0, "clips", world_run())
        rows = rows_of(corpus, "clips")
        inside = list_members(tmp_path / "corpus" / "clips" / record.tar)
        assert {f"{clip}.mp4" for clip, row in rows.items() if row["state"] == "done"} <= set(inside)
        assert all(row["path"] is None for row in rows.values())

    def test_on_another_kind_of_store_the_bytes_are_the_same(self, built_corpus, media_world, tiny_clip):
        """The stages called by hand on a remote store, against the corpus that Dask built on disk."""
        recipe = world_recipe(tiny_clip)
        corpus = create_or_open("memory://by-hand/corpus", recipe, read_manifest(media_world.manifest))
        name = prepare_encoder(corpus)
        for shard in range(corpus.shards):
            download_shard(corpus, shard, "clips", world_run())
            extract_shard(corpus, shard, "av", world_run())
            embed_shard(corpus, shard, f"embeddings/{name}", world_run())
        pack_here(corpus, recipe.pack)
        ours = contents(built_corpus.url)
        root = corpus.store.root
        there = {path.removeprefix(f"{root}/"): corpus.store.fs.cat_file(path) for path in corpus.store.fs.find(root)}
        assert set(there) == {key for key in ours if not key.startswith("training/") or "/default/" in key}
        assert [key for key in there if there[key] != ours[key]] == []


def test_the_world_lists_every_kind_of_trouble(media_world: MediaWorld):
    """What the tests above rely on: labels with several values, clips with and without a split, several a source."""
    clips = clips_from_table(read_manifest(media_world.manifest))
    assert {len(clip.labels) for clip in clips} == {1, 2}
    assert {clip.split for clip in clips} == {"train", "val", "test", None}
    assert len({clip.source for clip in clips}) < len(clips)
