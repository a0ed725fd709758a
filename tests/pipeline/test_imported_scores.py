"""Scores of another tool: calibrated by pairs of other sources, kept beside a scorer's; scorers of other corpora."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vidaudio.config.corpus import PackBlock
from vidaudio.corpus.columns import SCORE
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.correspondence.calibration import AT_CHANCE
from vidaudio.demo.corpus import build_world
from vidaudio.errors import ScorerError
from vidaudio.maintenance.verify import verify_corpus
from vidaudio.pipeline.build import pack
from vidaudio.pipeline.imported_scores import import_scores, write_pairs
from vidaudio.pipeline.score import score
from vidaudio.pipeline.stages.scorer_files import weights_name
from vidaudio.shards.commit import read_table, table_name
from vidaudio.tasks.correspondence.fit import fit_scorer
from vidaudio.tasks.correspondence.training import FitSettings


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("imported")
    build_world(folder, videos_per_kind={"train": 4, "val": 1, "test": 1}, flawed_per_flaw=1)
    return open_corpus(str(folder / "corpus-clip"))


@pytest.fixture
def copied(built: Corpus, tmp_path: Path) -> Corpus:
    return open_corpus(str(shutil.copytree(built.url, tmp_path / "corpus", ignore=shutil.ignore_patterns("runs"))))


def scored_pairs(corpus: Corpus, path: Path, mismatched: float = 0.25) -> tuple[pd.DataFrame, set[str]]:
    """Write pairs with values of a tool that tells well; return them, and the clips that do not correspond."""
    write_pairs(corpus.url, path, swapped=4)
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    generator = np.random.default_rng(0)
    ids = sorted(set(table["id"]))
    wrong = set(ids[: round(mismatched * len(ids))])
    corresponds = (table["id"] == table["sound_id"]) & ~table["id"].isin(wrong)
    table["value"] = 0.2 + 0.05 * generator.normal(size=len(table)) + 0.3 * corresponds
    table["name"] = "imagebind"
    return table, wrong


def rows(corpus: Corpus, name: str) -> dict[str, dict]:
    tables = [read_table(corpus.store, table_name(SCORE.model_folder(name), s))[0] for s in range(corpus.shards)]
    return {row["id"]: row for table in tables for row in table.to_pylist()}


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_scores_of_another_tool_become_probabilities(copied: Corpus, tmp_path: Path, suffix: str):
    path = tmp_path / f"scores{suffix}"
    table, wrong = scored_pairs(copied, path)
    assert {len(group) for _, group in table.groupby("id")} == {5}
    table.to_csv(path, index=False) if suffix == ".csv" else table.to_parquet(path, index=False)
    (report,) = import_scores(copied.url, path)
    assert report.scorer == "imagebind"
    assert report.facts["mismatched_share"] == pytest.approx(0.25, abs=0.08)
    found = rows(copied, "imagebind")
    assert set(found) == set(table["id"])
    values = dict(zip(*(table[table["id"] == table["sound_id"]][name] for name in ("id", "value")), strict=True))
    for clip_id, row in found.items():
        assert row["correspondence_cosine"] == pytest.approx(values[clip_id], abs=1e-4)
        assert row["offset_seconds"] is None
    assert np.mean([row["p_corresponds"] for clip_id, row in found.items() if clip_id not in wrong]) > 0.85
    assert np.mean([row["p_corresponds"] for clip_id, row in found.items() if clip_id in wrong]) < 0.4
    assert verify_corpus(copied.url).ok
    packed = pack(copied.url, PackBlock(name="kept", where="p_corresponds > 0.5"), progress=False)
    assert packed is not None
    # Near-duplicates are found by pictures alone: there are no vectors of sound.
    alike = {"picture": 0.5, "sound": 0.9}
    pack(copied.url, PackBlock(name="few", dedup=alike, where="p_corresponds > 0.5"), progress=False)
    left_out = pd.read_parquet(Path(copied.url, "training", "few", "left_out.parquet"))
    assert (left_out["reason"] == "near_duplicate").any()
    # Again: the same files, nothing new.
    import_scores(copied.url, path)
    assert rows(copied, "imagebind") == found


def test_values_that_tell_nothing_are_said_to(copied: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    table, _ = scored_pairs(copied, tmp_path / "scores.parquet")
    path = tmp_path / "scores.parquet"
    table.to_parquet(path)
    assert "cannot be told from chance" not in str(import_scores(copied.url, path)[0])
    table.assign(name="dice", value=np.random.default_rng(0).normal(size=len(table))).to_parquet(path)
    (told,) = import_scores(copied.url, path)
    assert told.facts["above_chance"] is False
    assert told.facts["mismatched_interval"] == [0, 1]
    assert "these scores cannot be told from chance" in str(told)
    assert "select by it" not in str(told)
    for name, warned in (("imagebind", False), ("dice", True)):
        caplog.clear()
        pack(copied.url, PackBlock(name=name, keep_top=0.5, scorer=name), progress=False)
        assert (AT_CHANCE in caplog.text) is warned


def test_pairs_are_of_other_sources_and_the_same_each_time(copied: Corpus, tmp_path: Path):
    first, second = tmp_path / "a.parquet", tmp_path / "b.parquet"
    assert write_pairs(copied.url, first) == write_pairs(copied.url, second)
    table = pd.read_parquet(first)
    assert first.read_bytes() == second.read_bytes()
    sources = copied.manifest(["id", "source"]).to_pandas().set_index("id")["source"]
    swapped = table[table["id"] != table["sound_id"]]
    assert len(swapped) * 2 == len(table)
    assert (sources[swapped["id"]].to_numpy() != sources[swapped["sound_id"]].to_numpy()).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="value"), "has no column value"),
        (lambda table: table[table["id"] == table["sound_id"]], "--pairs"),
        (lambda table: table.assign(value="high"), "that are no numbers"),
        (lambda table: table.assign(id="x", sound_id="x"), "the ids are other ones"),
        (lambda table: table.assign(name="../up"), "cannot be the name of scores"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(copied: Corpus, tmp_path: Path, change, message: str):
    path = tmp_path / "scores.parquet"
    table, _ = scored_pairs(copied, path)
    change(table).to_parquet(path, index=False)
    with pytest.raises(ScorerError, match=message) as told:
        import_scores(copied.url, path)
    assert "\n" not in str(told.value)
    assert not copied.store.folders("scores")


def test_a_file_that_is_none_is_refused(copied: Corpus, tmp_path: Path):
    path = tmp_path / "scores.parquet"
    path.write_bytes(b"no table")
    for file in (path, tmp_path / "missing.parquet"):
        with pytest.raises(ScorerError, match="cannot be read"):
            import_scores(copied.url, file)


def test_a_scorer_of_another_corpus_is_taken_over(built: Corpus, copied: Corpus, tmp_path: Path):
    there = open_corpus(str(shutil.copytree(copied.url, tmp_path / "there")))
    fit_scorer(there.url, "theirs", settings=FitSettings(steps=4, batch_size=16), progress=False)
    report = score(copied.url, scorer_from=there.url, progress=False)
    assert report.scorer == "theirs"
    score(there.url, progress=False)
    assert rows(copied, "theirs") == rows(there, "theirs")
    # The file itself, under a name of one's own; the same one again is no other.
    file = str(Path(there.url, weights_name("theirs")))
    assert score(copied.url, "mine", scorer_from=file, progress=False).scorer == "mine"
    assert score(copied.url, "mine", scorer_from=file, progress=False).clips == report.clips
    fit_scorer(there.url, "other", settings=FitSettings(steps=4, batch_size=16), seed=3, progress=False)
    with pytest.raises(ScorerError, match="another scorer mine"):
        score(copied.url, "mine", scorer_from=str(Path(there.url, weights_name("other"))), progress=False)


def test_a_scorer_that_is_none_is_refused(copied: Corpus, tmp_path: Path):
    path = tmp_path / "scorer.safetensors"
    with pytest.raises(ScorerError, match="there is no file"):
        score(copied.url, scorer_from=str(path), progress=False)
    path.write_bytes(b"nothing")
    with pytest.raises(ScorerError, match="is no scorer"):
        score(copied.url, scorer_from=str(path), progress=False)
