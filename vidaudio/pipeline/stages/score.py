"""The score stage: whether the sound and the pictures of each clip of a shard belong together, by a fitted scorer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from vidaudio.config.corpus import RunSettings
from vidaudio.corpus.columns import EMBED, SCORE, SCORES_SCHEMA
from vidaudio.corpus.corpus import Corpus
from vidaudio.correspondence.scorer import Score
from vidaudio.cpus import one_thread
from vidaudio.pipeline.clip_progress import Advance, ignore_progress
from vidaudio.pipeline.stages.scored_clips import read_scored_clips
from vidaudio.pipeline.stages.scorer_files import load_scorer
from vidaudio.shards.commit import CommitRecord, commit

# Scores are rounded, so that the last bits of an arithmetic do not make other bytes.
DECIMALS = 4


def score_shard(
    corpus: Corpus, shard: int, folder: str, _: RunSettings, advance: Advance = ignore_progress
) -> CommitRecord:
    """Score every clip of a shard that is extracted and embedded.

    Raises:
        ScorerError: When the scorer is not the one that the folder is of.
    """
    scorer = load_scorer(corpus, folder.partition("/")[2])
    rows = []
    with one_thread():
        for listed in read_scored_clips(corpus, shard, EMBED.model_folder(str(scorer.facts["encoder"]))):
            rows.append({"id": listed.id, **_row(scorer.score(listed.clip))})
            advance(1)
    table = pa.table({name: [row[name] for row in rows] for name in SCORES_SCHEMA.names}, schema=SCORES_SCHEMA)
    return commit(corpus.store, folder, shard, stage=SCORE.stage, plan_hash=corpus.plan_hash, table=table)


def _row(score: Score) -> dict[str, Any]:
    values: dict[str, float | None] = {
        "correspondence_cosine": score.raw,
        "correspondence": score.normalised,
        "p_corresponds": score.p_corresponds,
    }
    values |= dict.fromkeys(("p_in_sync", "p_synchronisable", "offset_seconds", "offset_confidence"))
    if (timing := score.timing) is not None:
        values |= {"p_in_sync": timing.in_sync, "p_synchronisable": timing.can_synchronise}
        values |= {"offset_seconds": timing.offset_seconds, "offset_confidence": timing.offset_confidence}
    rounded = {name: None if value is None else round(value, DECIMALS) for name, value in values.items()}
    return rounded | {"sound_vector": np.round(score.sound, DECIMALS).astype(np.float16)}
