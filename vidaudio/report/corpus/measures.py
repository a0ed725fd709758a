"""Measures of a clip that the report shows: what each means, in which unit, and which values decide something.

The edges of the histograms are fixed, so that a corpus of any size is counted in one pass, shard by shard.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vidaudio.corpus.columns import EXTRACT, FACTS, SCORE, SILENT_DBFS
from vidaudio.pipeline.stages.facts_table import SILENT_SHARE, STILL_SHARE

# Values of P(corresponds) for which the report says what share of each label would be kept.
KEPT_ABOVE = (0.5, 0.7, 0.9)


@dataclass(frozen=True, slots=True)
class Threshold:
    """A value of a measure that decides something.

    Attributes:
        value: The value.
        above: Whether clips above the value are meant; otherwise those below it.
        meaning: What these clips are, such as `mostly silent`.
        where: Condition for `vidaudio pack --where` that keeps the other clips, or these clips where they are wanted.
    """

    value: float
    above: bool
    meaning: str
    where: str


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of every clip.

    Attributes:
        name: Field of the table, as `vidaudio pack --where` names it.
        stage: Stage that writes the table.
        unit: Unit, such as `s`; empty for a number without one.
        definition: What is measured.
        edges: Edges of the histogram's bars, increasing. The first and the last bar also count what is beyond them.
        chance: Value of a clip whose sound was drawn by chance; None where there is none.
        thresholds: Values that decide something.
    """

    name: str
    stage: str
    unit: str
    definition: str
    edges: tuple[float, ...]
    chance: float | None = None
    thresholds: tuple[Threshold, ...] = ()


def _steps(low: float, high: float, bars: int) -> tuple[float, ...]:
    return tuple(round(float(edge), 6) for edge in np.linspace(low, high, bars + 1))


_SHARE = _steps(0, 1, 20)
_KEPT = tuple(
    Threshold(value, True, f"probable at {value:g} or more", f"p_corresponds > {value:g}") for value in KEPT_ABOVE
)
MEASURES = (
    Measure(
        "seconds",
        EXTRACT.stage,
        "s",
        "Length of the sound.",
        (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 15, 20, 30, 60, 120, 300, 600),
    ),
    Measure(
        "rms_dbfs",
        EXTRACT.stage,
        "dBFS",
        "Mean power of the sound, relative to full scale.",
        _steps(-100, 0, 25),
        thresholds=(Threshold(SILENT_DBFS, False, "digital silence", "not silent"),),
    ),
    Measure(
        "motion",
        EXTRACT.stage,
        "grey levels",
        "Largest mean difference between neighbouring pictures, 0 to 255.",
        (0, 0.5, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 255),
    ),
    Measure(
        "loudness_lufs",
        FACTS.stage,
        "LUFS",
        "Integrated loudness of the mono sound (ITU-R BS.1770-4); -70 at least.",
        _steps(-70, 0, 28),
    ),
    Measure(
        "silent_share",
        FACTS.stage,
        "",
        "Share of windows of 50 ms below -35 dBFS.",
        _SHARE,
        thresholds=(Threshold(SILENT_SHARE, True, "mostly silent", "not mostly_silent"),),
    ),
    Measure(
        "clipped_share",
        FACTS.stage,
        "",
        "Share of samples in runs of three or more at full scale.",
        (0, 0.00001, 0.0001, 0.001, 0.01, 0.1, 1),
    ),
    Measure("bandwidth_hz", FACTS.stage, "Hz", "Frequency below which 99 % of the energy lies.", _steps(0, 24_000, 24)),
    Measure(
        "still_share",
        FACTS.stage,
        "",
        "Share of neighbouring pictures whose grey levels differ by a mean square below 5.",
        _SHARE,
        thresholds=(Threshold(STILL_SHARE, True, "still", "not still"),),
    ),
    Measure("black_share", FACTS.stage, "", "Share of pictures of which 98 % is darker than a tenth of white.", _SHARE),
    Measure("cuts", FACTS.stage, "cuts", "Changes of the shot; one a second is seen at most.", _steps(0, 20, 20)),
    Measure(
        "correspondence_cosine",
        SCORE.stage,
        "",
        "Mean cosine of sound and pictures in the scorer's space. Some sounds are close to every picture.",
        _steps(-1, 1, 40),
    ),
    Measure(
        "correspondence",
        SCORE.stage,
        "standard deviations",
        "The cosine's distance from the cosines with other clips' sounds and pictures; higher is better.",
        _steps(-4, 8, 24),
        chance=0.0,
    ),
    Measure(
        "p_corresponds",
        SCORE.stage,
        "",
        "Probability that sound and pictures belong together.",
        _SHARE,
        thresholds=_KEPT,
    ),
    Measure(
        "p_synchronisable",
        SCORE.stage,
        "",
        "Probability that picture and sound have common events at all.",
        _SHARE,
    ),
    Measure(
        "p_in_sync",
        SCORE.stage,
        "",
        "Probability that picture and sound have common events at the same time, within 0.2 s.",
        _SHARE,
    ),
    Measure(
        "offset_seconds",
        SCORE.stage,
        "s",
        "How much later the sound is than the picture, within 2 s.",
        _steps(-2, 2, 40),
    ),
    Measure(
        "offset_confidence",
        SCORE.stage,
        "",
        "Probability that the offset is right within 0.2 s. An offset drawn from all that are possible is right in a "
        "tenth of the cases.",
        _SHARE,
        chance=0.1,
    ),
)
