import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from tests.generation.slow_unet import SlowUNet
from vidaudio.errors import RecipeError
from vidaudio.generation import Denoiser, DenoiserConfig, fixed_length

SMALL = DenoiserConfig(condition_dimensions=6, channels=8, multipliers=(1, 2, 3), blocks=2, attention=(2, 4), heads=4)


def random_denoiser(config: DenoiserConfig = SMALL) -> Denoiser:
    """Return a network none of whose weights are zero."""
    torch.manual_seed(0)
    denoiser = Denoiser(config).eval()
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.normal_(std=0.15)
    return denoiser


@pytest.mark.parametrize("attention", [(2, 4), (4,), ()])
def test_equals_improved_ddpm_written_out(attention):
    config = replace(SMALL, attention=attention)
    denoiser = random_denoiser(config).double()
    generator = torch.Generator().manual_seed(1)
    noisy = torch.randn(3, 1, 16, 32, generator=generator, dtype=torch.float64)
    times, condition = torch.tensor([0.0, 250.25, 999.75]), torch.randn(3, 6, generator=generator)
    with torch.no_grad():
        ours = denoiser(noisy, times.double(), condition.double())
        slow = SlowUNet(denoiser)(noisy, times, condition)
        without = denoiser(noisy, times.double(), None)
        slow_without = SlowUNet(denoiser)(noisy, times, None)
    assert ours.shape == (3, 2, 16, 32)
    # diffusers' embedding of time is computed in float32.
    torch.testing.assert_close(ours, slow, rtol=0, atol=2e-4 * float(slow.abs().max()))
    torch.testing.assert_close(without, slow_without, rtol=0, atol=2e-4 * float(slow.abs().max()))
    assert not torch.allclose(ours, without, atol=1e-2)


def numbers_of(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_sizes_of_the_paper():
    # V2A-Mapper measured 142.58 million for CLIPSonic; improved DDPM's own 4,000-step recipe has 121.3 million here.
    with torch.device("meta"):
        assert numbers_of(Denoiser()) == 142_567_522
        improved = DenoiserConfig(channels=128, multipliers=(1, 2, 3, 4), blocks=3)
        assert numbers_of(Denoiser(improved)) == 121_319_682


def test_begins_with_a_prediction_of_zero():
    torch.manual_seed(0)
    denoiser = Denoiser(SMALL)
    assert not denoiser(torch.randn(2, 1, 16, 16), torch.tensor([0.0, 999.0]), torch.randn(2, 6)).any()


def test_a_condition_that_is_not_used_is_none():
    denoiser = random_denoiser()
    noisy, times, condition = torch.randn(2, 1, 16, 16), torch.tensor([10.0, 500.0]), torch.randn(2, 6)
    with torch.no_grad():
        mixed = denoiser(noisy, times, condition, torch.tensor([True, False]))
        torch.testing.assert_close(mixed[0], denoiser(noisy, times, condition)[0])
        torch.testing.assert_close(mixed[1], denoiser(noisy, times)[1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"attention": (3,)}, "attention names 3"),
        ({"heads": 3}, "does not divide"),
        ({"multipliers": ()}, "multipliers"),
        ({"blocks": 0}, "at least 1"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change, words):
    with pytest.raises(RecipeError, match=words):
        replace(SMALL, **change)


def test_vectors_get_one_length():
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    torch.testing.assert_close(fixed_length(vectors), torch.tensor([[0.6, 0.8], [0.0, 0.0]]) * 2**0.5)


def test_without_diffusers_it_says_how_to_install_it():
    code = (
        "import sys; sys.modules['diffusers'] = None\n"
        "from vidaudio.errors import UsageError\n"
        "from vidaudio.generation import Denoiser\n"
        "try:\n    Denoiser()\nexcept UsageError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "vidaudio[generation]" in done.stdout
