"""Facts of a corpus: everything that the report counts, collected in one pass, shard by shard."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from vidaudio.corpus.columns import EXTRACT, FACTS, SCORE
from vidaudio.corpus.corpus import Corpus
from vidaudio.corpus.corpus_file import read_corpus_file
from vidaudio.corpus.listing import Listings
from vidaudio.maintenance.status import CorpusStatus, status_of
from vidaudio.pipeline.stages.scorer_files import FOLDER as SCORERS
from vidaudio.report.corpus.choice import Choice
from vidaudio.report.corpus.histogram import Histogram
from vidaudio.report.corpus.measures import KEPT_ABOVE, MEASURES
from vidaudio.report.corpus.pages import NOT_STATED, read_page, shown_labels, shown_text
from vidaudio.report.corpus.run_costs import RunCosts, read_run_costs
from vidaudio.report.corpus.scorer_summary import ScorerSummary, read_scorer_summary
from vidaudio.report.corpus.tables import Parts, ShardRows, as_floats, read_shards
from vidaudio.report.corpus.totals import Totals
from vidaudio.text import storable_text

NO_LABEL = "no label"
LONGEST_RECIPE = 20_000
GROUPS = ("label", "split", "uploader", "licence")
# Numbers that are summed by name: clips, seconds, scored clips, and clips above each of `KEPT_ABOVE`.
CLIPS, SECONDS, SCORED, FIRST_KEPT = 0, 1, 2, 3
NUMBERS = FIRST_KEPT + len(KEPT_ABOVE)


@dataclass(frozen=True)
class CorpusFacts:
    """What a corpus contains, in numbers.

    Attributes:
        name: Name of the corpus's folder.
        recipe_name: Name of the recipe that it was created with.
        recipe: Settings that it stores, as YAML.
        versions: Versions of the packages that created it.
        status: Clips by stage and outcome.
        parts: Which stages and models it has.
        clips: Number of extracted clips.
        seconds: Length of their sound.
        histograms: One for each measure that any clip has a value of.
        groups: Sums by name, for each of `GROUPS`; a clip with several labels counts for each of them.
        scorer: What the scorer measured when it was fitted; None without scores, or without the scorer.
        sizes: Bytes by folder, without `runs/`.
        costs: What its runs cost.
    """

    name: str
    recipe_name: str
    recipe: str
    versions: Mapping[str, str]
    status: CorpusStatus
    parts: Parts
    clips: int
    seconds: float
    histograms: tuple[Histogram, ...]
    groups: Mapping[str, Totals]
    scorer: ScorerSummary | None
    sizes: Mapping[str, int]
    costs: RunCosts

    def histogram(self, name: str) -> Histogram | None:
        """Return the histogram of a measure; None if no clip has a value of it."""
        return next((histogram for histogram in self.histograms if histogram.measure.name == name), None)

    @property
    def scored(self) -> int:
        """Number of clips with a score."""
        histogram = self.histogram("p_corresponds")
        return histogram.known if histogram is not None else 0

    @property
    def missing_parts(self) -> list[str]:
        """Sentences about parts that the corpus does not have, each with the command that makes them."""
        told = []
        if not self.parts.has(EXTRACT.stage):
            told.append("No clip is extracted yet, so that there is nothing to measure or to show: build the corpus.")
        if not self.parts.has(FACTS.stage):
            told.append("There are no facts such as loudness and stillness: vidaudio build RECIPE --only facts.")
        if not self.parts.has("embed"):
            told.append("There are no vectors of pictures, so no map and no near-duplicates: build with embed.")
        if not self.parts.has(SCORE.stage):
            told.append("There are no scores, so a drawn sample is shown: vidaudio fit-scorer, then vidaudio score.")
        elif self.scorer is None:
            told.append("The scorer itself is missing, so its measures are not shown.")
        return told

    def as_dict(self) -> dict[str, Any]:
        """Return the facts, JSON-able."""
        return {
            "name": self.name,
            "clips": self.clips,
            "hours": round(self.seconds / 3600, 4),
            "scored": self.scored,
            "status": self.status.as_dict(),
            "measures": {histogram.measure.name: histogram.as_dict() for histogram in self.histograms},
            "scorer": None if self.scorer is None else self.scorer.model_dump(),
            "bytes_by_folder": dict(self.sizes),
        }


def collect_facts(
    corpus: Corpus, listings: Listings, parts: Parts, choice: Choice, advance: Callable[[], object]
) -> CorpusFacts:
    """Return the facts of a corpus.

    Args:
        corpus: Opened corpus.
        listings: Listing of its folders.
        parts: What it has.
        choice: Is told of every clip, to choose those that are shown.
        advance: Called after every shard.

    Raises:
        CorruptFileError: When a table is damaged.
        ScorerError: When the scorer's facts are damaged.
    """
    histograms = [Histogram(measure) for measure in MEASURES]
    groups = {name: Totals(NUMBERS) for name in GROUPS}
    clips, seconds = 0, 0.0
    for rows in read_shards(corpus, parts):
        clips += rows.clips.num_rows
        seconds += float(np.nansum(as_floats(rows.clips["seconds"])))
        for histogram in histograms:
            histogram.add(as_floats(rows.clips[histogram.measure.name]))
        _add_to_groups(groups, rows)
        choice.add(rows)
        advance()
    described = read_corpus_file(corpus.store)
    scorer = parts.models.get(SCORE.stage)
    return CorpusFacts(
        name=shown_text(corpus.url.rstrip("/").rpartition("/")[2]) or "corpus",
        recipe_name=shown_text(described["recipe"].get("name")),
        recipe=storable_text(
            yaml.safe_dump(described["recipe"], sort_keys=True, allow_unicode=True),
            max_characters=LONGEST_RECIPE,
            keep_line_ends=True,
        ),
        versions={str(name): shown_text(number) for name, number in _items(described.get("versions"))},
        status=status_of(corpus, listings),
        parts=parts,
        clips=clips,
        seconds=seconds,
        histograms=tuple(histogram for histogram in histograms if histogram.known),
        groups=groups,
        scorer=None if scorer is None else read_scorer_summary(corpus, scorer),
        sizes=_sizes(corpus, listings),
        costs=read_run_costs(corpus),
    )


def _items(values: object) -> list[tuple[object, object]]:
    return sorted(values.items()) if isinstance(values, dict) else []


def _add_to_groups(groups: Mapping[str, Totals], rows: ShardRows) -> None:
    table = rows.clips
    probability = as_floats(table["p_corresponds"])
    numbers = np.zeros((table.num_rows, NUMBERS))
    numbers[:, CLIPS] = 1
    numbers[:, SECONDS] = np.nan_to_num(as_floats(table["seconds"]))
    numbers[:, SCORED] = np.isfinite(probability)
    for place, least in enumerate(KEPT_ABOVE):
        numbers[:, FIRST_KEPT + place] = probability > least
    labels = [shown_labels(own) or (NO_LABEL,) for own in table["labels"].to_pylist()]
    of_label = np.repeat(np.arange(len(labels)), [len(own) for own in labels])
    groups["label"].add([label for own in labels for label in own], numbers[of_label])
    groups["split"].add([shown_text(split) or NOT_STATED for split in table["split"].to_pylist()], numbers)
    pages = [read_page(info) for info in table["info"].to_pylist()]
    groups["uploader"].add([page.uploader or NOT_STATED for page in pages], numbers)
    groups["licence"].add([page.licence or NOT_STATED for page in pages], numbers)


def _sizes(corpus: Corpus, listings: Listings) -> dict[str, int]:
    """Return bytes by folder; `.` has the files that lie directly in the corpus's folder.

    `runs/` is left out: it is no part of the corpus, and this report writes to it.
    """
    sizes = {folder: sum(names.values()) for folder, names in listings.items()}
    for name in corpus.store.folders(SCORERS):
        sizes[f"{SCORERS}/{name}"] = sum(corpus.store.list(f"{SCORERS}/{name}").values())
    sizes["."] = sum(size for name, size in corpus.store.list("").items() if name.endswith(("parquet", "corpus.json")))
    return {folder: size for folder, size in sorted(sizes.items()) if size}
