"""The report of a corpus: one HTML page that shows what is in it, and metadata for those who find it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from vidaudio.corpus.columns import EMBED, SCORE
from vidaudio.corpus.corpus import open_corpus
from vidaudio.corpus.listing import list_stages
from vidaudio.errors import UsageError
from vidaudio.files import atomic_write
from vidaudio.paths import local_target
from vidaudio.report.corpus.choice import Choice
from vidaudio.report.corpus.clips import read_clips
from vidaudio.report.corpus.croissant import describe_corpus
from vidaudio.report.corpus.duplicates import Duplicates, find_duplicates
from vidaudio.report.corpus.facts import CorpusFacts, collect_facts
from vidaudio.report.corpus.map import draw_map
from vidaudio.report.corpus.page import PageContent, fill_page
from vidaudio.report.corpus.tables import find_parts
from vidaudio.report.corpus.vectors import draw_vectors
from vidaudio.text import number_of

CLIPS_SHOWN = 200
LARGE_PAGE_BYTES = 20e6


@dataclass(frozen=True)
class CorpusReport:
    """A report that was written; `str` gives it as text.

    Attributes:
        page: The HTML file.
        bytes: Its size.
        croissant: The metadata file; None if none was asked for.
        facts: What the page shows in numbers.
        shown: Number of clips that are shown, by group.
        duplicates: Near-duplicates; None without vectors.
        notes: What the reader should know.
    """

    page: Path
    bytes: int
    croissant: Path | None
    facts: CorpusFacts
    shown: Mapping[str, int]
    duplicates: Duplicates | None
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the report, JSON-able."""
        pairs = self.duplicates
        return {
            "page": str(self.page),
            "bytes": self.bytes,
            "croissant": None if self.croissant is None else str(self.croissant),
            "shown": dict(self.shown),
            "near_duplicates": None
            if pairs is None
            else {
                "compared": pairs.compared,
                "embedded": pairs.embedded,
                "pictures_alike": pairs.pictures_alike,
                "sounds_too": pairs.sounds_too,
            },
            "notes": list(self.notes),
            **self.facts.as_dict(),
        }

    def __str__(self) -> str:
        facts = self.facts
        lines = [
            f"{self.page}: {number_of(facts.clips, 'clip')}, {facts.seconds / 3600:,.2f} hours, "
            f"{number_of(sum(self.shown.values()), 'clip')} shown, {self.bytes / 1e6:.1f} MB"
        ]
        if self.croissant is not None:
            lines.append(f"{self.croissant}: Croissant metadata; add creator, url and datePublished before you publish")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def report(
    corpus: str,
    output: str | Path = "report.html",
    *,
    scorer: str | None = None,
    clips: int = CLIPS_SHOWN,
    croissant: str | Path | None = None,
    progress: bool = True,
) -> CorpusReport:
    """Write an HTML page that shows what is in a corpus; the same corpus gives the same bytes.

    The page is one file that opens from disk and requests nothing. Stages that the corpus does not have are left out,
    and the page says so. An existing file is replaced.

    Args:
        corpus: Folder or fsspec URL of the corpus.
        output: Path of the HTML file.
        scorer: Name of the scorer whose scores are shown; the only one by default.
        clips: Number of clips to show with pictures and sound.
        croissant: Path of a file for Croissant metadata (MLCommons, 1.0); None for no such file.
        progress: Whether to show a progress bar.

    Raises:
        CorpusError: When there is no corpus, or a table or the media of a shown clip are damaged.
        ScorerError: When there are no scores by this scorer, or scores by several and none is named.
        UsageError: When `clips` is negative, or a path is a URL or a folder.
    """
    if clips < 0:
        raise UsageError(f"{clips} clips cannot be shown; name a number from 0")
    page_path = _target(output)
    croissant_path = None if croissant is None else _target(croissant)
    opened = open_corpus(corpus)
    listings = list_stages(opened)
    parts = find_parts(opened, listings, scorer)
    choice = Choice(clips)
    with tqdm(total=opened.shards, desc="counting", unit="shard", disable=not progress, dynamic_ncols=True) as bar:
        facts = collect_facts(opened, listings, parts, choice, bar.update)
    groups = choice.groups()
    drawn = draw_vectors(opened, parts.models[EMBED.stage]) if parts.has(EMBED.stage) else None
    duplicates = None
    if drawn is not None:
        compared = len(drawn.clips)
        with tqdm(total=compared, desc="comparing", unit="clip", disable=not progress, dynamic_ncols=True) as bar:
            duplicates = find_duplicates(opened, drawn, parts.models.get(SCORE.stage), bar.update)
    wanted = {clip for group in groups.values() for clip in group}
    if duplicates is not None and clips:
        wanted |= {clip for pair in duplicates.shown for clip in (pair.first, pair.second)}
    with tqdm(total=len(wanted), desc="reading", unit="clip", disable=not progress, dynamic_ncols=True) as bar:
        shown = read_clips(opened, parts, wanted, bar.update)
    content = PageContent(facts, groups, shown, duplicates, None if drawn is None else draw_map(drawn))
    html = fill_page(content)
    notes = facts.missing_parts
    if len(html) > LARGE_PAGE_BYTES:
        notes.append(f"the page has {len(html) / 1e6:.0f} MB, which some browsers open slowly; --clips makes it less")
    _write(page_path, html)
    if croissant_path is not None:
        described = describe_corpus(opened, facts)
        _write(croissant_path, json.dumps(described, indent=2, ensure_ascii=False).encode() + b"\n")
    counts = {name: len(group) for name, group in groups.items()}
    return CorpusReport(page_path, len(html), croissant_path, facts, counts, duplicates, notes)


def _target(place: str | Path) -> Path:
    path = local_target(place, "reports")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file in it")
    return path


def _write(path: Path, contents: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_bytes(contents)
