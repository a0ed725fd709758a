"""Text from sites, containers and lists that is no text costs no shard, and is nowhere in what is written.

A site whose JSON has half of an escaped pair, NUL, 300,000 characters or marks of reading direction in every field, and
in its messages; a file with such tags; a list with such words: through download, extract, embed, pack, card, export,
status and the page of a listening test.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import ffmpeg
import pytest

from tests.hostile_text import HOSTILE, LONG, problem_of, texts_of
from tests.media.site.extractor import EXTRACTOR
from tests.media.site.server import LoopbackSite
from tests.media_world import pack_here, render, world_recipe, world_run
from tests.report.listening_world import make_systems
from vidaudio.corpus.corpus import Corpus, create_or_open
from vidaudio.maintenance.export import export
from vidaudio.maintenance.status import corpus_status
from vidaudio.maintenance.verify import verify_corpus
from vidaudio.manifest import Clip, TableOptions, read_manifest, read_table, table_from_clips, write_manifest
from vidaudio.media.ffmpeg import run_ffmpeg
from vidaudio.pipeline.clip_progress import ignore_progress
from vidaudio.pipeline.stages import download as downloading
from vidaudio.pipeline.stages import extract as extracting
from vidaudio.pipeline.stages import shard_stages
from vidaudio.pipeline.stages.embed import prepare_encoder
from vidaudio.report.listening import Item, PageText, make_page
from vidaudio.shards.commit import read_table as committed_table
from vidaudio.shards.commit import table_name

TAG = "TAG-OF-A-CONTAINER"
TAG_BYTES = b"\xed\xa0\xbd\x1b[31m\xe2\x80\xae\x00\xff".ljust(len(TAG), b"\xff")
TOLD = ("title", "uploader", "channel", "license")
DEAD = {"dead_hostile": f"Video unavailable. {HOSTILE}", "dead_long": "Video unavailable " + "a" * 300_000}
ALIVE = {"told_hostile": HOSTILE, "told_long": LONG}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSite]:
    folder = tmp_path_factory.mktemp("site")
    render(folder / "clean.mp4", 4, pitch=500)
    tags = {f"metadata:g:{number}": f"{name}={TAG}" for number, name in enumerate(("title", "artist", "comment"))}
    run_ffmpeg(ffmpeg.output(ffmpeg.input(str(folder / "clean.mp4")), str(folder / "tagged.mp4"), c="copy", **tags))
    tagged = (folder / "tagged.mp4").read_bytes()
    assert tagged.count(TAG.encode()) == len(tags)
    (folder / "tagged.mp4").write_bytes(tagged.replace(TAG.encode(), TAG_BYTES))
    with LoopbackSite(folder) as running:
        yield running


@pytest.fixture(scope="module")
def built(site: LoopbackSite, tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Everything hostile in one shard, beside clips that are as they should be."""
    folder = tmp_path_factory.mktemp("hostile")
    urls = {name: site.add_video(name, error=error) for name, error in DEAD.items()}
    for name, text in ALIVE.items():
        told = dict.fromkeys(TOLD, text) | {"duration": 4}
        file = {"url": site.url("clean.mp4"), "ext": "mp4", "format_id": text, "format_note": text}
        urls[name] = site.add_video(name, formats=[file], **told)
    urls |= {"tagged": str(site.folder / "tagged.mp4"), "tagged_web": site.url("tagged.mp4")}
    urls |= {"plain": str(site.folder / "clean.mp4")}
    rows = [
        {"id": name, "url": url, "label": [HOSTILE, name], "caption": HOSTILE * 3, "split": "tr\u202eain\0"}
        for name, url in urls.items()
    ]
    (folder / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    listing = read_table(folder / "list.jsonl", options=TableOptions(dataset=HOSTILE))
    write_manifest(listing.clips, folder / "list.parquet")
    download = "download={allow_private_addresses: true, extractors: ['%s'], retry_wait_seconds: 0.01, tries: 1}"
    recipe = world_recipe(tiny_clip, "shard_clips=16", download % EXTRACTOR, "extract.frame_size=96")
    corpus = create_or_open(str(folder / "corpus"), recipe, read_manifest(folder / "list.parquet"))
    models = {"embed": prepare_encoder(corpus)}
    for stage in shard_stages():
        stage.run(corpus, 0, stage.column.folder_for(models), recipe.run_settings(), ignore_progress)
    pack_here(corpus, recipe.pack)
    return corpus


def outcomes(corpus: Corpus, folder: str) -> dict[str, tuple[str, str | None]]:
    table, _ = committed_table(corpus.store, table_name(folder, 0))
    return {row["id"]: (row["state"], row["reason"]) for row in table.to_pylist()}


def test_dead_videos_have_their_reasons_and_the_others_come_through(built: Corpus):
    removed = dict.fromkeys(DEAD, ("failed", "removed"))
    alive = dict.fromkeys([*ALIVE, "tagged", "tagged_web", "plain"], ("done", None))
    assert outcomes(built, "clips") == removed | alive
    assert outcomes(built, "av") == alive


def test_nothing_that_was_written_holds_what_no_text_should(built: Corpus, tmp_path: Path):
    export(built.url, tmp_path / "export", progress=False)
    systems = make_systems(tmp_path / "sounds", ["a", "b"], ["one"])
    item = Item("one", f"dog{HOSTILE}", f"cat{HOSTILE}", group=HOSTILE)
    make_page(systems, tmp_path / "page.html", items=[item], text=PageText(HOSTILE, LONG + HOSTILE))
    shutil.copytree(built.url, tmp_path / "corpus")
    for tar in sorted((tmp_path / "corpus").rglob("*.tar")):
        shutil.unpack_archive(tar, tar.with_suffix(""), filter="data")
    found = list(texts_of(tmp_path))
    assert len(found) > 150
    # JSON, tables for spreadsheets and pages may be as long as they like; what they hold may not.
    problems = [
        (place, problem) for place, text in found if (problem := problem_of(text)) and "characters" not in problem
    ]
    assert problems == []
    for place, text in found:
        if place.endswith(".json"):
            assert all(problem_of(inner) is None for inner in strings(json.loads(text))), place
    problem = problem_of(str(corpus_status(built.url))) or problem_of(json.dumps(corpus_status(built.url).as_dict()))
    assert problem is None
    assert verify_corpus(built.url, progress=False).problems == ()


def strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in [*value, *value.values()] if isinstance(value, dict) else value:
            yield from strings(inner)


def test_the_card_keeps_its_tables(built: Corpus):
    card = built.store.read("training/default/CARD.md").decode()
    assert problem_of(card) is None
    rows = [line for line in card.splitlines() if line.startswith("|")]
    assert all(len(line) < 500 for line in rows)
    assert any("second third" in line for line in rows)
    assert "| 2 |" in next(line for line in rows if line.startswith("| removed") or "failed: removed" in line)


def test_a_corpus_that_was_begun_with_such_words_goes_on_with_its_list(tiny_clip: Path, tmp_path: Path):
    """Lists are cleaned when they are read: one that an earlier version took as it was must not look changed."""
    words = ("a\0b", "\u202edog", "two\r\nlines")
    clips = [Clip(id=f"c{n}", source=f"s:{n}", dataset="d", url=f"/{n}.mp4", captions=words) for n in range(6)]
    recipe = world_recipe(tiny_clip)
    begun = create_or_open(str(tmp_path / "corpus"), recipe, table_from_clips(clips))
    assert begun.rows(0)[0].captions == words
    more = Clip(id="new", source="s:new", dataset="d", url="/new.mp4", captions=words)
    for listed, parts in ((clips, 1), ([*clips, more], 2)):
        write_manifest(listed, tmp_path / "list.parquet")
        corpus = create_or_open(str(tmp_path / "corpus"), recipe, read_manifest(tmp_path / "list.parquet"))
        assert (len(corpus.parts), corpus.clips) == (parts, len(listed))
    assert corpus.rows(corpus.shards - 1)[0].captions == ("ab", "dog", "two\nlines")


# --- the second line: what gets past the doors costs its clip alone --------------------------------------------------


@pytest.fixture
def begun(site: LoopbackSite, tiny_clip: Path, tmp_path: Path) -> Corpus:
    rows = [{"id": name, "url": str(site.folder / "clean.mp4"), "start": n} for n, name in enumerate("abc")]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, rows)))
    write_manifest(read_table(tmp_path / "list.jsonl").clips, tmp_path / "list.parquet")
    recipe = world_recipe(tiny_clip, "download.copy_local=true", "extract.min_seconds=0.5")
    return create_or_open(str(tmp_path / "corpus"), recipe, read_manifest(tmp_path / "list.parquet"))


@pytest.mark.parametrize(
    "bad",
    [
        {"info": {"title": "\ud83d"}},
        {"info": {"title": object()}},
        {"size_bytes": 2**70},
        {"sha256": "\udcff"},
        {"media_start_seconds": "soon"},
    ],
)
def test_one_fetched_clip_with_facts_that_cannot_be_stored_fails_alone(begun: Corpus, monkeypatch, bad):
    fetch = downloading.fetch_in_rounds

    def fetch_one_badly(*args, **options):
        report = fetch(*args, **options)
        got = report.fetched["b"]
        for name, value in bad.items():
            object.__setattr__(got, name, value)
        return report

    monkeypatch.setattr(downloading, "fetch_in_rounds", fetch_one_badly)
    downloading.download_shard(begun, 0, "clips", world_run())
    table, record = committed_table(begun.store, "clips/000000.parquet")
    rows = {row["id"]: row for row in table.to_pylist()}
    assert [rows[name]["state"] for name in "abc"] == ["done", "failed", "done"]
    assert "cannot be stored" in rows["b"]["message"]
    assert rows["b"]["member"] is None
    assert record.outcomes == {"done": 2, "unknown": 1}


@pytest.mark.parametrize(
    "bad", [{"samples": 2**70}, {"motion": "much"}, {"frame_seconds": ["\ud83d"]}, {"x": "\ud83d"}]
)
def test_one_extracted_clip_with_facts_that_cannot_be_stored_fails_alone(begun: Corpus, monkeypatch, bad):
    downloading.download_shard(begun, 0, "clips", world_run())
    extract = extracting.extract_clip

    def extract_one_badly(extractor, trial, fetched, clip, tar_path):
        got = extract(extractor, trial, fetched, clip, tar_path)
        return replace(got, facts={**got.facts, **bad}) if clip.id == "b" else got

    monkeypatch.setattr(extracting, "extract_clip", extract_one_badly)
    extracting.extract_shard(begun, 0, "av", world_run())
    assert outcomes(begun, "av") == {"a": ("done", None), "b": ("failed", "unknown"), "c": ("done", None)}
