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


def gain_words(gain: float, above_wrong: bool | None) -> str:
    """Format an SDR gain: dB, or `none` with dB in brackets where a wrong query gains as much; `-` for NaN."""
    if math.isnan(gain):
        return "-"
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
        "SI-SDRi": gain_words(found["si_sdr_improvement"], None),
        "over wrong": gain_words(found["over_wrong_query"], None),
        "SDRi": gain_words(found["sdr_improvement"], above),
    }
    return {name: text for name, text in figures.items() if text != "-"}


_NAMES = ("si_sdr_improvement", "over_wrong_query", "over_wrong_query_error", "sdr_improvement")
