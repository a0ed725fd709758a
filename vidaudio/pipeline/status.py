"""The funnel of a corpus: how many clips came through each stage, and why the others did not."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from vidaudio.media.reasons import TRANSIENT, State
from vidaudio.pipeline.corpus import Corpus, open_corpus
from vidaudio.pipeline.pack_plan import PACK_FILE
from vidaudio.shards.commit import committed_shards, read_record, read_table, table_name


@dataclass(frozen=True, slots=True)
class StageStatus:
    """One stage: shards committed, clips done, and the others by state and reason."""

    name: str
    shards: int
    done: int
    others: tuple[tuple[str, str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class CorpusStatus:
    """What stands in a corpus."""

    url: str
    clips: int
    shards: int
    stages: tuple[StageStatus, ...]
    packs: tuple[tuple[str, int, int], ...]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, for `--json`."""
        return {
            "corpus": self.url,
            "clips": self.clips,
            "shards": self.shards,
            "stages": {
                s.name: {
                    "shards": s.shards,
                    "done": s.done,
                    "others": [{"state": state, "reason": reason, "clips": n} for state, reason, n in s.others],
                }
                for s in self.stages
            },
            "packs": {name: {"shards": shards, "samples": samples} for name, shards, samples in self.packs},
        }

    def __str__(self) -> str:
        lines = [f"{self.url}: {self.clips:,} clips in {self.shards:,} shards"]
        for stage in self.stages:
            partial = "" if stage.shards == self.shards else f"  ({stage.shards:,} of {self.shards:,} shards)"
            lines.append(f"  {stage.name:<10}{stage.done:>9,} done{partial}")
            for state, reason, number in stage.others:
                again = "  (may pass later)" if reason in TRANSIENT else ""
                lines.append(f"  {'':<10}{number:>9,} {state}: {reason}{again}")
        for name, shards, samples in self.packs:
            lines.append(f"  {'pack':<10}{samples:>9,} samples in {shards:,} training shards: training/{name}")
        return "\n".join(lines)


def corpus_status(url: str) -> CorpusStatus:
    """Count every committed table of a corpus.

    Raises:
        CorpusError: There is no corpus at `url`.
    """
    corpus = open_corpus(url)
    superseded = corpus.superseded()
    stages = [_outcomes(corpus, "download", "clips", superseded), _outcomes(corpus, "extract", "av", superseded)]
    for encoder in _subfolders(corpus, "embeddings"):
        stages.append(_embedded(corpus, f"embeddings/{encoder}"))
    return CorpusStatus(corpus.url, corpus.clips, corpus.shards, tuple(stages), tuple(_packs(corpus)))


def _outcomes(corpus: Corpus, name: str, folder: str, superseded: dict[str, int]) -> StageStatus:
    counts: Counter[tuple[str, str]] = Counter()
    shards = committed_shards(corpus.store, folder)
    for shard in shards:
        table, _ = read_table(corpus.store, table_name(folder, shard))
        rows = zip(*(table[column].to_pylist() for column in ("id", "state", "reason")), strict=True)
        # Of a clip that was tried again only the newest shard speaks.
        counts.update((state, reason) for clip_id, state, reason in rows if superseded.get(clip_id, shard) == shard)
    done = sum(n for (state, _), n in counts.items() if state == State.DONE)
    others = [(state, reason, n) for (state, reason), n in counts.most_common() if state != State.DONE]
    return StageStatus(name, len(shards), done, tuple(others))


def _embedded(corpus: Corpus, folder: str) -> StageStatus:
    shards = committed_shards(corpus.store, folder)
    done = 0
    for shard in shards:
        table, _ = read_table(corpus.store, table_name(folder, shard))
        done += len(table["id"].unique())
    return StageStatus("embed", len(shards), done)


def _packs(corpus: Corpus):
    for name in _subfolders(corpus, "training"):
        folder = f"training/{name}"
        described = json.loads(corpus.store.read(f"{folder}/{PACK_FILE}"))
        standing = [s for s in described["shards"] if corpus.store.exists(f"{folder}/{s}.parquet")]
        samples = sum(read_record(corpus.store, f"{folder}/{s}.parquet").rows for s in standing)
        yield name, len(standing), samples


def _subfolders(corpus: Corpus, folder: str) -> list[str]:
    """Folders that a stage has begun: those with its description in them."""
    marker = {"embeddings": "encoder.json", "training": PACK_FILE}[folder]
    return [name for name in corpus.store.folders(folder) if corpus.store.exists(f"{folder}/{name}/{marker}")]
