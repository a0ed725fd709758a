"""Stages that read their rows, wait a little and commit nothing: what driver, scheduler and workers cost by themselves.

Workers load this with `--preload`; the driver imports it.
"""

from __future__ import annotations

import time

from vidaudio.corpus.corpus import Corpus
from vidaudio.pipeline import shard_tasks
from vidaudio.pipeline.stages import Stage
from vidaudio.shards.commit import CommitRecord

SECONDS = 0.005
NAMES = {"download": ("net", "clips"), "extract": ("cpu", "av"), "embed": ("gpu", "embeddings/waiting")}


def _waiting(name: str):
    def run(corpus: Corpus, shard: int, folder: str, *_: object) -> CommitRecord:
        rows = len(corpus.rows(shard))
        time.sleep(SECONDS)
        return CommitRecord(name, shard, corpus.plan_hash, rows, outcomes={"done": rows - 1, "private": 1})

    return run


def stages(encoder: str, keep: str = "all") -> tuple[Stage, ...]:
    """A chain of the usual names, resources and folders."""
    return tuple(Stage(name, resource, _waiting(name), folder) for name, (resource, folder) in NAMES.items())


shard_tasks.shard_stages = stages
