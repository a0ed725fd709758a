"""Offset of a clip's sound against its picture, from the envelopes of motion and of onsets, and whether it has one.

The two envelopes are correlated at every lag within 2 s. A small network over those curves, the same at every lag,
reads the offset from them, and whether the clip can be synchronised at all: the task of Synchformer (Iashin et al.,
ICASSP 2024), which reads it from features of its own. It is trained on the corpus itself: on clips shifted by known
offsets, and on pictures with the sound of another source, which have none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

RATE = 25
ONSETS_A_MOTION = 4
MOST_SECONDS = 2.0
LAGS = round(MOST_SECONDS * RATE)
# Offsets are counted in classes of 0.2 s, as by Synchformer: 21 from -2 to 2 s.
CLASS_SECONDS = 0.2
# Curves are computed this far, so that a planted offset is a part of them.
WIDE_LAGS = 2 * LAGS
# Two envelopes with less than this in common say nothing at a lag.
LEAST_OVERLAP = RATE
CURVES = 4
# A peak stands out from this correlation on, where no other reaches this share of it.
LEAST_PEAK, MOST_BESIDE = 0.68, 0.85
_TINY = 1e-6


@dataclass(frozen=True)
class Timing:
    """Timing of a clip.

    Attributes:
        offset_seconds: How much later the sound is than the picture, -2 to 2 s.
        offset_confidence: Probability that the offset is right within one class of 0.2 s, 0 to 1.
        can_synchronise: Probability that picture and sound have common events at all, 0 to 1.
        in_sync: Probability that they have, and that the offset is 0 within one class, 0 to 1.
    """

    offset_seconds: float
    offset_confidence: float
    can_synchronise: float
    in_sync: float


def envelopes_at_one_rate(motion: np.ndarray, onsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both envelopes at 25 Hz and of one length, compressed against their own medians, float64 `[times]`.

    Args:
        motion: Motion envelope at 25 Hz.
        onsets: Onset envelope at 100 Hz.
    """
    times = min(len(motion), len(onsets) // ONSETS_A_MOTION)
    heard = onsets[: times * ONSETS_A_MOTION].astype(np.float64).reshape(times, ONSETS_A_MOTION).max(axis=1)
    return _compressed(motion[:times].astype(np.float64)), _compressed(heard)


def _compressed(envelope: np.ndarray) -> np.ndarray:
    middle = float(np.median(envelope)) if len(envelope) else 0.0
    return np.log1p(envelope / (middle + 0.05 * float(envelope.max(initial=0.0)) + _TINY))


def lag_curves(motion: np.ndarray, onsets: np.ndarray, lags: int = WIDE_LAGS) -> np.ndarray:
    """Return the correlation of two envelopes at every lag, float32 `[4, 2 lags + 1]`, 0 where they hardly overlap.

    The four are of motion and its rises, each against onsets and their rises; at lag k the sound is k / 25 s late.

    Args:
        motion: From `envelopes_at_one_rate`.
        onsets: From `envelopes_at_one_rate`.
        lags: Largest lag, in 25ths of a second.
    """
    seen, heard = ((_smooth(x), np.maximum(np.diff(_smooth(x), prepend=x[:1]), 0)) for x in (motion, onsets))
    return np.stack([_correlation(a, b, lags) for a in seen for b in heard]).astype(np.float32)


def _smooth(envelope: np.ndarray) -> np.ndarray:
    return np.convolve(envelope, (0.25, 0.5, 0.25), "same") if len(envelope) else envelope


def _correlation(a: np.ndarray, b: np.ndarray, lags: int) -> np.ndarray:
    """Return the correlation coefficient of a(t) and b(t + lag) over their overlap, for -lags .. lags."""
    times, lag = len(a), np.arange(-lags, lags + 1)
    overlap = times - np.abs(lag)
    usable = overlap >= LEAST_OVERLAP
    result = np.zeros(len(lag))
    if not usable.any():
        return result
    lag, overlap = lag[usable], overlap[usable]
    products = np.correlate(b, a, "full")[lag + times - 1]
    of_a, of_b = np.maximum(0, -lag), np.maximum(0, lag)
    sums_a, sums_b, squares_a, squares_b = (
        np.concatenate([[0.0], np.cumsum(x)])[first + overlap] - np.concatenate([[0.0], np.cumsum(x)])[first]
        for x, first in ((a, of_a), (b, of_b), (a * a, of_a), (b * b, of_b))
    )
    spread = np.sqrt(np.maximum(squares_a - sums_a**2 / overlap, 0) * np.maximum(squares_b - sums_b**2 / overlap, 0))
    shared = products - sums_a * sums_b / overlap
    result[usable] = np.where(spread > _TINY, shared / np.maximum(spread, _TINY), 0.0)
    return result


def shifted_onsets(onsets: np.ndarray, seconds: float) -> np.ndarray:
    """Return an onset envelope whose sound is this much later, negative for earlier; what is missing is its median."""
    times = round(seconds * RATE * ONSETS_A_MOTION)
    filling = np.full(min(abs(times), len(onsets)), np.median(onsets) if len(onsets) else 0.0, onsets.dtype)
    kept = onsets[: max(0, len(onsets) - times)] if times >= 0 else onsets[-times:]
    return np.concatenate([filling, kept] if times >= 0 else [kept, filling])


class TimingHead(nn.Module):
    """Reads lag curves: `[B, 4, lags]` to log-probabilities of every lag and of none, `[B, lags + 1]`."""

    def __init__(self, width: int = 16, kernel: int = 7):
        super().__init__()
        self.lags = nn.Sequential(
            nn.Conv1d(CURVES, width, kernel, padding=kernel // 2),
            nn.ReLU(),
            nn.Conv1d(width, width, kernel, padding=kernel // 2),
            nn.ReLU(),
            nn.Conv1d(width, width, kernel, padding=kernel // 2),
            nn.ReLU(),
        )
        self.lag = nn.Conv1d(width, 1, 1)
        self.none = nn.Linear(2 * width + 2 * CURVES, 1)

    def forward(self, curves: Tensor) -> Tensor:
        """Return log-probabilities `[B, lags + 1]`; the last is that there is no offset."""
        hidden = self.lags(curves)
        pooled = [hidden.mean(-1), hidden.amax(-1), curves.amax(-1), curves.std(-1)]
        none = self.none(torch.cat(pooled, dim=1))
        return functional.log_softmax(torch.cat([self.lag(hidden)[:, 0], none], dim=1), dim=1)


@torch.inference_mode()
def measure_timing(head: TimingHead, motion: np.ndarray, onsets: np.ndarray) -> Timing:
    """Return the timing of a clip.

    Args:
        head: Trained on clips of other sources.
        motion: Motion envelope at 25 Hz.
        onsets: Onset envelope at 100 Hz.
    """
    curves = lag_curves(*envelopes_at_one_rate(motion, onsets), LAGS)
    read = read_timing(head(torch.from_numpy(curves)[None])[0].exp().numpy().astype(np.float64))
    peak = sharp_peak(curves)
    return read if peak is None else replace(read, offset_seconds=peak)


def sharp_peak(curves: np.ndarray) -> float | None:
    """Return the lag at which rises of the picture meet the sound, seconds; None where no peak stands out.

    A head knows how late the corpus's sounds usually are against what moves. A peak that stands out needs no such
    knowledge, and tells the offset to a part of a frame.

    Args:
        curves: From `lag_curves` `[4, 2 LAGS + 1]`.
    """
    of_rises = curves[2:].mean(axis=0)
    middle = int(np.argmax(of_rises))
    near = round(CLASS_SECONDS * RATE)
    others = np.concatenate([of_rises[: max(0, middle - near)], of_rises[middle + near + 1 :]])
    if of_rises[middle] < LEAST_PEAK or others.max(initial=0.0) > MOST_BESIDE * of_rises[middle]:
        return None
    before, peak, after = np.pad(of_rises, 1, mode="edge")[middle : middle + 3]
    bend = before - 2 * peak + after
    return float(middle + (0.5 * (before - after) / bend if bend < 0 else 0.0) - LAGS) / RATE


def read_timing(probabilities: np.ndarray) -> Timing:
    """Return what the head's probabilities `[lags + 1]` say.

    The offset is the likeliest lag, of three together, among those within one class of the most probability. Their mean
    would lie between two events where the head hesitates between them.
    """
    of_lags, none = probabilities[:-1], float(probabilities[-1])
    near = round(CLASS_SECONDS * RATE)
    around = np.convolve(of_lags, np.ones(2 * near + 1), "same")
    middle = int(np.argmax(around))
    window = slice(max(0, middle - near), middle + near + 1)
    likeliest = window.start + int(np.argmax(np.convolve(of_lags, np.ones(3), "same")[window]))
    offset = (likeliest - LAGS) / RATE
    return Timing(offset, float(min(1.0, around[middle])), 1.0 - none, float(min(1.0, around[LAGS])))


@dataclass(frozen=True)
class TimingSettings:
    """How a head is trained.

    Attributes:
        steps: Optimiser steps.
        batch_size: Clips a step; as many have another source's sound.
        learning_rate: Highest one; AdamW, cosine to zero.
        spread_seconds: Standard deviation of the target around the planted offset.
        seed: Of the weights and of all draws.
    """

    steps: int = 800
    batch_size: int = 64
    learning_rate: float = 3e-3
    spread_seconds: float = 0.04
    seed: int = 0


def train_timing(
    own: np.ndarray,
    swapped: np.ndarray,
    settings: TimingSettings | None = None,
    advance: Callable[[int], object] = lambda steps: None,
) -> TimingHead:
    """Train a head on wide lag curves.

    Args:
        own: Curves of clips as they are, `[N, 4, 2 WIDE_LAGS + 1]`.
        swapped: Curves of pictures with the sound of another source `[M, 4, 2 WIDE_LAGS + 1]`.
        settings: How.
        advance: Called with the number of steps just made.
    """
    settings = settings or TimingSettings()
    torch.manual_seed(settings.seed)
    generator = np.random.default_rng(settings.seed)
    head = TimingHead()
    optimiser = torch.optim.AdamW(head.parameters(), settings.learning_rate, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    lags = torch.arange(-LAGS, LAGS + 1) / RATE
    for _ in range(settings.steps):
        rows = generator.integers(0, len(own), settings.batch_size)
        others = generator.integers(0, len(swapped), settings.batch_size)
        planted = generator.integers(-LAGS, LAGS + 1, settings.batch_size)
        curves = np.stack([_shifted(own[r], lag) for r, lag in zip(rows, planted, strict=True)])
        none = np.stack(
            [_shifted(swapped[r], lag) for r, lag in zip(others, generator.permutation(planted), strict=True)]
        )
        of_lags = torch.exp(
            -((lags - torch.from_numpy(planted)[:, None] / RATE) ** 2) / (2 * settings.spread_seconds**2)
        )
        wanted = torch.zeros(2 * settings.batch_size, 2 * LAGS + 2)
        wanted[: settings.batch_size, :-1] = of_lags / of_lags.sum(dim=1, keepdim=True)
        wanted[settings.batch_size :, -1] = 1
        optimiser.zero_grad(set_to_none=True)
        said = head(torch.from_numpy(np.concatenate([curves, none])))
        (-(wanted * said).sum(dim=1).mean()).backward()
        optimiser.step()
        schedule.step()
        advance(1)
    return head.eval()


def _shifted(wide: np.ndarray, lag: int) -> np.ndarray:
    """Return the curves of a clip whose sound is put `lag` later, `[4, 2 LAGS + 1]`."""
    first = WIDE_LAGS - LAGS - lag
    return wide[:, first : first + 2 * LAGS + 1]
