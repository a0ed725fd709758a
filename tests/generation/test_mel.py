import numpy as np
import pytest
import torch

from vidaudio.errors import RecipeError
from vidaudio.generation import MelConfig, MelFrontEnd, griffin_lim
from vidaudio.generation.mel import mel_filters

OTHER = MelConfig(n_fft=1024, hop=256, bands=80)


def sounds(samples: int = 16_384) -> torch.Tensor:
    """Return noise, a tone, a square wave, a click and silence, `[5, samples]`."""
    time = torch.arange(samples) / 16_000
    click = torch.zeros(samples)
    click[samples // 3] = 1.0
    noise = torch.randn(samples, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    tone = torch.sin(2 * torch.pi * 440 * time)
    return torch.stack(
        [noise, 0.01 * tone, torch.sign(torch.sin(2 * torch.pi * 62 * time)), click, torch.zeros(samples)]
    )


@pytest.mark.parametrize("config", [MelConfig(), OTHER])
def test_equals_bigvgan(config):
    reference = pytest.importorskip("bigvgan.meldataset").mel_spectrogram
    audio = sounds()
    wanted = reference(audio, config.n_fft, config.bands, config.sample_rate, config.hop, config.n_fft, 0, None)
    found = MelFrontEnd(config).log_mel(audio)
    assert found.shape == (5, config.bands, len(audio[0]) // config.hop)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("config", [MelConfig(), OTHER])
def test_filters_equal_librosa(config):
    wanted = pytest.importorskip("librosa").filters.mel(
        sr=config.sample_rate, n_fft=config.n_fft, n_mels=config.bands, fmin=0.0, fmax=None
    )
    np.testing.assert_allclose(mel_filters(config).numpy(), wanted, rtol=0, atol=1e-8)


def test_the_map_is_between_silence_and_the_loudest_sound():
    front_end = MelFrontEnd()
    audio = sounds(65_536)
    mel = front_end(audio)
    assert mel.shape == (5, 64, 128)
    # The floor inside the root keeps silence a little above that of a band.
    assert -1 <= float(mel[4].min()) <= float(mel[4].max()) < -0.9
    assert 0.98 < float(mel[2].max()) < 1
    torch.testing.assert_close(front_end.to_log(mel), front_end.log_mel(audio), rtol=0, atol=1e-5)


def test_leading_dimensions_stay():
    front_end, audio = MelFrontEnd(), sounds()
    torch.testing.assert_close(front_end(audio.reshape(5, 1, -1)), front_end(audio)[:, None])


def test_ten_and_four_seconds():
    config = MelConfig()
    assert config.samples(320) == 163_840
    assert config.seconds(128) == 4.096


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"hop": 2000}, "overlap"),
        ({"hop": 511}, "even"),
        ({"bands": 0}, "at least 1"),
        ({"lowest": 9000.0}, "half the sample rate"),
        ({"highest": 9000.0}, "half the sample rate"),
        ({"log_most": -12.0}, "above the floor"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(settings, words):
    with pytest.raises(RecipeError, match=words):
        MelConfig(**settings)


def test_a_sound_too_short_is_refused():
    with pytest.raises(ValueError, match="too few"):
        MelFrontEnd()(torch.zeros(700))


def test_mels_and_griffin_lim_do_not_depend_on_a_trainings_autocast():
    front_end = MelFrontEnd(MelConfig())
    sound = 0.3 * torch.sin(2 * torch.pi * 440 * torch.arange(32 * 512) / 16_000)[None]
    mel = front_end.log_mel(sound)
    copy = griffin_lim(mel, front_end, iterations=4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(front_end.log_mel(sound), mel)
        assert torch.equal(griffin_lim(mel, front_end, iterations=4), copy)
        assert griffin_lim(mel.bfloat16(), front_end, iterations=4).dtype == torch.float32
