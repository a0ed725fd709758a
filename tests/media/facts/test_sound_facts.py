"""Facts of sound against known sounds, and loudness against FFmpeg's own meter."""

from __future__ import annotations

import re
from pathlib import Path

import ffmpeg
import numpy as np
import pytest
import soundfile
from scipy.signal import butter, sosfilt

from vidaudio.media.facts.sound import (
    NO_LOUDNESS_LUFS,
    clipped_share,
    integrated_loudness,
    measure_sound,
    silent_share,
)
from vidaudio.media.ffmpeg import ffmpeg_executable

RATE = 16_000


def tone(seconds: float, amplitude: float, hertz: float = 1000.0, rate: int = RATE) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def int16(sound: np.ndarray) -> np.ndarray:
    return np.clip(np.round(sound * 32768), -32768, 32767).astype(np.int16)


def loudness_by_ffmpeg(sound: np.ndarray, rate: int, folder: Path) -> float:
    soundfile.write(folder / "sound.wav", int16(sound), rate, subtype="PCM_16")
    stream = ffmpeg.input(str(folder / "sound.wav")).filter("ebur128", framelog="quiet")
    sink = ffmpeg.output(stream, "-", f="null")
    _, told = sink.run(cmd=ffmpeg_executable(), capture_stdout=True, capture_stderr=True)
    return float(re.findall(r"I:\s+(-?[0-9.]+) LUFS", told.decode())[-1])


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_loudness_is_that_of_ffmpegs_meter(rate: int, tmp_path: Path):
    random = np.random.default_rng(0)
    noise = sosfilt(butter(2, [200, 5000], "bandpass", fs=rate, output="sos"), random.normal(size=rate * 8))
    # Louder, faint and silent stretches: both gates have something to leave out.
    levels = np.repeat([0.3, 0.02, 0.0, 0.1], rate * 2)
    for sound in (0.3 * noise * levels, tone(5, 0.1, 997, rate), tone(5, 0.5, 60, rate)):
        assert integrated_loudness(int16(sound), rate) == pytest.approx(
            loudness_by_ffmpeg(sound, rate, tmp_path), abs=0.11
        )


def test_a_full_scale_tone_of_997_hz_has_the_loudness_that_the_recommendation_gives():
    # BS.1770: 0 dBFS at 997 Hz in one channel reads -3.01 LKFS.
    assert integrated_loudness(int16(tone(4, 1.0, 997, 48_000)), 48_000) == pytest.approx(-3.01, abs=0.02)


def test_silence_and_sounds_shorter_than_a_block_have_a_loudness():
    assert integrated_loudness(np.zeros(RATE, np.int16), RATE) == NO_LOUDNESS_LUFS
    brief, longer = (integrated_loudness(int16(tone(seconds, 0.5)), RATE) for seconds in (0.1, 1))
    assert brief == pytest.approx(longer, abs=0.5)


def test_the_share_of_silence_is_that_of_the_time_below_minus_35_dbfs():
    loud, quiet = 10 ** (-34 / 20) * 2**0.5, 10 ** (-36 / 20) * 2**0.5
    assert silent_share(int16(np.concatenate([tone(3, loud), tone(7, quiet)])), RATE) == pytest.approx(0.7)
    assert silent_share(np.zeros(5, np.int16), RATE) == 1.0


def test_runs_of_three_at_full_scale_count_as_clipped_and_single_peaks_do_not():
    samples = np.zeros(1000, np.int16)
    samples[10:12], samples[20:23], samples[30:34], samples[40] = 32767, 32767, -32768, -32768
    assert clipped_share(samples) == 7 / 1000
    # One run of both signs is none.
    samples = np.zeros(100, np.int16)
    samples[0:2], samples[2:4] = 32767, -32768
    assert clipped_share(samples) == 0
    assert clipped_share(np.full(7, 32767, np.int16)) == 1


def test_an_overdriven_tone_is_clipped_and_one_at_full_scale_is_not():
    assert clipped_share(int16(tone(1, 2.0, 220))) > 0.5
    assert clipped_share(int16(tone(1, 0.999, 220))) == 0


@pytest.mark.parametrize("hertz", [1000, 3400, 7000])
def test_bandwidth_is_where_a_sound_ends(hertz: int):
    noise = np.random.default_rng(1).normal(size=RATE * 4) * 0.1
    sound = sosfilt(butter(12, hertz, fs=RATE, output="sos"), noise)
    assert measure_sound(int16(sound), RATE).bandwidth_hz == pytest.approx(hertz, abs=0.02 * hertz + 63)
    assert measure_sound(np.zeros(RATE, np.int16), RATE).bandwidth_hz == 0


@pytest.mark.parametrize(("rate", "start"), [(16_000, 0.0), (16_000, 0.37), (22_050, 0.0), (44_100, 1.0)])
def test_onsets_are_in_their_places_on_the_clips_clock(rate: int, start: float):
    sound = np.random.default_rng(2).normal(size=rate * 4) * 1e-4
    times = (0.5, 1.23, 2.0, 3.456)
    for time in times:
        place = round(time * rate)
        # It fades: an end as sudden as the beginning would rise in the spectrum, too.
        struck = tone(0.2, 0.3, 700, rate) * np.exp(-np.arange(rate // 5) / (0.03 * rate))
        sound[place : place + rate // 5] += struck
    onsets = measure_sound(int16(sound), rate, start).onsets
    assert len(onsets) == 400 + round(100 * start)
    for time in times:
        near = slice(round((time + start) * 100) - 10, round((time + start) * 100) + 11)
        peak = near.start + int(np.argmax(onsets[near]))
        assert peak / 100 == pytest.approx(time + start, abs=0.011)
    quiet = np.ones(len(onsets), bool)
    for time in times:
        quiet[round((time + start) * 100) - 3 : round((time + start) * 100) + 4] = False
    assert onsets[quiet][: round(100 * start)].max(initial=0) == 0
    assert onsets[quiet].max() < 0.2 * onsets.max()
