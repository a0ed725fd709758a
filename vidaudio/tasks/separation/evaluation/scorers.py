"""Scorers of estimates: museval on a pool of processes, the reference, or batches on the device, equal to museval.

Only the target is scored. `vidaudio.separation.fast_sdr` documents where the two agree: to 1e-3 dB on all sound that
was once int16. The SAR of the unchanged mixture would be infinite; its value in both scorers is only rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from vidaudio.errors import UsageError
from vidaudio.separation import fast_scores, score_many
from vidaudio.separation.sdr import SILENCE
from vidaudio.tasks.separation.evaluation.methods import Estimates

SCORERS = ("museval", "batched")
MEASURES = ("sdr", "sir", "sar", "si_sdr", "level")
# Systems of 1,024 equations and one projection per estimate, in float64: 30 MB per mixture of five estimates.
MIXTURES_AT_ONCE = {"cpu": 2, "cuda": 16}


@dataclass(frozen=True, slots=True)
class Score:
    """Scores of one estimate of one target, dB.

    Attributes:
        sdr, sir, sar, si_sdr: Of BSSEval version 4; SI-SDR does not depend on the level.
        level: Power of the estimate relative to the target's: 0 for the right level, below for an estimate that is too
            quiet.
        candidate: Number of the estimate among its method's candidates.
    """

    sdr: float
    sir: float
    sar: float
    si_sdr: float
    level: float
    candidate: int = 0

    def as_dict(self) -> dict[str, float | None]:
        """Return a JSON-able dict: four decimals, None for values that are not finite."""
        values = {name: value for name, value in asdict(self).items() if name != "candidate"}
        return {name: round(value, 4) if math.isfinite(value) else None for name, value in values.items()}


# Scores of one mixture by method; None where a signal is silent.
MixtureScores = dict[str, Score | None]


def score_estimates(
    estimates: Iterable[Estimates],
    *,
    scorer: str = "museval",
    processes: int = 1,
    progress: Callable[[int], None] | None = None,
) -> dict[int, MixtureScores]:
    """Score all estimates; of a method's candidates, the one with the highest SDR counts.

    Args:
        estimates: Estimates, drawn as they are needed, a few at a time.
        scorer: One of `SCORERS`.
        processes: Number of processes for museval.
        progress: Called with the number of estimates scored so far.

    Returns:
        Mixture number to scores by method.

    Raises:
        UsageError: When there is no such scorer.
    """
    if scorer not in SCORERS:
        raise UsageError(f"there is no scorer {scorer!r}; there are {', '.join(SCORERS)}")
    progress = progress or (lambda done: None)
    if scorer == "batched":
        return _batched(estimates, progress)
    names: list[tuple[int, str, int, float]] = []

    def pairs() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for mixture in estimates:
            references, sounds = mixture.references.cpu().numpy(), mixture.sounds.cpu().numpy()
            for (method, candidate), sound, level in zip(
                mixture.names, sounds, level_db(mixture.sounds[:, 0], mixture.references[0]).tolist(), strict=True
            ):
                names.append((mixture.number, method, candidate, level))
                yield references, sound

    found = score_many(pairs(), processes, progress=progress)
    scores: dict[int, MixtureScores] = {}
    for (number, method, candidate, level), score in zip(names, found, strict=True):
        _keep_best(scores.setdefault(number, {}), method, candidate, score and {**score, "level": level})
    return scores


def _batched(estimates: Iterable[Estimates], progress: Callable[[int], None]) -> dict[int, MixtureScores]:
    scores: dict[int, MixtureScores] = {}
    done = 0
    for batch in _alike(estimates):
        references = torch.stack([mixture.references for mixture in batch])
        found = fast_scores(references, torch.stack([mixture.sounds[:, 0] for mixture in batch]))
        table = {name: values.cpu().tolist() for name, values in found.items()}
        for place, mixture in enumerate(batch):
            row = scores.setdefault(mixture.number, {})
            levels = level_db(mixture.sounds[:, 0], mixture.references[0]).tolist()
            audible = (mixture.sounds.abs().sum(dim=-1) > SILENCE).all(dim=-1).tolist()
            for column, (method, candidate) in enumerate(mixture.names):
                values = {name: of_all[place][column] for name, of_all in table.items()} | {"level": levels[column]}
                heard = audible[column] and not math.isnan(values["sdr"])
                _keep_best(row, method, candidate, values if heard else None)
            done += len(mixture.names)
        progress(done)
    return scores


def level_db(estimates: Tensor, target: Tensor) -> Tensor:
    """Return the level of estimates `[..., L]` relative to the target's `[L]`, dB; not finite where one is silent."""
    return 10 * torch.log10(estimates.double().square().sum(dim=-1) / target.double().square().sum())


def _alike(estimates: Iterable[Estimates]) -> Iterator[list[Estimates]]:
    """Yield runs of consecutive mixtures with the same methods, each at most as long as is scored at once."""
    batch: list[Estimates] = []
    for mixture in estimates:
        most = MIXTURES_AT_ONCE.get(mixture.sounds.device.type, 2)
        if batch and (len(batch) >= most or batch[0].names != mixture.names):
            yield batch
            batch = []
        batch.append(mixture)
    if batch:
        yield batch


def _keep_best(row: MixtureScores, method: str, candidate: int, values: Mapping[str, float] | None) -> None:
    score = None if values is None else Score(**values, candidate=candidate)
    before = row.get(method)
    if before is None or (score is not None and score.sdr > before.sdr):
        row[method] = score
