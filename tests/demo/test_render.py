"""Rendered videos: the same for the same seed, and flawed where they say so."""

from __future__ import annotations

import av
import numpy as np
import pytest

from vidaudio.demo.pen import HEIGHT, WIDTH
from vidaudio.demo.render import FRAMES_PER_SECOND, Flaw, plan_world, read_world, render_video, render_world
from vidaudio.demo.sounds import SAMPLE_RATE
from vidaudio.demo.world import KINDS, Instance, Purpose, derive_seed, kind_of
from vidaudio.errors import UsageError, VidaudioError

SECONDS = 2.0
SEED = derive_seed(Purpose.TEST, "render")


def _decode(path):
    """Frames [n, H, W, 3] and sound [samples] of a video."""
    with av.open(str(path)) as container:
        frames = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    with av.open(str(path)) as container:
        blocks = [f.to_ndarray()[0] for f in container.decode(audio=0)]
    return frames, np.concatenate(blocks)


def _render(tmp_path, flaw=Flaw.NONE, sounding=None, name="video.mp4", seed=SEED):
    path = tmp_path / name
    render_video(path, KINDS[0], seed, flaw, sounding, duration=SECONDS)
    return path


def test_rendering_is_a_function_of_the_seed(tmp_path):
    first, again = _render(tmp_path, name="a.mp4"), _render(tmp_path, name="b.mp4")
    other = _render(tmp_path, name="c.mp4", seed=derive_seed(Purpose.TEST, "another"))
    assert first.read_bytes() == again.read_bytes()
    assert first.read_bytes() != other.read_bytes()


def test_video_shows_and_sounds_as_the_instance(tmp_path):
    frames, sound = _decode(_render(tmp_path))
    assert frames.shape == (SECONDS * FRAMES_PER_SECOND, HEIGHT, WIDTH, 3)
    instance = Instance(KINDS[0], SEED, SECONDS)
    drawn = np.asarray(instance.scene().at(1.0), np.float32)
    assert np.abs(frames[FRAMES_PER_SECOND] - drawn).mean() < 8
    reference = instance.sound()
    length = min(len(sound), len(reference))
    # AAC delays by its priming samples at most; the spectra of the whole must agree.
    spectra = [np.abs(np.fft.rfft(x[:length])) for x in (sound, reference)]
    assert np.corrcoef(*spectra)[0, 1] > 0.98
    assert abs(len(sound) / SAMPLE_RATE - SECONDS) < 0.1


def test_silent_video_has_a_track_of_zeros(tmp_path):
    _, sound = _decode(_render(tmp_path, Flaw.SILENT))
    assert len(sound) > 0
    assert np.abs(sound).max() < 1e-4


def test_still_video_does_not_move(tmp_path):
    frames, sound = _decode(_render(tmp_path, Flaw.STILL))
    assert np.abs(frames.astype(int) - frames[0].astype(int)).mean() < 3
    assert np.abs(sound).max() > 0.01


def test_mismatched_video_sounds_like_another_kind(tmp_path):
    other = kind_of("dripping tap")
    frames, sound = _decode(_render(tmp_path, Flaw.MISMATCHED, other))
    drawn = np.asarray(Instance(KINDS[0], SEED, SECONDS).scene().at(0.0), np.float32)
    assert np.abs(frames[0] - drawn).mean() < 8
    references = [Instance(kind, SEED, SECONDS).sound()[: len(sound)] for kind in (KINDS[0], other)]
    own, heard = (np.corrcoef(*_envelopes(sound, reference))[0, 1] for reference in references)
    assert heard > 0.9 > own


def _envelopes(*signals):
    length = min(map(len, signals)) // 441 * 441
    return [np.square(x[:length]).reshape(-1, 441).mean(1) for x in signals]


def test_truncated_video_cannot_be_decoded(tmp_path):
    path = _render(tmp_path, Flaw.TRUNCATED)
    assert path.stat().st_size > 1000
    with pytest.raises(av.FFmpegError):
        _decode(path)


def test_world_is_listed_as_rendered(tmp_path, monkeypatch):
    monkeypatch.setattr("vidaudio.demo.render.KINDS", KINDS[:1])
    steps = []
    videos = render_world(
        tmp_path,
        seed=1,
        videos_per_kind={"train": 1, "test": 1},
        flawed_per_flaw=0,
        processes=1,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert read_world(tmp_path) == videos
    assert steps == [(1, 2), (2, 2)]
    assert sorted(p.name for p in (tmp_path / "media").iterdir()) == sorted(v.file.split("/")[1] for v in videos)


def test_every_flaw_is_planned_and_mismatched_ones_differ():
    videos = plan_world(0, {"train": 1}, flawed_per_flaw=2)
    assert [v.flaw for v in videos if v.flaw] == [flaw for flaw in Flaw if flaw for _ in range(2)]
    assert all((v.label != v.sounding) == (v.flaw is Flaw.MISMATCHED) for v in videos)


def test_unknown_split_is_refused():
    with pytest.raises(UsageError, match=r"'dev'.*train, val, test"):
        plan_world(0, {"dev": 1}, flawed_per_flaw=0)


def test_failing_encoder_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr("vidaudio.demo.render.FRAMES_PER_SECOND", -1)
    with pytest.raises(VidaudioError, match="could not render"):
        _render(tmp_path)
