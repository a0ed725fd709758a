"""Gains that come from the query: comparison of the right query with a wrong one, mixture by mixture.

A system that has learned nothing still gains SDR over a mixture: it makes everything quieter, and SDR counts an error
in level as distortion. A wrong query gains as much. SI-SDR ignores the level, and the difference to a wrong query is
the gain that the query itself brings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

STANDARD_ERRORS = 2.0


def is_above_error(mean: float, standard_error: float) -> bool | None:
    """Return whether a mean of paired differences is above 2 standard errors; None if either number is NaN."""
    if math.isnan(mean) or math.isnan(standard_error):
        return None
    return mean > STANDARD_ERRORS * standard_error


def gain_words(gain: float, above_wrong: bool | None = None, *, is_compared: bool = True) -> str:
    """Format a gain, dB; `-` for NaN.

    Args:
        gain: The gain, dB.
        above_wrong: Whether it is above the gain of a wrong query; where it is not, the gain is `none`, with dB in
            brackets.
        is_compared: Whether there was a wrong query to compare with. A gain in SDR that was not compared may be one of
            level alone, and is marked.
    """
    if math.isnan(gain):
        return "-"
    if gain > 0 and not is_compared:
        return f"{gain:+.2f} (not compared)"
    return f"none ({gain:+.2f})" if above_wrong is False and gain > 0 else f"{gain:+.2f}"


def headline_figures(numbers: Mapping[str, float], prefix: str = "validation/") -> dict[str, str]:
    """Return the three figures that show whether a system learns: SI-SDR gain, gain over a wrong query, SDR gain.

    Args:
        numbers: Numbers as a validation logs them.
        prefix: Prefix of their names.

    Returns:
        Name to dB as text; figures that were not measured are left out.
    """
    found = {name: numbers.get(prefix + name, math.nan) for name in _NAMES}
    above = is_above_error(found["over_wrong_query"], found["over_wrong_query_error"])
    figures = {
        "SI-SDRi": gain_words(found["si_sdr_improvement"]),
        "over wrong": gain_words(found["over_wrong_query"]),
        "SDRi": gain_words(found["sdr_improvement"], above, is_compared=not math.isnan(found["over_wrong_query"])),
    }
    return {name: text for name, text in figures.items() if text != "-"}


_NAMES = ("si_sdr_improvement", "over_wrong_query", "over_wrong_query_error", "sdr_improvement")
