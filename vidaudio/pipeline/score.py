"""Scoring of a corpus: applies a fitted scorer shard by shard on Dask, each shard exactly once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidaudio.corpus.columns import EMBED, SCORE
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.correspondence.calibration import AT_CHANCE
from vidaudio.pipeline.column_run import run_column
from vidaudio.pipeline.stages import Stage
from vidaudio.pipeline.stages.score import score_shard
from vidaudio.pipeline.stages.scored_clips import check_sample_rate
from vidaudio.pipeline.stages.scorer_files import adopt_scorer, chosen_scorer, load_scorer, prepare_scores
from vidaudio.shards.commit import read_table, table_name

# Edges of the histogram of P(corresponds).
EDGES = np.linspace(0, 1, 11)


@dataclass(frozen=True)
class ScoreReport:
    """What the scores of a corpus say; `str` gives it as text.

    Attributes:
        corpus: The corpus.
        scorer: Name of the scorer.
        clips: Number of scored clips.
        expected_corresponding: Sum of P(corresponds): how many clips are expected to correspond.
        histogram: Number of clips by tenths of P(corresponds).
        facts: What the scorer measured when it was fitted.
    """

    corpus: str
    scorer: str
    clips: int
    expected_corresponding: float
    histogram: tuple[int, ...]
    facts: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return the report, JSON-able."""
        return {
            "corpus": self.corpus,
            "scorer": self.scorer,
            "clips": self.clips,
            "expected_corresponding": round(self.expected_corresponding, 1),
            "histogram": list(self.histogram),
        }

    def __str__(self) -> str:
        lines = [
            f"{self.corpus}: {self.clips:,} clips scored by {self.scorer}, "
            f"of which {self.expected_corresponding:,.0f} are expected to correspond",
            "P(corresponds)   clips",
        ]
        for low, high, clips in zip(EDGES[:-1], EDGES[1:], self.histogram, strict=True):
            lines.append(f"  {low:.1f} to {high:.1f}   {clips:>8,}")
        if not self.facts.get("above_chance", True):
            return "\n".join([*lines, AT_CHANCE])
        lines.append(f"select by it: vidaudio pack {self.corpus} --name matched --where 'p_corresponds > 0.7'")
        return "\n".join(lines)


def score(
    corpus: str,
    scorer: str | None = None,
    *,
    scorer_from: str | None = None,
    scheduler: str | None = None,
    progress: bool = True,
) -> ScoreReport:
    """Score every clip of a corpus that is not scored yet by a scorer.

    Args:
        corpus: Folder or fsspec URL of the corpus.
        scorer: Name of the scorer; the corpus's only one by default.
        scorer_from: Another corpus, or a scorer's file, whose scorer is taken over under that name first; its own name
            by default.
        scheduler: Address of a Dask scheduler, `tcp://host:port`; a local cluster by default.
        progress: Whether to show a progress bar.

    Raises:
        ScorerError: When there is no such scorer, it is of another encoder, or scores of another one of its name are
            there.
        CorpusError: When a shard is not extracted and embedded yet.
        BuildError: When a task failed. Committed shards stay.
    """
    opened = open_corpus(corpus)
    name = chosen_scorer(opened, scorer if scorer_from is None else adopt_scorer(opened, scorer_from, scorer))
    check_sample_rate(opened)
    prepare_scores(opened, name)
    fitted = load_scorer(opened, name)
    models = {SCORE.stage: name, EMBED.stage: str(fitted.facts["encoder"])}
    run_column(opened, Stage(SCORE, score_shard), models, scheduler=scheduler, progress=progress)
    return score_report(opened, name, fitted.facts)


def score_report(corpus: Corpus, name: str, facts: Mapping[str, Any]) -> ScoreReport:
    """Return what the scores of a name say.

    Args:
        corpus: The corpus, of which all shards are scored.
        name: Of the scores.
        facts: What is known of the scorer.
    """
    tables = (read_table(corpus.store, table_name(SCORE.model_folder(name), s))[0] for s in range(corpus.shards))
    values = np.concatenate([np.zeros(0), *(table["p_corresponds"].to_numpy() for table in tables)])
    counts, _ = np.histogram(values, EDGES)
    return ScoreReport(corpus.url, name, len(values), float(values.sum()), tuple(map(int, counts)), dict(facts))
