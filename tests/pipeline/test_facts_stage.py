"""Facts of clips in a corpus: made with the extraction, or later from the media, or from what the corpus keeps."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.media_world import MediaWorld, pack_here, world_recipe, world_run
from tests.pipeline.killed_life import fetch_and_extract
from vidaudio.config.corpus import PackBlock
from vidaudio.corpus.columns import FACTS, FACTS_SCHEMA
from vidaudio.corpus.corpus import Corpus, create_or_open, open_corpus
from vidaudio.maintenance.verify import verify_corpus
from vidaudio.manifest import clips_from_table, read_manifest, table_from_clips
from vidaudio.media.facts.motion import MOTION_RATE
from vidaudio.media.facts.sound import ONSET_RATE
from vidaudio.pipeline.build import build
from vidaudio.pipeline.stages.extract import extract_shard
from vidaudio.pipeline.stages.facts import facts_shard
from vidaudio.shards.commit import read_table, table_name

MOTION = {"motion_source", "motion_envelope"}


def copied(corpus: Corpus, tmp_path: Path) -> Corpus:
    return open_corpus(str(shutil.copytree(corpus.url, tmp_path / "corpus", ignore=shutil.ignore_patterns("runs"))))


def facts_of(corpus: Corpus) -> dict[str, dict]:
    tables = [read_table(corpus.store, table_name(FACTS.folder, shard))[0] for shard in range(corpus.shards)]
    return {row["id"]: row for table in tables for row in table.to_pylist()}


def bytes_of(corpus: Corpus) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(corpus.url, FACTS.folder).iterdir()}


def test_a_build_measures_every_clip_that_it_extracts(built_corpus: Corpus, media_world: MediaWorld):
    facts = facts_of(built_corpus)
    assert set(facts) == set(media_world.usable)
    for shard in range(built_corpus.shards):
        for row in read_table(built_corpus.store, table_name("av", shard))[0].to_pylist():
            if row["state"] == "done":
                fact = facts[row["id"]]
                assert len(fact["motion_envelope"]) == pytest.approx(row["video_seconds"] * MOTION_RATE, abs=1)
                heard_until = row["audio_start_seconds"] + row["seconds"]
                assert len(fact["onset_envelope"]) == pytest.approx(heard_until * ONSET_RATE, abs=2)
    assert facts["silent"]["mostly_silent"]
    assert not facts["fractal"]["mostly_silent"]
    assert facts["bars"]["still"]
    assert not facts["fractal"]["still"]
    # Tones of 0.4 with a tremolo, and nothing above them.
    assert -16 < facts["bars"]["loudness_lufs"] < -11
    assert facts["bars"]["bandwidth_hz"] < 500


def test_clips_are_selected_by_facts(built_corpus: Corpus, tmp_path: Path):
    corpus = copied(built_corpus, tmp_path)
    settings = corpus.pack.model_copy(update={"name": "moving", "where": "loudness_lufs > -40 and not still"})
    folder = pack_here(corpus, PackBlock(**settings.model_dump()))
    packed = {row["id"] for file in Path(folder).glob("*-*.parquet") for row in _rows(corpus, folder, file.name)}
    wanted = {clip for clip, row in facts_of(corpus).items() if row["loudness_lufs"] > -40 and not row["still"]}
    assert packed == wanted
    assert "bars" not in packed
    assert "fractal" in packed


def _rows(corpus: Corpus, folder: str, name: str) -> list[dict]:
    return read_table(corpus.store, f"{Path(folder).relative_to(corpus.url)}/{name}")[0].to_pylist()


def test_a_corpus_without_facts_gets_the_same_from_its_media(
    built_corpus: Corpus, media_world: MediaWorld, tiny_clip: Path, tmp_path: Path
):
    corpus = copied(built_corpus, tmp_path)
    before = {path: path.read_bytes() for path in Path(corpus.url).rglob("*") if path.is_file()}
    shutil.rmtree(Path(corpus.url, FACTS.folder))
    build(world_recipe(tiny_clip), str(media_world.manifest), corpus.url, only="facts", progress=False)
    after = {path: path.read_bytes() for path in before}
    assert after == before
    assert verify_corpus(corpus.url, progress=False).ok


def test_a_clip_whose_file_has_changed_is_measured_from_the_corpus(
    media_world: MediaWorld, tiny_clip: Path, tmp_path: Path
):
    files = shutil.copytree(media_world.folder, tmp_path / "files")
    rows = [clip for clip in clips_from_table(read_manifest(media_world.manifest)) if clip.id in ("bars", "fractal")]
    moved = [replace(clip, url=str(files / Path(clip.url).name)) for clip in rows]
    corpus = create_or_open(str(tmp_path / "corpus"), world_recipe(tiny_clip), table_from_clips(moved))
    fetch_and_extract(corpus.url, "all")
    known = facts_of(corpus)
    shutil.rmtree(Path(corpus.url, FACTS.folder))
    with (files / "bars.mp4").open("ab") as file:
        file.write(b"more")
    for shard in range(corpus.shards):
        facts_shard(corpus, shard, FACTS.folder, world_run())
    again = facts_of(corpus)
    assert again["fractal"] == known["fractal"]
    assert {name for name, value in again["bars"].items() if value is None} == MOTION
    sound = {"loudness_lufs", "silent_share", "clipped_share", "bandwidth_hz", "onset_envelope"}
    assert {name: again["bars"][name] for name in sound} == {name: known["bars"][name] for name in sound}
    # Pictures are JPEG by now.
    assert again["bars"]["still"]


@pytest.mark.parametrize("keep", ["none", "until_extracted"])
def test_media_that_were_not_kept_are_not_fetched_for_facts(
    media_world: MediaWorld, tiny_clip: Path, tmp_path: Path, keep: str
):
    rows = [clip for clip in clips_from_table(read_manifest(media_world.manifest)) if clip.id in ("web_a", "brief")]
    corpus = create_or_open(str(tmp_path / "corpus"), world_recipe(tiny_clip), table_from_clips(rows))
    fetch_and_extract(corpus.url, keep)
    known = facts_of(corpus)
    assert all(row["motion_source"] == "packets" for row in known.values())
    shutil.rmtree(Path(corpus.url, FACTS.folder))
    for shard in range(corpus.shards):
        facts_shard(corpus, shard, FACTS.folder, world_run())
    again = facts_of(corpus)
    assert {clip: row["loudness_lufs"] for clip, row in again.items()} == {
        clip: row["loudness_lufs"] for clip, row in known.items()
    }
    assert all(row["motion_envelope"] is None for row in again.values())
    assert verify_corpus(corpus.url, progress=False).ok


def test_facts_of_an_attempt_that_was_killed_are_written_over(
    media_world: MediaWorld, tiny_clip: Path, tmp_path: Path, built_corpus: Corpus
):
    corpus = copied(built_corpus, tmp_path)
    known = bytes_of(corpus)
    for shard in range(corpus.shards):
        # As a kill between the two commits leaves it, with facts of other media.
        for path in Path(corpus.url, "av").glob(f"{shard:06d}.*"):
            path.unlink()
        other, own = (table_name(FACTS.folder, number % corpus.shards) for number in (shard + 1, shard))
        shutil.copy(Path(corpus.url, other), Path(corpus.url, own))
        extract_shard(corpus, shard, "av", world_run())
    assert bytes_of(corpus) == known


def test_a_removal_takes_the_facts_of_a_clip_out(built_corpus: Corpus, tmp_path: Path):
    from vidaudio.maintenance.remove import remove

    corpus = copied(built_corpus, tmp_path)
    before = facts_of(corpus)
    remove(corpus.url, ["bars"], progress=False)
    assert facts_of(corpus) == {clip: row for clip, row in before.items() if clip != "bars"}
    assert verify_corpus(corpus.url, progress=False).ok


def test_the_tables_hold_what_is_declared_and_little_more(built_corpus: Corpus):
    table, _ = read_table(built_corpus.store, table_name(FACTS.folder, 0))
    assert table.schema.equals(FACTS_SCHEMA)
    assert {field.type for field in FACTS_SCHEMA if field.name.endswith("_envelope")} == {FACTS_SCHEMA.field(-1).type}
