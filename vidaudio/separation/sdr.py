"""BSSEval v4 scores of the separated target, computed by museval as in CLIPSep's evaluation.

One global window, 512-tap filters, the image version, no permutation; only source 0, the target, is kept. museval's
metrics module is loaded by itself: its package imports a dataset reader that refuses to load where FFmpeg is not
installed.
"""

from __future__ import annotations

import importlib.util
import math
import statistics
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType

import numpy as np

SILENCE = 1e-5
FILTER_TAPS = 512


def is_scorable(references: np.ndarray, estimates: np.ndarray) -> bool:
    """Return whether all signals have an absolute sum above 1e-5; CLIPSep's evaluation skips other items."""
    return bool((np.abs(references).sum(axis=-1) > SILENCE).all() and (np.abs(estimates).sum(axis=-1) > SILENCE).all())


def si_sdr(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Return scale-invariant SDR: 10 log10 |a s|^2 / |a s - e|^2, a = <e, s> / |s|^2 (Le Roux et al., ICASSP 2019).

    Args:
        reference: True signal s, float64 [L], not silent. Its mean is not subtracted.
        estimate: Estimate e, float64 [L]. Its mean is not subtracted.

    Returns:
        dB; -inf where the estimate contains nothing of the reference, inf where it contains nothing else.
    """
    scaled = np.dot(estimate, reference) / np.dot(reference, reference) * reference
    with np.errstate(divide="ignore"):
        return float(10 * (np.log10(np.sum(scaled**2)) - np.log10(np.sum((scaled - estimate) ** 2))))


def museval_scores(references: np.ndarray, estimates: np.ndarray) -> dict[str, float] | None:
    """Return SDR, SIR and SAR of the target by museval, and its SI-SDR.

    Args:
        references: True sources, target first, [n, L].
        estimates: Their estimates in the same order, [n, L]; for one query of two sources, the second estimate comes
            from the complement of the mask.

    Returns:
        `sdr`, `sir`, `sar`, `si_sdr` in dB, or None where a signal is silent (see `is_scorable`).

    Raises:
        ValueError: When the shapes differ or are not [n, L].
    """
    references = np.asarray(references, dtype=np.float64)
    estimates = np.asarray(estimates, dtype=np.float64)
    if references.ndim != 2 or references.shape != estimates.shape:
        raise ValueError(
            f"references {references.shape} and estimates {estimates.shape} must both have shape [sources, samples]."
        )
    if not is_scorable(references, estimates):
        return None
    # museval multiplies the frame index 0 by the infinite hop: silence NumPy's warning, in this thread only.
    with np.errstate(all="ignore"):
        sdr, _, sir, sar, _ = _museval_metrics().bss_eval(
            references[..., None],
            estimates[..., None],
            window=np.inf,
            hop=np.inf,
            compute_permutation=False,
            filters_len=FILTER_TAPS,
            framewise_filters=False,
            bsseval_sources_version=False,
        )
    return {
        "sdr": float(sdr[0, 0]),
        "sir": float(sir[0, 0]),
        "sar": float(sar[0, 0]),
        "si_sdr": si_sdr(references[0], estimates[0]),
    }


def mixture_scores(references: np.ndarray, mixture: np.ndarray) -> dict[str, float] | None:
    """Return the scores without any separation: the mixture [L] is the estimate of each of the references [n, L]."""
    return museval_scores(references, np.broadcast_to(mixture, np.shape(references)))


@dataclass(frozen=True, slots=True)
class Summary:
    """Mean, its standard error (ddof 1), median and count of scores; NaN where there are too few scores."""

    mean: float
    standard_error: float
    median: float
    count: int


def summarise(values: Iterable[float]) -> Summary:
    """Return the summary of scores in dB, as in the paper's tables."""
    scores = [float(value) for value in values]
    if not scores:
        return Summary(mean=math.nan, standard_error=math.nan, median=math.nan, count=0)
    with np.errstate(invalid="ignore"):
        # Infinite scores, such as the SAR of the mixture itself, have no deviation.
        error = float(np.std(scores, ddof=1)) / math.sqrt(len(scores)) if len(scores) > 1 else math.nan
    return Summary(float(np.mean(scores)), error, statistics.median(scores), len(scores))


def _museval_metrics() -> ModuleType:
    name = "museval.metrics"
    if name in sys.modules:
        return sys.modules[name]
    package = importlib.util.find_spec("museval")
    if package is None or not package.submodule_search_locations:
        raise ImportError("museval is not installed: pip install museval")
    alias = "vidaudio._museval_metrics"
    if alias not in sys.modules:
        path = f"{package.submodule_search_locations[0]}/metrics.py"
        spec = importlib.util.spec_from_file_location(alias, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        sys.modules[alias] = module
    return sys.modules[alias]
