"""Suppression: how far a system removes a mixture if it is asked for a sound that is not in the mixture.

Scores against the true sources do not tell this: the right answer to a query for an absent sound is silence, and there
is no true source to compare with. The measure belongs to the methods that ask for an absent sound.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from vidaudio.separation.sdr import SILENCE
from vidaudio.tasks.separation.evaluation.methods import ASKS_ABSENT, Estimates
from vidaudio.tasks.separation.evaluation.scorers import MixtureScores

SUPPRESSION = "suppression"
CAP_DB = 100.0


def suppression_db(mixture: Tensor, estimates: Tensor) -> Tensor:
    """Return the power of a mixture over that of estimates, 10 log10(|x|^2 / |e|^2), dB, at most `CAP_DB`.

    A system that hands the mixture through has 0; higher means that more is suppressed. An estimate that is silent has
    `CAP_DB`, so that the best answer to a wrong query is counted and means stay finite.

    Args:
        mixture: The mixture, `[samples]`, not silent.
        estimates: Estimates of the absent sound, `[..., samples]`.

    Returns:
        float64 `[...]`.
    """
    powers = estimates.double().square().sum(dim=-1)
    return (10 * torch.log10(mixture.double().square().sum() / powers)).clamp(max=CAP_DB)


def suppression_of(estimates: Estimates) -> dict[tuple[str, int], float]:
    """Return the suppression of each estimate of an absent sound, dB, by method and candidate number.

    It is empty if the mixture is silent.
    """
    if float(estimates.mixture.abs().sum()) <= SILENCE:
        return {}
    asked = [place for place, (method, _) in enumerate(estimates.names) if method in ASKS_ABSENT]
    found = suppression_db(estimates.mixture, estimates.sounds[asked, 0]).tolist()
    return {estimates.names[place]: value for place, value in zip(asked, found, strict=True)}


def of_counted_candidates(
    found: Mapping[int, Mapping[tuple[str, int], float]], scores: Mapping[int, MixtureScores]
) -> dict[int, dict[str, float]]:
    """Return the suppression by mixture number and method, of the candidate that counts for the scores.

    Of a method that has no score, because a signal is silent, the first candidate is taken.
    """
    table: dict[int, dict[str, float]] = {}
    for number, row in found.items():
        table[number] = {}
        for (method, candidate), value in row.items():
            score = scores.get(number, {}).get(method)
            if candidate == (0 if score is None else score.candidate):
                table[number][method] = value
    return table
