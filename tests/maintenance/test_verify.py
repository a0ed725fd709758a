"""verify: whatever is done to a corpus's bytes is found and named, and an untouched corpus is fine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from tests.maintenance.checks import check, files_of
from tests.media_world import MediaWorld, pack_here, world_recipe, world_run
from vidaudio.cli.app import app
from vidaudio.corpus.corpus import create_or_open, open_corpus
from vidaudio.errors import CorpusError, EncoderError, UsageError
from vidaudio.hashing import sha256_of
from vidaudio.maintenance.export import export
from vidaudio.maintenance.status import corpus_status
from vidaudio.maintenance.verify import encoders
from vidaudio.maintenance.verify.findings import Sampler
from vidaudio.manifest import clips_from_table, read_manifest, table_from_clips, write_manifest
from vidaudio.manifest.source import TableRows
from vidaudio.pipeline.build import build, pack
from vidaudio.pipeline.dry_run import dry_run
from vidaudio.pipeline.stages.download import download_shard
from vidaudio.shards.commit import encode_table, read_table
from vidaudio.shards.open import open_store
from vidaudio.shards.scratch import PREFIX, scratch_prefix
from vidaudio.shards.tar import ShardWriter


def embeddings(corpus: Path) -> Path:
    (folder,) = (corpus / "embeddings").iterdir()
    return folder


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table], **record: object) -> None:
    """A table that was committed with other contents: its seal is right and its rows are not."""
    store = open_store(path.parent)
    table, own = read_table(store, path.name)
    path.write_bytes(encode_table(change(table), replace(own, **record)))


class TestFine:
    def test_an_untouched_corpus_is_fine_and_everything_was_looked_at(self, built_corpus, copied, media_world):
        before = {path: path.stat().st_mtime_ns for path in copied.rglob("*")}
        report = check(copied)
        assert report.problems == ()
        assert report.ok
        assert report.counts["clips"] == built_corpus.clips
        tars, tables = len(list(copied.rglob("*.tar"))), len(list(copied.rglob("*/*.parquet")))
        assert report.counts["tars"] == report.counts["tars_hashed"] == tars
        assert report.counts["tables"] == tables
        assert report.counts["training_samples"] == sum(len(open_table(p)) for p in training(copied))
        assert report.counts["frames_encoded_again"] > 0
        assert report.counts["local_files"] > 0
        assert str(report).startswith(f"{copied} is fine: ")
        assert "\n" not in str(report)
        assert {path: path.stat().st_mtime_ns for path in copied.rglob("*")} == before

    def test_a_share_hashes_some_tars_and_the_same_ones_each_time(self, copied):
        first, again = check(copied, 0.5), check(copied, 0.5)
        assert first.ok
        assert first.counts == again.counts
        assert 0 < first.counts["tars_hashed"] < first.counts["tars"]
        assert check(copied, 0).counts["tars_hashed"] == 0
        names = [f"av/{n:06d}.tar" for n in range(2_000)]
        assert 150 < sum(Sampler(0.1).selects(name) for name in names) < 250

    def test_an_unfinished_corpus_is_fine_and_says_so(self, media_world, tiny_clip, tmp_path):
        from tests.media_world import world_recipe

        corpus = create_or_open(str(tmp_path / "corpus"), world_recipe(tiny_clip), read_manifest(media_world.manifest))
        assert check(corpus.url).ok
        download_shard(corpus, 0, "clips", world_run())
        report = check(corpus.url)
        assert report.ok
        assert f"clips has 1 of {corpus.shards} shards: the build is not finished" in report.notes

    def test_a_pack_of_windows_is_fine(self, built_corpus, packed_as):
        packed_as("verified-windows", window="drawn", windows_per_clip=2, audio="pcm16", frames=True)
        assert check(built_corpus.url).ok

    def test_without_the_encoder_the_rest_is_checked(self, copied, monkeypatch):
        monkeypatch.setattr(encoders, "cached_encoder", unreachable)
        report = check(copied)
        assert report.ok
        assert report.notes == ("no picture was encoded again: no weights here",)


def unreachable(*_: object) -> None:
    raise EncoderError("no weights here")


def test_a_card_that_was_changed_is_found_and_the_remedy_brings_it_back(copied):
    card = copied / "training" / "default" / "CARD.md"
    before = card.read_bytes()
    card.write_bytes(before.replace(b"not stated", b"public domain", 1))
    (problem,) = check(copied).problems
    assert (problem.file, problem.what) == ("training/default/CARD.md", "was changed since it was written")
    card.unlink()
    corpus = open_corpus(str(copied))
    pack_here(corpus, corpus.pack)
    assert card.read_bytes() == before


def training(corpus: Path) -> list[Path]:
    return sorted((corpus / "training").rglob("*-*.parquet"))


def open_table(path: Path) -> pa.Table:
    return read_table(open_store(path.parent), path.name)[0]


class TestFiles:
    def test_a_missing_tar_a_missing_table_and_a_missing_index_are_named(self, copied):
        tar = sorted((copied / "av").glob("000000.*.tar"))[0]
        tar.unlink()
        (copied / "clips" / "000001.parquet").unlink()
        (copied / "training" / "default" / "index.arrow").unlink()
        report = check(copied)
        assert {str(tar.relative_to(copied)), "av/000001.parquet"} <= files_of(report)
        assert any("stands without clips/000001.parquet" in p.what for p in report.problems)
        assert any("has no index yet" in note for note in report.notes)

    def test_strays_orphans_and_leftovers_are_named(self, copied):
        strays = {
            "av/000000.0badf00d.tar": "orphan",
            "av/000077.parquet": "stray shard",
            "clips/notes.txt": "does not belong",
            "training/default/train-000009.tar": "stray shard",
            "training/default/foo.txt": "does not belong",
            f"{PREFIX}nowhere-x": "leftover",
        }
        for name in strays:
            (copied / name).write_bytes(b"x")
        (copied / f"{scratch_prefix()}ours").mkdir()
        (copied / "NOTES.md").write_text("ours")
        report = check(copied)
        assert {p.file: any(word in p.what for word in (strays[p.file],)) for p in report.problems} == dict.fromkeys(
            strays, True
        )
        assert any(scratch_prefix() in note for note in report.notes)
        assert any(note.startswith("NOTES.md in the corpus's own folder") for note in report.notes)

    @pytest.mark.parametrize("pack_stands", [True, False])
    @pytest.mark.parametrize("is_loadable", [True, False])
    def test_a_changed_description_of_an_encoder_is_named_and_made_anew(
        self, copied, media_world, tiny_clip, monkeypatch, pack_stands, is_loadable
    ):
        (described,) = copied.glob("embeddings/*/encoder.json")
        name, written = str(described.relative_to(copied)), described.read_bytes()
        if not pack_stands:
            shutil.rmtree(copied / "training")
        if not is_loadable:
            monkeypatch.setattr(encoders, "cached_encoder", unreachable)
        swapped = json.loads(written)["weights_sha256"][0]
        changes = {
            "a digit": written.replace(b'"weights_sha256": "' + swapped.encode(), b'"weights_sha256": "g'),
            "a letter": written.replace(b"float32", b"flomt32"),
            "a space": written.replace(b": ", b":  ", 1),
            "half": written[: len(written) // 2],
            "none": b"",
        }
        for what, data in changes.items():
            described.write_bytes(data)
            assert files_of(check(copied)) == {name}, what
        described.unlink()
        assert files_of(check(copied)) == {name}
        build(world_recipe(tiny_clip), str(media_world.manifest), str(copied), only=["embed"], progress=False)
        assert described.read_bytes() == written

    def test_a_description_that_only_the_index_contradicts_is_named(self, copied, monkeypatch):
        (described,) = copied.glob("embeddings/*/encoder.json")
        monkeypatch.setattr(encoders, "cached_encoder", unreachable)
        described.write_bytes(described.read_bytes().replace(b'"image_size": ', b'"image_size": 1'))
        (problem,) = check(copied).problems
        assert problem.file == str(described.relative_to(copied))
        assert "says otherwise than training/default/index.arrow, whose seal holds" in problem.what

    def test_an_interrupted_pack_is_named_and_an_interrupted_stage_is_a_note(self, copied):
        (copied / "training" / "default" / "train-000000.parquet").unlink()
        report = check(copied)
        assert "training/default/train-000000.tar" in files_of(report)
        shutil.rmtree(copied / "training")
        for table in embeddings(copied).glob("00000[12].parquet"):
            table.unlink()
        report = check(copied)
        assert report.ok
        assert any(note.startswith("embeddings/") for note in report.notes)

    @pytest.mark.parametrize("folders", [["embeddings"], ["av", "embeddings"], ["clips", "av", "embeddings"]])
    def test_a_table_that_a_pack_was_made_from_is_missing_and_not_unfinished(self, copied, folders):
        last = f"{open_corpus(str(copied)).shards - 1:06d}.parquet"
        lost = [embeddings(copied) / last if folder == "embeddings" else copied / folder / last for folder in folders]
        for table in lost:
            table.unlink()
        if "av" in folders:
            # Standing facts would name the table that they were made from.
            (copied / "facts" / last).unlink()
        report = check(copied)
        names = {str(table.relative_to(copied)) for table in lost}
        told = [problem for problem in report.problems if problem.file in names]
        assert {problem.file for problem in told} == names
        assert all(problem.what == "is missing, and training/default was made from it" for problem in told)
        assert all(problem.remedy.startswith("build again") for problem in told)
        unfinished = [note for note in report.notes if "not finished" in note]
        assert all(note.startswith("facts has ") for note in unfinished)
        assert CliRunner().invoke(app, ["verify", str(copied), "--quiet"]).exit_code == 1

    def test_shards_that_a_list_has_got_since_it_was_packed_are_only_not_finished(self, copied):
        corpus = open_corpus(str(copied))
        (clip,) = (clip for clip in clips_from_table(corpus.manifest()) if clip.id == "bars")
        added = replace(clip, id="later", source="file:later.mp4", shard=None)
        corpus.grown(TableRows(table_from_clips([added])), "added")
        report = check(copied)
        assert report.ok
        assert f"clips has {corpus.shards} of {corpus.shards + 1} shards: the build is not finished" in report.notes

    def test_a_missing_list_is_called_missing(self, copied):
        (copied / "manifest.parquet").unlink()
        (problem,) = check(copied).problems
        assert problem.file == "manifest.parquet"
        assert problem.what.startswith("is missing")
        assert "take it back from a copy" in problem.remedy
        assert "manifest.parquet, the list, is missing" in str(corpus_status(str(copied)))
        assert "1 problem (" in str(check(copied))

    @pytest.mark.parametrize("harm", ["gone", "half"])
    def test_a_part_of_a_grown_list_that_is_gone_or_damaged_is_named_by_all_commands(
        self, copied, media_world, tiny_clip, harm
    ):
        corpus = open_corpus(str(copied))
        (clip,) = clips_from_table(read_manifest(media_world.manifest))[:1]
        added = [replace(clip, id=f"{clip.id}_{n}", source=f"made:later{n}") for n in range(2)]
        for row in added:
            corpus = corpus.grown(TableRows(table_from_clips([row])), "added")
        part = copied / "manifest-000001.parquet"
        whole = part.read_bytes()
        part.unlink() if harm == "gone" else part.write_bytes(whole[: len(whole) // 2])
        (problem,) = check(copied).problems
        assert problem.file == part.name
        assert "take it back from a copy" in problem.remedy
        listed = [*clips_from_table(read_manifest(media_world.manifest)), *added]
        write_manifest(listed, copied.parent / "longer.parquet")
        request = (world_recipe(tiny_clip), str(copied.parent / "longer.parquet"), str(copied))
        for command in (lambda: build(*request), lambda: dry_run(*request), lambda: corpus_status(str(copied))):
            with pytest.raises(CorpusError, match=r"manifest-000001\.parquet is (not there any more|damaged)"):
                command()

    def test_a_description_that_counts_other_samples_than_the_tables_hold_is_named(self, copied):
        path = copied / "training/default/pack.json"
        described = json.loads(path.read_text())
        path.write_text(json.dumps(described | {"samples": described["samples"] + 1}))
        (problem,) = check(copied, 0.0).problems
        assert problem.file == "training/default/pack.json"
        assert f"names {described['samples'] + 1} samples, and its tables hold {described['samples']}" in problem.what

    def test_a_description_that_is_a_link_is_not_blamed_on_the_list(self, copied):
        (copied / "corpus.json").unlink()
        (copied / "corpus.json").symlink_to("/etc/hostname")
        (problem,) = check(copied).problems
        assert problem.file == "corpus.json"
        assert "is not followed" in problem.what

    @pytest.mark.parametrize(
        ("path", "size", "what"),
        [
            ("/etc/hostname", None, "refers to /etc/hostname, and does not say how many bytes it had"),
            ("y" * 300, 0, "is gone"),
            ("/dev/zero", 0, "is gone"),
        ],
    )
    def test_what_a_table_says_of_local_files_is_not_believed(self, copied, path, size, what):
        store = open_corpus(str(copied)).store
        table, record = read_table(store, "clips/000000.parquet")
        rows = [row | {"path": path, "size_bytes": size} for row in table.to_pylist()]
        table = pa.Table.from_pylist(rows, schema=table.schema)
        (copied / "clips/000000.parquet").write_bytes(encode_table(table, record))
        assert any(what in problem.what for problem in check(copied, 0.0).problems)

    @pytest.mark.parametrize("harm", [lambda data: data[:-9], lambda data: data.replace(b'"encoder"', b'"encode2"')])
    def test_a_damaged_description_of_a_pack_is_named_by_all_commands(self, copied, media_world, tiny_clip, harm):
        described = copied / "training/default/pack.json"
        described.write_bytes(harm(described.read_bytes()))
        (problem,) = check(copied).problems
        assert problem.file == "training/default/pack.json"
        assert "delete the pack's folder and pack again" in problem.remedy
        status = corpus_status(str(copied))
        assert status.clips == len(media_world.reasons) + len(media_world.usable)
        (warning,) = status.as_dict()["warnings"]
        assert "training/default/pack.json is no description of a pack" in warning
        request = (world_recipe(tiny_clip), str(media_world.manifest), str(copied))
        commands = [
            lambda: build(*request, progress=False),
            lambda: dry_run(*request),
            lambda: pack(str(copied), progress=False),
            lambda: export(str(copied), copied.parent / "out", pack="default", progress=False),
        ]
        for command in commands:
            with pytest.raises(CorpusError, match=r"pack\.json is no description of a pack"):
                command()
        shutil.rmtree(described.parent)
        build(*request, progress=False)
        assert check(copied).ok

    def test_a_missing_or_strange_member_is_named(self, copied):
        """A tar and a table that agree in hash, and not in what is inside."""
        store = open_store(copied)
        _, record = read_table(store, "av/000000.parquet")
        with ShardWriter(copied / "new.tar") as writer:
            # As large as the old one, so that the table's places lie inside.
            writer.write("someone", {"flac": bytes(record.tar_bytes)})
        sha = sha256_of(copied / "new.tar")
        (copied / "av" / record.tar).unlink()
        name = f"000000.{sha[:8]}.tar"
        size = (copied / "new.tar").stat().st_size
        (copied / "new.tar").rename(copied / "av" / name)
        rewrite(copied / "av" / "000000.parquet", lambda t: t, tar=name, tar_sha256=sha, tar_bytes=size)
        words = " ".join(p.what for p in check(copied).problems if p.file == f"av/{name}")
        assert "lacks" in words
        assert "someone.flac, which its table does not name" in words

    def test_local_files_that_are_gone_or_changed_are_named(self, media_world: MediaWorld, tiny_clip, tmp_path):
        from tests.media_world import world_recipe

        folder = tmp_path / "media"
        folder.mkdir()
        clips = [c for c in clips_from_table(read_manifest(media_world.manifest)) if c.id in ("bars", "clock", "brief")]
        moved = [replace(c, url=str(shutil.copy(c.url, folder))) for c in clips]
        write_manifest(moved, tmp_path / "list.parquet")
        corpus = create_or_open(
            str(tmp_path / "corpus"), world_recipe(tiny_clip), read_manifest(tmp_path / "list.parquet")
        )
        download_shard(corpus, 0, "clips", world_run())
        assert check(corpus.url).ok
        (folder / "bars.mp4").unlink()
        with (folder / "brief.mp4").open("ab") as file:
            file.write(b"more")
        data = bytearray((folder / "clock.mp4").read_bytes())
        data[100] ^= 1
        (folder / "clock.mp4").write_bytes(data)
        report = check(corpus.url)
        said = {Path(p.file).name: p.what for p in report.problems}
        assert set(said) == {"bars.mp4", "brief.mp4", "clock.mp4"}
        assert said["bars.mp4"].startswith("is gone, and clips/000000.parquet refers to it")
        assert "bytes, and had" in said["brief.mp4"]
        assert said["clock.mp4"].startswith("has other contents")
        assert {Path(p.file).name for p in check(corpus.url, 0).problems} == {"bars.mp4", "brief.mp4"}


class TestJoins:
    """Tables whose bytes are what was committed, and which do not belong together."""

    @pytest.mark.parametrize(
        ("name", "change", "words"),
        [
            ("clips", lambda t: t.slice(1), "does not hold exactly the clips that the list gives"),
            ("av", lambda t: t.slice(1), "does not hold exactly the clips that clips/000000.parquet has fetched"),
            ("embeddings", lambda t: t.slice(2), "does not hold exactly the pictures that av/000000.parquet has"),
            ("embeddings", lambda t: t.drop_columns("frame_seconds"), "it has no column frame_seconds"),
            ("embeddings", lambda t: t.append_column("more", t["id"]), "has other columns"),
        ],
    )
    def test_rows_that_do_not_join_are_named(self, copied, name, change, words):
        path = embeddings(copied) / "000000.parquet" if name == "embeddings" else copied / name / "000000.parquet"
        rows = change(open_table(path)).num_rows
        rewrite(path, change, rows=rows)
        assert any(words in p.what for p in check(copied).problems if p.file == str(path.relative_to(copied)))

    def test_another_plan_and_another_shard_are_named(self, copied):
        rewrite(copied / "av" / "000001.parquet", lambda t: t, plan_hash="of something else")
        shutil.copy(copied / "clips" / "000001.parquet", copied / "clips" / "000002.parquet")
        found = {(p.file, p.what.split(":")[0]) for p in check(copied).problems}
        assert ("av/000001.parquet", "was made under another plan") in found
        assert any(file == "clips/000002.parquet" and "is the table of shard 1" in what for file, what in found)

    def test_vectors_of_other_pictures_are_found_by_encoding_again(self, copied):
        path = embeddings(copied) / "000000.parquet"

        def noise(table: pa.Table) -> pa.Table:
            values = np.random.default_rng(0).normal(size=table.num_rows * 32).astype(np.float16)
            column = pa.FixedSizeListArray.from_arrays(pa.array(values), 32)
            return table.set_column(2, table.schema.field(2), column)

        rewrite(path, noise)
        problems = check(copied).problems
        assert any("vectors of other pictures" in p.what for p in problems if p.file == str(path.relative_to(copied)))
        assert any("has other vectors than" in p.what for p in problems if p.file.startswith("training/"))

    def test_labels_and_splits_that_the_list_does_not_have_are_named(self, copied):
        path = copied / "training" / "default" / "train-000000.parquet"

        def relabel(table: pa.Table) -> pa.Table:
            rows = table.to_pylist()
            rows[0]["labels"] = ["something else"]
            rows[1]["split"] = "val"
            return pa.Table.from_pylist(rows, schema=table.schema)

        rewrite(path, relabel)
        words = [p.what for p in check(copied).problems]
        assert any("has other labels or captions than the list" in w for w in words)
        assert any("is in the split train, and belongs in" in w for w in words)
        assert any("does not hold the rows of the tables" in w for w in words)
        assert any("describes itself otherwise than its row" in w for w in words)


class TestCommand:
    def test_it_exits_with_1_and_the_list_or_with_0_and_one_line(self, copied):
        import typer

        from vidaudio.cli.verify import verify

        app = typer.Typer()
        app.command()(verify)
        run = CliRunner()
        fine = run.invoke(app, [str(copied), "--quiet"])
        assert fine.exit_code == 0
        assert fine.stdout.count("\n") == 1
        (copied / "av" / "000000.parquet").write_bytes(b"x")
        broken = run.invoke(app, [str(copied), "--quiet", "--sample", "0.1"])
        assert broken.exit_code == 1
        assert "av/000000.parquet: is damaged" in broken.stdout
        described = json.loads(run.invoke(app, [str(copied), "--quiet", "--json"]).stdout)
        assert not described["ok"]
        assert described["problems"][0]["file"] == "av/000000.parquet"

    def test_what_is_no_corpus_and_a_share_out_of_bounds_are_refused(self, copied, tmp_path):
        with pytest.raises(CorpusError, match="there is no corpus at"):
            check(tmp_path / "nowhere")
        with pytest.raises(UsageError, match=r"between 0 and 1, not 1\.5"):
            check(copied, 1.5)
