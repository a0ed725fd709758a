"""Scores of separated sound files from any separation: published ones, another project's, or the user's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidaudio.errors import MediaError
from vidaudio.media.audio_files import read_sound
from vidaudio.separation import museval_scores, resample
from vidaudio.separation.fast_sdr import fast_scores
from vidaudio.tasks.separation.evaluation.scorers import Score, level_db


@dataclass(frozen=True, slots=True)
class FileScores:
    """Scores of estimates in files, against one target.

    Attributes:
        mixture: Score of the unchanged mixture; None if a signal is silent.
        estimates: Score of each file; None if a signal is silent.
        residual_db: Energy of mixture - (target + interference) relative to the mixture's, dB: how far the references
            are from adding up to the mixture.
        samples: Number of samples compared.
        sample_rate: Sample rate of the comparison, Hz.
    """

    mixture: Score | None
    estimates: dict[str, Score | None]
    residual_db: float
    samples: int
    sample_rate: int

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-able dict."""
        return {
            "mixture": None if self.mixture is None else self.mixture.as_dict(),
            "estimates": {name: None if s is None else s.as_dict() for name, s in self.estimates.items()},
            "residual_db": round(self.residual_db, 3) if np.isfinite(self.residual_db) else None,
            "samples": self.samples,
            "sample_rate": self.sample_rate,
        }

    def __str__(self) -> str:
        lines = [f"  {'file':<44}{'SI-SDR gain':>13}{'SDR gain':>10}{'SDR':>8}{'SIR':>8}{'SAR':>8}{'SI-SDR':>8}"]
        for name, score in {"mixture": self.mixture, **self.estimates}.items():
            if score is None:
                lines.append(f"  {name[-44:]:<44}  silent")
                continue
            before = self.mixture
            gains = [float("nan")] * 2 if before is None else [score.si_sdr - before.si_sdr, score.sdr - before.sdr]
            figures = [score.sdr, score.sir, score.sar, score.si_sdr]
            told = f"{gains[0]:>13.2f}{gains[1]:>10.2f}{''.join(f'{value:>8.2f}' for value in figures)}"
            lines.append(f"  {name[-44:]:<44}{told}")
        adds_up = f"mixture - (target + interference) lies {-self.residual_db:.1f} dB below the mixture"
        return "\n".join([*lines, f"  {self.samples} samples at {self.sample_rate} Hz; {adds_up}"])


def score_files(
    mixture: str | Path,
    target: str | Path,
    interference: str | Path,
    estimates: Sequence[str | Path],
    *,
    or_rest: Sequence[str | Path] = (),
    scorer: str = "museval",
) -> FileScores:
    """Score separated sounds as `evaluate` does; the rest, mixture - estimate, is the estimate of the interference.

    Args:
        mixture: Sound file of the mixture; channels are averaged. All files are cut to the shortest one's length.
        target: Sound file of the true target.
        interference: Sound file of the true interference.
        estimates: Sound files of target estimates; resampled to the target's rate if theirs differs.
        or_rest: Those estimates that may also be the interference: mixture - estimate is tried too, and the better
            score counts (the papers' way with PIT, an oracle).
        scorer: `museval` or `batched`.

    Raises:
        MediaError: When a file cannot be read, or mixture or interference differ from the target in their sample rate.
    """
    read = {str(path): read_sound(path) for path in (mixture, target, interference, *estimates)}
    rate = read[str(target)].sample_rate
    for path in (mixture, interference):
        if read[str(path)].sample_rate != rate:
            raise MediaError(f"{path} is at {read[str(path)].sample_rate} Hz and {target} at {rate} Hz")
    sounds = {name: _mono(sound.samples, sound.sample_rate, rate) for name, sound in read.items()}
    samples = min(len(sound) for sound in sounds.values())
    mixed, wanted, other = (sounds[str(path)][:samples] for path in (mixture, target, interference))
    references = np.stack([wanted, other])
    found: dict[str, Score | None] = {}
    for path in estimates:
        estimate = sounds[str(path)][:samples]
        own = found[str(path)] = _score(references, estimate, mixed, scorer)
        rest = _score(references, mixed - estimate, mixed, scorer) if path in or_rest else None
        if rest is not None and (own is None or rest.sdr > own.sdr):
            found[str(path)] = replace(rest, candidate=1)
    with np.errstate(divide="ignore"):
        residual = 10 * np.log10(np.sum((mixed - wanted - other) ** 2) / max(np.sum(mixed**2), 1e-30))
    # The mixture is the estimate of both sources: twice the mixture minus the estimate is the mixture again.
    untouched = _score(references, mixed, 2 * mixed, scorer)
    return FileScores(untouched, found, float(residual), samples, rate)


def _mono(samples: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    mean = samples.mean(axis=0, dtype=np.float64)
    return mean if from_rate == to_rate else np.asarray(resample(mean, from_rate, to_rate), np.float64)


def _score(references: np.ndarray, estimate: np.ndarray, mixture: np.ndarray, scorer: str) -> Score | None:
    level = level_db(torch.from_numpy(estimate), torch.from_numpy(references[0])).item()
    if scorer == "museval":
        found = museval_scores(references, np.stack([estimate, mixture - estimate]))
        return None if found is None else Score(**found, level=level)
    values = fast_scores(torch.from_numpy(references)[None], torch.from_numpy(estimate)[None, None])
    sdr, sir, sar, si_sdr = (values[name].item() for name in ("sdr", "sir", "sar", "si_sdr"))
    score = Score(sdr, sir, sar, si_sdr, level)
    return None if np.isnan(score.sdr) else score
