"""Small models and made sounds for the tests of separation; one thread, so that sums come out the same every time."""

import pytest
import torch

from vidaudio.separation import FrontEnd, FrontEndConfig, QuerySeparator, SeparatorConfig, UNetConfig

SMALL_FRONT_END = FrontEndConfig(n_fft=256, hop=128, window_samples=4095, log_rows=32, frames=32)
DEMO_FRONT_END = FrontEndConfig(hop=512, frames=128, log_rows=128)


@pytest.fixture(autouse=True)
def _one_thread_and_seed():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def small_front_end() -> FrontEnd:
    return FrontEnd(SMALL_FRONT_END)


@pytest.fixture
def small_model() -> QuerySeparator:
    return QuerySeparator(
        SeparatorConfig(
            query_dimensions=6,
            channels=8,
            front_end=SMALL_FRONT_END,
            unet=UNetConfig(levels=4, width=8, max_multiplier=4),
        )
    )


@pytest.fixture
def tones() -> torch.Tensor:
    """Two sources of different pitch, int16 [1, 2, 4095]."""
    time = torch.arange(4095) / 16000
    high_and_low = torch.stack([torch.sin(2 * torch.pi * 440 * time), torch.sin(2 * torch.pi * 2500 * time)])
    return (high_and_low * 16000).to(torch.int16)[None]
