"""The motion envelope: its unit, its clock, and what packets tell where frames are skipped."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from tests.media.flash_beep import render_flashes
from vidaudio.media.decode.clip import decode_clip
from vidaudio.media.decode.decoded import DecodedClip, DecodeOptions
from vidaudio.media.facts.motion import MOTION_RATE, MotionTrack, resample_events, small_luma

TIMES = (0.6, 1.48, 2.2, 3.8, 4.52)


def decoded(path: Path, start: float = 0.0, end: float | None = None, decode: str = "exact") -> DecodedClip:
    clip = decode_clip(str(path), start, end, DecodeOptions(frame_size=32, decode=decode))
    assert isinstance(clip, DecodedClip)
    return clip


def peaks(envelope: np.ndarray, number: int) -> list[float]:
    """Middle of the strongest bins, seconds, each at least 0.2 s from the others."""
    left, found = envelope.astype(float).copy(), []
    for _ in range(number):
        best = int(np.argmax(left))
        found.append((best + 0.5) / MOTION_RATE)
        left[max(0, best - 5) : best + 6] = -1
    return sorted(found)


@pytest.mark.parametrize("rate", [24, 25, 30, 60])
def test_each_flash_is_in_its_place_whatever_the_frame_rate(tmp_path: Path, rate: int):
    file = render_flashes(tmp_path / "a.mp4", TIMES, rate=rate)
    clip = decoded(file, decode="whole")
    assert clip.motion_source == "frames"
    assert len(clip.motion_envelope) == 6 * MOTION_RATE
    # The first frame at or after the time shows the flash, and the flash's end moves as much.
    for found, time in zip(peaks(clip.motion_envelope, len(TIMES)), TIMES, strict=True):
        assert time - 0.04 <= found <= time + 0.08 + 1 / rate + 0.04


@pytest.mark.parametrize("rate", [25, 30, 50])
def test_the_sum_of_the_changes_is_kept_at_every_rate(rate: int):
    seconds = np.arange(5 * rate) / rate
    changes = np.random.default_rng(0).uniform(0, 9, len(seconds))
    envelope = resample_events(seconds, changes, 5.0)
    assert len(envelope) == 125
    # Half of the first frame's change lies before the clip.
    assert envelope.sum() == pytest.approx(changes.sum() - changes[0] / 2, rel=1e-3)


@pytest.mark.parametrize("rate", [8, 12, 15, 25, 60])
def test_even_motion_is_even_at_every_frame_rate(rate: int):
    seconds = np.arange(4 * rate) / rate
    envelope = resample_events(seconds, np.full(len(seconds), 1 / rate), 4.0)
    assert envelope[5:-5] == pytest.approx(1 / MOTION_RATE, rel=1e-4)


def test_frames_that_are_cheaper_for_their_place_are_no_less_motion():
    # Groups of a P frame and three B frames, of which the middle one is a reference: shown 0 1 2 3, decoded 3 1 0 2.
    sizes, orders, track = {0: 40, 1: 120, 2: 40, 3: 500}, {0: 2, 1: 1, 2: 3, 3: 0}, MotionTrack()
    for number in range(1, 121):
        kind = (number - 1) % 4
        delay = (kind - orders[kind] + 3) / 25
        size = sizes[kind] * (3 if number == 62 else 1)
        track.add_packet(number / 25, size, key=False, disposable=kind in (0, 2), reordered_seconds=delay)
    envelope = track.finish(4.8, "packets")
    assert np.delete(envelope[2:-2], [58, 59, 60]) == pytest.approx(1.0, abs=0.01)
    assert int(np.argmax(envelope)) in (61, 62)


def test_a_held_frame_is_no_motion():
    envelope = resample_events(np.array([0.0, 0.04, 2.0, 2.04]), np.array([0.0, 0.0, 8.0, 0.0]), 3.0)
    assert envelope[: 2 * MOTION_RATE - 1].max() == 0
    assert envelope.sum() == pytest.approx(8)


def test_packets_tell_the_flashes_where_frames_are_skipped(tmp_path: Path):
    file = render_flashes(tmp_path / "a.mp4", TIMES)
    skipped, whole = decoded(file), decoded(file, decode="whole")
    assert (skipped.motion_source, whole.motion_source) == ("packets", "frames")
    for found, time in zip(peaks(skipped.motion_envelope, len(TIMES)), TIMES, strict=True):
        assert time - 0.04 <= found <= time + 0.16
    # Both clips are otherwise the same.
    assert all(np.array_equal(a, b) for a, b in zip(skipped.images, whole.images, strict=True))
    assert np.array_equal(skipped.samples, whole.samples)


def test_a_codec_whose_frames_cannot_be_skipped_gives_motion_from_frames(tmp_path: Path):
    assert decoded(render_flashes(tmp_path / "a.webm", TIMES, codec="libvpx-vp9")).motion_source == "frames"


@pytest.mark.parametrize("decode", ["exact", "whole"])
def test_the_envelope_of_a_span_is_on_the_clock_of_the_span(tmp_path: Path, decode: str):
    file = render_flashes(tmp_path / "a.mp4", TIMES)
    clip = decoded(file, start=1.0, end=3.0, decode=decode)
    assert len(clip.motion_envelope) == 2 * MOTION_RATE
    for found, time in zip(peaks(clip.motion_envelope, 2), (0.48, 1.2), strict=True):
        assert time - 0.04 <= found <= time + 0.16


def test_frames_whose_time_goes_back_are_left_out():
    white, black = (av.VideoFrame.from_ndarray(np.full((128, 128), level, np.uint8), "gray") for level in (200, 0))
    track = MotionTrack()
    for frame, seconds in ((black, 0.0), (black, 0.04), (white, 0.02), (white, 0.04), (black, 0.08)):
        track.add_frame(frame, seconds)
    assert not track.finish(1.0, "frames").any()


def test_a_key_frame_of_the_encoders_clock_is_no_motion():
    track = MotionTrack()
    for number in range(100):
        key = number % 25 == 0
        track.add_packet(number / 25, 5000 if key else 100, key=key, disposable=False)
    assert track.finish(4.0, "packets")[1:-1] == pytest.approx(1.0)


def test_a_key_frame_between_those_of_the_clock_is_a_cut():
    track = MotionTrack()
    for number in range(150):
        key = number % 50 == 0 or number == 70
        track.add_packet(number / 25, 5000 if key else 100, key=key, disposable=False)
    assert int(np.argmax(track.finish(6.0, "packets"))) in (69, 70)


def test_the_luma_of_planes_and_of_converted_frames_agree():
    picture = np.zeros((240, 320, 3), np.uint8)
    picture[:, 160:] = 255
    frame = av.VideoFrame.from_ndarray(picture, "rgb24")
    planar = small_luma(frame.reformat(format="yuvj420p"))
    assert planar.shape == (32, 32)
    away_from_the_edge = [*range(15), *range(17, 32)]
    assert planar[:, away_from_the_edge] == pytest.approx(small_luma(frame)[:, away_from_the_edge], abs=8)
    assert planar[:, :15].max() < 20
    assert planar[:, 17:].min() > 235
