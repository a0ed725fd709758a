"""Resampling in PyTorch: scipy's result, and the gradient of a linear map."""

import math

import numpy as np
import pytest
import torch
from scipy.signal import resample_poly

from vidaudio.separation import Resampler, resample

RATES = [(16000, 48000), (16000, 32000), (44100, 16000), (48000, 16000), (16000, 44100), (22050, 16000), (8000, 11025)]


@pytest.mark.parametrize(("from_rate", "to_rate"), RATES)
@pytest.mark.parametrize("samples", [1, 2, 7, 160, 441, 999, 4001])
def test_the_result_is_scipys(from_rate, to_rate, samples):
    sound = np.random.default_rng(samples).normal(size=(2, 3, samples))
    resampler = Resampler(from_rate, to_rate)
    exact = resampler(torch.from_numpy(sound))
    assert exact.shape == (2, 3, math.ceil(samples * to_rate / from_rate))
    np.testing.assert_allclose(exact, resample_poly(sound, to_rate, from_rate, axis=-1), atol=1e-5)
    found = resampler(torch.from_numpy(sound).float())
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, resample(sound, from_rate, to_rate), atol=1e-5)


@pytest.mark.parametrize(("from_rate", "to_rate"), [(2, 3), (3, 2), (5, 1), (1, 4)])
def test_the_gradient_is_that_of_finite_differences(from_rate, to_rate):
    sound = torch.randn(2, 17, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Resampler(from_rate, to_rate), sound)


@pytest.mark.parametrize(("from_rate", "to_rate"), RATES)
def test_the_gradient_is_the_adjoint(from_rate, to_rate):
    resampler = Resampler(from_rate, to_rate)
    sound = torch.randn(1000, dtype=torch.float64, requires_grad=True)
    found = resampler(sound)
    weights = torch.randn_like(found)
    (gradient,) = torch.autograd.grad(found, sound, weights)
    other = torch.randn(1000, dtype=torch.float64)
    assert float(resampler(other) @ weights) == pytest.approx(float(other @ gradient))


def test_a_sound_alone_and_no_sound_keep_their_form():
    resampler = Resampler(16000, 48000)
    sound = torch.randn(3, 50)
    torch.testing.assert_close(resampler(sound[1]), resampler(sound)[1])
    assert resampler(torch.zeros(0, 50)).shape == (0, 150)
    assert resampler(torch.zeros(2, 0)).shape == (2, 0)


def test_equal_rates_are_the_sound_itself():
    sound = torch.randn(5)
    assert Resampler(16000, 16000)(sound) is sound


def test_autocast_does_not_lower_the_precision():
    sound, resampler = torch.randn(1, 500), Resampler(16000, 48000)
    with torch.autocast("cpu", torch.bfloat16):
        found = resampler(sound)
    assert torch.equal(found, resampler(sound))
    assert torch.equal(resampler(sound.bfloat16()), resampler(sound.bfloat16().float()))


def test_the_filter_is_no_weight():
    assert not Resampler(16000, 48000).state_dict()


def test_impossible_rates_and_integers_are_refused():
    with pytest.raises(ValueError, match="Sample rates"):
        Resampler(0, 16000)
    with pytest.raises(ValueError, match=r"44101 .* common divisor"):
        Resampler(44101, 48000)
    with pytest.raises(ValueError, match="int16"):
        Resampler(16000, 48000)(torch.zeros(5, dtype=torch.int16))
