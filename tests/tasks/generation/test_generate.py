"""`vidaudio generate`: the same sound for a seed however many, files that say what they are, and wrong wishes."""

import json

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from tests.tasks.conftest import train_vocoder
from vidaudio.errors import CheckpointError, EncoderError, GapError, MediaError, QueryError, UsageError
from vidaudio.generation import MelFrontEnd, griffin_lim
from vidaudio.hashing import sha256_of
from vidaudio.media.audio_files import read_sound
from vidaudio.modality_gap import load_method
from vidaudio.report.modality_gap import gap
from vidaudio.tasks.generation.generate import GenerateOptions, GenerationQuery, generate

QUICK = {"steps": 3, "gap": "none"}


def test_a_sound_depends_on_its_seed_alone(trained_generator, tmp_path):
    three = generate("a high tone", tmp_path / "three", trained_generator, options=GenerateOptions(3, 5, **QUICK))
    one = generate("a high tone", tmp_path / "one", trained_generator, options=GenerateOptions(1, 6, **QUICK))
    assert [sound.seed for sound in three.sounds] == [5, 6, 7]
    again = [soundfile.read(sound.path)[0] for sound in three.sounds]
    np.testing.assert_array_equal(again[1], soundfile.read(one.sounds[0].path)[0])
    assert not np.array_equal(again[0], again[1])


def test_files_say_how_they_were_made(trained_generator, tmp_path):
    done = generate("Hunde bellend", tmp_path, trained_generator, options=GenerateOptions(seed=2, **QUICK))
    (sound,) = done.sounds
    assert sound.path.name == "Hunde_bellend-2.wav"
    with soundfile.SoundFile(sound.path) as file:
        facts = json.loads(file.comment)
        assert (file.samplerate, file.frames) == (16_000, 16 * 512)
    assert facts["words"] == "Hunde bellend"
    assert (facts["seed"], facts["steps"], facts["system"]) == (2, 3, "clipsonic_iq")
    assert len(facts["checkpoint_sha256"]) == 64
    picture = Image.open(sound.picture)
    assert json.loads(picture.info["vidaudio"]) == facts
    assert "Griffin-Lim" in str(done)
    assert done.as_dict()["sounds"][0]["seed"] == 2


def test_a_vocoder_makes_the_sound_row_by_row(trained_generator, trained_vocoder, tmp_path):
    options = GenerateOptions(2, 5, vocoder=trained_vocoder, **QUICK)
    done = generate("a high tone", tmp_path / "two", trained_generator, options=options)
    one = generate(
        "a high tone",
        tmp_path / "one",
        trained_generator,
        options=GenerateOptions(1, 6, vocoder=trained_vocoder / "best.safetensors", **QUICK),
    )
    second, again = (soundfile.read(sound.path)[0] for sound in (done.sounds[1], one.sounds[0]))
    np.testing.assert_array_equal(second, again)
    assert len(second) == 16 * 512
    with soundfile.SoundFile(done.sounds[0].path) as file:
        facts = json.loads(file.comment)
    assert facts["vocoder_sha256"] == sha256_of(trained_vocoder / "best.safetensors")
    assert str(trained_vocoder) in str(done)
    assert "Griffin-Lim" not in str(done)
    plain = generate("a high tone", tmp_path / "plain", trained_generator, options=GenerateOptions(1, 6, **QUICK))
    assert not np.array_equal(soundfile.read(plain.sounds[0].path)[0], again)


def test_a_vocoder_of_another_mel_is_refused_with_both(packed, trained_generator, tmp_path):
    train_vocoder(packed, tmp_path / "voc", "model.mel.bands=20", "schedule.steps=1", "validation.every_steps=1")
    options = GenerateOptions(vocoder=tmp_path / "voc", **QUICK)
    with pytest.raises(UsageError, match=r"20 bands from 0 to 8000 Hz.*, not 16000 Hz, 16 bands"):
        generate("a high tone", tmp_path / "out", trained_generator, options=options)
    assert not (tmp_path / "out").exists()
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        generate("x", tmp_path / "out", trained_generator, options=GenerateOptions(vocoder="missing", **QUICK))


def test_pictures_lengths_and_unwanted_sounds(trained_generator, tmp_path):
    picture = tmp_path / "dog.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)).save(picture)
    options = GenerateOptions(seconds=1.1, **QUICK)
    done = generate(GenerationQuery(images=[picture]), tmp_path / "out", trained_generator, options=options)
    # 1.1 s are 34 frames of 32 ms.
    assert soundfile.info(done.sounds[0].path).frames == 34 * 512
    without = GenerationQuery(images=[picture], without="wind")
    other = generate(without, tmp_path / "without", trained_generator, options=options)
    first, second = (soundfile.read(sound)[0] for sound in (done.sounds[0].path, other.sounds[0].path))
    assert not np.array_equal(first, second)


def test_a_video_gets_its_new_sound(trained_generator, small_video, tmp_path):
    options = GenerateOptions(**QUICK)
    done = generate(GenerationQuery(video=small_video), tmp_path / "out", trained_generator, options=options)
    assert done.sounds[0].video is not None
    made, heard = soundfile.read(done.sounds[0].path)[0], read_sound(done.sounds[0].video)
    level = np.sqrt(np.mean(heard.samples[:, : len(made)] ** 2)) / np.sqrt(np.mean(made**2))
    assert 0.8 < level < 1.25


@pytest.mark.parametrize(
    ("query", "settings", "error", "words"),
    [
        (GenerationQuery(), {}, QueryError, "one way"),
        (GenerationQuery(words="a", images=["b"]), {}, QueryError, "one way"),
        (GenerationQuery(words="  "), {}, QueryError, "empty"),
        (GenerationQuery(images=["missing.png"]), {}, MediaError, "missing.png"),
        (GenerationQuery(video="missing.mp4"), {}, MediaError, "missing.mp4"),
        (GenerationQuery(words="a"), {"sampler": "euler"}, UsageError, "flow matching"),
        (GenerationQuery(words="a"), {"steps": 5000}, UsageError, "4,000"),
        (GenerationQuery(words="a"), {"guidance": -1.0}, UsageError, "between 0 and 100"),
        (GenerationQuery(words="a"), {"encoder_weights": "nowhere"}, EncoderError, "nowhere"),
        (GenerationQuery(words="a"), {"gap": "nothing"}, GapError, "nothing"),
        (GenerationQuery(words="a", without="b"), {"guidance": 1.0}, UsageError, "--without changes nothing"),
    ],
)
def test_wishes_that_cannot_be_met(query, settings, error, words, trained_generator, tmp_path):
    options = GenerateOptions(**{**QUICK, **settings})
    with pytest.raises(error, match=words):
        generate(query, tmp_path / "out", trained_generator, options=options)
    assert not (tmp_path / "out").exists()


def test_pictures_go_through_no_gap_method(packed, trained_generator, tmp_path):
    gap(packed, fit=["mean_shift"], output=tmp_path / "gap")
    Image.new("RGB", (8, 8)).save(tmp_path / "dog.png")
    options = GenerateOptions(steps=3, gap=str(tmp_path / "gap" / "mean_shift.safetensors"))
    with pytest.raises(UsageError, match="nothing is asked in words"):
        generate(GenerationQuery(images=[tmp_path / "dog.png"]), tmp_path / "out", trained_generator, options=options)
    # What is not wanted is said in words.
    asked = GenerationQuery(images=[tmp_path / "dog.png"], without="high")
    (sound,) = generate(asked, tmp_path / "out", trained_generator, options=options).sounds
    with soundfile.SoundFile(sound.path) as file:
        facts = json.loads(file.comment)
    assert facts["gap"] == "mean_shift"
    assert facts["gap_sha256"] == load_method(tmp_path / "gap" / "mean_shift.safetensors").hash


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("Hunde, bellend!", "Hunde_bellend_"),
        ("雨の音", "雨の音"),
        ("🎻", "sound_"),
        ("a" * 61, "a" * 60 + "_"),
        ("雨" * 21, "雨" * 20 + "_"),
        ("\udce9", "sound_"),
    ],
)
def test_names_of_files(words, name):
    found = GenerationQuery(words=words).name
    assert found.startswith(name)
    assert len(found) == len(name) + (8 if name.endswith("_") else 0)
    assert found != GenerationQuery(words=words + "?b").name


def test_names_that_are_not_text_are_escaped_in_the_metadata(trained_generator, tmp_path):
    picture = tmp_path / "caf\udce9.png"
    Image.new("RGB", (8, 8)).save(picture)
    query, options = GenerationQuery(images=[picture]), GenerateOptions(**QUICK)
    (sound,) = generate(query, tmp_path / "out", trained_generator, options=options).sounds
    with soundfile.SoundFile(sound.path) as file:
        assert json.loads(file.comment)["images"] == [str(picture)]
    assert json.loads(Image.open(sound.picture).info["vidaudio"])["images"] == [str(picture)]


@pytest.mark.parametrize("settings", [{"count": 0}, {"seed": -1}, {"seconds": 0.0}, {"seconds": 1000.0}])
def test_settings_out_of_range(settings):
    with pytest.raises(UsageError):
        GenerateOptions(**settings)


def test_a_separator_is_no_generator(trained, trained_generator, tmp_path):
    with pytest.raises(CheckpointError, match="generation"):
        generate("a", tmp_path / "out", trained)
    from vidaudio.tasks.separation.checkpoint import load_checkpoint

    with pytest.raises(CheckpointError, match="separation"):
        load_checkpoint(trained_generator)


def test_griffin_lim_keeps_time_and_level():
    front_end = MelFrontEnd()
    click = torch.zeros(2, 32_768)
    click[0, 20_000], click[1, 777] = 0.9, 0.9
    sounds = griffin_lim(front_end.log_mel(click), front_end)
    assert sounds.shape == click.shape
    # Within 5 ms, where a frame has 128 ms.
    assert (sounds.abs().argmax(1) - torch.tensor([20_000, 777])).abs().max() < 80
    times = torch.arange(32_768) / 16_000
    tone = 0.2 * torch.sin(2 * torch.pi * 1000 * times)
    made = griffin_lim(front_end.log_mel(tone[None]), front_end)[0]
    level = 20 * torch.log10(made.std() / tone.std())
    # A mel does not tell how sharp a peak is: its energy is spread over a band.
    assert -6 < float(level) < 0
    noise = 0.1 * torch.randn(32_768, generator=torch.Generator().manual_seed(0))
    again = griffin_lim(front_end.log_mel(noise[None]), front_end)[0]
    assert abs(float(20 * torch.log10(again.std() / noise.std()))) < 2
    peak = torch.fft.rfft(made).abs().argmax() / 32_768 * 16_000
    assert abs(float(peak) - 1000) < 30
