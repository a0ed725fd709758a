"""Changed sounds: variations, and stated seconds made anew while the original's samples stay."""

import json
import sys

import numpy as np
import pytest
import soundfile

from vidaudio.cli import main
from vidaudio.errors import MediaError, UsageError
from vidaudio.generation import MelFrontEnd
from vidaudio.hashing import sha256_of
from vidaudio.tasks.generation.checkpoint import load_generator
from vidaudio.tasks.generation.generate import GenerateOptions, GenerationQuery, generate
from vidaudio.tasks.generation.source import EditOptions, open_source, parse_span

QUICK = {"steps": 4, "gap": "none"}
SECONDS = 1.1


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Stereo at 44.1 kHz, in 16 bits: a tone with a click, and another level on each side."""
    path = tmp_path_factory.mktemp("source") / "source.wav"
    times = np.arange(round(SECONDS * 44_100)) / 44_100
    tone = 0.3 * np.sin(2 * np.pi * 440 * times)
    tone[4000] = 0.9
    soundfile.write(path, np.stack([tone, 0.5 * tone], 1), 44_100, subtype="PCM_16")
    return path


def changed(source, out, run, count=1, seconds=None, seed=3, **edit):
    options = GenerateOptions(count, seed, seconds, edit=EditOptions(source, **edit), **QUICK)
    return generate("rain", out, run, options=options)


def facts_of(path) -> dict:
    with soundfile.SoundFile(path) as file:
        return json.loads(file.comment)


def test_a_variation_has_the_source_s_length_and_says_where_it_is_from(source, trained_generator, tmp_path):
    two = changed(source, tmp_path / "two", trained_generator, count=2, strength=0.5)
    info = soundfile.info(two.sounds[0].path)
    assert (info.frames, info.samplerate, info.channels) == (round(SECONDS * 16_000), 16_000, 1)
    facts = facts_of(two.sounds[1].path)
    assert (facts["source_sha256"], facts["strength"], facts["seed"]) == (sha256_of(source), 0.5, 4)
    assert "inpaint" not in facts
    one = changed(source, tmp_path / "one", trained_generator, seed=4, strength=0.5)
    first, again = (soundfile.read(sound.path)[0] for sound in (two.sounds[1], one.sounds[0]))
    np.testing.assert_array_equal(first, again)
    assert facts_of(changed(source, tmp_path / "usual", trained_generator).sounds[0].path)["strength"] == 0.6


def test_little_strength_keeps_the_sound_and_full_strength_does_not(source, trained_generator, tmp_path):
    original = soundfile.read(source)[0].mean(1)

    def share_of_the_tone(strength: float) -> float:
        edit = EditOptions(source, strength=strength)
        options = GenerateOptions(seed=3, steps=50 if strength < 1 else 4, gap="none", edit=edit)
        done = generate("rain", tmp_path / str(strength), trained_generator, options=options)
        sound = soundfile.read(done.sounds[0].path)[0]
        spectrum = np.abs(np.fft.rfft(sound)) ** 2
        hertz = np.fft.rfftfreq(len(sound), 1 / 16_000)
        # The tiny mel has 16 bands: the tone comes back as its band.
        return float(spectrum[(hertz > 250) & (hertz < 700)].sum() / spectrum.sum())

    assert np.abs(original).max() > 0.3
    kept, none = share_of_the_tone(0.01), share_of_the_tone(1.0)
    assert kept > 0.9
    assert none < kept - 0.05


@pytest.mark.parametrize("repeats", [1, 2])
def test_outside_the_stated_seconds_the_samples_are_the_original_s(repeats, source, trained_generator, tmp_path):
    spans = ((0.3, 0.5), (0.9, SECONDS))
    done = changed(source, tmp_path, trained_generator, inpaint=spans, repeats=repeats)
    # Read as 32-bit floats, as both are in the program.
    original, rate = soundfile.read(source, dtype="float32")
    found, found_rate = soundfile.read(done.sounds[0].path, dtype="float32")
    assert (rate, original.shape) == (found_rate, found.shape)
    inside = np.zeros(len(original), bool)
    for begin, end in spans:
        inside[round(begin * rate) : round(end * rate)] = True
    np.testing.assert_array_equal(found[~inside], original[~inside])
    assert np.abs(found - original)[inside].max() > 0.01
    # What is new is one sound, the same on both sides.
    deep = slice(round(0.33 * rate), round(0.47 * rate))
    np.testing.assert_allclose(found[deep, 0], found[deep, 1], atol=1e-6)
    facts = facts_of(done.sounds[0].path)
    assert (facts["inpaint"], facts["repeats"]) == ([list(span) for span in spans], repeats)
    assert done.as_dict()["sample_rate"] == 44_100


def test_new_seconds_have_the_level_and_the_place_of_the_generated_sound(source, trained_generator):
    front_end = MelFrontEnd(load_generator(trained_generator).recipe.model.mel.config())
    opened = open_source(EditOptions(source, inpaint=[(0.2, 0.8)]), front_end, 2, None)
    made = np.zeros(front_end.config.samples(opened.frames), np.float32)
    made[8000] = 0.5
    found = opened.finish(made, 16_000).samples
    middle = slice(round(0.25 * 44_100), round(0.75 * 44_100))
    # 0.5 s at either rate; the click's area over time is kept.
    assert np.abs(found[0, middle]).argmax() + middle.start == 22_050
    assert found[1, middle].sum() / 44_100 == pytest.approx(0.5 / 16_000, rel=0.01)


def test_the_source_is_cut_and_padded(source, trained_generator, tmp_path):
    for seconds in (0.4, 1.5):
        done = changed(source, tmp_path / str(seconds), trained_generator, seconds=seconds)
        assert soundfile.info(done.sounds[0].path).frames == round(seconds * 16_000)
    done = changed(source, tmp_path / "kept", trained_generator, seconds=1.5, inpaint=[(1.2, 1.4)])
    found = soundfile.read(done.sounds[0].path, dtype="float32")[0]
    original = soundfile.read(source, dtype="float32")[0]
    np.testing.assert_array_equal(found[: len(original)], original)
    assert len(found) == round(1.5 * 44_100)


@pytest.mark.parametrize(
    ("edit", "error", "words"),
    [
        ({"strength": 0.0}, UsageError, "strength 0"),
        ({"strength": 1.1}, UsageError, "above 0 and up to 1"),
        ({"inpaint": [(1.0, 0.5)]}, UsageError, "1:0.5 s to generate: two times"),
        ({"inpaint": [(0.5, float("nan"))]}, UsageError, "two times"),
        ({"inpaint": [(0.5, 3.0)]}, UsageError, "has 1.10 s"),
        ({"repeats": 3}, UsageError, "name the seconds"),
        ({"inpaint": [(0.1, 0.5)], "repeats": 0}, UsageError, "made 0 times"),
        ({"source": "missing.wav"}, MediaError, "missing.wav"),
    ],
)
def test_what_does_not_fit_is_refused(edit, error, words, source, trained_generator, tmp_path):
    with pytest.raises(error, match=words):
        changed(edit.pop("source", source), tmp_path / "out", trained_generator, **edit)
    assert not (tmp_path / "out").exists()


def test_a_sound_that_is_too_long_is_refused(trained_generator, tmp_path):
    soundfile.write(tmp_path / "long.wav", np.zeros(121 * 8000), 8000)
    with pytest.raises(MediaError, match=r"121\.0 s, and sounds of up to 120 s"):
        changed(tmp_path / "long.wav", tmp_path / "out", trained_generator)


def test_a_video_and_a_source_do_not_go_together(source, trained_generator, tmp_path, small_video):
    options = GenerateOptions(edit=EditOptions(source), **QUICK)
    with pytest.raises(UsageError, match="as a whole"):
        generate(GenerationQuery(video=small_video), tmp_path / "out", trained_generator, options=options)


@pytest.mark.parametrize("text", ["1", "a:b", "1:2:3", ""])
def test_spans_have_two_numbers(text):
    assert parse_span("1.5:2.5") == (1.5, 2.5)
    with pytest.raises(UsageError, match="write begin and end"):
        parse_span(text)


def test_the_command_takes_spans_and_wants_a_source_for_them(source, trained_generator, tmp_path, monkeypatch, capsys):
    command = ["vidaudio", "generate", "rain", "-c", str(trained_generator), "-o", str(tmp_path), "--gap", "none"]
    command += ["--steps", "2", "--inpaint", "0.1:0.3"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit):
        main()
    assert "none is named: --from sound.wav" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", [*command, "--from", str(source), "--inpaint", "0.5:0.6", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    (sound,) = json.loads(capsys.readouterr().out)["sounds"]
    assert facts_of(sound["path"])["inpaint"] == [[0.1, 0.3], [0.5, 0.6]]
