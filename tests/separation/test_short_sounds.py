"""Sounds shorter than a window: heard repeated, as in training, and so separated better than beside silence."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.separation.conftest import SMALL_FRONT_END
from vidaudio.separation import QuerySeparator, SeparatorConfig, UNetConfig, separate_all_long, separate_long
from vidaudio.separation.overlap_add import repeat_to
from vidaudio.separation.sdr import si_sdr

RATE, WINDOW, HEARD = SMALL_FRONT_END.sample_rate, SMALL_FRONT_END.window_samples, SMALL_FRONT_END.output_samples


class Listening(QuerySeparator):
    """Keeps the spectra that it was asked about; lets everything pass."""

    def masks(self, spectrum, queries=None):
        self.heard = spectrum
        return torch.ones(len(spectrum), 1 if queries is None else queries.shape[1], *spectrum.shape[1:])


@pytest.mark.parametrize("samples", [1, 7, WINDOW // 4, WINDOW // 2 + 3, HEARD - 1, HEARD, WINDOW - 1, WINDOW])
def test_a_short_sound_is_heard_repeated_from_its_beginning(samples):
    model = Listening(SeparatorConfig(query_dimensions=4, front_end=SMALL_FRONT_END, unet=UNetConfig(levels=2))).eval()
    sound = torch.rand(2, samples) - 0.5
    result = separate_long(model, sound, torch.zeros(4))
    first = np.resize(sound.mean(dim=0).numpy(), WINDOW)
    torch.testing.assert_close(model.heard[0], model.front_end.stft(torch.from_numpy(first)), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(result, sound, atol=1e-4, rtol=0)
    torch.testing.assert_close(separate_all_long(model, sound)[0], sound, atol=1e-4, rtol=0)


@pytest.mark.parametrize("samples", [WINDOW + 1, 2 * WINDOW, 3 * HEARD, 20_000])
def test_the_last_window_of_a_long_sound_lies_inside_it_and_goes_on_with_the_beginning(samples):
    model = Listening(SeparatorConfig(query_dimensions=4, front_end=SMALL_FRONT_END, unet=UNetConfig(levels=2))).eval()
    sound = torch.rand(1, samples) - 0.5
    separate_long(model, sound, torch.zeros(4), batch_size=100)
    last = torch.cat([sound, sound[:, : WINDOW - HEARD]], dim=1)[0, samples - HEARD :]
    torch.testing.assert_close(model.heard[-1], model.front_end.stft(last), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("length", [1, 5, 64])
@pytest.mark.parametrize("samples", [1, 4, 5, 6, 64, 65, 1000])
def test_repetition_is_numpys(length, samples):
    sound = torch.rand(3, length)
    expected = torch.stack([torch.from_numpy(np.resize(row, max(length, samples))) for row in sound.numpy()])
    assert torch.equal(repeat_to(sound, samples), expected)


@pytest.fixture(scope="module")
def trained() -> QuerySeparator:
    """Asked for low or high chirps by one-hot vectors, trained for a moment on whole windows."""
    torch.manual_seed(0)
    config = SeparatorConfig(query_dimensions=2, channels=8, front_end=SMALL_FRONT_END, unet=UNetConfig(4, 8, 4))
    model = QuerySeparator(config).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    rng = np.random.default_rng(0)
    queries = torch.eye(2).expand(8, 2, 2)
    for _ in range(150):
        audio = torch.from_numpy(np.stack([_chirps(rng, WINDOW) for _ in range(8)]))
        loss = model.loss(audio, queries, torch.from_numpy(rng.uniform(0.5, 1.5, (8, 2))))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return model.eval()


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_a_short_sound_is_separated_better_repeated_than_beside_silence(trained, share):
    rng = np.random.default_rng(1)
    samples = int(share * WINDOW)
    repeated, silent = [], []
    for _ in range(24):
        sources = _chirps(rng, samples) / 2
        mixture = torch.from_numpy(sources.sum(axis=0))[None]
        query = torch.eye(2)[0]
        beside_silence = torch.nn.functional.pad(mixture, (0, WINDOW - samples))
        for found, sound in ((repeated, mixture), (silent, beside_silence)):
            estimate = separate_long(trained, sound, query)[0, :samples].double().numpy()
            found.append(si_sdr(sources[0].astype(np.float64), estimate))
    assert np.mean(repeated) > np.mean(silent) + 0.3


def _chirps(rng: np.random.Generator, samples: int) -> np.ndarray:
    """A sound of few strong partials below 1.5 kHz and one of many above, in noise; float32 [2, samples]."""
    times = np.arange(samples) / RATE
    sounds = []
    for low, high in ((200, 1500), (900, 5000)):
        partials = [np.sin(2 * np.pi * (f * times + rng.uniform())) for f in rng.uniform(low, high, 4)]
        sounds.append(0.2 * np.sum(partials, axis=0) + rng.normal(0, 0.01, samples))
    return np.stack(sounds).clip(-1, 1).astype(np.float32)
