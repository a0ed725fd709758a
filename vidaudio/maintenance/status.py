"""Status of a corpus: how many clips came through each stage, and why the others did not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from vidaudio.corpus.columns import PACKS, Column, columns_in_order, with_needs
from vidaudio.corpus.corpus import Corpus, open_corpus
from vidaudio.corpus.listing import Listings, list_stages
from vidaudio.corpus.tombstones import tombstones_among
from vidaudio.maintenance.notices import COLUMNS as NOTICED
from vidaudio.maintenance.notices import notice_lines
from vidaudio.maintenance.outcome_counts import tally
from vidaudio.media.outcomes import TRANSIENT, Reason, State
from vidaudio.packs.description import PACK_FILE, PackDamaged, PackDescription, read_pack_file
from vidaudio.packs.left_out import LEFT_OUT_FILE
from vidaudio.shards.commit import committed_shards_in, is_table
from vidaudio.text import number_of

# Largest normal share of unknown reasons among all failures; a larger share is a sign that a site has changed.
MOST_UNKNOWN = 0.05
EXAMPLES = 3
LEFT_OUT_WORDS = {
    "not_extracted": "not extracted",
    "where": "not selected",
    "keep_top": "not among those that correspond best",
    "too_short": "too short",
    "near_duplicate": "near-duplicates of others",
}


@dataclass(frozen=True, slots=True)
class StageStatus:
    """Status of one stage: committed shards, clips done, and the other clips by state and reason.

    Attributes:
        name: Name of the stage.
        shards: Number of committed shards.
        done: Number of clips that came through.
        others: State, reason and number of the clips that did not come through, most frequent first.
        unknown_messages: The most frequent messages of clips that failed for an unknown reason.
        examples: By reason, one message of the clips that failed for it.
        noticed: Repairs in clips that came through, by kind, as counts or seconds; see `notices`.
        of: Name of the encoder or scorer; empty for a stage that a corpus has only once.
    """

    name: str
    shards: int
    done: int
    others: tuple[tuple[str, str | None, int], ...] = ()
    unknown_messages: tuple[str, ...] = ()
    of: str = ""
    examples: Mapping[str, str] = field(default_factory=dict)
    noticed: Mapping[str, float] = field(default_factory=dict)

    @property
    def failed(self) -> int:
        """Number of clips that failed, for any reason."""
        return sum(clips for state, _, clips in self.others if state == State.FAILED)

    @property
    def unknown(self) -> int:
        """Number of clips that failed for an unknown reason."""
        return sum(clips for _, reason, clips in self.others if reason == Reason.UNKNOWN)

    @property
    def too_much_is_unknown(self) -> bool:
        """Whether unknown reasons exceed `MOST_UNKNOWN`, as a share of all failures."""
        return self.unknown > MOST_UNKNOWN * self.failed

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serializable dict for `--json`."""
        others = []
        for state, reason, clips in self.others:
            others.append({"state": state, "reason": reason, "clips": clips})
            if state == State.FAILED:
                others[-1]["may_pass_later"] = reason in TRANSIENT
                if reason is not None and reason in self.examples:
                    others[-1]["example"] = self.examples[reason]
        told = {"shards": self.shards, "done": self.done, "others": others}
        if self.unknown:
            told["unknown_share"] = round(self.unknown / self.failed, 4)
            told["unknown_messages"] = list(self.unknown_messages)
        if noticed := {name: round(value, 3) for name, value in self.noticed.items() if value}:
            told["noticed"] = noticed
        return told

    def lines(self, shards: int, *, named: bool = False) -> list[str]:
        """Return the lines of the text report.

        Args:
            shards: Number of shards of the corpus.
            named: Whether to name the encoder or scorer, because there are several.
        """
        partial = "" if self.shards == shards else f"  ({self.shards:,} of {shards:,} shards)"
        model = f": {self.of}" if named else ""
        lines = [f"  {self.name:<10}{self.done:>9,} done{model}{partial}"]
        lines += [f"  {'':<10}{number:>9} {text}" for number, text in notice_lines(self.noticed)]
        for state, reason, number in self.others:
            told = f"{state}: {reason}" if reason else state
            if state == State.FAILED and reason in TRANSIENT:
                told += f"  (may pass later: --retry-failed={reason})"
            if reason == Reason.UNKNOWN:
                told += f"  ({number / self.failed:.0%} of the failures)"
            lines.append(f"  {'':<10}{number:>9,} {told}")
            # If too many failures are unknown, the warning shows their messages, and more of them.
            warned = reason == Reason.UNKNOWN and self.too_much_is_unknown
            if state == State.FAILED and reason is not None and reason in self.examples and not warned:
                lines.append(f"  {'':<20}  e.g. {self.examples[reason]}")
        return lines


@dataclass(frozen=True, slots=True)
class PackStatus:
    """Status of one pack: name, number of existing training shards, their samples, and clips left out by cause.

    `list_file` is the name of the file that lists the clips left out; None if the pack has none.
    """

    name: str
    shards: int
    samples: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    list_file: str | None = None


@dataclass(frozen=True, slots=True)
class CorpusStatus:
    """Status of a corpus.

    Attributes:
        clips: Number of clips; a clip that was tried again counts once.
        removed: Number of clips that were removed for good.
        removed_sources: Number of sources that were removed whole, and whose clips are never added again.
        missing: Names of missing files of the manifest.
        damaged: Error messages for unreadable descriptions of packs.
    """

    url: str
    clips: int
    shards: int
    stages: tuple[StageStatus, ...]
    packs: tuple[PackStatus, ...]
    removed: int = 0
    removed_sources: int = 0
    missing: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Problems that whoever builds this corpus should look into."""
        told = [f"{name}, the list, is missing: take it back from a copy of the corpus" for name in self.missing]
        told += self.damaged
        for stage in self.stages:
            if stage.too_much_is_unknown:
                share = stage.unknown / stage.failed
                messages = "".join(f"\n  {message}" for message in stage.unknown_messages)
                told.append(
                    f"{stage.name}: {share:.0%} of the failures have no known cause ({stage.unknown:,} of "
                    f"{stage.failed:,}); a newer yt-dlp may name it (pip install -U yt-dlp)"
                    f"{'. They said:' if messages else ''}{messages}"
                )
        return tuple(told)

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-serializable dict for `--json`; a stage's second and later models are named `stage:model`."""
        stages: dict[str, Any] = {}
        for stage in self.stages:
            stages[stage.name if stage.name not in stages else f"{stage.name}:{stage.of}"] = stage.as_dict()
        packs: dict[str, dict[str, Any]] = {}
        for pack in self.packs:
            packs[pack.name] = {"shards": pack.shards, "samples": pack.samples}
            if pack.left_out:
                packs[pack.name]["left_out"] = dict(pack.left_out)
            if pack.list_file is not None:
                packs[pack.name]["left_out_file"] = pack.list_file
        told = {"corpus": self.url, "clips": self.clips, "shards": self.shards, "stages": stages, "packs": packs}
        told["warnings"] = list(self.warnings)
        removed = {"removed": self.removed, "removed_sources": self.removed_sources}
        return told | (removed if any(removed.values()) else {})

    def __str__(self) -> str:
        lines = [f"{self.url}: {number_of(self.clips, 'clip')} in {number_of(self.shards, 'shard')}"]
        times = Counter(stage.name for stage in self.stages)
        for stage in self.stages:
            lines += stage.lines(self.shards, named=times[stage.name] > 1)
        for pack in self.packs:
            samples = "sample" if pack.samples == 1 else "samples"
            shards = number_of(pack.shards, "training shard")
            lines.append(f"  {'pack':<10}{pack.samples:>9,} {samples} in {shards}: training/{pack.name}")
            for cause, number in pack.left_out.items():
                if number:
                    clips = "clip" if number == 1 else "clips"
                    lines.append(f"  {'':<10}{number:>9,} {clips} left out: {LEFT_OUT_WORDS.get(cause, cause)}")
            if pack.list_file is not None and any(pack.left_out.values()):
                lines.append(f"  {'':<20}listed in {pack.list_file}")
        if self.removed or self.removed_sources:
            whole = f"; {number_of(self.removed_sources, 'source')} whole" if self.removed_sources else ""
            lines.append(f"  {'removed':<10}{self.removed:>9,} for good (vidaudio remove{whole})")
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])


def corpus_status(url: str) -> CorpusStatus:
    """Count every committed table of a corpus; counts are cached in `runs/status.parquet`.

    Args:
        url: Folder or fsspec URL of the corpus.

    Raises:
        CorpusError: When there is no corpus at `url`, or a table that was not counted before is damaged.
    """
    corpus = open_corpus(url)
    return status_of(corpus, list_stages(corpus))


def status_of(corpus: Corpus, listings: Listings) -> CorpusStatus:
    """Return the status of an opened corpus whose folders are already listed; see `corpus_status`."""
    packs, damaged = _described_packs(corpus, listings)
    columns = [column for column in columns_in_order() if _is_shown(column, listings)]
    tables = {c.folder: sorted(n for n in listings[c.folder] if is_table(n)) for c in columns if not c.per_model}
    tables |= {folder: [f"{shard}.parquet" for shard in pack.shards] for folder, pack in packs.items()}
    counted = tally(corpus, {folder: _sizes(listings[folder], names) for folder, names in tables.items()})
    stages: list[StageStatus] = []
    for column in columns:
        stages += _of_models(counted, column, listings) if column.per_model else [_outcomes(counted, column, listings)]
    if corpus.settings.extract.channel != "mix":  # a single channel is then what the settings ask for
        stages = [replace(stage, noticed={**stage.noticed, "one_channel": 0}) for stage in stages]
    packed = tuple(_packed(counted, folder, described, listings[folder]) for folder, described in packs.items())
    tombstones = tombstones_among(corpus.store, corpus.files.names)
    removed = len(tombstones.ids), len(tombstones.sources)
    missing = tuple(part.name for part in corpus.parts if part.name not in corpus.files.names)
    return CorpusStatus(
        corpus.url, corpus.clips, corpus.shards, tuple(stages), packed, *removed, missing, tuple(damaged)
    )


def _is_shown(column: Column, listings: Listings) -> bool:
    """Return whether a column is shown: one that is no part of a build has a description, and must have a table."""
    return column.per_model or column.description is None or any(map(is_table, listings[column.folder]))


def _sizes(listing: Mapping[str, int], names: Sequence[str]) -> dict[str, int]:
    return {name: listing[name] for name in names if name in listing}


def _of_models(counted: pd.DataFrame, column: Column, listings: Listings) -> Iterator[StageStatus]:
    """Yield the status of a column by model, for models with any shard.

    The column's own tables need not be read: in a committed shard it has every clip that came through what it needs.
    """
    base = next(c.folder for c in reversed(with_needs(column.needs)) if c.has_outcomes and not c.per_model)
    done = counted[(counted["folder"] == base) & (counted["state"] == State.DONE)].groupby("shard")["clips"].sum()
    for folder in sorted(filter(column.owns, listings)):
        shards = committed_shards_in(listings[folder])
        if shards:
            clips = int(done[done.index.isin(shards)].sum())
            yield StageStatus(column.stage, len(shards), clips, of=folder.partition("/")[2])


def _outcomes(counted: pd.DataFrame, column: Column, listings: Listings) -> StageStatus:
    own = counted[(counted["folder"] == column.folder) & (counted["clips"] > 0)]
    by_outcome = own.groupby(["state", "reason"], dropna=False)["clips"].sum().sort_values(ascending=False)
    others, done = [], 0
    for (state, reason), clips in zip(by_outcome.index.tolist(), by_outcome.tolist(), strict=True):
        if state == State.DONE:
            done += int(clips)
        else:
            others.append((state, reason if isinstance(reason, str) else None, int(clips)))
    said = own.dropna(subset=["example"]).groupby(["reason", "example"])["clips"].sum()
    messages = said.sort_values(ascending=False, kind="stable").reset_index()
    unknown = tuple(messages.loc[messages["reason"] == Reason.UNKNOWN, "example"][:EXAMPLES])
    first = messages.drop_duplicates("reason")
    examples: dict[str, str] = dict(zip(first["reason"].tolist(), first["example"].tolist(), strict=True))
    shards = len(committed_shards_in(listings[column.folder]))
    noticed = {name: np.asarray(own[name].sum()).item() for name in NOTICED}
    return StageStatus(column.stage, shards, done, tuple(others), unknown, examples=examples, noticed=noticed)


def _described_packs(corpus: Corpus, listings: Listings) -> tuple[dict[str, PackDescription], list[str]]:
    """Return the descriptions of readable packs by folder, and the error messages of the others."""
    described, damaged = {}, []
    for folder in sorted(f for f, names in listings.items() if f.startswith(f"{PACKS}/") and PACK_FILE in names):
        try:
            described[folder] = read_pack_file(corpus.store, folder)
        except PackDamaged as error:
            damaged.append(str(error))
    return described, damaged


def _packed(counted: pd.DataFrame, folder: str, described: PackDescription, listing: Mapping[str, int]) -> PackStatus:
    own = counted[counted["folder"] == folder]
    name, clips = folder.partition("/")[2], int(own["clips"].sum())
    listed = f"{folder}/{LEFT_OUT_FILE}" if LEFT_OUT_FILE in listing else None
    return PackStatus(name, own["table"].nunique(), clips, described.left_out, listed)
