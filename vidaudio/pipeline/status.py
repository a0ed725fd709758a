"""The funnel of a corpus: how many clips came through each stage, and why the others did not."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from vidaudio.media.reasons import TRANSIENT, Reason, State
from vidaudio.pipeline.corpus import PACK_FILE, Corpus, open_corpus
from vidaudio.pipeline.listing import NAMED_STAGES, PACKS, STAGES, Listings, list_stages
from vidaudio.pipeline.tallies import tally
from vidaudio.pipeline.tombstones import tombstones_among
from vidaudio.shards.commit import committed_shards_in, is_table

# Of all failures; more of them than this are a sign that a site has changed.
MOST_UNKNOWN = 0.05
EXAMPLES = 3
LEFT_OUT_WORDS = {"not_extracted": "not extracted", "where": "not selected", "too_short": "too short"}


@dataclass(frozen=True, slots=True)
class StageStatus:
    """One stage: shards committed, clips done, and the others by state and reason.

    Attributes:
        name: Of the stage.
        shards: Committed.
        done: Clips that came through.
        others: State, reason and number of those that did not, most first.
        unknown_messages: Of the clips that failed for an unknown reason, the most frequent messages.
        of: The encoder's or scorer's name; empty for a stage that a corpus has once.
    """

    name: str
    shards: int
    done: int
    others: tuple[tuple[str, str | None, int], ...] = ()
    unknown_messages: tuple[str, ...] = ()
    of: str = ""

    @property
    def failed(self) -> int:
        """Clips that failed, for whatever reason."""
        return sum(clips for state, _, clips in self.others if state == State.FAILED)

    @property
    def unknown(self) -> int:
        """Clips that failed for an unknown reason."""
        return sum(clips for _, reason, clips in self.others if reason == Reason.UNKNOWN)


@dataclass(frozen=True, slots=True)
class PackStatus:
    """One pack: its name, training shards that stand, samples in them, and clips that were left out, by cause."""

    name: str
    shards: int
    samples: int
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CorpusStatus:
    """What stands in a corpus; `removed` counts clips and sources that were taken out for good."""

    url: str
    clips: int
    shards: int
    stages: tuple[StageStatus, ...]
    packs: tuple[PackStatus, ...]
    removed: int = 0

    @property
    def warnings(self) -> tuple[str, ...]:
        """What whoever builds this corpus should look into."""
        told = []
        for stage in self.stages:
            if stage.unknown > MOST_UNKNOWN * stage.failed:
                share = stage.unknown / stage.failed
                messages = "".join(f"\n  {message}" for message in stage.unknown_messages)
                told.append(
                    f"{stage.name}: {share:.0%} of the failures have no known cause ({stage.unknown:,} of "
                    f"{stage.failed:,}); a newer yt-dlp may name it (pip install -U yt-dlp)"
                    f"{'. They said:' if messages else ''}{messages}"
                )
        return tuple(told)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, for `--json`. A stage with several encoders is told once for each, the others as `stage:name`."""
        stages: dict[str, Any] = {}
        for stage in self.stages:
            told: dict[str, Any] = {
                "shards": stage.shards,
                "done": stage.done,
                "others": [{"state": state, "reason": reason, "clips": n} for state, reason, n in stage.others],
            }
            if stage.unknown:
                told["unknown_share"] = round(stage.unknown / stage.failed, 4)
                told["unknown_messages"] = list(stage.unknown_messages)
            stages[stage.name if stage.name not in stages else f"{stage.name}:{stage.of}"] = told
        packs = {}
        for pack in self.packs:
            packs[pack.name] = {"shards": pack.shards, "samples": pack.samples}
            if pack.left_out:
                packs[pack.name]["left_out"] = dict(pack.left_out)
        told = {"corpus": self.url, "clips": self.clips, "shards": self.shards, "stages": stages, "packs": packs}
        told["warnings"] = list(self.warnings)
        return told | ({"removed": self.removed} if self.removed else {})

    def __str__(self) -> str:
        lines = [f"{self.url}: {self.clips:,} clips in {self.shards:,} shards"]
        for stage in self.stages:
            partial = "" if stage.shards == self.shards else f"  ({stage.shards:,} of {self.shards:,} shards)"
            lines.append(f"  {stage.name:<10}{stage.done:>9,} done{partial}")
            for state, reason, number in stage.others:
                again = "  (may pass later)" if reason in TRANSIENT else ""
                told = f"{state}: {reason}" if reason else state
                if reason == Reason.UNKNOWN:
                    again += f"  ({number / stage.failed:.0%} of the failures)"
                lines.append(f"  {'':<10}{number:>9,} {told}{again}")
        for pack in self.packs:
            lines.append(
                f"  {'pack':<10}{pack.samples:>9,} samples in {pack.shards:,} training shards: training/{pack.name}"
            )
            for cause, clips in pack.left_out.items():
                if clips:
                    lines.append(f"  {'':<10}{clips:>9,} clips left out: {LEFT_OUT_WORDS.get(cause, cause)}")
        if self.removed:
            lines.append(f"  {'removed':<10}{self.removed:>9,} for good (vidaudio remove)")
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])


def corpus_status(url: str) -> CorpusStatus:
    """Count every committed table of a corpus; those counted before are remembered in `runs/status.parquet`.

    Raises:
        CorpusError: There is no corpus at `url`, or a table that was not counted before is damaged.
    """
    corpus = open_corpus(url)
    return status_of(corpus, list_stages(corpus))


def status_of(corpus: Corpus, listings: Listings) -> CorpusStatus:
    """`corpus_status` of an opened corpus whose folders were listed."""
    packs = _described_packs(corpus, listings)
    # What was extracted was embedded, in a shard whose vectors stand: their tables need not be read for that.
    tables = {folder: sorted(n for n in listings[folder] if is_table(n)) for folder in STAGES.values()}
    tables |= {folder: [f"{shard}.parquet" for shard in pack["shards"]] for folder, pack in packs.items()}
    counted = tally(corpus, {folder: _sizes(listings[folder], names) for folder, names in tables.items()})
    stages = [_outcomes(counted, name, folder, listings) for name, folder in STAGES.items()]
    extracted = counted[(counted["folder"] == "av") & (counted["state"] == State.DONE)]
    done = extracted.groupby("shard")["clips"].sum()
    for name, kind in NAMED_STAGES.items():
        for folder in sorted(folder for folder in listings if folder.startswith(f"{kind}/")):
            shards = committed_shards_in(listings[folder])
            if shards:
                clips = int(done[done.index.isin(shards)].sum())
                stages.append(StageStatus(name, len(shards), clips, of=folder.partition("/")[2]))
    packed = tuple(_packed(counted, folder, described) for folder, described in packs.items())
    tombstones = tombstones_among(corpus.store, corpus.files.names)
    removed = len(tombstones.ids) + len(tombstones.sources)
    return CorpusStatus(corpus.url, corpus.clips, corpus.shards, tuple(stages), packed, removed)


def _sizes(listing: Mapping[str, int], names: Sequence[str]) -> dict[str, int]:
    return {name: listing[name] for name in names if name in listing}


def _outcomes(counted: pd.DataFrame, name: str, folder: str, listings: Listings) -> StageStatus:
    own = counted[(counted["folder"] == folder) & (counted["clips"] > 0)]
    by_outcome = own.groupby(["state", "reason"], dropna=False)["clips"].sum().sort_values(ascending=False)
    others, done = [], 0
    for (state, reason), clips in by_outcome.items():
        if state == State.DONE:
            done += int(clips)
        else:
            others.append((state, reason if isinstance(reason, str) else None, int(clips)))
    examples = own.dropna(subset=["example"]).groupby("example")["clips"].sum().nlargest(EXAMPLES)
    return StageStatus(name, len(committed_shards_in(listings[folder])), done, tuple(others), tuple(examples.index))


def _described_packs(corpus: Corpus, listings: Listings) -> dict[str, dict[str, Any]]:
    folders = sorted(f for f, names in listings.items() if f.startswith(f"{PACKS}/") and PACK_FILE in names)
    return {folder: json.loads(corpus.store.read(f"{folder}/{PACK_FILE}")) for folder in folders}


def _packed(counted: pd.DataFrame, folder: str, described: Mapping[str, Any]) -> PackStatus:
    own = counted[counted["folder"] == folder]
    left_out = described.get("left_out") or {}
    return PackStatus(folder.partition("/")[2], own["table"].nunique(), int(own["clips"].sum()), left_out)
