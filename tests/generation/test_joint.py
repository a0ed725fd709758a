"""Joint denoising: one window is the plain sampler, and many agree where they overlap."""

import pytest
import torch

from tests.generation.test_denoiser import random_denoiser
from tests.generation.test_samplers import gaussian_network
from vidaudio.generation import (
    Diffusion,
    DiffusionConfig,
    ExampleNoise,
    Flow,
    Guidance,
    SamplerConfig,
    WindowGroup,
    guided,
    joint_predictor,
    sample,
)

WINDOW, BANDS = 16, 8
WEIGHTS = torch.sin(torch.pi * (torch.arange(WINDOW) + 0.5) / WINDOW) ** 2


def network(conditions: torch.Tensor, outputs: int = 2):
    found = guided(random_denoiser(), conditions, Guidance(2.0))
    return lambda noisy, times: found(noisy, times)[:, :outputs]


@pytest.mark.parametrize("name", ["ancestral", "ddim", "dpm-solver++", "sde-dpm-solver++", "euler"])
def test_one_window_equals_the_plain_sampler(name):
    process = Flow() if name == "euler" else Diffusion(DiffusionConfig(steps=100))
    predict = network(torch.ones(1, 6), 1 if name == "euler" else 2)
    config, shape = SamplerConfig(name, 5), (BANDS, WINDOW)
    with torch.inference_mode():
        plain = sample(process, predict, ExampleNoise([4]), shape, config)
        joint = joint_predictor([WindowGroup(predict, [0])], WEIGHTS, WINDOW)
        assert torch.equal(sample(process, joint, ExampleNoise([4]), shape, config), plain)


def test_predictions_are_averaged_by_weight():
    starts, frames = [0, 5, 11, 20], 36
    conditions = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    noisy, times = torch.randn(1, 1, BANDS, frames), torch.tensor([300.0])
    with torch.inference_mode():
        # In groups of any size.
        groups = [WindowGroup(network(conditions[:3]), starts[:3]), WindowGroup(network(conditions[3:]), starts[3:])]
        found = joint_predictor(groups, WEIGHTS, frames)(noisy, times)
        parts = [
            network(conditions[number : number + 1])(noisy[..., start : start + WINDOW], times)
            for number, start in enumerate(starts)
        ]
    for frame in range(frames):
        having = [
            (float(WEIGHTS[frame - start]), part[0, ..., frame - start])
            for start, part in zip(starts, parts, strict=True)
            if start <= frame < start + WINDOW
        ]
        slow = sum(weight * value for weight, value in having) / sum(weight for weight, _ in having)
        torch.testing.assert_close(found[0, ..., frame], slow, rtol=1e-4, atol=1e-4)


def test_a_seam_is_no_step():
    """Windows that want levels 1 apart meet in a slope of half a window, with no step, and keep their own middles."""
    process, frames, window = Diffusion(DiffusionConfig(steps=400)), 96, 64
    weights = torch.sin(torch.pi * (torch.arange(window) + 0.5) / window) ** 2
    groups = [WindowGroup(gaussian_network(process, level, 0.01), [start]) for level, start in ((-0.5, 0), (0.5, 32))]
    predict = joint_predictor(groups, weights, frames)
    found = sample(process, predict, ExampleNoise([0]), (200, frames), SamplerConfig(steps=25))[0, 0].mean(0)
    torch.testing.assert_close(found[:32], torch.full((32,), -0.5), rtol=0, atol=0.02)
    torch.testing.assert_close(found[64:], torch.full((32,), 0.5), rtol=0, atol=0.02)
    assert float(found.diff().abs().max()) < 0.08


def test_frames_without_a_window_are_refused():
    with pytest.raises(ValueError, match="frame 16 is in no window"):
        joint_predictor([WindowGroup(network(torch.ones(1, 6)), [0])], WEIGHTS, 20)
