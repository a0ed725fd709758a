"""A whole video's sound: as long as the video, each part of its own picture, and one sound however it is windowed."""

import ffmpeg
import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from vidaudio.errors import MediaError, UsageError
from vidaudio.generation import MelConfig
from vidaudio.media.audio_files import read_sound
from vidaudio.media.ffmpeg import run_ffmpeg
from vidaudio.media.soundtrack import VideoPictures, read_video_pictures
from vidaudio.tasks.generation.checkpoint import load_generator
from vidaudio.tasks.generation.generate import GenerateOptions, GenerationQuery, generate
from vidaudio.tasks.generation.sounds import SoundGenerator
from vidaudio.tasks.generation.whole_video import plan_windows

QUICK = {"steps": 3, "gap": "none"}
MEL = MelConfig()


def video_of(path, seconds: float, *, sources=("testsrc=size=64x64:rate=10",), silent=False):
    """Write a video of several pictures, each for the same time."""
    parts = [ffmpeg.input(source, f="lavfi", t=seconds / len(sources)) for source in sources]
    streams = [ffmpeg.concat(*parts)]
    if silent:
        streams.append(ffmpeg.input("anullsrc", f="lavfi", t=seconds))
    run_ffmpeg(ffmpeg.output(*streams, str(path), vcodec="libx264", pix_fmt="yuv420p"))
    return path


def pictures(seconds: float) -> VideoPictures:
    images = [Image.new("RGB", (4, 4), (number, 0, 0)) for number in range(int(np.ceil(seconds)))]
    return VideoPictures(images, [float(number) for number in range(len(images))], seconds)


@pytest.mark.parametrize("seconds", [0.3, 2.0, 4.7])
def test_the_sound_is_as_long_as_the_video(seconds, trained_generator, tmp_path):
    video = video_of(tmp_path / "video.mp4", seconds, silent=True)
    options = GenerateOptions(count=2, **QUICK)
    done = generate(GenerationQuery(video=video), tmp_path / "out", trained_generator, options=options)
    for sound in done.sounds:
        assert soundfile.info(sound.path).frames == round(seconds * 16_000)
        # The container's sound may have one block of the codec more.
        assert 0 <= read_sound(sound.video).samples.shape[1] - round(seconds * 16_000) < 2048
    assert done.seconds == pytest.approx(seconds, abs=1e-4)
    alone = generate(
        GenerationQuery(video=video), tmp_path / "alone", trained_generator, options=GenerateOptions(seed=1, **QUICK)
    )
    first, again = (soundfile.read(sound.path)[0] for sound in (done.sounds[1], alone.sounds[0]))
    np.testing.assert_array_equal(first, again)


def test_windows_cover_the_video_and_see_their_own_middles():
    for seconds in (10.0, 10.24, 10.3, 33.0, 119.9):
        plan = plan_windows(pictures(seconds), MEL, 320, 16)
        assert plan.samples == round(seconds * 16_000)
        assert (plan.frames - 1) * 512 < plan.samples or len(plan.starts) == 1
        assert plan.starts[0] == 0
        assert plan.starts[-1] + plan.window == plan.frames
        assert np.diff(plan.starts).max(initial=0) <= plan.window // 2
        for start, picture in zip(plan.starts, plan.pictures, strict=True):
            end = min((start + plan.window) * 512, plan.samples)
            middle = (start * 512 + end) / 2 / 16_000
            assert abs(picture.getpixel((0, 0))[0] - middle) <= 0.5 + 1e-6
    short = plan_windows(pictures(3.0), MEL, 320, 16)
    # 94 frames, to the next multiple of 16.
    assert (short.starts, short.window, short.frames) == ((0,), 96, 96)


def test_a_constant_picture_is_the_same_condition_everywhere(trained_generator, tmp_path, monkeypatch):
    conditions = []
    joint_mels = SoundGenerator.joint_mels

    def record(self, vectors, *rest, **named):
        conditions.append(vectors)
        return joint_mels(self, vectors, *rest, **named)

    monkeypatch.setattr(SoundGenerator, "joint_mels", record)
    colours = {"still": ("red",), "cut": ("red", "blue")}
    for name, of_parts in colours.items():
        sources = [f"color=c={colour}:size=64x64:rate=10" for colour in of_parts]
        video = video_of(tmp_path / f"{name}.mp4", 4, sources=sources)
        generate(GenerationQuery(video=video), tmp_path / name, trained_generator, options=GenerateOptions(**QUICK))
    still, cut = conditions
    assert len(still) == len(cut) > 8
    assert torch.equal(still, still[:1].expand_as(still))
    assert not torch.allclose(cut[0], cut[-1], atol=1e-3)
    assert torch.equal(cut[0], cut[1])


def test_one_window_is_the_plain_generator(trained_generator):
    loaded = load_generator(trained_generator)
    generator = SoundGenerator(loaded.model, loaded.recipe)
    plan = plan_windows(pictures(0.512), generator.front_end.config, loaded.recipe.frames, 2)
    vector = torch.randn(1, loaded.model.config.condition_dimensions)
    assert torch.equal(generator.joint_mels(vector, plan, [5]), generator.mels(vector, [5]))


def test_reading_of_pictures_ends_where_it_is_told(tmp_path):
    video = video_of(tmp_path / "video.mp4", 5)
    found = read_video_pictures(video, 32)
    assert (len(found.images), found.times, found.seconds) == (5, [0, 1, 2, 3, 4], pytest.approx(5))
    part = read_video_pictures(video, 32, most_seconds=2.5)
    assert (len(part.images), part.seconds) == (3, 2.5)


def test_what_does_not_fit_is_refused(trained_generator, small_video, tmp_path):
    options = GenerateOptions(seconds=3, **QUICK)
    with pytest.raises(UsageError, match="as long as the video"):
        generate(GenerationQuery(video=small_video), tmp_path / "out", trained_generator, options=options)
    run_ffmpeg(ffmpeg.output(ffmpeg.input("color=size=16x16:rate=1", f="lavfi", t=122), str(tmp_path / "long.mp4")))
    with pytest.raises(MediaError, match="longer than 120 s, the longest sound"):
        generate(
            GenerationQuery(video=tmp_path / "long.mp4"),
            tmp_path / "out",
            trained_generator,
            options=GenerateOptions(**QUICK),
        )
    assert not (tmp_path / "out").exists()
