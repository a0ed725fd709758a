"""The page of a report: self-contained HTML that sends no network requests.

Script and style are in the file, and a content security policy lists both by hash and forbids every request. All texts
from lists and sites are escaped, and control characters and marks of reading direction are removed before.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from vidaudio.correspondence.calibration import AT_CHANCE
from vidaudio.maintenance.status import LEFT_OUT_WORDS
from vidaudio.media.outcomes import State
from vidaudio.report.corpus.choice import ClipRef
from vidaudio.report.corpus.clips import ShownClip
from vidaudio.report.corpus.duplicates import LEAST_PICTURES, LEAST_SOUND, Duplicates
from vidaudio.report.corpus.facts import CLIPS, FIRST_KEPT, SCORED, SECONDS, CorpusFacts
from vidaudio.report.corpus.histogram import Histogram
from vidaudio.report.corpus.map import VectorMap
from vidaudio.report.corpus.measures import KEPT_ABOVE, MEASURES
from vidaudio.report.corpus.totals import Total, Totals
from vidaudio.text import number_of, storable_text

LONGEST_TABLE = 25
# Longer than any sound that is written as a data URI.
LONGEST_TEXT = 10_000_000
PLOT_WIDTH, PLOT_HEIGHT = 480, 120
UNITS = {measure.name: measure.unit for measure in MEASURES}
GROUP_TITLES = {
    "best": ("Correspond best", "The highest scores."),
    "undecided": ("Undecided", "P(corresponds) nearest to 0.5."),
    "worst": ("Correspond worst", "The lowest scores."),
    "drawn": ("Drawn clips", "Drawn by a hash of their ids, since there are no scores."),
}
# Measures that a clip's card shows, where the clip has them.
ON_CARDS = {
    "p_corresponds": "P(corresponds)",
    "correspondence": "score",
    "offset_seconds": "offset",
    "offset_confidence": "P(offset)",
    "loudness_lufs": "loudness",
    "still_share": "still",
    "silent_share": "silent",
    "motion": "motion",
}


@dataclass(frozen=True)
class PageContent:
    """What a page shows.

    Attributes:
        facts: Facts of the corpus.
        groups: Clips to show, by group.
        clips: These clips, and those of pairs of near-duplicates, with their media.
        duplicates: Near-duplicates; None without vectors.
        map: Map of the vectors; None without vectors, or without two directions in which they differ.
    """

    facts: CorpusFacts
    groups: Mapping[str, Sequence[ClipRef]]
    clips: Mapping[ClipRef, ShownClip]
    duplicates: Duplicates | None
    map: VectorMap | None


@dataclass(frozen=True, slots=True)
class FunnelRow:
    """A stage of the funnel: clips that came through, and the others by state and reason with an example message."""

    name: str
    clips: int
    share: float
    partial: str
    others: tuple[tuple[str, int, str], ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a histogram: place and height in the plot, and what it counts."""

    x: float
    width: float
    height: float
    told: str


@dataclass(frozen=True, slots=True)
class Line:
    """A vertical line in a histogram: a threshold, or the value of chance."""

    x: float
    kind: str
    told: str


@dataclass(frozen=True, slots=True)
class Plot:
    """A histogram as it is drawn."""

    name: str
    unit: str
    definition: str
    bars: tuple[Bar, ...]
    lines: tuple[Line, ...]
    ticks: tuple[tuple[float, str, str], ...]
    summary: str
    notes: tuple[tuple[str, str], ...]


def fill_page(content: PageContent) -> bytes:
    """Return the page as HTML in UTF-8."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    folder = files("vidaudio.report.corpus")
    style, script = (folder.joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))

    def clean(value: Any) -> Any:
        # Every text that is written passes here, also names of folders and messages of sites.
        if not isinstance(value, str) or isinstance(value, Markup):
            return value
        return storable_text(value, max_characters=LONGEST_TEXT, keep_line_ends=True)

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=clean,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": short_number, "percent": _percent, "bytes": human_bytes}
    template = environment.from_string(folder.joinpath("page.html.j2").read_text("utf-8"))
    facts = content.facts
    html = template.render(
        at_chance=AT_CHANCE,
        facts=facts,
        funnel=list(_funnel(facts)),
        tables=list(_tables(facts)),
        kept=list(_kept(facts)),
        kept_above=KEPT_ABOVE,
        plots=[_plot(histogram) for histogram in facts.histograms],
        plot_width=PLOT_WIDTH,
        plot_height=PLOT_HEIGHT,
        groups=[(name, *GROUP_TITLES[name], [content.clips[clip] for clip in c]) for name, c in content.groups.items()],
        labels=_shown_labels(content),
        card_values=_card_values,
        duplicates=content.duplicates,
        pairs=list(_pairs(content)),
        least_pictures=LEAST_PICTURES,
        least_sound=LEAST_SOUND,
        map=content.map,
        negatives=_negatives(),
        left_out_words=LEFT_OUT_WORDS,
        style=Markup(style),
        script=Markup(script),
        style_hash=_csp_hash(style),
        script_hash=_csp_hash(script),
    )
    return html.encode()


def short_number(value: float | None) -> str:
    """Return a number with at most three significant digits, or all digits of a whole number."""
    if value is None:
        return "-"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    shown = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "0" if shown == "-0" else shown


def human_bytes(size: float) -> str:
    """Return a size with a unit, such as `1.4 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{short_number(round(size, 1))} {unit}"
        size /= 1000
    return f"{size:,.1f} TB"


def _percent(share: float) -> str:
    return f"{share:.1%}".replace(".0%", "%") if share < 0.9995 or share >= 1 else "99.9%"


def _funnel(facts: CorpusFacts) -> Iterator[FunnelRow]:
    status = facts.status
    total = max(1, status.clips)
    yield FunnelRow("listed", status.clips, 1.0, "", ())
    named = Counter(stage.name for stage in status.stages)
    for stage in status.stages:
        if not stage.shards:
            continue
        others = []
        for state, reason, clips in stage.others:
            told = f"{state}: {reason}" if reason else state
            example = stage.examples.get(reason, "") if reason is not None and state == State.FAILED else ""
            others.append((told, clips, example))
        model = f" by {stage.of}" if stage.of and named[stage.name] > 1 else ""
        partial = "" if stage.shards == status.shards else f"{stage.shards:,} of {status.shards:,} shards"
        yield FunnelRow(
            f"{_DONE.get(stage.name, stage.name)}{model}", stage.done, stage.done / total, partial, tuple(others)
        )


_DONE = {
    "download": "downloaded",
    "extract": "extracted",
    "facts": "measured",
    "embed": "embedded",
    "score": "scored",
}


def _tables(facts: CorpusFacts) -> Iterator[tuple[str, int, list[tuple[str, float, float, float]], bool]]:
    """Yield of each group its name, number of names, rows (name, clips, hours, share), and whether clips overlap."""
    for name, totals in facts.groups.items():
        rows = [
            (total.name, total.sums[CLIPS], total.sums[SECONDS] / 3600, total.sums[CLIPS] / max(1, facts.clips))
            for total in _with_rest(totals)
        ]
        if rows:
            overlap = sum(row[1] for row in rows) > facts.clips
            yield name, len(totals), rows, overlap


def _with_rest(totals: Totals) -> list[Total]:
    rest = totals.rest(LONGEST_TABLE)
    return [*totals.largest(LONGEST_TABLE), *([rest] if rest is not None else [])]


def _kept(facts: CorpusFacts) -> Iterator[tuple[str, float, list[float]]]:
    """Yield a label, its number of scored clips, and the share kept by each threshold; first of all clips."""
    histogram = facts.histogram("p_corresponds")
    if histogram is None:
        return
    yield "all clips", histogram.known, [beyond / histogram.known for beyond in histogram.beyond]
    for total in _with_rest(facts.groups["label"]):
        if scored := total.sums[SCORED]:
            yield total.name, scored, [kept / scored for kept in total.sums[FIRST_KEPT:]]


def _plot(histogram: Histogram) -> Plot:
    measure = histogram.measure
    edges, most = measure.edges, max(1, int(histogram.counts.max()))
    width = PLOT_WIDTH / len(histogram.counts)
    unit = f" {measure.unit}" if measure.unit else ""
    bars = []
    for number, count in enumerate(histogram.counts.tolist()):
        low, high = edges[number], edges[number + 1]
        told = f"{short_number(low)} to {short_number(high)}{unit}: {number_of(count, 'clip')}"
        # A bar of few clips stays visible beside one of many.
        height = max(1.5, PLOT_HEIGHT * count / most) if count else 0.0
        bars.append(Bar(round(number * width, 2), round(width, 2), round(height, 2), told))
    lines, notes = [], []
    for threshold, beyond in zip(measure.thresholds, histogram.beyond, strict=True):
        sign = "above" if threshold.above else "below"
        told = f"{sign} {short_number(threshold.value)}: {threshold.meaning}"
        lines.append(Line(_place(edges, threshold.value), "threshold", told))
        share = _percent(beyond / histogram.known)
        notes.append((f"{number_of(beyond, 'clip')} ({share}) {told}.", threshold.where))
    if measure.chance is not None:
        lines.append(Line(_place(edges, measure.chance), "chance", f"chance: {short_number(measure.chance)}"))
        notes.append((f"Dashed: chance, {short_number(measure.chance)}{unit}.", ""))
    summary = (
        f"{histogram.known:,} clips, mean {short_number(histogram.mean)}, {short_number(histogram.lowest)} to "
        f"{short_number(histogram.highest)}{unit}"
    )
    if histogram.missing:
        summary += f"; {histogram.missing:,} without a value"
    return Plot(
        measure.name, measure.unit, measure.definition, tuple(bars), tuple(lines), _ticks(edges), summary, tuple(notes)
    )


def _place(edges: Sequence[float], value: float) -> float:
    """Return where a value lies in the plot; all bars are equally wide, whatever their edges."""
    bars = len(edges) - 1
    for number in range(bars):
        if value <= edges[number + 1]:
            inside = (value - edges[number]) / (edges[number + 1] - edges[number])
            return round(PLOT_WIDTH * (number + max(0.0, inside)) / bars, 2)
    return float(PLOT_WIDTH)


def _ticks(edges: Sequence[float]) -> tuple[tuple[float, str, str], ...]:
    """Return place, text and alignment of the edges that are written below a plot: about five, first and last too."""
    bars = len(edges) - 1
    numbers = sorted({round(bars * part / 4) for part in range(5)})
    anchors = {0: "start", bars: "end"}
    return tuple(
        (round(PLOT_WIDTH * number / bars, 2), short_number(edges[number]), anchors.get(number, "middle"))
        for number in numbers
    )


def _card_values(clip: ShownClip) -> list[tuple[str, str]]:
    shown = [(told, clip.values[name], UNITS[name]) for name, told in ON_CARDS.items() if name in clip.values]
    digits = {"LUFS": ".1f"}
    return [
        (told, f"{value:{digits.get(unit, '.2f')}}{f' {unit}' if unit in ('s', 'LUFS') else ''}")
        for told, value, unit in shown
    ]


def _shown_labels(content: PageContent) -> list[tuple[str, int]]:
    """Return the labels of the shown clips with the number of these, most frequent first."""
    shown = [content.clips[clip] for clips in content.groups.values() for clip in clips]
    counted = Counter(label for clip in shown for label in clip.labels)
    return sorted(counted.items(), key=lambda pair: (-pair[1], pair[0]))


def _pairs(content: PageContent) -> Iterator[tuple[float, float | None, list[tuple[str, ShownClip | None]]]]:
    """Yield of each pair that is shown the cosines of pictures and sounds, and its clips; None without media."""
    for pair in content.duplicates.shown if content.duplicates is not None else ():
        both = [(ref.id, content.clips.get(ref)) for ref in (pair.first, pair.second)]
        yield pair.pictures, pair.sound, both


def _negatives() -> Mapping[str, str]:
    """Return what each kind of negative pair is that a scorer is measured on, by its name in the scorer's facts."""
    from vidaudio.tasks.correspondence.judging import NEGATIVES

    return NEGATIVES


def _csp_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
