"""Stages that read their rows, wait a little and commit nothing: what driver, scheduler and workers cost by themselves.

The driver imports it; the tasks carry the stages to the workers.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping

from vidaudio.corpus.corpus import Corpus
from vidaudio.pipeline import stages
from vidaudio.pipeline.stages import StageFunction
from vidaudio.shards.commit import CommitRecord

SECONDS = 0.005
NAMES = ("download", "extract", "embed")
MODELS = {"embed": "waiting"}


def wait(name: str, corpus: Corpus, shard: int, *_: object) -> CommitRecord:
    """A stage's record, without its work."""
    rows = len(corpus.rows(shard))
    time.sleep(SECONDS)
    return CommitRecord(name, shard, corpus.plan_hash, rows, outcomes={"done": rows - 1, "private": 1})


def stage_functions(keep: str = "all") -> Mapping[str, StageFunction]:
    """The usual names."""
    return {name: functools.partial(wait, name) for name in NAMES}


stages.stage_functions = stage_functions
