import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import signal

from tests.separation.slow_parts import direct_stft
from vidaudio.errors import RecipeError
from vidaudio.separation import FrontEnd, FrontEndConfig
from vidaudio.separation.frontend import unwarp_coordinates, warp_coordinates

SIZES = [FrontEndConfig(), FrontEndConfig(hop=512, frames=128, log_rows=128)]


@pytest.mark.parametrize("config", SIZES)
def test_stft_equals_the_direct_sum(config):
    audio = torch.rand(config.window_samples) * 2 - 1
    spectrum = FrontEnd(config).stft(audio)
    assert spectrum.shape == (513, config.frames)
    expected = direct_stft(audio.double().numpy(), config.n_fft, config.hop)
    np.testing.assert_allclose(spectrum.numpy(), expected, atol=2e-4)


def test_stft_equals_scipys():
    audio = torch.rand(65535) * 2 - 1
    _, _, expected = signal.stft(
        audio.double().numpy(), window="hann", nperseg=1024, noverlap=768, boundary="zeros", padded=False
    )
    # scipy divides by the sum of the window, 512.
    np.testing.assert_allclose(FrontEnd().stft(audio).numpy(), expected * 512, atol=2e-4)


@pytest.mark.parametrize(("config", "samples"), [(SIZES[0], 65280), (SIZES[1], 65024)])
def test_inverse_gives_back_the_sound_and_as_many_samples_as_librosas(config, samples):
    front_end = FrontEnd(config)
    audio = torch.rand(2, 3, config.window_samples) * 2 - 1
    restored = front_end.istft(front_end.stft(audio))
    assert restored.shape == (2, 3, samples)
    assert config.output_samples == samples
    torch.testing.assert_close(restored, audio[..., :samples], atol=1e-5, rtol=0)


def test_inverse_equals_the_direct_formula_for_a_spectrum_that_no_sound_has():
    spectrum = torch.randn(513, 256, dtype=torch.complex64)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1024) / 1024)
    total, squares = np.zeros(255 * 256 + 1024), np.zeros(255 * 256 + 1024)
    for t, frame in enumerate(np.fft.irfft(spectrum.numpy().astype(complex), axis=0).T):
        total[t * 256 : t * 256 + 1024] += hann * frame
        squares[t * 256 : t * 256 + 1024] += hann**2
    expected = (total[512:-512] / squares[512:-512]).astype(np.float32)
    np.testing.assert_allclose(FrontEnd().istft(spectrum).numpy(), expected, atol=1e-5)


def grid_sample_rows(picture: torch.Tensor, row_coordinates: torch.Tensor) -> torch.Tensor:
    """PyTorch's own sampling of picture [B, C, H, W] at rows in [-1, 1], columns unchanged."""
    columns = torch.linspace(-1, 1, picture.shape[-1])
    grid = torch.stack(torch.meshgrid(row_coordinates, columns, indexing="ij")[::-1], dim=-1)
    return F.grid_sample(
        picture, grid.expand(len(picture), -1, -1, -1), mode="bilinear", align_corners=True, padding_mode="border"
    )


def g(y: torch.Tensor) -> torch.Tensor:
    return (21 ** ((y + 1) / 2) - 11) / 10


def u(v: torch.Tensor) -> torch.Tensor:
    return 2 * torch.log(10 * v + 11) / math.log(21) - 1


@pytest.mark.parametrize("rows", [256, 128, 77])
def test_warp_and_unwarp_equal_grid_sample(rows):
    front_end = FrontEnd(FrontEndConfig(log_rows=rows))
    picture, mask = torch.rand(2, 3, 513, 40), torch.rand(2, 3, rows, 40)
    warped = grid_sample_rows(picture, g(torch.linspace(-1, 1, rows)))
    unwarped = grid_sample_rows(mask, u(torch.linspace(-1, 1, 513)))
    torch.testing.assert_close(front_end.to_log(picture), warped, atol=1e-4, rtol=0)
    torch.testing.assert_close(front_end.to_linear(mask), unwarped, atol=1e-4, rtol=0)


def test_warp_equals_interpolation_written_out():
    picture = torch.rand(513, 3, dtype=torch.float64)
    expected = torch.zeros(256, 3, dtype=torch.float64)
    for row in range(256):
        position = (g(torch.tensor(-1 + 2 * row / 255, dtype=torch.float64)).item() + 1) / 2 * 512
        low = min(int(max(position, 0)), 511)
        share = min(max(position - low, 0), 1)
        expected[row] = (1 - share) * picture[low] + share * picture[low + 1]
    torch.testing.assert_close(FrontEnd().to_log(picture).double(), expected, atol=1e-6, rtol=0)


def test_log_rows_lie_where_the_published_map_puts_them():
    bins = warp_coordinates(256, 513)
    assert [round(bins[row].item()) for row in (0, 64, 128, 192, 255)] == [0, 29, 92, 228, 512]
    assert bins[:65].min() >= 0
    assert bins[:65].max() < 30


def test_the_two_maps_are_inverse_to_each_other():
    linear = warp_coordinates(513, 513) / 512 * 2 - 1
    back = u(linear) / 2 + 0.5
    torch.testing.assert_close(back, torch.linspace(0, 1, 513, dtype=torch.float64), atol=1e-9, rtol=0)
    assert unwarp_coordinates(513, 256)[[0, -1]].tolist() == pytest.approx([0, 255], abs=1e-9)


def test_a_mask_of_ones_stays_ones_and_float32_under_autocast():
    front_end = FrontEnd()
    with torch.autocast("cpu", torch.bfloat16):
        mask = front_end.to_linear(torch.ones(1, 256, 256, dtype=torch.bfloat16))
        spectrum = front_end.stft(torch.rand(1, 65535))
    assert mask.dtype == torch.float32
    assert spectrum.dtype == torch.complex64
    assert (mask == 1).all()


def test_the_front_end_adds_nothing_to_a_checkpoint():
    assert FrontEnd().state_dict() == {}


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        ({"frames": 255}, "256 frames"),
        ({"hop": 512}, "128 frames"),
        ({"hop": 1000, "frames": 66}, "hop"),
        ({"hop": 0}, "hop"),
        ({"n_fft": 1023}, "n_fft"),
        ({"log_rows": 1}, "log_rows"),
        ({"sample_rate": 0}, "sample_rate"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_by_name(sizes, named):
    with pytest.raises(RecipeError, match=named):
        FrontEndConfig(**sizes)
