"""Random changes of a sound: their ranges by numbers, and their gradients."""

import numpy as np
import pytest
import torch

from vidaudio.separation import jitter

RATE = 16_000


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_no_change_is_the_sound_itself_and_draws_nothing():
    sound, generator = torch.randn(2, 100), draws()
    before = generator.get_state()
    assert jitter(sound, generator, sample_rate=RATE) is sound
    assert torch.equal(generator.get_state(), before)


def test_gains_are_uniform_in_decibels():
    sound = torch.randn(4000, 4)
    changed = jitter(sound, draws(), sample_rate=RATE, gain_db=6.0)
    ratios = changed / sound
    torch.testing.assert_close(ratios, ratios[:, :1].expand(-1, 4))
    gains = 20 * ratios[:, 0].log10()
    assert float(gains.abs().max()) <= 6.0 + 1e-4
    # Quantiles of a uniform distribution.
    assert np.quantile(gains, [0.1, 0.5, 0.9]) == pytest.approx([-4.8, 0, 4.8], abs=0.4)


def test_a_crop_is_a_stretch_of_the_sound_at_the_beginning():
    samples = 200
    sound = torch.arange(1.0, samples + 1).expand(2000, -1)
    changed = jitter(sound, draws(), sample_rate=RATE, crop_share=0.25)
    kept, starts = (changed > 0).sum(1), changed[:, 0] - 1
    for row, length, start in zip(changed, kept.tolist(), starts.int().tolist(), strict=True):
        assert row.tolist() == [*range(start + 1, start + length + 1), *[0] * (samples - length)]
    assert (int(kept.min()), int(kept.max())) == (samples * 3 // 4 + 1, samples)
    # Uniform: a share of 0 to 0.25, and a begin anywhere in what is cut away.
    assert float(kept.float().mean()) == pytest.approx(samples * 0.875, abs=1.5)
    assert float(starts.mean()) == pytest.approx(samples * 0.0625, abs=1.0)


@pytest.mark.parametrize("level", [-20.0, -6.0])
def test_noise_has_its_level_and_fills_an_octave(level):
    samples = 4096
    sound = torch.randn(300, samples) * torch.logspace(-3, 0, 300)[:, None]
    noise = jitter(sound.double(), draws(), sample_rate=RATE, band_noise_db=level) - sound.double()
    found = 10 * (noise.square().mean(1) / sound.double().square().mean(1)).log10()
    torch.testing.assert_close(found, torch.full_like(found, level), atol=1e-3, rtol=0)
    power = torch.fft.rfft(noise).abs().square()
    inside = power > power.amax(1, keepdim=True) * 1e-9
    hertz = torch.fft.rfftfreq(samples, 1 / RATE)
    lowest = torch.where(inside, hertz, torch.inf).amin(1)
    highest = torch.where(inside, hertz, 0).amax(1)
    assert ((lowest >= 50) & (lowest <= RATE / 4 + 4)).all()
    assert (highest < 2 * lowest + 1).all()
    # Half of the octaves begin above the geometric mean of 50 and 4,000 Hz.
    assert float((lowest > (50 * 4000) ** 0.5).double().mean()) == pytest.approx(0.5, abs=0.1)
    # Different bands and noise for each sound.
    assert len(set(lowest.tolist())) > 100


def test_the_result_is_a_function_of_the_generator_alone():
    sound = torch.randn(3, 1000)
    options = {"sample_rate": RATE, "gain_db": 3.0, "crop_share": 0.2, "band_noise_db": -15.0}
    torch.manual_seed(1)
    first = jitter(sound, draws(), **options)
    torch.manual_seed(2)
    assert torch.equal(jitter(sound, draws(), **options), first)
    assert not torch.equal(jitter(sound, draws(1), **options), first)
    assert first.shape == sound.shape


def test_gradients_pass_gain_and_crop_and_the_noise_is_a_constant():
    sound = torch.randn(2, 12, dtype=torch.float64, requires_grad=True)
    changes = {"sample_rate": RATE, "gain_db": 3.0, "crop_share": 0.5}
    assert torch.autograd.gradcheck(lambda given: jitter(given, draws(), **changes), sound)
    (gradient,) = torch.autograd.grad(jitter(sound, draws(), sample_rate=RATE, band_noise_db=-6.0).sum(), sound)
    assert torch.equal(gradient, torch.ones_like(sound))


def test_silence_stays_silent_with_finite_gradients():
    silence = torch.zeros(2, 1000, requires_grad=True)
    changed = jitter(silence, draws(), sample_rate=RATE, gain_db=3.0, crop_share=0.2, band_noise_db=-15.0)
    assert not changed.any()
    (gradient,) = torch.autograd.grad(changed.square().sum() + changed.sum(), silence)
    assert gradient.isfinite().all()


@pytest.mark.parametrize(
    ("form", "values", "message"),
    [
        ((5,), {}, r"\[N, samples\]"),
        ((2, 5), {"gain_db": -1.0}, "gain_db"),
        ((2, 5), {"crop_share": 1.0}, "crop_share"),
        ((2, 5), {"band_noise_db": -10.0}, "8 samples"),
    ],
)
def test_values_out_of_range_are_refused(form, values, message):
    with pytest.raises(ValueError, match=message):
        jitter(torch.zeros(form), draws(), sample_rate=RATE, **values)
