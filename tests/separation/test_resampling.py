import math

import numpy as np
import pytest

from vidaudio.separation import resample


@pytest.mark.parametrize(("from_rate", "to_rate"), [(44100, 16000), (16000, 44100), (48000, 16000), (8000, 11025)])
def test_a_sine_stays_the_same_sine_at_the_other_rate(from_rate, to_rate):
    sine = np.sin(2 * np.pi * 1000 * np.arange(from_rate) / from_rate).astype(np.float32)
    output = resample(np.stack([sine, -sine]), from_rate, to_rate)
    assert output.shape == (2, to_rate)
    assert output.dtype == np.float32
    expected = np.sin(2 * np.pi * 1000 * np.arange(to_rate) / to_rate)
    middle = slice(to_rate // 10, -to_rate // 10)
    np.testing.assert_allclose(output[0, middle], expected[middle], atol=2e-3)
    np.testing.assert_allclose(output[1], -output[0])


def test_a_sine_above_the_new_nyquist_frequency_vanishes():
    sine = np.sin(2 * np.pi * 12000 * np.arange(44100) / 44100)
    assert np.abs(resample(sine, 44100, 16000)[1000:-1000]).max() < 0.01


def test_any_rate_and_length_give_the_rounded_up_number_of_samples():
    for from_rate, to_rate, samples in [
        (22050, 16000, 1),
        (44100, 16000, 1001),
        (16000, 48000, 7),
        (12345, 16000, 999),
    ]:
        assert resample(np.ones(samples), from_rate, to_rate).shape == (math.ceil(samples * to_rate / from_rate),)


def test_equal_rates_copy():
    audio = np.ones(5, dtype=np.float32)
    output = resample(audio, 16000, 16000)
    output[0] = 0
    assert audio[0] == 1


@pytest.mark.parametrize(("audio", "rates"), [(np.ones(5, dtype=np.int16), (1, 2)), (np.ones(5), (0, 2))])
def test_integers_and_impossible_rates_are_refused(audio, rates):
    with pytest.raises(ValueError, match=r"int16|Sample rates"):
        resample(audio, *rates)
