"""Time stamps that swing put nothing into good sound; sound that is missing leaves its gap, where it is missing."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from tests.media.rendered import H264, OPUS, remux, render
from vidaudio.media.decode.audio_track import find_shifts
from vidaudio.media.decode.clip import DecodedClip, DecodeOptions, decode_clip

SECONDS = 20.0
VORBIS = {"acodec": "libvorbis"}


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drift")
    for name, codec in (("vorbis.mkv", VORBIS), ("opus.mkv", OPUS)):
        render(folder / name, seconds=SECONDS, fps=5, **H264, **codec)
    return folder


def own_decode(path: Path) -> np.ndarray:
    """What FFmpeg makes of the sound by counting alone."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=16_000)
    pieces = []
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            frame.pts = None
            pieces += [piece.to_ndarray().reshape(-1) for piece in resampler.resample(frame)]
    return np.concatenate([*pieces, *(piece.to_ndarray().reshape(-1) for piece in resampler.resample(None))])


def swung(media: Path, target: Path, swing: float, shares: tuple[float, float], seed: int, lost=()) -> Path:
    """The file with the stamps of its sound at two levels, each for some tenths of a second to seconds at a time."""
    rng = np.random.default_rng(seed)
    edges = np.cumsum(np.concatenate([[0.6], rng.uniform(*shares, 400)]))

    last = [-1]

    def change(packet):
        if packet.stream.type == "audio":
            seconds = float(packet.pts * packet.time_base)
            if any(begin <= seconds < end for begin, end in lost):
                return None
            if np.searchsorted(edges, seconds) % 2:
                packet.pts += round(swing / packet.time_base)
            last[0] = packet.pts = packet.dts = max(packet.pts, last[0] + 1)  # no container takes stamps that go back
        return packet

    return remux(media, target, change)


def decoded(path: Path) -> DecodedClip:
    clip = decode_clip(str(path), 0.0, None, DecodeOptions())
    assert isinstance(clip, DecodedClip), clip
    return clip


@pytest.mark.parametrize("name", ["vorbis.mkv", "opus.mkv"])
@pytest.mark.parametrize("swing", [0.0133, 0.021, 0.042])
@pytest.mark.parametrize("shares", [(0.1, 0.4), (0.3, 1.5), (1.0, 4.0)], ids=["fast", "slower", "slow"])
def test_stamps_that_swing_change_nothing(media: Path, tmp_path: Path, name: str, swing: float, shares):
    expected = own_decode(media / name)
    for seed in range(3):
        clip = decoded(swung(media / name, tmp_path / f"{seed}.mkv", swing, shares, seed))
        assert clip.audio_gaps == clip.filled_seconds == 0
        assert len(clip.samples) == len(expected)
        assert np.corrcoef(clip.samples, expected)[0, 1] > 0.999


@pytest.mark.parametrize("lost_seconds", [0.021, 0.064, 0.4, 1.5])
def test_what_is_lost_among_swings_leaves_its_gap(media: Path, tmp_path: Path, lost_seconds: float):
    lost = [(7.01, 7.01 + lost_seconds)]
    whole, clip = decoded(media / "opus.mkv"), None
    clip = decoded(swung(media / "opus.mkv", tmp_path / "lost.mkv", 0.021, (0.1, 0.4), 3, lost))
    assert clip.audio_gaps >= 1
    assert clip.filled_seconds == pytest.approx(np.ceil(lost_seconds / 0.02) * 0.02, abs=0.045)
    # Behind it every sound is where it was, to half a picture.
    after = slice(10 * 16_000, 18 * 16_000)
    lags = np.arange(-700, 701, 20)
    match = [np.dot(whole.samples[after].astype(float), np.roll(clip.samples, lag)[after]) for lag in lags]
    assert abs(lags[int(np.argmax(match))]) <= 0.022 * 16_000
    np.testing.assert_allclose(whole.samples[: 6 * 16_000], clip.samples[: 6 * 16_000], atol=2)


def blocks(count: int, length: float) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(count) * length, np.full(count, length)


def test_shifts_follow_what_lasts():
    counted, lengths = blocks(1000, 0.02)
    rng = np.random.default_rng(1)
    jitter = rng.uniform(-0.005, 0.005, 1000)
    assert find_shifts(counted + jitter, counted, lengths)[1] == []
    step = np.where(counted >= 5, 0.02, 0.0)
    ((block, seconds),) = find_shifts(counted + step, counted, lengths)[1]
    assert (block, seconds) == (250, pytest.approx(0.02))
    back = np.where((counted >= 5) & (counted < 9), 0.02, 0.0)
    assert find_shifts(counted + back, counted, lengths)[1] == []
    # More than any codec swings by is believed at once, both ways.
    far = np.where((counted >= 5) & (counted < 9), 0.3, 0.0)
    assert [s for _, s in find_shifts(counted + far, counted, lengths)[1]] == [pytest.approx(0.3), pytest.approx(-0.3)]


@pytest.mark.parametrize("rate", [1.02, 0.98, 1.002])
def test_a_clock_that_runs_off_is_followed(rate: float):
    counted, lengths = blocks(2000, 0.02)
    start, shifts = find_shifts(counted * rate, counted, lengths)
    moved = np.zeros(len(counted))
    for block, seconds in shifts:
        moved[block:] += seconds
    assert np.abs(start + counted + moved - counted * rate).max() < 0.035


def test_two_hours_of_jitter_are_looked_at_quickly():
    """As many comparisons as there are blocks, not their square."""
    counted, lengths = blocks(360_000, 0.02)
    rng = np.random.default_rng(2)
    stamps = counted + np.where(rng.random(len(counted)) < 0.3, 0.021, 0.0)
    assert len(find_shifts(stamps, counted, lengths)[1]) == 0
