"""Search compares a query with every clip: the nearest are found by words, by pictures and by sounds."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import soundfile
from PIL import Image

import vidaudio
from tests.hostile_text import problem_of
from vidaudio.clip_search.clip_facts import read_clip_media
from vidaudio.clip_search.query import SearchQuery, encode_heard, heard
from vidaudio.clip_search.search import search
from vidaudio.clip_search.shown import ShownClips
from vidaudio.corpus.clip_vectors import picture_vectors, sound_vectors
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.superseded import Superseded
from vidaudio.corpus.tombstones import write_tombstones
from vidaudio.correspondence.scorer import fold_of
from vidaudio.correspondence.windows import unit
from vidaudio.errors import CorpusError, EncoderError, MediaError, QueryError, ScorerError, UsageError
from vidaudio.hashing import hashed
from vidaudio.maintenance.remove import remove
from vidaudio.packs.selection import SelectionError
from vidaudio.pipeline.stages.scorer_files import load_scorer
from vidaudio.shards.commit import encode_table, read_table, table_name
from vidaudio.tasks.picture_encoder import load_picture_encoder


def encoder_of(corpus: Corpus) -> str:
    (name,) = corpus.store.folders("embeddings")
    return name


def pictures(corpus: Corpus) -> dict[str, np.ndarray]:
    """Vectors of all clips' pictures by id."""
    parts = list(picture_vectors(corpus, encoder_of(corpus)))
    return {clip_id: vector for part in parts for clip_id, vector in zip(part.ids, part.vectors, strict=True)}


def labels(corpus: Corpus) -> dict[str, str]:
    return {row["id"]: row["labels"][0] for table in corpus.tables() for row in table.to_pylist()}


def media_of(corpus: Corpus, clip_id: str, folder: Path) -> tuple[Path, Path]:
    """Write a picture and the sound of a clip to files."""
    (shard,) = (n for n in range(corpus.shards) if clip_id in corpus.table(n)["id"].to_pylist())
    media = read_clip_media(corpus, shard, [clip_id], 1)[clip_id]
    picture, sound = folder / "picture.jpg", folder / "sound.flac"
    picture.write_bytes(media.pictures[0])
    sound.write_bytes(media.sound)
    return picture, sound


def test_words_find_clips_of_their_kind_as_a_comparison_with_all_of_them_does(world: Corpus):
    own, vectors = labels(world), pictures(world)
    mean = np.mean(list(vectors.values()), axis=0)
    encoder = load_picture_encoder(world, encoder_of(world))
    for label in sorted(set(own.values())):
        report = search(world.url, label, count=5, progress=False)
        assert {hit.label for hit in report.hits} == {label}
        asked = unit(encoder.embed_label(label))
        expected = {clip_id: float(asked @ unit(vector - mean)) for clip_id, vector in vectors.items()}
        best = sorted(expected, key=lambda clip_id: -expected[clip_id])[:5]
        assert [hit.id for hit in report.hits] == best
        for hit in report.hits:
            assert hit.similarity == pytest.approx(expected[hit.id], abs=2e-4)
            assert hit.cosine == pytest.approx(float(asked @ vectors[hit.id]), abs=2e-4)
        assert report.searched == len(vectors)


def test_a_picture_of_a_clip_finds_that_clip_first(world: Corpus, tmp_path: Path):
    for clip_id in sorted(pictures(world))[::9]:
        picture, _ = media_of(world, clip_id, tmp_path)
        report = search(world.url, SearchQuery(image=picture), count=3, progress=False)
        assert report.hits[0].id == clip_id
        assert report.hits[0].similarity > 0.9


def test_a_sound_finds_the_clip_that_it_is_of_among_sounds(world: Corpus, tmp_path: Path):
    scorer = load_scorer(world, "default")
    for clip_id in sorted(pictures(world))[::9]:
        _, sound = media_of(world, clip_id, tmp_path)
        report = search(world.url, SearchQuery(sound=sound, sounds_like=True), count=4, progress=False)
        assert report.hits[0].id == clip_id
        assert report.hits[0].similarity == pytest.approx(1, abs=0.01)
        known = {i: v for part in sound_vectors(world, "default") for i, v in zip(part.ids, part.vectors, strict=True)}
        asked, mean = encode_heard(scorer, heard(sound))[0], np.mean(list(known.values()), axis=0)
        expected = {i: float(unit(v - mean) @ unit(asked - mean)) for i, v in known.items()}
        assert [hit.id for hit in report.hits] == sorted(expected, key=lambda i: -expected[i])[:4]


def test_a_sound_is_compared_with_each_clip_s_pictures_by_the_model_that_has_not_heard_its_source(
    world: Corpus, tmp_path: Path
):
    import torch

    vectors, scorer = pictures(world), load_scorer(world, "default")
    _, sound = media_of(world, min(vectors), tmp_path)
    sources = {row["id"]: row["source"] for table in world.tables() for row in table.to_pylist()}
    asked = encode_heard(scorer, heard(sound))
    expected: dict[str, float] = {}
    for fold, model in enumerate(scorer.models):
        ids = [i for i in vectors if fold_of(int(hashed(pa.chunked_array([[sources[i]]]))[0])) == fold]
        with torch.inference_mode():
            mapped = model.encode_pictures(torch.from_numpy(np.stack([vectors[i] for i in ids]))).numpy()
        cosines = unit(mapped - mapped.mean(axis=0)) @ asked[fold]
        expected |= dict(zip(ids, ((cosines - cosines.mean()) / cosines.std()).tolist(), strict=True))
    report = search(world.url, SearchQuery(sound=sound), count=6, progress=False)
    assert [hit.id for hit in report.hits] == sorted(expected, key=lambda i: -expected[i])[:6]
    assert report.hits[0].similarity == pytest.approx(max(expected.values()), abs=1e-3)
    assert (report.scorer, report.unit) == ("default", "standard deviations")


def test_a_selection_narrows_a_search(world: Corpus):
    wanted = "bouncing ball"
    report = search(world.url, "buzzing bee", where=f"'{wanted}' in labels", count=100, progress=False)
    assert {hit.label for hit in report.hits} == {wanted}
    assert len(report.hits) == report.searched == 5
    by_score = search(world.url, "buzzing bee", where="p_corresponds >= 0", progress=False)
    assert len(by_score.hits) == 10
    assert search(world.url, "buzzing bee", where="seconds < 0", progress=False).hits == ()


def test_removed_clips_are_never_shown(copied: Corpus):
    first, second = search(copied.url, "ringing bell", count=2, progress=False).hits
    # Tombstones alone, as of a removal that was interrupted.
    write_tombstones(copied.store, {first.id: first.source}, [second.source], None)
    found = {hit.id for hit in search(copied.url, "ringing bell", count=100, progress=False).hits}
    assert found.isdisjoint({first.id, second.id})
    third = search(copied.url, "ringing bell", count=1, progress=False).hits[0]
    remove(copied.url, [third.id], progress=False)
    assert third.id not in {hit.id for hit in search(copied.url, "ringing bell", count=100, progress=False).hits}


def test_superseded_rows_are_not_shown():
    older = Superseded(np.array([0]), pa.array(["b"]), 2)
    shown = ShownClips(pa.array(["c"]), older, None, 1)
    rows = shown.of_rows(np.array([0, 0, 0, 1]), pa.array(["a", "b", "c", "b"]))
    assert rows.tolist() == [True, False, False, True]
    wanted = replace(shown, wanted=pa.array(["b"]))
    assert wanted.of_shard(1, ["a", "b"]).tolist() == [False, True]


def test_texts_of_sites_are_harmless_wherever_they_are_shown(copied: Corpus, tmp_path: Path):
    hostile = "\x1b[31mred\x1b]0;x\x07 \u202egnp.exe\nsecond <script>alert(1)</script> " + "long " * 500
    for shard in range(copied.shards):
        name = table_name("clips", shard)
        table, record = read_table(copied.store, name)
        info = pa.array([json.dumps({"title": hostile})] * table.num_rows, pa.string())
        table = table.set_column(table.schema.get_field_index("info"), "info", info)
        copied.store.replace(name, encode_table(table, record))
    page = tmp_path / "page.html"
    report = search(copied.url, "ringing\x1b[31m \u202ebell", count=3, page=page, progress=False)
    lines = str(report).splitlines()
    assert len(lines) == 2 + 3
    assert max(map(len, lines)) < 400
    text = page.read_text()
    for shown in (*lines, text, *(hit.title for hit in report.hits)):
        assert problem_of(shown[:100_000]) is None
    assert "red" in lines[2]
    assert "<script" not in text
    assert json.loads(json.dumps(report.as_dict()))["hits"][0]["title"].startswith("red")


def test_an_address_of_another_scheme_is_no_link(world: Corpus, tmp_path: Path):
    from vidaudio.clip_search.page import write_page

    report = search(world.url, "ringing bell", count=2, progress=False)
    first, second = report.hits
    hits = (replace(first, url="javascript:alert(1)"), replace(second, url="https://example.org/?a=1&b=2"))
    write_page(world, replace(report, hits=hits), tmp_path / "deep" / "page.html")
    text = (tmp_path / "deep" / "page.html").read_text()
    assert text.count("<a ") == 1
    assert 'href="https://example.org/?a=1&amp;b=2"' in text


@pytest.mark.parametrize(
    ("query", "options", "error", "says"),
    [
        ("  ", {}, QueryError, "empty"),
        (SearchQuery(), {}, UsageError, "exactly one"),
        (SearchQuery(text="a", image="b.jpg"), {}, UsageError, "exactly one"),
        (SearchQuery(text="a", sounds_like=True), {}, UsageError, "--sound FILE"),
        (SearchQuery(image="missing.jpg"), {}, MediaError, "no picture missing.jpg"),
        (SearchQuery(sound="missing.wav"), {}, MediaError, "no sound file missing.wav"),
        (SearchQuery(sound="a.wav", scorer="other"), {}, ScorerError, "has no scorer other; it has default"),
        (SearchQuery(sound="a.wav"), {"encoder": "x"}, UsageError, "leave --encoder out"),
        ("a", {"encoder": "other"}, CorpusError, "no vectors of the encoder other; it has those of clip-"),
        ("a", {"encoder_weights": "/nowhere"}, EncoderError, "/nowhere"),
        ("a", {"where": "colour = 1"}, SelectionError, "the selection"),
        ("a", {"count": 0}, UsageError, "at least 1"),
    ],
)
def test_errors_say_what_to_do(world: Corpus, query: str | SearchQuery, options: dict, error: type, says: str):
    with pytest.raises(error, match=says) as raised:
        search(world.url, query, progress=False, **options)
    assert "\n" not in str(raised.value)


def test_unreadable_files_are_told(world: Corpus, tmp_path: Path):
    (tmp_path / "x").write_bytes(b"nothing that could be read" * 99)
    for query in (SearchQuery(image=tmp_path / "x"), SearchQuery(sound=tmp_path / "x")):
        with pytest.raises(MediaError, match="x"):
            search(world.url, query, progress=False)


def test_a_corpus_without_vectors_scorers_or_scores_says_which_command_makes_them(
    copied: Corpus, tmp_path: Path, forget: Callable[[str], None]
):
    soundfile.write(tmp_path / "a.wav", np.zeros(20_000), 16_000)
    sound = SearchQuery(sound=tmp_path / "a.wav", sounds_like=True)
    forget("scores")
    with pytest.raises(ScorerError, match="vidaudio score"):
        search(copied.url, sound, progress=False)
    # Pictures are compared without scores.
    assert search(copied.url, replace(sound, sounds_like=False), progress=False).hits
    forget("scorers")
    with pytest.raises(ScorerError, match="vidaudio fit-scorer"):
        search(copied.url, sound, progress=False)
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    forget("embeddings")
    with pytest.raises(CorpusError, match="vidaudio build"):
        search(copied.url, SearchQuery(image=tmp_path / "a.png"), progress=False)


@pytest.fixture
def forget(copied: Corpus) -> Callable[[str], None]:
    """Deletes a folder of the copied corpus."""
    import shutil

    return lambda folder: shutil.rmtree(Path(copied.url, folder))


def test_the_function_is_public(world: Corpus):
    assert vidaudio.search is search
    assert vidaudio.SearchQuery is SearchQuery
