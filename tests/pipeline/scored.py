"""A small corpus with scores, as several tests here look at it."""

from __future__ import annotations

from pathlib import Path

from vidaudio.corpus.columns import SCORE
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.demo.corpus import build_world
from vidaudio.pipeline.score import score
from vidaudio.shards.commit import read_table, table_name
from vidaudio.tasks.correspondence.fit import fit_scorer
from vidaudio.tasks.correspondence.training import FitSettings

FEW = FitSettings(steps=4, batch_size=16)


def build_scored(folder: Path) -> Corpus:
    """Build a small demo world with a scorer that was trained for a few steps, and score it."""
    build_world(folder, videos_per_kind={"train": 4, "val": 1, "test": 1}, flawed_per_flaw=1)
    corpus = open_corpus(str(folder / "corpus-clip"))
    report = fit_scorer(corpus.url, settings=FEW, progress=False)
    assert report.facts["clips"] > 45
    assert set(report.facts["auc"]) == {"other_source", "same_label", "shifted"}
    assert "do not correspond: " in str(report)
    score(corpus.url, progress=False)
    return corpus


def scores(corpus: Corpus, name: str = "default") -> dict[str, dict]:
    folder = SCORE.model_folder(name)
    tables = [read_table(corpus.store, table_name(folder, shard))[0] for shard in range(corpus.shards)]
    return {row["id"]: row for table in tables for row in table.to_pylist()}
