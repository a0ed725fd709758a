"""Sounds of the demo world: a rhythm drawn from a seed, and the waveform that follows it.

Six of the eight kinds draw their pitch from one octave and share one balance of harmonics, so that no fixed equaliser
can tell them apart: what identifies a kind is how its sound moves in time. The ball's pitches are lower,
but its harmonics reach into the same octave. The tap's are higher: only its lowest drops begin in that octave, and all
glide upwards. Sound and picture follow the same `Performance` (score), which keeps them in step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Waveform = NDArray[np.float32]

SAMPLE_RATE = 44_100

SHARED_OCTAVE_HZ = (500.0, 1000.0)
"""Range from which six of the kinds draw their pitch."""

COMMON_RMS = 0.045
"""Root mean square of an instance at level 0 dB: low enough that the sparsest kind does not clip 6 dB above it."""

LEVEL_RANGE_DB = 5.0
"""Largest deviation of an instance's level from the common level, in dB."""

HARMONICS = (1.0, 0.45, 0.22)
"""Amplitudes of the first harmonics, the same for every kind but the tap."""

_ROOM_NOISE = 0.003  # relative to the sound's RMS (-50 dB): a recording is never digitally silent between two sounds
_SILENCE = 1e-4


@dataclass(frozen=True, slots=True)
class Performance:
    """Score of one instance; its sound and its picture both follow it.

    Attributes:
        duration: Duration in seconds.
        pitch: Fundamental in Hz; the resting pitch if it moves.
        onsets: Start of each event in seconds, increasing.
        lengths: Duration of each event in seconds; the decay time for events that ring out.
        notes: Fundamental of each event in Hz.
        rate: Frequency of a periodic motion (a wail, a wobble) in Hz; 0 for none.
        depth: Extent of that motion in octaves.
        phase: Phase of that motion at t = 0, in radians.
        level: Level in dB relative to the world's common level.
    """

    duration: float
    pitch: float
    onsets: tuple[float, ...]
    lengths: tuple[float, ...]
    notes: tuple[float, ...]
    rate: float
    depth: float
    phase: float
    level: float

    def since(self, seconds: float) -> float:
        """Return the seconds from the last event's start to time `seconds`; infinite before the first event."""
        index = int(np.searchsorted(self.onsets, seconds, side="right")) - 1
        return seconds - self.onsets[index] if index >= 0 else float("inf")

    def swing(self, seconds: float) -> float:
        """Return the periodic motion at time `seconds`, between -1 and 1."""
        return float(np.sin(2 * np.pi * self.rate * seconds + self.phase))


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _performance(
    rng: np.random.Generator,
    duration: float,
    pitch: float,
    onsets: list[float] | None = None,
    lengths: list[float] | None = None,
    notes: list[float] | None = None,
    *,
    rate: float = 0.0,
    depth: float = 0.0,
) -> Performance:
    onsets = onsets if onsets is not None else [0.0]
    lengths = lengths if lengths is not None else [duration] * len(onsets)
    notes = notes if notes is not None else [pitch] * len(onsets)
    return Performance(
        duration=duration,
        pitch=pitch,
        onsets=tuple(onsets),
        lengths=tuple(lengths),
        notes=tuple(notes),
        rate=rate,
        depth=depth,
        phase=float(rng.uniform(0, 2 * np.pi)),
        level=float(rng.uniform(-LEVEL_RANGE_DB, LEVEL_RANGE_DB)),
    )


def _regular_onsets(rng: np.random.Generator, duration: float, period: float, jitter: float) -> list[float]:
    """Draw onsets a period apart, each moved by up to `jitter` periods, the first within the first period."""
    grid = np.arange(rng.uniform(0.05, 1.0) * period, duration - 0.05, period)
    return [float(t) for t in grid + rng.uniform(-jitter, jitter, grid.shape) * period if t > 0]


# --- scores: how each kind draws its rhythm -------------------------------------------------------------------------


def perform_bell(rng: np.random.Generator, duration: float) -> Performance:
    """Draw the score of a bell: slow strikes that ring out for a second."""
    onsets = _regular_onsets(rng, duration, rng.uniform(0.9, 1.5), 0.03)
    ring = float(rng.uniform(0.4, 0.65))
    return _performance(rng, duration, _log_uniform(rng, *SHARED_OCTAVE_HZ), onsets, [ring] * len(onsets))


def perform_siren(rng: np.random.Generator, duration: float) -> Performance:
    """Draw the score of a siren: a wail that glides up and down without a break."""
    pitch = _log_uniform(rng, *SHARED_OCTAVE_HZ)
    return _performance(rng, duration, pitch, rate=float(rng.uniform(0.4, 0.7)), depth=float(rng.uniform(0.2, 0.3)))


def perform_bee(rng: np.random.Generator, duration: float) -> Performance:
    """Draw the score of a bee: an unbroken buzz with a fast wobble of pitch."""
    pitch = _log_uniform(rng, *SHARED_OCTAVE_HZ)
    return _performance(rng, duration, pitch, rate=float(rng.uniform(4.0, 6.0)), depth=float(rng.uniform(0.1, 0.15)))


def perform_woodpecker(rng: np.random.Generator, duration: float) -> Performance:
    """Draw the score of a woodpecker: rolls of fast dry knocks, with a rest after each roll."""
    knock_period = float(rng.uniform(0.12, 0.16))
    onsets: list[float] = []
    start = float(rng.uniform(0.0, 0.4))
    while start < duration - 0.1:
        knocks = int(rng.integers(5, 10))
        onsets += [start + k * knock_period for k in range(knocks)]
        start += knocks * knock_period + float(rng.uniform(0.3, 0.6))
    onsets = [t for t in onsets if t < duration - 0.05]
    return _performance(rng, duration, _log_uniform(rng, *SHARED_OCTAVE_HZ), onsets, [0.022] * len(onsets))


def perform_guitar(rng: np.random.Generator, duration: float) -> Performance:
    """Draw the score of a guitar: plucked notes of the octave, each with another pitch than the one before."""
    period = float(rng.uniform(0.32, 0.45))
    onsets = _regular_onsets(rng, duration, period, 0.02)
    lowest = SHARED_OCTAVE_HZ[0] * 2 ** float(rng.uniform(0, 2 / 12))
    scale = np.array([0, 2, 4, 7, 9])
    steps: list[int] = []
    for _ in onsets:
        choices = [s for s in range(len(scale)) if not steps or s != steps[-1]]
        steps.append(int(rng.choice(choices)))
    notes = [lowest * 2 ** (float(scale[s]) / 12) for s in steps]
    ring = float(rng.uniform(0.12, 0.18))
    pitch = float(np.median(notes)) if notes else lowest
    return _performance(rng, duration, pitch, onsets, [ring] * len(onsets), notes)


def perform_horn(rng: np.random.Generator, duration: float) -> Performance:
    """Draw the score of a horn: honks of one pitch that start and stop abruptly, each an arch: up, held, down."""
    onsets, lengths = [], []
    start = float(rng.uniform(0.0, 0.5))
    length, rest = float(rng.uniform(0.4, 0.7)), float(rng.uniform(0.25, 0.45))
    while start < duration - 0.1:
        onsets.append(start)
        lengths.append(min(length * float(rng.uniform(0.85, 1.15)), duration - start))
        start += lengths[-1] + rest * float(rng.uniform(0.85, 1.15))
    return _performance(rng, duration, _log_uniform(rng, *SHARED_OCTAVE_HZ), onsets, lengths)


def perform_ball(rng: np.random.Generator, duration: float) -> Performance:
    """Draw the score of a ball: bounces that come closer and closer together, then a new throw."""
    onsets: list[float] = []
    time = float(rng.uniform(0.05, 0.5))
    while time < duration - 0.05:
        gap = float(rng.uniform(0.62, 0.8))
        for _ in range(int(rng.integers(5, 8))):
            onsets.append(time)
            time += gap
            gap *= 0.8
        time += 0.25
    onsets = [t for t in onsets if t < duration - 0.05]
    return _performance(rng, duration, _log_uniform(rng, 170.0, 340.0), onsets, [0.07] * len(onsets))


def perform_tap(rng: np.random.Generator, duration: float) -> Performance:
    """Draw the score of a tap: single drops, each a short upward chirp, unevenly spaced."""
    onsets: list[float] = []
    time = float(rng.uniform(0.05, 0.4))
    period = float(rng.uniform(0.35, 0.6))
    while time < duration - 0.1:
        onsets.append(time)
        time += period * float(rng.uniform(0.75, 1.25))
    return _performance(rng, duration, _log_uniform(rng, 900.0, 1500.0), onsets, [0.05] * len(onsets))


# --- sounds: how each kind turns its score into a waveform ----------------------------------------------------------


def _tone(frequency: NDArray[np.float64], sample_rate: int, harmonics: tuple[float, ...] = HARMONICS) -> NDArray:
    """Return a tone with harmonics; its fundamental, in Hz at every sample, may move."""
    phase = 2 * np.pi * np.cumsum(frequency) / sample_rate
    # sin(kx) from sin and cos of x (Chebyshev): one pair of transcendental passes instead of one per harmonic.
    sine, twice_cosine = np.sin(phase), 2 * np.cos(phase)
    previous, current = np.zeros_like(sine), sine
    out = harmonics[0] * current
    for amplitude in harmonics[1:]:
        previous, current = current, twice_cosine * current - previous
        out = out + amplitude * current
    return out


def _struck(
    performance: Performance,
    sample_rate: int,
    glide: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None,
    harmonics: tuple[float, ...] = HARMONICS,
) -> NDArray:
    """Return the sum of events that ring out exponentially; `glide` maps seconds since onset to a pitch factor."""
    out = np.zeros(round(performance.duration * sample_rate))
    for onset, decay, note in zip(performance.onsets, performance.lengths, performance.notes, strict=True):
        first = max(0, round(onset * sample_rate))
        count = min(len(out) - first, round(7 * decay * sample_rate))
        if count <= 0:
            continue
        time = np.arange(count) / sample_rate
        factor = glide(time) if glide is not None else np.ones(count)
        attack = np.minimum(1.0, time / 0.003)  # 3 ms: without it, every onset would be a click at all frequencies
        out[first : first + count] += attack * np.exp(-time / decay) * _tone(note * factor, sample_rate, harmonics)
    return out


def sound_bell(performance: Performance, sample_rate: int) -> NDArray:
    """Return the raw waveform of the bell's strikes."""
    # The higher a bell's partial, the faster it decays.
    out = np.zeros(round(performance.duration * sample_rate))
    for number, amplitude in enumerate(HARMONICS, start=1):
        partial = replace(
            performance,
            lengths=tuple(decay / number for decay in performance.lengths),
            notes=tuple(note * number for note in performance.notes),
        )
        out += _struck(partial, sample_rate, harmonics=(amplitude,))
    return out


def sound_woodpecker(performance: Performance, sample_rate: int) -> NDArray:
    """Return the raw waveform of the woodpecker's knocks."""
    return _struck(performance, sample_rate)


def sound_guitar(performance: Performance, sample_rate: int) -> NDArray:
    """Return the raw waveform of the guitar's plucks."""
    # A hard-plucked string starts sharp and settles as its swing shrinks.
    return _struck(performance, sample_rate, lambda t: 2 ** (0.18 * np.exp(-t / 0.05)))


def sound_ball(performance: Performance, sample_rate: int) -> NDArray:
    """Return the raw waveform of the ball's bounces."""
    return _struck(performance, sample_rate, lambda t: 1 + 0.6 * np.exp(-t / 0.03))


def sound_tap(performance: Performance, sample_rate: int) -> NDArray:
    """Return the raw waveform of the tap's drops."""
    return _struck(performance, sample_rate, lambda t: 2 ** (0.8 * np.minimum(1.0, t / 0.12)), (1.0, 0.2))


def sound_siren(performance: Performance, sample_rate: int) -> NDArray:
    """Return the raw waveform of the siren's wail."""
    time = np.arange(round(performance.duration * sample_rate)) / sample_rate
    swing = np.sin(2 * np.pi * performance.rate * time + performance.phase)
    return _tone(performance.pitch * 2 ** (performance.depth * swing), sample_rate)


def sound_bee(performance: Performance, sample_rate: int) -> NDArray:
    """Return the raw waveform of the bee's buzz."""
    time = np.arange(round(performance.duration * sample_rate)) / sample_rate
    angle = 2 * np.pi * performance.rate * time + performance.phase
    return (1 + 0.7 * np.cos(angle)) * _tone(performance.pitch * 2 ** (performance.depth * np.sin(angle)), sample_rate)


def sound_horn(performance: Performance, sample_rate: int) -> NDArray:
    """Return the raw waveform of the horn's honks."""
    count = round(performance.duration * sample_rate)
    time = np.arange(count) / sample_rate
    gate, bend = np.zeros(count), np.zeros(count)
    edge = 0.015  # seconds from silence to full level
    for onset, length in zip(performance.onsets, performance.lengths, strict=True):
        inside = np.minimum(time - onset, onset + length - time)
        gate = np.maximum(gate, np.clip(inside / edge, 0, 1))
        # The bulb fills and empties: the pitch rises in the first 0.12 s and falls in the last.
        bend = np.where(inside > 0, 0.25 * np.clip(1 - inside / 0.12, 0, 1), bend)
    return gate * _tone(performance.pitch * 2**-bend, sample_rate)


def finish(sound: NDArray, performance: Performance, rng: np.random.Generator) -> Waveform:
    """Bring a raw sound to the instance's level and add faint room noise; a silent sound stays silent."""
    rms = float(np.sqrt(np.mean(np.square(sound))))
    if rms < _SILENCE:
        return np.zeros(len(sound), np.float32)
    noise = rng.standard_normal(len(sound), dtype=np.float32) * _ROOM_NOISE
    scaled = (sound / rms).astype(np.float32) + noise
    return np.clip(scaled * np.float32(COMMON_RMS * 10 ** (performance.level / 20)), -1, 1)
