"""`separate` asked in other ways: several words, everything but a sound, videos; and videos as mixture and result."""

from __future__ import annotations

from pathlib import Path

import av
import ffmpeg
import numpy as np
import pytest
import soundfile

from vidaudio.errors import MediaError, QueryError
from vidaudio.media.audio_files import check_output, read_sound
from vidaudio.media.ffmpeg import run_ffmpeg
from vidaudio.media.soundtrack import video_pictures
from vidaudio.tasks.separation import separate as separate_module
from vidaudio.tasks.separation.separate import SoundQuery, separate

RATE = 22_050
LATE_SECONDS = 0.5


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seconds of a picture that changes every second, stereo sound that begins half a second late."""
    folder = tmp_path_factory.mktemp("video")
    times = np.arange(int(4.5 * RATE)) / RATE
    tone = 0.3 * np.sin(2 * np.pi * 440 * times)
    soundfile.write(folder / "tone.wav", np.stack([tone, tone / 2], axis=1), RATE)
    pictures = ffmpeg.input("color=gray:size=96x64:rate=10:duration=5", f="lavfi").filter(
        "geq", lum="50*floor(T)", cb=128, cr=128
    )
    sound = ffmpeg.input(str(folder / "tone.wav"), itsoffset=LATE_SECONDS)
    out = folder / "video.mp4"
    run_ffmpeg(ffmpeg.output(pictures, sound, str(out), vcodec="libx264", pix_fmt="yuv420p", acodec="aac"))
    return out


def _packets(path: Path, kind: str) -> list[tuple]:
    with av.open(str(path)) as container:
        stream = next(s for s in container.streams if s.type == kind)
        return [(float(p.pts * p.time_base), bytes(p)) for p in container.demux(stream) if p.size]


def test_a_videos_sound_is_read_with_its_channels_and_its_place_in_time(video: Path):
    sound = read_sound(video)
    assert (sound.samples.shape[0], sound.sample_rate) == (2, RATE)
    loud = np.flatnonzero(np.abs(sound.samples[0]) > 0.1)
    assert loud[0] / RATE == pytest.approx(LATE_SECONDS, abs=0.06)
    assert sound.samples[1].std() == pytest.approx(sound.samples[0].std() / 2, rel=0.1)


def test_a_video_comes_back_with_its_picture_untouched_and_the_separated_sound_in_step(
    video: Path, trained: Path, tmp_path: Path
):
    separate(video, tmp_path / "sound.wav", trained, query="low")
    done = separate(video, tmp_path / "out" / "result.mp4", trained, query="low")
    assert [path.name for path in done.path.parent.iterdir()] == ["result.mp4"]
    before, after = _packets(video, "video"), _packets(done.path, "video")
    assert [data for _, data in before] == [data for _, data in after]
    assert [seconds for seconds, _ in after] == pytest.approx([seconds for seconds, _ in before], abs=1e-3)
    alone, inside = soundfile.read(tmp_path / "sound.wav")[0].T, read_sound(done.path).samples
    assert inside.shape[0] == 2
    shared = min(alone.shape[1], inside.shape[1])
    # AAC is lossy: the two are alike, and most alike unshifted.
    cut = slice(2000, shared - 2000)
    likeness = [np.vdot(alone[0, cut], np.roll(inside[0], shift)[cut]) for shift in range(-9, 10)]
    assert abs(int(np.argmax(likeness)) - 9) <= 1


def test_other_containers_and_what_they_cannot_hold(video: Path, trained: Path, tmp_path: Path):
    separate(video, tmp_path / "result.mkv", trained, query="low")
    assert len(_packets(tmp_path / "result.mkv", "video")) == 50
    # Before the work: there is no such checkpoint.
    with pytest.raises(MediaError, match=r"is h264, which a \.webm file cannot hold; end it in \.mp4 or .* or \.mkv$"):
        separate(video, tmp_path / "result.webm", tmp_path / "none", query="low")
    vp8 = tmp_path / "vp8.webm"
    run_ffmpeg(ffmpeg.output(ffmpeg.input(str(video), t=1), str(vp8), vcodec="libvpx", acodec="libopus"))
    check_output(tmp_path / "other.webm", vp8)
    with pytest.raises(MediaError, match=r"is vp8, which a \.mp4 file cannot hold"):
        check_output(tmp_path / "other.mp4", vp8)
    vp8.unlink()
    soundfile.write(tmp_path / "tone.wav", np.zeros(8000), 16_000)
    with pytest.raises(MediaError, match="has no picture; end it in"):
        separate(tmp_path / "tone.wav", tmp_path / "result.mp4", trained, query="low")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["result.mkv", "tone.wav"]


def test_pictures_of_a_video_are_one_a_second_and_the_middle_ones_where_few_are_wanted(video: Path):
    greys = [float(np.asarray(image).mean()) for image in video_pictures(video, 48)]
    assert len(greys) == 5
    assert greys == sorted(greys)
    middle = [float(np.asarray(image).mean()) for image in video_pictures(video, 48, most=3)]
    assert middle == greys[1:4]


def test_a_video_is_a_query_of_its_middle_or_of_all(video: Path, trained: Path, tmp_path: Path, monkeypatch):
    seen = []

    def spy(path, size, *, most):
        seen.append(most)
        return video_pictures(path, size, most=most)

    monkeypatch.setattr(separate_module, "video_pictures", spy)
    separate(video, tmp_path / "middle.wav", trained, query=SoundQuery(video=video))
    separate(video, tmp_path / "whole.wav", trained, query=SoundQuery(video=video, video_span="whole"))
    assert seen == [3, None]
    middle, whole = (soundfile.read(tmp_path / f"{name}.wav")[0] for name in ("middle", "whole"))
    assert not np.array_equal(middle, whole)


def test_several_words_are_one_sentence_and_without_is_the_rest(video: Path, trained: Path, tmp_path: Path):
    def asked(name: str, query: str | SoundQuery) -> np.ndarray:
        separate(video, tmp_path / name, trained, query=query)
        return soundfile.read(tmp_path / name)[0]

    together = asked("a.wav", SoundQuery(words=["low", "high"]))
    assert np.array_equal(together, asked("b.wav", "low and high"))
    low, rest = asked("c.wav", "low"), asked("d.wav", SoundQuery(without=["low"]))
    heard = read_sound(video).samples.T
    # The model hears and gives back what lies below 8 kHz, which is all of a tone.
    middle = slice(RATE, 4 * RATE)
    assert np.abs((low + rest - heard)[middle]).max() < 0.02
    with pytest.raises(QueryError, match="ask in one way"):
        separate(video, tmp_path / "e.wav", trained, query=SoundQuery(words=["low"], video=video))
    with pytest.raises(QueryError, match="--whole-video says how much of a --query-video"):
        separate(video, tmp_path / "e.wav", trained, query=SoundQuery(words=["low"], video_span="whole"))


def test_what_is_no_video_is_said(trained: Path, video: Path, tmp_path: Path):
    soundfile.write(tmp_path / "tone.wav", np.zeros(8000), 16_000)
    with pytest.raises(MediaError, match="has no moving picture"):
        separate(video, tmp_path / "out.wav", trained, query=SoundQuery(video=tmp_path / "tone.wav"))
    silent = tmp_path / "silent.mp4"
    run_ffmpeg(ffmpeg.output(ffmpeg.input(str(video)).video, str(silent), vcodec="copy"))
    with pytest.raises(MediaError, match="holds no sound"):
        separate(silent, tmp_path / "out.wav", trained, query="low")
