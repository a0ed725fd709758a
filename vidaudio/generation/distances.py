"""Distances between a sound and its copy through a vocoder: in the mel, and in short-time spectra of several sizes.

Both compare sample by sample in time, so they judge a reconstruction, not a new sound. Batched, on the sounds' device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidaudio.generation.mel import MelFrontEnd

# Samples of the transform, of the hop and of the window (Yamamoto et al., ICASSP 2020, table 1).
RESOLUTIONS = ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240))
# Least power of a bin: silence has a finite logarithm.
POWER_FLOOR = 1e-7


def mel_distance(audio: Tensor, reference: Tensor, front_end: MelFrontEnd) -> Tensor:
    """Return the mean absolute difference of logarithms of mel bands of each pair, natural logarithm, float32 `[B]`.

    Args:
        audio: Sounds in [-1, 1], `[B, samples]`.
        reference: Sounds that they are copies of, `[B, samples]`.
        front_end: Front end of the mels.
    """
    return (front_end.log_mel(audio) - front_end.log_mel(reference)).abs().mean(dim=(1, 2))


def stft_distance(
    audio: Tensor, reference: Tensor, resolutions: tuple[tuple[int, int, int], ...] = RESOLUTIONS
) -> Tensor:
    """Return the multi-resolution STFT distance of each pair, float32 `[B]`.

    It is the mean over the resolutions of spectral convergence, |R - A| / |R| in the Frobenius norm of magnitudes, and
    the mean absolute difference of log magnitudes (Yamamoto et al., ICASSP 2020, equations 4 to 6).

    Args:
        audio: Sounds in [-1, 1], `[B, samples]`.
        reference: Sounds that they are copies of, `[B, samples]`.
        resolutions: Samples of transform, hop and Hann window of each.
    """
    found = []
    for n_fft, hop, length in resolutions:
        window = torch.hann_window(length, device=audio.device)
        made, real = (_magnitudes(sound, n_fft, hop, window) for sound in (audio, reference))
        convergence = (real - made).norm(dim=(1, 2)) / real.norm(dim=(1, 2))
        found.append(convergence + (real.log() - made.log()).abs().mean(dim=(1, 2)))
    return torch.stack(found).mean(0)


def _magnitudes(audio: Tensor, n_fft: int, hop: int, window: Tensor) -> Tensor:
    spectrum = torch.stft(audio.float(), n_fft, hop, window.numel(), window, return_complex=True)
    return (spectrum.real.square() + spectrum.imag.square()).clamp_min(POWER_FLOOR).sqrt()
