"""Removal: afterwards nothing of a clip is anywhere, whatever was interrupted, and nothing brings it back."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.media_world import MediaWorld, pack_here, world_recipe, world_run
from tests.pipeline.test_build import contents
from tests.s3_server import BUCKET, S3Server
from vidaudio.cli import main
from vidaudio.cli.app import app
from vidaudio.corpus.corpus import Corpus, create_or_open, open_corpus
from vidaudio.corpus.media_retention import release
from vidaudio.corpus.tombstones import describe_tombstones, read_tombstones
from vidaudio.errors import CorpusError, StoreError
from vidaudio.maintenance.export import export
from vidaudio.maintenance.removal_errors import RemovalIncomplete
from vidaudio.maintenance.remove import enforce_removals, read_ids, remove
from vidaudio.maintenance.status import corpus_status
from vidaudio.maintenance.verify import verify_corpus
from vidaudio.manifest import clips_from_table, read_manifest, table_from_clips
from vidaudio.media.decode.extractor import Extractor
from vidaudio.media.outcomes import Reason
from vidaudio.packs.left_out import LEFT_OUT_FILE
from vidaudio.packs.plan import PackExistsError
from vidaudio.pipeline.retry import failed_clips
from vidaudio.pipeline.stages.download import download_shard
from vidaudio.pipeline.stages.embed import embed_shard, prepare_encoder
from vidaudio.pipeline.stages.extract import extract_shard
from vidaudio.shards.commit import read_table, table_name
from vidaudio.shards.maintenance_lock import LOCK_FILE, LockHeld, maintenance_lock
from vidaudio.shards.read import TarReader
from vidaudio.shards.store import LocalStore, Store
from vidaudio.stream.index import open_index
from vidaudio.stream.reader import SampleReader

MULTI = ("multi_a", "multi_b", "multi_c")


@pytest.fixture
def copied(built_corpus: Corpus, tmp_path: Path) -> Corpus:
    def ignored(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if name != "default"] if Path(folder).name == "training" else ["runs"]

    return open_corpus(str(shutil.copytree(built_corpus.url, tmp_path / "corpus", ignore=ignored)))


def every_file(store: Store, folder: str = "") -> dict[str, bytes]:
    found = {f"{folder}/{name}".lstrip("/"): None for name in store.list(folder)}
    for inner in store.folders(folder):
        found |= every_file(store, f"{folder}/{inner}".lstrip("/"))
    return {name: store.read(name) for name in found}


def named_in(corpus: Corpus, clip: str, *, besides: tuple[str, ...] = ("manifest", "removed-")) -> list[str]:
    """Files that hold a member or a row of the clip: uncompressed names in tars, or ids in tables."""
    found = []
    for name, data in every_file(corpus.store).items():
        if name.startswith(besides):
            continue
        if name.endswith(".parquet"):
            listed = name.endswith(LEFT_OUT_FILE)
            table = pq.read_table(io.BytesIO(data)) if listed else read_table(corpus.store, name)[0]
            columns = [c for c in ("id",) if c in table.column_names]
            rows = table.select(columns).to_pylist()
            states = table["state"].to_pylist() if "state" in table.column_names else [None] * len(rows)
            if any(row["id"] == clip and state != "removed" for row, state in zip(rows, states, strict=True)):
                found.append(name)
        elif clip.encode() in data:
            found.append(name)
    return found


def media_of(corpus: Corpus, clip: str) -> list[bytes]:
    """A piece out of the middle of the clip's raw media and of its sound, which no other clip's is like."""
    pieces = []
    for shard in range(corpus.shards):
        for folder, places in (
            ("clips", (("offset", "length"),)),
            ("av", (("audio_offset", "audio_length"),)),
        ):
            table, record = read_table(corpus.store, table_name(folder, shard))
            for row in table.to_pylist():
                if row["id"] != clip:
                    continue
                for offsets, lengths in places:
                    offset, length = row[offsets], row[lengths]
                    if offset is None:
                        continue
                    with TarReader(corpus.store, f"{folder}/{record.tar}") as tar:
                        pieces.append(tar.read(offset + length // 3, length // 3))
    return pieces


def check_gone(corpus: Corpus, clip: str, pieces: list[bytes]) -> None:
    assert named_in(corpus, clip) == []
    for name, data in every_file(corpus.store).items():
        assert not any(piece in data for piece in pieces), name


class TestGone:
    def test_every_trace_goes_and_verify_is_content_and_the_rest_still_reads(self, copied):
        pieces = media_of(copied, "web_a") + media_of(copied, "web_b")
        assert len(pieces) == 4
        # Both: they are cut from one video and overlap.
        done = remove(copied.url, ["web_a", "web_b"], note="asked to by their maker", progress=False)
        assert (done.clips, done.newly, done.samples, done.unknown) == (2, 2, 2, ())
        check_gone(copied, "web_a", pieces)
        check_gone(copied, "web_b", pieces)
        report = verify_corpus(copied.url, progress=False)
        assert report.problems == ()
        described = describe_tombstones(copied.store, "removed-000000.parquet")
        assert described["note"] == "asked to by their maker"

        pack = json.loads(copied.store.read("training/default/pack.json"))
        assert (pack["generation"], pack["removed_samples"]) == (1, 2)
        index = open_index(f"{copied.url}/training/default")
        assert len(index) == 9
        assert index.generation == 1
        reader = SampleReader(index)
        for row in range(len(index)):
            assert len(reader.vectors(row)) == len(index.table["frame_seconds"][row].as_py())
            samples = index.table["samples"][row].as_py()
            assert len(reader.sound(row, 0, samples)) == samples
        assert "Removed since it was packed: 2 samples" in copied.store.read("training/default/CARD.md").decode()

    def test_what_is_left_is_what_it_was(self, copied, built_corpus):
        remove(copied.url, ["multi_b"], progress=False)
        encoder = f"embeddings/{prepare_encoder(copied)}"
        for shard in range(copied.shards):
            (old, old_record), (new, new_record) = (
                read_table(c.store, table_name("av", shard)) for c in (built_corpus, copied)
            )
            with (
                TarReader(built_corpus.store, f"av/{old_record.tar}") as before,
                TarReader(copied.store, f"av/{new_record.tar}") as after,
            ):
                for was, now in zip(old.to_pylist(), new.to_pylist(), strict=True):
                    if was["state"] != "done" or was["id"] == "multi_b":
                        continue
                    assert before.read(was["audio_offset"], was["audio_length"]) == after.read(
                        now["audio_offset"], now["audio_length"]
                    )
                    for a, b in zip(
                        zip(was["frame_offsets"], was["frame_lengths"], strict=True),
                        zip(now["frame_offsets"], now["frame_lengths"], strict=True),
                        strict=True,
                    ):
                        assert before.read(*a) == after.read(*b)
            was, _ = read_table(built_corpus.store, table_name(encoder, shard))
            now, _ = read_table(copied.store, table_name(encoder, shard))
            rows = [row for row in was.to_pylist() if row["id"] != "multi_b"]
            assert now.to_pylist() == rows

    def test_a_source_takes_all_its_clips_along(self, copied):
        source = next(c.source for c in clips_from_table(copied.manifest()) if c.id == "multi_a")
        done = remove(copied.url, [source], progress=False)
        assert done.clips == 3
        assert all(named_in(copied, clip) == [] for clip in MULTI)
        assert verify_corpus(copied.url, progress=False).ok
        assert read_tombstones(copied.store).sources == {source}

    def test_again_changes_nothing_and_a_further_removal_adds_to_it(self, copied):
        remove(copied.url, ["clock"], progress=False)
        before = contents(copied.url)
        again = remove(copied.url, ["clock"], progress=False)
        assert (again.clips, again.newly, again.tables, again.samples) == (1, 0, 0, 0)
        assert contents(copied.url) == before
        remove(copied.url, ["fractal", "clock"], progress=False)
        assert json.loads(copied.store.read("training/default/pack.json"))["generation"] == 2
        assert read_tombstones(copied.store).ids == {"clock", "fractal"}
        assert verify_corpus(copied.url, progress=False).ok

    def test_an_old_reader_reads_on(self, copied):
        _, record = read_table(copied.store, table_name("av", 0))
        with TarReader(copied.store, f"av/{record.tar}") as old:
            whole = old.read(0, record.tar_bytes)
            remove(copied.url, ["bars", "fractal", "clock"], progress=False)
            assert not copied.store.exists(f"av/{record.tar}")
            assert old.read(0, record.tar_bytes) == whole

    def test_on_an_object_store(self, s3_server: S3Server, built_corpus, copied):
        import fsspec

        url = f"s3://{BUCKET}/removal/corpus"
        fs, root = fsspec.core.url_to_fs(url)
        for name, data in contents(built_corpus.url).items():
            if not name.startswith("training/") or "/default/" in name:
                fs.pipe_file(f"{root}/{name}", data)
        remote = open_corpus(url)
        pieces = media_of(remote, "web_b")
        remove(url, ["web_a", "web_b"], progress=False)
        check_gone(remote, "web_b", pieces)
        assert verify_corpus(url, progress=False).problems == ()
        remove(copied.url, ["web_a", "web_b"], progress=False)
        here, there = contents(copied.url), every_file(remote.store)
        same = {n for n in here if not n.startswith(("removed-", "runs/")) and n.split("/")[1:2] != ["other"]}
        assert [n for n in sorted(same) if there.get(n) != here[n]] == []


def shard_of(corpus: Corpus, clip: str) -> int:
    return next(n for n in range(corpus.shards) if clip in [row.id for row in corpus.rows(n)])


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:2000])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


class TestDamage:
    """A takedown goes as far as it can, says what it could not reach, and is owed until that is mended."""

    @pytest.mark.parametrize(
        ("file", "harm", "told"),
        [
            ("clips/{shard:06d}.parquet", cut, "delete it and build again"),
            ("av/{shard:06d}.parquet", flip, "delete it and build again"),
            ("av/{shard:06d}.*.tar", cut, "delete it and its table and build again"),
            ("av/{shard:06d}.*.tar", flip, "delete it and its table and build again"),
            ("av/{shard:06d}.*.tar", Path.unlink, "is gone, though its table stands: delete it and its table"),
            ("embeddings/*/{shard:06d}.parquet", flip, "delete it and build again"),
            ("training/default/train-000000.parquet", cut, "delete the pack's folder and pack again"),
            ("training/default/train-000000.tar", flip, "delete the pack's folder and pack again"),
            ("training/default/pack.json", cut, "is no description of a pack"),
            ("embeddings/*/encoder.json", cut, "which describes the encoder of a pack, is gone or damaged"),
        ],
    )  # fmt: skip
    def test_the_rest_is_removed_and_the_same_command_ends_it_once_it_is_mended(self, copied, file, harm, told):
        (path,) = Path(copied.url).glob(file.format(shard=shard_of(copied, "bars")))
        whole = path.read_bytes()
        path.write_bytes(b"{" + whole) if harm is cut and path.suffix == ".json" else harm(path)
        with pytest.raises(RemovalIncomplete, match="never fetched again") as owed:
            remove(copied.url, ["bars", "multi_b"], progress=False)
        name = path.relative_to(copied.url).as_posix()
        assert owed.value.files[0] == name
        assert f"{copied.url}/{name}" in str(owed.value)
        assert told in str(owed.value)
        assert read_tombstones(copied.store).ids == {"bars", "multi_b"}
        # Nothing damaged was sealed in, and what was made from it stands until it can be made again.
        damaged = path.read_bytes() if path.exists() else None
        assert damaged != whole
        path.unlink(missing_ok=True)
        same_shard = f"{path.parent.relative_to(copied.url)}/{path.name.partition('.')[0]}"
        made = ("training/default/index.arrow", "training/default/CARD.md")
        # Of a pack that nothing describes nothing is known.
        untouched = ("training/default/",) if path.name == "pack.json" else ()
        left = {*named_in(copied, "bars"), *named_in(copied, "multi_b")}
        assert [n for n in left if not n.startswith((same_shard, *made, *untouched))] == []
        if damaged is not None:
            path.write_bytes(damaged)
        # Owed, not forgotten: the next command says so again.
        with pytest.raises(RemovalIncomplete), maintenance_lock(copied.store):
            enforce_removals(copied)
        path.write_bytes(whole)
        remove(copied.url, ["bars"], progress=False)
        assert named_in(copied, "bars") == named_in(copied, "multi_b") == []
        assert verify_corpus(copied.url, progress=False).problems == ()

    def test_the_command_says_it_in_a_sentence(self, copied, tmp_path, capsys, monkeypatch):
        cut(Path(copied.url, table_name("clips", shard_of(copied, "bars"))))
        (tmp_path / "ids.txt").write_text("bars\n")
        monkeypatch.setattr(sys, "argv", ["vidaudio", "remove", copied.url, str(tmp_path / "ids.txt"), "--quiet"])
        with pytest.raises(SystemExit) as stopped:
            main()
        assert stopped.value.code == 1
        assert capsys.readouterr().err.startswith("error: removed clips may still be in what is damaged: the table ")


def test_killed_behind_a_write_the_same_removal_ends_in_the_same_bytes(media_world, tiny_clip, tmp_path):
    corpus = begin(media_world, tiny_clip, tmp_path, ("web_a", "brief"))
    download_shard(corpus, 0, "clips", world_run())
    extract_shard(corpus, 0, "av", world_run())
    embed_shard(corpus, 0, f"embeddings/{prepare_encoder(corpus)}", world_run())
    pack_here(corpus, corpus.pack)
    task = {"base": corpus.url, "work": str(tmp_path / "work"), "action": "remove", "ids": ["web_a"], "every": 4}
    command = [sys.executable, "-m", "tests.pipeline.killed_life", json.dumps(task)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["wrong"] == []
    # Of all of them in turn: `make chaos`.
    assert len(answer["writes"]) >= 13
    assert len(answer["struck"]) == len(answer["writes"]) // 4


class TestNeverAgain:
    def test_a_clip_removed_before_its_turn_is_never_fetched(self, media_world, tiny_clip, tmp_path):
        corpus = begin(media_world, tiny_clip, tmp_path, ("brief", "mute"))
        remove(corpus.url, ["brief"], progress=False)
        asked = download_shard(corpus, 0, "clips", world_run())
        assert asked.source_tries == 1
        extract_shard(corpus, 0, "av", world_run())
        rows = {row["id"]: row["state"] for row in read_table(corpus.store, table_name("clips", 0))[0].to_pylist()}
        assert rows == {"brief": "removed", "mute": "done"}
        assert verify_corpus(corpus.url, progress=False).problems == ()

    def test_retrying_knows_them(self, copied):
        before = failed_clips(copied, set(Reason))
        assert set(before) == {"gone", "web_gone"}
        remove(copied.url, ["gone"], progress=False)
        assert list(failed_clips(copied, set(Reason))) == ["web_gone"]

    def test_what_a_build_commits_late_is_found_and_swept(self, copied, built_corpus):
        encoder = prepare_encoder(copied)
        remove(copied.url, ["bars"], progress=False)
        clean = contents(copied.url)
        shard = next(
            n
            for n in range(copied.shards)
            if "bars" in read_table(built_corpus.store, table_name("av", n))[0]["id"].to_pylist()
        )
        # As a build that had read the old tables would commit them now.
        for folder in ("av", f"embeddings/{encoder}"):
            _, new = read_table(copied.store, table_name(folder, shard))
            _, record = read_table(built_corpus.store, table_name(folder, shard))
            shutil.copy(f"{built_corpus.url}/{table_name(folder, shard)}", f"{copied.url}/{folder}")
            if record.tar:
                shutil.copy(f"{built_corpus.url}/{folder}/{record.tar}", f"{copied.url}/{folder}")
                copied.store.remove(f"{folder}/{new.tar}")
        found = {problem.file for problem in verify_corpus(copied.url, progress=False).problems}
        assert {table_name("av", shard), table_name(f"embeddings/{encoder}", shard)} <= found
        with maintenance_lock(copied.store):
            enforce_removals(copied)
        assert contents(copied.url) == clean

    def test_a_longer_list_may_leave_them_out_and_does_not_bring_back_their_source(
        self, media_world, tiny_clip, tmp_path, capsys
    ):
        corpus = begin(media_world, tiny_clip, tmp_path, ("multi_a", "brief"))
        rows = {c.id: c for c in clips_from_table(read_manifest(media_world.manifest))}
        remove(corpus.url, [rows["multi_a"].source], progress=False)
        longer = table_from_clips([rows[c] for c in ("brief", "multi_b", "clock")])
        grown = create_or_open(corpus.url, world_recipe(tiny_clip), longer)
        assert "1 row of the list is of a source removed" in capsys.readouterr().err
        assert [clip.id for clip in grown.rows(grown.shards - 1)] == ["clock"]
        assert grown.clips == 3

    def test_packing_again_says_that_clips_were_removed(self, copied):
        remove(copied.url, ["bars"], progress=False)
        with pytest.raises(PackExistsError, match="since 1 samples were removed"):
            pack_here(copied, copied.pack)
        folder = pack_here(copied, copied.pack.model_copy(update={"name": "anew"}))
        assert "bars" not in open_index(folder).table["id"].to_pylist()


def begin(media_world: MediaWorld, tiny_clip: Path, folder: Path, ids: tuple[str, ...], *settings: str) -> Corpus:
    rows = [clip for clip in clips_from_table(read_manifest(media_world.manifest)) if clip.id in ids]
    return create_or_open(str(folder / "small"), world_recipe(tiny_clip, *settings), table_from_clips(rows))


PAUSED_EXTRACTION = """
import sys, time
from pathlib import Path
from vidaudio.corpus.corpus import open_corpus
from vidaudio.config.corpus import RunSettings
from vidaudio.pipeline.stages import extract

commit = extract.commit

def paused(*arguments, **options):
    Path(sys.argv[2]).touch()
    while not Path(sys.argv[3]).exists():
        time.sleep(0.01)
    return commit(*arguments, **options)

extract.commit = paused
extract.extract_shard(open_corpus(sys.argv[1]), 0, "av", RunSettings())
"""


def test_a_clip_removed_while_a_build_is_at_it_is_found_afterwards_and_swept(media_world, tiny_clip, tmp_path):
    corpus = begin(media_world, tiny_clip, tmp_path, ("brief", "clock"))
    download_shard(corpus, 0, "clips", world_run())
    reached, go_on = tmp_path / "reached", tmp_path / "go_on"
    arguments = [sys.executable, "-c", PAUSED_EXTRACTION, corpus.url, str(reached), str(go_on)]
    with subprocess.Popen(arguments) as build:
        try:
            while not reached.exists():
                assert build.poll() is None
                time.sleep(0.01)
            remove(corpus.url, ["brief"], progress=False)
        finally:
            go_on.touch()
        assert build.wait() == 0
    late = [
        problem for problem in verify_corpus(corpus.url, progress=False).problems if problem.file == "av/000000.parquet"
    ]
    assert any("brief, which was removed" in problem.what for problem in late)
    remove(corpus.url, ["brief"], progress=False)
    assert verify_corpus(corpus.url, progress=False).problems == ()
    assert named_in(corpus, "brief") == []
    assert [
        row["id"] for row in read_table(corpus.store, table_name("av", 0))[0].to_pylist() if row["state"] == "done"
    ] == ["clock"]


@pytest.mark.parametrize("goes", ["removed", "released"])
def test_media_that_go_while_a_shard_is_extracted_cost_no_other_clip(
    media_world, tiny_clip, tmp_path, monkeypatch, goes
):
    """A removal writes a shard's media anew, another build lets them go: the tar that is read has no name then."""
    corpus = begin(media_world, tiny_clip, tmp_path, ("bars", "brief", "clock"), "download.copy_local=true")
    download_shard(corpus, 0, "clips", world_run())
    before = set(corpus.store.list("clips"))
    extract = Extractor.extract

    def and_meanwhile(self, span, **options):
        monkeypatch.setattr(Extractor, "extract", extract)
        if goes == "removed":
            remove(corpus.url, ["brief"], progress=False)
        else:
            release(corpus, 0)
        return extract(self, span, **options)

    monkeypatch.setattr(Extractor, "extract", and_meanwhile)
    extract_shard(corpus, 0, "av", world_run())
    assert set(corpus.store.list("clips")) != before
    enforce_removals(corpus)
    states = {row["id"]: row["state"] for row in read_table(corpus.store, table_name("av", 0))[0].to_pylist()}
    assert states == {"bars": "done", "brief": "removed" if goes == "removed" else "done", "clock": "done"}
    assert not [name for name in corpus.store.folders("") if name.startswith(".tmp-")]


def test_a_corpus_that_may_not_be_written_to_is_said_in_one_sentence(copied, tmp_path, monkeypatch):
    def refused(store):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "ids.txt").write_text("bars\n")
    before = contents(copied.url)
    monkeypatch.setattr(LocalStore, "workspace", refused)
    with pytest.raises(StoreError, match=r"may not be written to \(Permission denied\); nothing was changed"):
        remove(copied.url, read_ids(tmp_path / "ids.txt"), progress=False)
    # What only reads goes on reading.
    assert verify_corpus(copied.url, progress=False).ok
    assert corpus_status(copied.url).as_dict()["stages"]
    assert export(copied.url, tmp_path / "out", where="id == 'bars'", progress=False).clips == 1
    assert contents(copied.url) == before


def test_nothing_is_removed_while_another_command_is_at_it(copied):
    with maintenance_lock(copied.store), pytest.raises(LockHeld):
        remove(copied.url, ["bars"], progress=False)
    assert not copied.store.exists(LOCK_FILE)


def test_a_damaged_tombstone_stops_everything_and_is_a_finding(copied):
    remove(copied.url, ["bars"], progress=False)
    path = Path(copied.url, "removed-000000.parquet")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    # Tables of tombstones never change, so a process reads each once; this one has, and is another than verify's.
    from vidaudio.corpus import tombstones

    tombstones._read.cache_clear()
    with pytest.raises(CorpusError, match="says which clips were removed"):
        read_tombstones(copied.store)
    assert not verify_corpus(copied.url, progress=False).ok


def test_status_counts_clips_and_not_the_names_that_took_them(copied):
    source = next(clip.source for clip in copied.rows(0) + copied.rows(1) if clip.id == "multi_a")
    done = remove(copied.url, [source, "bars"], progress=False)
    assert done.clips == 4
    status = corpus_status(copied.url)
    assert status.as_dict()["removed"] == done.clips
    assert status.as_dict()["removed_sources"] == 1
    assert "        4 for good (vidaudio remove; 1 source whole)" in str(status)


def test_the_command_and_what_status_says(copied, tmp_path):
    (tmp_path / "ids.txt").write_text("bars\nmute\n")
    result = CliRunner().invoke(
        app, ["remove", copied.url, str(tmp_path / "ids.txt"), "--note", "x", "--quiet", "--json"]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["newly"] == 2
    assert "removed" in str(corpus_status(copied.url))
