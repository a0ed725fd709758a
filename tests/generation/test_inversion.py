"""Inversion: back to the noise and forth again, and a prompt that keeps one source of a mixture."""

import math

import pytest
import torch

from tests.generation.test_samplers import MODERN, gaussian_network
from vidaudio.errors import UsageError
from vidaudio.generation import (
    Diffusion,
    DiffusionConfig,
    ExampleNoise,
    Flow,
    MelConfig,
    MelFrontEnd,
    SamplerConfig,
    apply_mask,
    change_prompt,
    invert,
    mel_ratio,
)
from vidaudio.generation.mel_masks import bin_weights
from vidaudio.generation.samplers import make_sampler, sampler_levels

PLAIN = DiffusionConfig(steps=400)
CASES = [
    (Diffusion(PLAIN), SamplerConfig("ddim", 25)),
    (Diffusion(PLAIN), SamplerConfig("ddim", 100)),
    (Diffusion(PLAIN), SamplerConfig("ddim", 25, "even")),
    (Diffusion(PLAIN), SamplerConfig("ddim", 25, "trailing")),
    (Diffusion(DiffusionConfig(steps=400, prediction="velocity")), SamplerConfig("ddim", 25)),
    (Diffusion(MODERN), SamplerConfig("ddim", 25)),
    (Diffusion(MODERN), SamplerConfig("ddim", 25, "trailing")),
    (Flow(), SamplerConfig("euler", 25)),
    (Flow(), SamplerConfig("euler", 100)),
]


def some_mels() -> torch.Tensor:
    return (0.2 + 0.2 * torch.randn(2, 1, 8, 32, generator=torch.Generator().manual_seed(1))).clamp(-0.9, 0.9)


def there_and_back(process, config, rounds: int, deviation: float = 0.2) -> float:
    """Return the largest error of mels that are inverted and sampled under the same prompt."""
    predict, mel = gaussian_network(process, 0.2, deviation), some_mels()
    noise = invert(process, predict, mel, sampler_levels(process, config), rounds=rounds)
    *_, again = make_sampler(process, predict, ExampleNoise([]), config).run(noise)
    return float((again - mel).abs().max())


@pytest.mark.parametrize(("process", "config"), CASES)
def test_a_mel_comes_back_under_the_same_prompt(process, config):
    errors = [there_and_back(process, config, rounds) for rounds in (1, 3, 40)]
    # What is left is float32's: the first level's signal may be a thousandth of its noise.
    assert errors[2] < 5e-3
    assert errors[1] < errors[0]
    assert errors[1] < 0.05


@pytest.mark.parametrize("spacing", ["log_snr", "even", "trailing"])
def test_dpm_solver_brings_it_back_nearly(spacing):
    """Its steps are of another order than those that were inverted: the finer they are, the less they differ."""
    errors = [
        there_and_back(Diffusion(PLAIN), SamplerConfig("dpm-solver++", steps, spacing), 10) for steps in (25, 200)
    ]
    assert errors[1] < 0.02
    assert errors[1] < errors[0]


def test_the_noise_of_what_was_sampled_is_found_again():
    for process, config in ((Diffusion(PLAIN), SamplerConfig("ddim", 50)), (Flow(), SamplerConfig("euler", 50))):
        predict = gaussian_network(process, 0.2, 0.2)
        noise = ExampleNoise([1, 2])((1, 8, 32))
        *_, mel = make_sampler(process, predict, ExampleNoise([]), config).run(noise)
        found = invert(process, predict, mel, sampler_levels(process, config), rounds=40)
        assert float((found - noise).abs().max()) < 0.02


@pytest.mark.parametrize("rounds", [0, 101])
def test_rounds_out_of_range_are_refused(rounds):
    with pytest.raises(UsageError, match=f"{rounds} rounds"):
        invert(Flow(), lambda noisy, times: noisy, some_mels(), sampler_levels(Flow(), SamplerConfig()), rounds=rounds)


def energy(sound: torch.Tensor, low: float, high: float) -> float:
    spectrum = torch.fft.rfft(sound)
    hertz = torch.fft.rfftfreq(sound.shape[-1], 1 / 16_000)
    return float(spectrum[..., (hertz >= low) & (hertz < high)].abs().square().sum())


@pytest.mark.parametrize("process", [Diffusion(PLAIN), Diffusion(MODERN), Flow()], ids=["noise", "velocity", "flow"])
def test_a_prompt_keeps_its_source_and_takes_away_the_other(process):
    """Two sources, below and above 1.5 kHz, and networks that know where each of them is."""
    front_end = MelFrontEnd()
    generator = torch.Generator().manual_seed(0)
    noise = torch.fft.rfft(0.1 * torch.randn(1, 64 * 512, generator=generator))
    hertz = torch.fft.rfftfreq(64 * 512, 1 / 16_000)
    low, high = (torch.fft.irfft(noise * part) for part in (hertz < 1400, hertz > 1600))
    mixture = low + high
    mel = front_end(mixture)[None]
    edge = int((front_end.filters.argmax(1) < 1500 / 16_000 * 2048).sum())
    mean = mel.mean(-1, keepdim=True)
    # Without a prompt, both sound; with it, the upper bands are as soft as 30 dB below.
    softer = math.log(10 ** (-30 / 20)) * 2 / (front_end.config.log_most - math.log(1e-5))
    asked = mean.clone()
    asked[:, :, edge:] += softer
    networks = gaussian_network(process, mean, 0.1), gaussian_network(process, asked, 0.1)
    (target,) = change_prompt(process, mel, networks[0], [networks[1]], 25)
    found = apply_mask(mixture, mel_ratio(target, mel, front_end)[0, 0], front_end)
    kept = 10 * math.log10(energy(found, 0, 1300) / energy(mixture, 0, 1300))
    left = 10 * math.log10(energy(found, 1800, 8000) / energy(mixture, 1800, 8000))
    assert abs(kept) < 1
    assert left < -10
    # It is the mixture's own waveform that is kept, not only its level.
    error = 10 * math.log10(energy(found - low, 0, 8000) / energy(low, 0, 8000))
    assert error < -10


@pytest.mark.parametrize("config", [MelConfig(), MelConfig(bands=80, n_fft=1024, hop=256)])
def test_masks_that_sum_to_one_give_sounds_that_sum_to_the_sound(config, monkeypatch):
    monkeypatch.setattr("vidaudio.generation.mel_masks.BLOCK_FRAMES", 7)
    front_end = MelFrontEnd(config)
    generator = torch.Generator().manual_seed(0)
    audio = 0.1 * torch.randn(2, 20 * config.hop, generator=generator)
    mask = torch.rand(config.bands, 20, generator=generator)
    torch.testing.assert_close(apply_mask(audio, torch.ones_like(mask), front_end), audio, rtol=0, atol=1e-6)
    parts = apply_mask(audio, mask, front_end), apply_mask(audio, 1 - mask, front_end)
    torch.testing.assert_close(sum(parts), audio, rtol=0, atol=1e-6)
    assert float(parts[0].std()) < 0.9 * float(audio.std())


def test_a_bin_is_weighed_by_the_filters_that_cover_it():
    filters = torch.tensor([[0.0, 2.0, 1.0, 0.0, 0.0], [0.0, 0.0, 3.0, 1.0, 0.0]])
    expected = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.25, 0.75], [0.0, 1.0], [0.0, 1.0]])
    torch.testing.assert_close(bin_weights(filters), expected)


def test_a_ratio_is_one_of_magnitudes():
    front_end = MelFrontEnd()
    whole = front_end(0.1 * torch.randn(1, 16 * 512, generator=torch.Generator().manual_seed(0)))
    half = front_end.from_log(front_end.to_log(whole) + math.log(0.5))
    torch.testing.assert_close(mel_ratio(half, whole, front_end), torch.full_like(whole, 0.5), rtol=1e-3, atol=1e-3)
    assert float(mel_ratio(whole, half, front_end).max()) == 1
