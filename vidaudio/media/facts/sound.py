"""Facts of a clip's sound, measured from the samples that a corpus keeps: level, silence, clipping, bandwidth, onsets.

Nothing is dropped by them; a selection may.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.fft import rfft
from scipy.signal import sosfilt

FULL_SCALE = 32768.0
# Level of a sound without a block above `GATE_LUFS`: BS.1770 does not define one.
NO_LOUDNESS_LUFS = -70.0
GATE_LUFS = -70.0
RELATIVE_GATE_LU = -10.0
BLOCK_SECONDS, BLOCKS_PER_SECOND = 0.4, 10
# Silent: below this level for over 90 % of the time (Sphere360).
SILENCE_DBFS = -35.0
# Fewer samples in a row at full scale may be a peak that was recorded as it is.
CLIPPED_SAMPLES = 3
ROLL_OFF = 0.99
ONSET_RATE = 100
# Short enough to place an onset within 10 ms; bins of about 63 Hz at 16 kHz.
WINDOW_SECONDS = 0.016
# Compression of the magnitudes: what lies 80 dB below full scale hardly counts.
ONSET_GAIN = 1e4


@dataclass(frozen=True, slots=True)
class SoundFacts:
    """Facts of the sound of a clip.

    Attributes:
        loudness_lufs: Integrated loudness of the mono sound, LUFS (ITU-R BS.1770-4); `NO_LOUDNESS_LUFS` at least.
        silent_share: Share of windows of 50 ms whose level is below -35 dBFS, 0 to 1.
        clipped_share: Share of samples in runs of at least 3 at full scale, 0 to 1.
        bandwidth_hz: Frequency below which 99 % of the energy lies, Hz; 0 for digital silence.
        onsets: Onset envelope, float32 `[times]`, 100 values a second from the clip's start: mean rise of the
            compressed magnitude spectrum against 10 ms before (spectral flux); 0 before the sound begins.
    """

    loudness_lufs: float
    silent_share: float
    clipped_share: float
    bandwidth_hz: float
    onsets: np.ndarray


def measure_sound(samples: np.ndarray, sample_rate: int, start_seconds: float = 0.0) -> SoundFacts:
    """Measure the sound of a clip.

    Args:
        samples: Mono sound, int16 `[samples]`, at least one.
        sample_rate: Hz.
        start_seconds: Time of the first sample on the clip's clock.
    """
    spectra = _Spectra(samples, sample_rate)
    return SoundFacts(
        loudness_lufs=integrated_loudness(samples, sample_rate),
        silent_share=silent_share(samples, sample_rate),
        clipped_share=clipped_share(samples),
        bandwidth_hz=spectra.roll_off(),
        onsets=np.concatenate([np.zeros(round(start_seconds * ONSET_RATE), np.float32), spectra.onsets]),
    )


def integrated_loudness(samples: np.ndarray, sample_rate: int) -> float:
    """Return the integrated loudness of a mono sound, LUFS (ITU-R BS.1770-4: K weighting, blocks of 400 ms, two gates).

    Args:
        samples: int16 `[samples]`. A sound shorter than a block is one block.
        sample_rate: Hz.
    """
    step = sample_rate // BLOCKS_PER_SECOND
    # Single precision: the test against FFmpeg's meter holds it to a tenth of a LU.
    filters, sums, total = k_weighting(sample_rate).astype(np.float32), [], 0.0
    state = np.zeros((len(filters), 2), np.float32)
    for piece in _pieces(samples, sample_rate):
        weighted, state = sosfilt(filters, piece, zi=state)
        whole = len(weighted) // step * step
        steps = weighted[:whole].reshape(-1, step)
        sums.append(np.einsum("st,st->s", steps, steps))
        total += float(weighted @ weighted)
    of_steps, parts = np.concatenate(sums), round(BLOCK_SECONDS * BLOCKS_PER_SECOND)
    if len(of_steps) < parts:
        blocks = np.array([total / len(samples)])
    else:
        blocks = np.convolve(of_steps, np.ones(parts), "valid") / (parts * step)
    heard = blocks[blocks > _power_of(GATE_LUFS)]
    if not len(heard):
        return NO_LOUDNESS_LUFS
    heard = heard[heard > _power_of(_loudness_of(float(heard.mean())) + RELATIVE_GATE_LU)]
    return max(NO_LOUDNESS_LUFS, _loudness_of(float(heard.mean())))


def _pieces(samples: np.ndarray, sample_rate: int) -> Iterator[np.ndarray]:
    """Yield a sound in pieces of a second, float32, full scale 1.

    Arrays of a whole clip would be fresh memory each time, which costs more than the arithmetic on them.
    """
    length = sample_rate // BLOCKS_PER_SECOND * BLOCKS_PER_SECOND
    for first in range(0, len(samples), length):
        yield samples[first : first + length].astype(np.float32) / np.float32(FULL_SCALE)


@functools.lru_cache(maxsize=8)
def k_weighting(sample_rate: int) -> np.ndarray:
    """Return BS.1770's two filters at a sample rate, as second-order sections `[2, 6]`.

    The recommendation gives coefficients for 48 kHz. At other rates these are the same analogue filters, a shelf and a
    high pass, through the bilinear transform.
    """
    shelf = _shelf(sample_rate, hertz=1681.974450955533, gain_db=3.999843853973347, quality=0.7071752369554196)
    return np.array([shelf, _high_pass(sample_rate, hertz=38.13547087602444, quality=0.5003270373238773)])


def _shelf(sample_rate: int, hertz: float, gain_db: float, quality: float) -> list[float]:
    k = math.tan(math.pi * hertz / sample_rate)
    high = 10 ** (gain_db / 20)
    middle = high**0.4996667741545416
    a0 = 1 + k / quality + k * k
    numerator = (high + middle * k / quality + k * k, 2 * (k * k - high), high - middle * k / quality + k * k)
    return [*(b / a0 for b in numerator), 1.0, 2 * (k * k - 1) / a0, (1 - k / quality + k * k) / a0]


def _high_pass(sample_rate: int, hertz: float, quality: float) -> list[float]:
    k = math.tan(math.pi * hertz / sample_rate)
    a0 = 1 + k / quality + k * k
    return [1.0, -2.0, 1.0, 1.0, 2 * (k * k - 1) / a0, (1 - k / quality + k * k) / a0]


def _loudness_of(power: float) -> float:
    return -0.691 + 10 * math.log10(power)


def _power_of(loudness: float) -> float:
    return 10 ** ((loudness + 0.691) / 10)


def silent_share(samples: np.ndarray, sample_rate: int) -> float:
    """Return the share of windows of 50 ms below -35 dBFS, 0 to 1; a sound shorter than a window is one window."""
    length = min(len(samples), sample_rate // BLOCKS_PER_SECOND // 2)
    silent = windows = 0
    for piece in _pieces(samples, sample_rate):
        cut = piece[: len(piece) // length * length].reshape(-1, length)
        silent += int(np.count_nonzero(np.einsum("wt,wt->w", cut, cut) < length * 10 ** (SILENCE_DBFS / 10)))
        windows += len(cut)
    return silent / windows


def clipped_share(samples: np.ndarray) -> float:
    """Return the share of int16 samples in runs of at least 3 at full scale of either sign, 0 to 1."""
    reached = ((32767, samples.max()), (-32768, samples.min()))
    clipped = sum(_in_runs(samples == full, CLIPPED_SAMPLES) for full, furthest in reached if furthest == full)
    return float(clipped / len(samples))


def _in_runs(marked: np.ndarray, least: int) -> int:
    """Return how many marked values lie in runs of at least this length."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], marked.view(np.int8), [0]])))
    lengths = edges[1::2] - edges[::2]
    return int(lengths[lengths >= least].sum())


class _Spectra:
    """Magnitude spectra centred at every hundredth of a second of a sound, a sine at full scale about 1.

    Attributes:
        onsets: Mean rise of the compressed spectrum from each time to the next, float32 `[times]`.
    """

    def __init__(self, samples: np.ndarray, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        size = 2 * round(WINDOW_SECONDS * sample_rate / 2)
        self._energy = np.zeros(size // 2 + 1)
        starts = np.round(np.arange(math.ceil(len(samples) * ONSET_RATE / sample_rate)) * (sample_rate / ONSET_RATE))
        rises: list[np.ndarray] = []
        last: np.ndarray | None = None
        for some in np.array_split(starts.astype(np.int64), math.ceil(len(starts) / ONSET_RATE)):
            magnitudes = np.abs(rfft(_frames(samples, some - size // 2, size) * _window(size)))
            self._energy += np.einsum("tb,tb->b", magnitudes, magnitudes, dtype=np.float64)
            compressed = np.log1p(np.float32(ONSET_GAIN) * magnitudes)
            before = np.concatenate([compressed[:1] if last is None else last, compressed[:-1]])
            rises.append(np.maximum(compressed - before, 0).mean(axis=1))
            last = compressed[-1:]
        self.onsets = np.concatenate(rises).astype(np.float32, copy=False)

    def roll_off(self) -> float:
        """Return the frequency below which 99 % of the energy lies, Hz; 0 for digital silence."""
        energy = np.cumsum(self._energy)
        if energy[-1] == 0:
            return 0.0
        reached = int(np.searchsorted(energy, ROLL_OFF * energy[-1]))
        return reached * self._sample_rate / 2 / (len(energy) - 1)


def _frames(samples: np.ndarray, starts: np.ndarray, size: int) -> np.ndarray:
    """Return frames of a sound, float32 `[frames, size]`, full scale 1; zero outside of the sound."""
    first, last = int(starts[0]), int(starts[-1]) + size
    piece = samples[max(0, first) : last].astype(np.float32) / np.float32(FULL_SCALE)
    piece = np.pad(piece, (max(0, -first), max(0, last - max(0, first) - len(piece))))
    return np.lib.stride_tricks.sliding_window_view(piece, size)[starts - first]


@functools.lru_cache(maxsize=8)
def _window(size: int) -> np.ndarray:
    window = np.hanning(size + 1)[:-1]
    return (window / (window.sum() / 2)).astype(np.float32)
