"""`download.keep`: the same av whatever becomes of the media, and a kill anywhere costs nothing that was committed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from tests.media_world import MediaWorld, world_recipe, world_run
from tests.pipeline.killed_life import fetch_and_extract
from tests.pipeline.test_build import contents
from tests.s3_server import BUCKET, S3Server
from vidaudio.corpus.corpus import Corpus, create_or_open, open_corpus
from vidaudio.corpus.media_retention import draft_name
from vidaudio.errors import CorpusError, UsageError
from vidaudio.hashing import sha256_of
from vidaudio.maintenance.verify import verify_corpus
from vidaudio.manifest import clips_from_table, read_manifest, table_from_clips, write_manifest
from vidaudio.pipeline.build import build
from vidaudio.pipeline.dry_run import dry_run
from vidaudio.pipeline.stages import fused as keeping
from vidaudio.pipeline.stages.download import download_shard, spent_by
from vidaudio.pipeline.stages.extract import extract_shard
from vidaudio.pipeline.stages.fused import check_keep, finish_interrupted
from vidaudio.shards.commit import decode_table, encode_table, read_table, table_name
from vidaudio.shards.tar import list_members

CLIPS = ("web_a", "web_gone", "brief", "mute")


def begun(
    media_world: MediaWorld, tiny_clip: Path, folder: Path, clips: tuple[str, ...] = CLIPS, *settings: str
) -> Corpus:
    rows = [clip for clip in clips_from_table(read_manifest(media_world.manifest)) if clip.id in clips]
    return create_or_open(str(folder), world_recipe(tiny_clip, *settings), table_from_clips(rows))


@pytest.fixture(scope="module")
def kept(media_world, tiny_clip, tmp_path_factory) -> dict[str, Path]:
    """The same list with each `download.keep`."""
    made = {}
    for keep in ("all", "until_extracted", "none"):
        folder = tmp_path_factory.mktemp(keep) / "corpus"
        begun(media_world, tiny_clip, folder)
        fetch_and_extract(str(folder), keep)
        made[keep] = folder
    return made


def test_av_is_the_same_whatever_becomes_of_the_media(kept):
    av = {
        keep: {name: data for name, data in contents(folder).items() if name.startswith("av/")}
        for keep, folder in kept.items()
    }
    assert av["all"] == av["until_extracted"] == av["none"]
    assert len(av["all"]) == 2


def test_clips_hold_what_was_asked_for_and_the_table_always_stands(kept):
    held = {keep: sorted(path.name[6:] for path in (folder / "clips").iterdir()) for keep, folder in kept.items()}
    assert [name[-4:] for name in held["all"]] == [".tar", "quet"]
    assert held["until_extracted"] == [".parquet", ".released"]
    assert held["none"] == [".parquet"]
    rows = {keep: read_table(open_corpus(str(f)).store, table_name("clips", 0))[0] for keep, f in kept.items()}
    assert rows["all"].equals(rows["until_extracted"])
    for column in ("id", "state", "reason", "path", "sha256", "media_start_seconds", "info"):
        assert rows["none"][column].equals(rows["all"][column])
    assert rows["none"]["member"].null_count == len(CLIPS)


def test_verify_knows_them_all_and_finds_media_that_should_be_gone(kept, tmp_path):
    for keep, folder in kept.items():
        assert verify_corpus(str(folder), progress=False).problems == (), keep
    copy = shutil.copytree(kept["until_extracted"], tmp_path / "copy")
    (tar,) = (kept["all"] / "clips").glob("*.tar")
    shutil.copy(tar, copy / "clips")
    report = verify_corpus(str(copy), progress=False)
    assert [p.file for p in report.problems] == [f"clips/{tar.name}"]
    assert "interrupted" in report.problems[0].what
    corpus = open_corpus(str(copy))
    finish_interrupted(corpus, "all")
    assert verify_corpus(str(copy), progress=False).ok


@pytest.mark.parametrize(
    ("keep", "kind"), [("all", "build again"), ("until_extracted", "fetched again"), ("none", "fetched again")]
)
@pytest.mark.parametrize("ending", ["tar", "parquet"])
def test_verify_says_how_damaged_pictures_and_sound_come_back(kept, keep, kind, ending, tmp_path):
    copy = shutil.copytree(kept[keep], tmp_path / "copy")
    (file,) = (copy / "av").glob(f"*.{ending}")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    problems = verify_corpus(str(copy), progress=False).problems
    assert [p.file for p in problems if kind in p.remedy] == [f"av/{file.name}"]
    if keep != "all":
        # The remedy, followed.
        for path in [*(copy / "av").iterdir(), copy / "clips/000000.parquet", copy / "clips/000000.released"]:
            path.unlink(missing_ok=True)
        fetch_and_extract(str(copy), keep)
        assert contents(copy) == contents(kept[keep])


@pytest.mark.parametrize("keep", ["all", "until_extracted", "none"])
def test_on_an_object_store(s3_server: S3Server, media_world, tiny_clip, kept, keep):
    url = f"s3://{BUCKET}/keep-{keep}/corpus"
    local = open_corpus(str(kept[keep]))
    create_or_open(url, world_recipe(tiny_clip), pa.concat_tables(local.tables()))
    fetch_and_extract(url, keep)
    store = open_corpus(url).store
    for folder in ("clips", "av"):
        there = {name: store.read(f"{folder}/{name}") for name in store.list(folder)}
        assert there == {path.name: path.read_bytes() for path in (kept[keep] / folder).iterdir()}
    assert verify_corpus(url, progress=False).problems == ()


@pytest.mark.parametrize("keep", ["until_extracted", "none"])
def test_a_build_by_dask_with_two_workers(media_world, tiny_clip, tmp_path, kept, keep):
    rows = [clip for clip in clips_from_table(read_manifest(media_world.manifest)) if clip.id in CLIPS]
    write_manifest(rows, tmp_path / "list.parquet")
    recipe = world_recipe(tiny_clip, f"download.keep={keep}")
    folder = str(tmp_path / "corpus")
    build(recipe, str(tmp_path / "list.parquet"), folder, only=["download", "extract"], progress=False)
    media = ("clips/", "av/")
    there, here = ({n: d for n, d in contents(f).items() if n.startswith(media)} for f in (folder, kept[keep]))
    assert there == here


def test_what_was_spent_is_known_where_the_extraction_fails_behind_the_fetch(
    media_world, tiny_clip, tmp_path, monkeypatch
):
    corpus = begun(media_world, tiny_clip, tmp_path / "corpus")

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keeping, "extract_fetched", full)
    with pytest.raises(OSError, match="No space left") as caught:
        keeping.fetch_and_extract(corpus, 0, "clips", world_run(keep="none"))
    spent = spent_by(caught.value)
    assert sum(spent["requests"].values()) > 0
    assert spent["source_tries"] > 0


def test_a_corpus_that_kept_its_media_lets_them_go_when_asked_to_later(kept, tmp_path):
    copy = shutil.copytree(kept["all"], tmp_path / "copy")
    fetch_and_extract(str(copy), "until_extracted")
    assert contents(copy) == contents(kept["until_extracted"])


@pytest.mark.parametrize(("begun_with", "run_with"), [("until_extracted", "all"), ("all", "until_extracted")])
def test_what_becomes_of_media_is_the_runs_own_setting(media_world, tiny_clip, kept, tmp_path, begun_with, run_with):
    corpus = begun(media_world, tiny_clip, tmp_path / "corpus", CLIPS, f"download.keep={begun_with}")
    fetch_and_extract(corpus.url, "all")
    write_manifest(clips_from_table(read_manifest(f"{corpus.url}/manifest.parquet")), tmp_path / "list.parquet")
    request = (world_recipe(tiny_clip, f"download.keep={run_with}"), str(tmp_path / "list.parquet"), corpus.url)
    planned = dry_run(*request, only=["download", "extract"])
    build(*request, only=["download", "extract"], progress=False)
    folder = Path(corpus.url) / "clips"
    assert {path.name for path in folder.iterdir()} == {path.name for path in (kept[run_with] / "clips").iterdir()}
    assert planned.released_shards == len(list(folder.glob("*.released")))


@pytest.mark.parametrize("keep", ["until_extracted", "none"])
def test_extracting_again_says_that_the_media_were_not_kept_and_how_to_get_them(kept, keep, tmp_path):
    copy = shutil.copytree(kept[keep], tmp_path / "copy")
    (copy / "av" / "000000.parquet").unlink()
    corpus = open_corpus(str(copy))
    with pytest.raises(CorpusError, match=r"were not kept \(download.keep\)") as caught:
        extract_shard(corpus, 0, "av", world_run())
    assert "delete" in str(caught.value)
    (copy / "clips" / "000000.parquet").unlink()
    (copy / "clips" / "000000.released").unlink(missing_ok=True)
    fetch_and_extract(str(copy), keep)
    assert contents(copy) == contents(kept[keep])


def test_files_of_the_users_own_are_extracted_again_without_being_fetched_again(media_world, tiny_clip, tmp_path):
    corpus = begun(media_world, tiny_clip, tmp_path / "corpus", ("brief", "mute"))
    fetch_and_extract(corpus.url, "until_extracted")
    before = contents(corpus.url)
    assert not [name for name in before if name.startswith("clips/") and name.endswith(".tar")]
    (tmp_path / "corpus" / "av" / "000000.parquet").unlink()
    fetch_and_extract(corpus.url, "until_extracted")
    assert contents(corpus.url) == before


def test_two_builds_at_once_agree_on_one_shard(media_world, tiny_clip, tmp_path, kept, monkeypatch):
    corpus = begun(media_world, tiny_clip, tmp_path / "corpus")
    run = world_run(keep="none")
    extract = keeping.extract_fetched

    def after_the_other(*arguments):
        # Between our draft and our av another build does the whole shard.
        monkeypatch.setattr(keeping, "extract_fetched", extract)
        keeping.fetch_and_extract(corpus, 0, "clips", run)
        return extract(*arguments)

    monkeypatch.setattr(keeping, "extract_fetched", after_the_other)
    keeping.fetch_and_extract(corpus, 0, "clips", run)
    assert contents(corpus.url) == contents(kept["none"])


def test_of_two_fetches_the_outcomes_of_the_one_that_av_was_made_from_are_kept(kept, tmp_path):
    copy = shutil.copytree(kept["none"], tmp_path / "copy")
    table = copy / "clips" / "000000.parquet"
    right = table.read_bytes()
    rows, record = decode_table(right)
    other = rows.set_column(5, "offset", pa.array([7] * rows.num_rows, pa.int64()))
    (av,) = (copy / "av").glob("*.tar")
    for data, sha in ((encode_table(other, record), "0" * 64), (right, sha256_of(av))):
        (copy / "clips" / draft_name(0, sha)).write_bytes(data)
    table.unlink()
    finish_interrupted(open_corpus(str(copy)), "all")
    assert contents(copy) == contents(kept["none"])


def test_a_build_that_comes_late_to_let_go_media_takes_what_stands(media_world, tiny_clip, tmp_path, kept):
    corpus = begun(media_world, tiny_clip, tmp_path / "corpus")
    download_shard(corpus, 0, "clips", world_run())
    first = keeping.extract_and_release(corpus, 0, "av", world_run())
    assert keeping.extract_and_release(corpus, 0, "av", world_run()) == first
    assert contents(corpus.url) == contents(kept["until_extracted"])


def test_download_alone_is_refused_where_media_are_kept_nowhere():
    with pytest.raises(UsageError, match="both download and extract"):
        check_keep("none", ["download"])
    check_keep("none", ["download", "extract"])
    check_keep("all", ["download"])


@pytest.mark.parametrize(("keep", "writes"), [("until_extracted", 7), ("none", 6)])
def test_killed_behind_a_write_the_same_build_ends_in_the_same_bytes(media_world, tiny_clip, tmp_path, keep, writes):
    corpus = begun(media_world, tiny_clip, tmp_path / "base", ("brief", "mute"), "download.copy_local=true")
    task = {"base": corpus.url, "work": str(tmp_path / "work"), "action": keep, "decoder": "here", "every": 2}
    done = subprocess.run(
        [sys.executable, "-m", "tests.pipeline.killed_life", json.dumps(task)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["wrong"] == []
    # Of all of them in turn: `make chaos`.
    assert (len(answer["writes"]), len(answer["struck"])) == (writes, writes // 2)


def test_members_of_the_kept_tar_are_those_of_the_table(kept):
    (tar,) = (kept["all"] / "clips").glob("*.tar")
    assert set(list_members(tar)) == {"web_a.mp4", "web_a.json"}
