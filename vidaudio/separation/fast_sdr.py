"""BSSEval v4 scores (image version, mono, one global window) in batches: museval's scores of many estimates at a time.

With mono signals and one window the image SDR needs no filters at all: distortion, interference and artifacts add up to
the plain difference of estimate and reference. SIR and SAR need one block-Toeplitz system per set of references, which
is solved once for all estimates of that set. Vincent et al., Performance measurement in blind audio source separation,
IEEE TASLP 14(4), 2006; Liutkus et al., The 2018 Signal Separation Evaluation Campaign, LVA/ICA 2018.

SDR always equals museval's. SIR and SAR do so where the references fill their band down to a noise floor, as anything
that was once int16 does. References that are band-limited down to double precision make the system singular in double
precision; there museval's own SIR and SAR depend on rounding (a few hundredths of a dB).
"""

from __future__ import annotations

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from vidaudio.separation.sdr import FILTER_TAPS, SILENCE


def image_sdr(references: Tensor, estimates: Tensor) -> Tensor:
    """Return the image SDR, 10 log10(sum s^2 / sum (s - e)^2); equals museval's for mono and one global window.

    Args:
        references: True signals s, [..., L].
        estimates: Estimates e, [..., L], broadcast against the references.

    Returns:
        dB, float64 [...]; inf where both are equal, NaN where one is silent (absolute sum at most 1e-5).
    """
    references, estimates = references.double(), estimates.double()
    ratio = _energy(references) / _energy(references - estimates)
    return torch.where(_audible(references) & _audible(estimates), 10 * ratio.log10(), torch.nan)


def scale_invariant_sdr(references: Tensor, estimates: Tensor) -> Tensor:
    """Return SI-SDR as defined in `vidaudio.separation.sdr.si_sdr`; shapes and silence are as in `image_sdr`."""
    references, estimates = references.double(), estimates.double()
    scaled = (estimates * references).sum(dim=-1, keepdim=True) / _energy(references)[..., None] * references
    ratio = _energy(scaled) / _energy(scaled - estimates)
    return torch.where(_audible(references) & _audible(estimates), 10 * ratio.log10(), torch.nan)


def fast_scores(references: Tensor, estimates: Tensor, *, taps: int = FILTER_TAPS) -> dict[str, Tensor]:
    """Return SDR, SIR, SAR and SI-SDR of estimates of the target, in float64 on the device of the tensors.

    Args:
        references: True sources of B mixtures, target first, [B, n, L].
        estimates: M estimates of each mixture's target, [B, M, L].
        taps: Length of the distortion filters, samples.

    Returns:
        `sdr`, `sir`, `sar`, `si_sdr`, float64 [B, M], in dB; NaN where a reference or the estimate is silent.

    Raises:
        ValueError: When the shapes differ from these.
    """
    if references.ndim != 3 or estimates.ndim != 3 or references.shape[::2] != estimates.shape[::2]:
        raise ValueError(
            f"references {tuple(references.shape)} and estimates {tuple(estimates.shape)} must have shapes "
            "[mixtures, sources, samples] and [mixtures, estimates, samples]."
        )
    references, estimates = references.double(), estimates.double()
    length = references.shape[-1] + taps - 1
    fft_length = next_fast_len(length, real=True)
    reference_spectra = torch.fft.rfft(references, fft_length)
    estimate_spectra = torch.fft.rfft(estimates, fft_length)

    gram = _gram(reference_spectra, fft_length, taps)
    # Inner products of every delayed reference with every estimate, [B, n, taps, M].
    products = torch.fft.irfft(reference_spectra.conj()[:, :, None] * estimate_spectra[:, None], fft_length)
    products = products[..., :taps].transpose(-1, -2)

    onto_target = _project(gram[:, :1, :, :1], products[:, :1], reference_spectra[:, :1], fft_length)[..., :length]
    onto_all = _project(gram, products, reference_spectra, fft_length)[..., :length]
    padded = torch.nn.functional.pad(estimates, (0, taps - 1))
    audible = _audible(references).all(dim=1, keepdim=True) & _audible(estimates)
    target = references[:, :1]
    scaled = (estimates * target).sum(dim=-1, keepdim=True) / _energy(target)[..., None] * target

    def decibels(numerator: Tensor, denominator: Tensor) -> Tensor:
        return torch.where(audible, 10 * (numerator / denominator).log10(), torch.nan)

    return {
        "sdr": decibels(_energy(target), _energy(target - estimates)),
        "sir": decibels(_energy(onto_target), _energy(onto_all - onto_target)),
        "sar": decibels(_energy(onto_all), _energy(padded - onto_all)),
        "si_sdr": decibels(_energy(scaled), _energy(scaled - estimates)),
    }


def _energy(signal: Tensor) -> Tensor:
    return signal.square().sum(dim=-1)


def _audible(signal: Tensor) -> Tensor:
    return signal.abs().sum(dim=-1) > SILENCE


def _gram(spectra: Tensor, fft_length: int, taps: int) -> Tensor:
    """Return products of all delayed references, [B, n, taps, n, taps]: (j, p, i, q) is <s_j(t - p), s_i(t - q)>."""
    correlation = torch.fft.irfft(spectra[:, :, None] * spectra.conj()[:, None], fft_length)
    delay = torch.arange(taps, device=spectra.device)
    lag = (delay[None, :] - delay[:, None]) % fft_length
    return correlation[..., lag].transpose(2, 3)


def _project(gram: Tensor, products: Tensor, spectra: Tensor, fft_length: int) -> Tensor:
    """Return least-squares projections of the estimates onto the delayed references, [B, M, fft_length]."""
    batch, sources, taps = gram.shape[:3]
    size = sources * taps
    # The same tiny ridge as museval's, so that references without some frequencies have the same solution.
    ridge = torch.finfo(torch.float64).eps * torch.eye(size, dtype=torch.float64, device=gram.device)
    matrix = gram.reshape(batch, size, size) + ridge
    right = products.reshape(batch, size, -1)
    filters, info = _solve(matrix, right)
    for index in info.nonzero().flatten().tolist():
        # Exactly singular: gelsd, which NumPy's lstsq uses too, returns the solution of least norm.
        filters[index] = torch.linalg.lstsq(matrix[index].cpu(), right[index].cpu(), driver="gelsd").solution
    filters = filters.reshape(batch, sources, taps, -1).transpose(-1, -2)
    filtered = torch.fft.rfft(filters, fft_length) * spectra[:, :, None]
    return torch.fft.irfft(filtered.sum(dim=1), fft_length)


def _solve(matrices: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Solve systems `[B, S, S]` for `[B, S, M]`; return the solutions and, by system, whether it is singular.

    On a CPU one system at a time: after `torch.set_num_threads`, PyTorch 2.14 with oneMKL fails at several at once
    ("Parameter 6 was incorrect on entry to DLASWP").
    """
    if matrices.device.type != "cpu":
        return torch.linalg.solve_ex(matrices, right)
    solved = [torch.linalg.solve_ex(matrix, wanted) for matrix, wanted in zip(matrices, right, strict=True)]
    return torch.stack([one.result for one in solved]), torch.stack([one.info for one in solved])
