"""Scores of one system over its seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any


def scores_over_seeds(summaries: Sequence[Mapping[str, Any]]) -> str:
    """Return `SI-SDR gain; SDR ± error`, dB, of one way of asking.

    Args:
        summaries: One a seed. The error is that over seeds; of a single one, that over its mixtures.
    """
    means = [summary["sdr"]["mean"] for summary in summaries]
    error = statistics.stdev(means) / len(means) ** 0.5 if len(means) > 1 else summaries[0]["sdr"]["standard_error"]
    scale_invariant = statistics.mean(summary["si_sdr_improvement"]["mean"] for summary in summaries)
    return f"{scale_invariant:+.2f}; {statistics.mean(means):.2f} ± {error:.2f}"
