"""What is heard from off screen: speech, music, who is seen, and what a separator leaves behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vidaudio.correspondence.offscreen import MusicTagger, Offscreen, SpeechDetector, residual_db, seen


def offscreen(**values: float | None) -> Offscreen:
    known: dict[str, float | None] = {"speech_share": 0.0, "music_share": 0.0, "speaker_seen": 0.0, "player_seen": 0.0}
    return Offscreen(**{"residual_db": None, **known, **values})


@pytest.mark.parametrize(
    ("values", "voice_over"),
    [
        ({"speech_share": 0.9}, True),
        ({"speech_share": 0.2}, False),
        ({"speech_share": 0.9, "speaker_seen": 0.6}, False),
        ({"speech_share": 0.9, "speaker_seen": 0.15, "player_seen": 0.15}, False),
        ({"speech_share": 0.9, "speaker_seen": None}, None),
    ],
)
def test_a_voice_over_is_speech_without_a_speaker(values: dict, voice_over: bool | None):
    assert offscreen(**values).voice_over is voice_over


@pytest.mark.parametrize(
    ("values", "over"),
    [
        ({"music_share": 0.9}, True),
        ({"music_share": 0.1}, False),
        ({"music_share": 0.9, "player_seen": 0.5}, False),
        # A speaker who is seen plays nothing.
        ({"music_share": 0.9, "speaker_seen": 0.9}, True),
        ({"music_share": None}, None),
    ],
)
def test_music_over_a_picture_is_music_without_a_player(values: dict, over: bool | None):
    assert offscreen(**values).music_over_picture is over


def test_silence_noise_and_tones_are_no_speech():
    detector, generator = SpeechDetector(), np.random.default_rng(0)
    times = np.arange(4 * 16_000) / 16_000
    for sound in (np.zeros(64_000), 0.1 * generator.normal(size=64_000), 0.3 * np.sin(2 * np.pi * 440 * times)):
        assert detector.share((sound * 32767).clip(-32768, 32767).astype(np.int16)) < 0.1


def test_a_sound_is_heard_alike_whatever_came_before():
    detector, generator = SpeechDetector(), np.random.default_rng(0)
    first, second = (generator.integers(-9000, 9000, 30_000).astype(np.int16) for _ in range(2))
    alone = detector.share(second)
    detector.share(first)
    assert detector.share(second) == alone


def test_threads_are_left_as_they_were():
    before = torch.get_num_threads()
    SpeechDetector()
    assert torch.get_num_threads() == before


def test_the_groups_share_the_softmax_of_all_sentences():
    generator = np.random.default_rng(0)
    pictures = generator.normal(size=(3, 8))
    prompts = {"speaker": generator.normal(size=(2, 8)), "nobody": generator.normal(size=(4, 8))}
    sentences = np.concatenate(list(prompts.values()))
    sentences /= np.linalg.norm(sentences, axis=1, keepdims=True)
    slow = []
    for picture in pictures:
        values = [np.exp(100 * float(picture @ s) / np.linalg.norm(picture)) for s in sentences]
        slow.append(sum(values[:2]) / sum(values))
    found = seen(pictures, prompts)
    assert found["speaker"] == pytest.approx(np.mean(slow), abs=1e-4)
    assert sum(found.values()) == pytest.approx(1, abs=1e-5)


def test_the_residual_is_the_energy_that_is_left():
    generator = np.random.default_rng(0)
    target, other = generator.normal(size=16_000), generator.normal(size=16_000)
    other *= 0.1 * np.linalg.norm(target) / np.linalg.norm(other)
    mixture = target + other
    expected = 10 * np.log10(np.square(other).sum() / np.square(mixture).sum())
    assert residual_db(mixture, target) == pytest.approx(expected)
    assert residual_db(mixture, mixture) == pytest.approx(-60)
    assert residual_db(mixture, -mixture) == 0
    assert residual_db(np.zeros(9), np.zeros(9)) is None


class Loudness(nn.Module):
    """Says music as often as the sound is loud."""

    def forward(self, sound: Tensor) -> Tensor:
        loud = sound[: len(sound) // 1600 * 1600].reshape(-1, 1600).abs().amax(1)
        return torch.stack([1 - loud, loud], dim=1)


def test_a_tagger_by_file_hears_music(tmp_path: Path):
    path = str(tmp_path / "tagger.pt")
    torch.jit.script(Loudness()).save(path)
    sound = np.zeros(16_000, np.int16)
    sound[4_000:8_000] = 30_000
    assert MusicTagger(path, [1]).share(sound) == pytest.approx(0.3)
    with pytest.raises(ValueError, match="does not give probabilities"):
        MusicTagger(path, [7]).share(sound)


def test_a_tagger_that_is_no_torchscript_is_refused_in_one_line(tmp_path: Path):
    path = tmp_path / "tagger.pt"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="is no TorchScript file") as told:
        MusicTagger(str(path), [0])
    assert "\n" not in str(told.value)
