"""A scorer fitted to a corpus, and its scores: exactly once, the same bytes, never mixed with another scorer's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.pipeline.scored import FEW, scores
from vidaudio.config.corpus import PackBlock, RunSettings, load_corpus_recipe
from vidaudio.corpus.clip_vectors import picture_vectors, sound_vectors
from vidaudio.corpus.columns import SCORE, SCORES_SCHEMA
from vidaudio.corpus.corpus import Corpus
from vidaudio.correspondence.calibration import AT_CHANCE
from vidaudio.errors import CorpusError, RecipeError, ScorerError
from vidaudio.maintenance.remove import remove
from vidaudio.maintenance.status import corpus_status
from vidaudio.maintenance.verify import verify_corpus
from vidaudio.pipeline.build import build, pack
from vidaudio.pipeline.dry_run import dry_run
from vidaudio.pipeline.score import score
from vidaudio.pipeline.stages.score import score_shard
from vidaudio.pipeline.stages.scorer_files import load_scorer, prepare_scores, weights_name
from vidaudio.shards.commit import read_table, table_name
from vidaudio.tasks.correspondence.fit import ScorerReport, fit_scorer


def listed_label(corpus: Corpus, clip_id: str) -> str:
    rows = (row for shard in range(corpus.shards) for row in corpus.table(shard).to_pylist())
    return next((row["labels"] or [""])[0] for row in rows if row["id"] == clip_id)


def files(corpus: Corpus, name: str = "default") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(corpus.url, SCORE.model_folder(name)).iterdir()}


def test_every_extracted_clip_has_scores(fitted: Corpus):
    done = {
        row["id"]
        for shard in range(fitted.shards)
        for row in read_table(fitted.store, table_name("av", shard))[0].to_pylist()
        if row["state"] == "done"
    }
    found = scores(fitted)
    assert set(found) == done
    assert all(0 <= row["p_corresponds"] <= 1 for row in found.values())
    assert all(row["p_in_sync"] is not None and abs(row["offset_seconds"]) <= 2 for row in found.values())
    assert read_table(fitted.store, table_name("scores/default", 0))[0].schema.equals(SCORES_SCHEMA)


def test_the_scores_are_those_of_the_scorer(fitted: Corpus):
    from vidaudio.pipeline.stages.scored_clips import read_scored_clips

    scorer = load_scorer(fitted, "default")
    found = scores(fitted)
    for listed in read_scored_clips(fitted, 0, f"embeddings/{scorer.facts['encoder']}"):
        assert found[listed.id]["correspondence"] == pytest.approx(scorer.score(listed.clip).normalised, abs=1e-4)


def test_a_clip_has_one_vector_of_its_pictures_and_one_of_its_sound(fitted: Corpus):
    encoder = load_scorer(fitted, "default").facts["encoder"]
    found = scores(fitted)
    pictures = {i: v for part in picture_vectors(fitted, encoder) for i, v in zip(part.ids, part.vectors, strict=True)}
    sounds = {i: v for part in sound_vectors(fitted, "default") for i, v in zip(part.ids, part.vectors, strict=True)}
    assert set(pictures) == set(sounds) == set(found)
    table = read_table(fitted.store, table_name(f"embeddings/{encoder}", 0))[0]
    clip_id = table["id"][len(table) // 2].as_py()
    rows = [row["embedding"] for row in table.to_pylist() if row["id"] == clip_id]
    units = [np.array(row) / np.linalg.norm(row) for row in rows]
    mean = np.mean(units, axis=0)
    assert len(rows) > 1
    assert pictures[clip_id] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-5)
    assert sounds[clip_id] == pytest.approx(np.array(found[clip_id]["sound_vector"]), abs=2e-3)
    assert np.linalg.norm(sounds[clip_id]) == pytest.approx(1, abs=1e-5)
    # Sounds of a kind are closer to each other than to those of other kinds, whichever fold they are in: one space.
    ids = sorted(sounds)
    labels = np.array([listed_label(fitted, clip_id) for clip_id in ids])
    cosines = np.stack([sounds[i] for i in ids]) @ np.stack([sounds[i] for i in ids]).T
    same = labels[:, None] == labels
    np.fill_diagonal(cosines, np.nan)
    assert np.nanmean(cosines[same]) > np.nanmean(cosines[~same])


def test_the_same_bytes_come_back_whichever_shard_is_lost(copied: Corpus):
    before = files(copied)
    for shard in (0, copied.shards - 1):
        Path(copied.url, table_name("scores/default", shard)).unlink()
    report = score(copied.url, progress=False)
    assert files(copied) == before
    assert report.clips == len(scores(copied))
    assert sum(report.histogram) == report.clips
    assert report.expected_corresponding == pytest.approx(
        sum(row["p_corresponds"] for row in scores(copied).values()), abs=0.01
    )


def test_a_second_run_scores_nothing(copied: Corpus, monkeypatch: pytest.MonkeyPatch):
    from vidaudio.pipeline import column_run

    def connected(*_: object) -> None:
        raise AssertionError("nothing is missing")

    monkeypatch.setattr(column_run, "connected", connected)
    assert score(copied.url, progress=False).clips == len(scores(copied))


def test_fitting_again_with_one_seed_gives_the_same_scorer(copied: Corpus):
    made = Path(copied.url, weights_name("default")).read_bytes()
    shutil.rmtree(Path(copied.url, "scorers"))
    fit_scorer(copied.url, settings=FEW, progress=False)
    assert Path(copied.url, weights_name("default")).read_bytes() == made
    fit_scorer(copied.url, "other", settings=FEW, seed=1, progress=False)
    assert Path(copied.url, weights_name("other")).read_bytes() != made


def test_scorers_of_one_name_are_not_replaced_and_their_scores_not_mixed(copied: Corpus):
    with pytest.raises(ScorerError, match="has a scorer default already"):
        fit_scorer(copied.url, settings=FEW, progress=False)
    # Somebody deletes the scorer and fits another one of its name.
    shutil.rmtree(Path(copied.url, "scorers"))
    fit_scorer(copied.url, settings=FEW, seed=3, progress=False)
    with pytest.raises(ScorerError, match="has scores of another scorer of this name"):
        score(copied.url, progress=False)
    with pytest.raises(ScorerError, match="is not the scorer that its scores are of"):
        score_shard(copied, 0, "scores/default", RunSettings())


@pytest.mark.parametrize(
    ("name", "told"),
    [("../up", "cannot be the name of a scorer"), ("a/b", "cannot be the name"), ("", "cannot be the name")],
)
def test_a_name_that_is_no_folders_is_refused(fitted: Corpus, name: str, told: str):
    with pytest.raises(ScorerError, match=told):
        fit_scorer(fitted.url, name, settings=FEW, progress=False)


def test_without_a_scorer_or_with_several_the_message_says_what_to_do(copied: Corpus, built_corpus: Corpus):
    with pytest.raises(ScorerError, match="has no scorer yet: vidaudio fit-scorer"):
        score(built_corpus.url, progress=False)
    with pytest.raises(ScorerError, match="a scorer learns from 20 at least"):
        fit_scorer(built_corpus.url, progress=False)
    with pytest.raises(ScorerError, match="has no scorer mine; it has default"):
        score(copied.url, "mine", progress=False)
    fit_scorer(copied.url, "second", settings=FEW, seed=1, progress=False)
    with pytest.raises(ScorerError, match=r"several scorers \(default, second\); name one with --scorer"):
        score(copied.url, progress=False)
    score(copied.url, "second", progress=False)
    assert scores(copied, "second").keys() == scores(copied).keys()
    with pytest.raises(ScorerError, match="has scores by default, second; name one with --scorer"):
        pack(copied.url, PackBlock(name="some", where="p_corresponds > 0.5"), progress=False)


def test_a_damaged_scorer_is_told(copied: Corpus):
    path = Path(copied.url, weights_name("default"))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ScorerError):
        score(copied.url, progress=False)


def test_clips_are_packed_by_their_scores_and_the_pack_is_verified(copied: Corpus):
    values = scores(copied)
    middle = float(np.median([row["correspondence"] for row in values.values()]))
    pack(copied.url, PackBlock(name="best", where=f"correspondence > {middle}"), progress=False)
    tables = [read_table(copied.store, f"training/best/{path.name}")[0] for path in _tables(copied, "best")]
    packed = {clip for table in tables for clip in table["id"].to_pylist()}
    assert packed == {clip for clip, row in values.items() if row["correspondence"] > middle}
    described = json.loads(Path(copied.url, "training/best/pack.json").read_text())
    assert described["settings"]["scorer"] == "default"
    assert verify_corpus(copied.url, progress=False).ok
    with pytest.raises(RecipeError, match="p_correspond"):
        pack(copied.url, PackBlock(name="wrong", where="p_correspond > 1"), progress=False)


def test_the_best_share_is_packed_and_its_threshold_is_written_down(copied: Corpus):
    values = {clip: row["correspondence"] for clip, row in scores(copied).items()}
    pack(copied.url, PackBlock(name="top", keep_top=0.5), progress=False)
    tables = [read_table(copied.store, f"training/top/{path.name}")[0] for path in _tables(copied, "top")]
    packed = {clip for table in tables for clip in table["id"].to_pylist()}
    ranked = sorted(values, key=values.__getitem__, reverse=True)
    assert packed == set(ranked[: -(-len(ranked) // 2)])
    described = json.loads(Path(copied.url, "training/top/pack.json").read_text())
    assert described["thresholds"]["score"] == pytest.approx(min(values[clip] for clip in packed))
    assert described["left_out"]["keep_top"] == len(values) - len(packed)
    assert "not among those that correspond best" in Path(copied.url, "training/top/CARD.md").read_text()
    assert verify_corpus(copied.url, progress=False).ok


def test_a_build_that_packs_by_scores_goes_on_and_knows_when_it_is_done(copied: Corpus, fitted: Corpus):
    listed = str(Path(fitted.url).parent / "world.parquet")
    recipe = load_corpus_recipe("demo", ["pack.name=mine", "pack.where=p_corresponds >= 0"])
    first = dry_run(recipe, listed, copied.url)
    assert first.pack is not None
    assert first.pack.samples
    build(recipe, listed, copied.url, progress=False)
    again = dry_run(recipe, listed, copied.url)
    assert again.pack is not None
    assert (again.pack.when, again.pack.samples) == ("now", 0)
    # Without the note that nothing has changed, too.
    shutil.rmtree(Path(copied.url, "runs"))
    build(recipe, listed, copied.url, progress=False)
    assert verify_corpus(copied.url, progress=False).ok


def _tables(corpus: Corpus, name: str) -> list[Path]:
    return sorted(Path(corpus.url, "training", name).glob("*-*.parquet"))


def test_a_pack_by_scores_of_a_corpus_without_any_says_how_to_get_them(built_corpus: Corpus, tmp_path: Path):
    copy = shutil.copytree(built_corpus.url, tmp_path / "corpus")
    with pytest.raises(ScorerError, match="has none: vidaudio fit-scorer"):
        pack(str(copy), PackBlock(name="best", where="p_corresponds > 0.5"), progress=False)


def test_shards_that_are_not_embedded_are_not_scored(copied: Corpus):
    encoder = str(load_scorer(copied, "default").facts["encoder"])
    Path(copied.url, table_name(f"embeddings/{encoder}", 0)).unlink()
    Path(copied.url, table_name("scores/default", 0)).unlink()
    with pytest.raises(CorpusError, match="score reads what embed writes"):
        score(copied.url, progress=False)


def test_status_verify_and_removal_know_scores(copied: Corpus):
    (stage,) = (stage for stage in corpus_status(copied.url).stages if stage.name == "score")
    assert stage.shards == copied.shards
    gone = next(iter(scores(copied)))
    remove(copied.url, [gone], progress=False)
    assert gone not in scores(copied)
    assert verify_corpus(copied.url, progress=False).ok


def test_clips_that_are_added_later_are_scored_by_the_scorer_that_is_there(copied: Corpus):
    scorer = prepare_scores(copied, "default")
    before = files(copied)
    # As a grown corpus has it: a shard without scores.
    Path(copied.url, table_name("scores/default", 1)).unlink()
    score(copied.url, progress=False)
    assert prepare_scores(copied, "default") == scorer
    assert files(copied) == before


def test_a_scorer_at_chance_says_so_and_not_what_to_keep(fitted: Corpus):
    facts = load_scorer(fitted, "default").facts
    good, poor = (str(ScorerReport("c", "n", dict(facts) | {"above_chance": above})) for above in (True, False))
    assert "expected share of corresponding clips" in good
    assert "expected share of corresponding clips" not in poor
    assert poor.endswith(AT_CHANCE)
    assert AT_CHANCE not in good
