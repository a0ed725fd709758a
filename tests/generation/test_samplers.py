import pytest
import torch

from tests.generation.test_denoiser import random_denoiser
from vidaudio.errors import UsageError
from vidaudio.generation import (
    Diffusion,
    DiffusionConfig,
    ExampleNoise,
    Flow,
    Guidance,
    SamplerConfig,
    guided,
    sample,
)
from vidaudio.generation.samplers import MEL_ALONE, NoiseLevel, Sampler, _dpm_solver

SHAPE = (8, 16)
MODERN = DiffusionConfig(steps=400, prediction="velocity", learned_variance=False, zero_terminal_snr=True)


def mel() -> torch.Tensor:
    return torch.rand(3, 1, *SHAPE, generator=torch.Generator().manual_seed(5)) * 1.8 - 0.9


def share_at(process: Diffusion, times: torch.Tensor) -> torch.Tensor:
    """Return the share of signal at times that may lie between two steps, float64 `[B, 1, 1, 1]`."""
    log_snr = 0.5 * (process.signal.log() - (-process.signal).log1p())
    numbers = (times.double() * process.config.steps / 1000).clamp(0, process.steps - 1)
    below = numbers.floor().long()
    above, part = (below + 1).clamp(max=process.steps - 1), numbers - below
    mixed = torch.where(part > 0, torch.lerp(log_snr[below], log_snr[above], part), log_snr[below])
    return torch.sigmoid(2 * mixed).reshape(-1, 1, 1, 1)


def network_that_finds(process: Diffusion | Flow, find):
    """Return a network whose predictions mean the mels that `find` makes of noisy mel, amplitude and spread."""

    def predict(noisy: torch.Tensor, times: torch.Tensor) -> torch.Tensor:
        if isinstance(process, Flow):
            spread = (times / 1000).reshape(-1, 1, 1, 1)
            return (noisy - find(noisy, 1 - spread, spread)) / spread
        share = share_at(process, times)
        clean = find(noisy, share.sqrt(), (1 - share).sqrt())
        noise = (noisy - share.sqrt() * clean) / (1 - share).sqrt()
        if process.config.prediction == "velocity":
            noise = share.sqrt() * noise - (1 - share).sqrt() * clean
        output = noise.float()
        if process.config.learned_variance:
            output = torch.cat([output, torch.full_like(output, -1.0)], 1)
        return output

    return predict


def oracle(process: Diffusion | Flow, clean: torch.Tensor):
    """Return a network that knows the clean mel, and predicts the true noise in whatever it is shown."""
    return network_that_finds(process, lambda noisy, amplitude, spread: clean)


def gaussian_network(process: Diffusion | Flow, mean: float | torch.Tensor, deviation: float | torch.Tensor):
    """Return the best possible network for mels whose numbers are independent normal ones."""

    def find(noisy: torch.Tensor, amplitude: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
        gain = amplitude * deviation**2 / (amplitude**2 * deviation**2 + spread**2)
        return mean + gain * (noisy - amplitude * mean)

    return network_that_finds(process, find)


@pytest.mark.parametrize("steps", [1, 2, 25, 100])
@pytest.mark.parametrize(
    ("process", "name", "spacing", "eta"),
    [
        (Diffusion(DiffusionConfig(steps=400)), "ancestral", "even", 0),
        (Diffusion(DiffusionConfig(steps=400)), "ddim", "even", 0),
        (Diffusion(DiffusionConfig(steps=400)), "ddim", "log_snr", 0),
        (Diffusion(DiffusionConfig(steps=400)), "ddim", "even", 1),
        (Diffusion(DiffusionConfig(steps=400)), "dpm-solver++", "even", 0),
        (Diffusion(DiffusionConfig(steps=400)), "dpm-solver++", "log_snr", 0),
        (Diffusion(MODERN), "dpm-solver++", "log_snr", 0),
        (Diffusion(DiffusionConfig(steps=400)), "sde-dpm-solver++", "even", 0),
        (Diffusion(DiffusionConfig(steps=400)), None, "log_snr", 0),
        (Diffusion(MODERN), None, "log_snr", 0),
        (Diffusion(MODERN), None, "trailing", 0),
        (Diffusion(MODERN), "ddim", "trailing", 0),
        (Diffusion(MODERN), "dpm-solver++", "trailing", 0),
        (Flow(), None, "even", 0),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_given_the_true_noise_the_true_mel_comes_back(process, name, spacing, eta, steps):
    clean = mel()
    config = SamplerConfig(name, steps, spacing, eta)
    found = sample(process, oracle(process, clean), ExampleNoise([1, 2, 3]), SHAPE, config)
    # The last step's own noise is so small that float32 leaves 1e-3 of a mel in [-1, 1].
    torch.testing.assert_close(found, clean, rtol=0, atol=2e-3)


@pytest.mark.parametrize("deviation", [0.1, 0.03])
@pytest.mark.parametrize(
    ("name", "steps", "spacing", "least", "most"),
    [
        ("ancestral", 4000, None, 0.96, 1.01),
        ("ddim", 100, None, 0.95, 1.01),
        ("dpm-solver++", 25, None, 0.97, 1.02),
        ("dpm-solver++", 50, None, 0.97, 1.02),
        ("sde-dpm-solver++", 25, None, 0.97, 1.05),
        ("sde-dpm-solver++", 100, None, 0.97, 1.02),
        # Even steps in time leave too much to the last one: the reason why they are not the default.
        ("ddim", 100, "even", 0.7, 0.94),
        ("dpm-solver++", 25, "trailing", 0.3, 0.85),
    ],
)
def test_samples_have_the_spread_that_was_learned(name, steps, spacing, least, most, deviation):
    process = Diffusion()
    predict = gaussian_network(process, 0.3, deviation)
    found = sample(process, predict, ExampleNoise([0]), (40, 100), SamplerConfig(name, steps, spacing))
    assert float(found.mean()) == pytest.approx(0.3, abs=0.01)
    assert least < float(found.std()) / deviation < most


@pytest.mark.parametrize("is_stochastic", [False, True])
@pytest.mark.parametrize("steps", [15, 40])
def test_dpm_solver_equals_diffusers(steps, is_stochastic):
    process, denoiser = Diffusion(), random_denoiser()
    scheduler = pytest.importorskip("diffusers").DPMSolverMultistepScheduler(
        num_train_timesteps=4000,
        beta_schedule="squaredcos_cap_v2",
        algorithm_type="sde-dpmsolver++" if is_stochastic else "dpmsolver++",
        thresholding=True,
        dynamic_thresholding_ratio=1.0,
        lambda_min_clipped=-5.1,
    )
    scheduler.set_timesteps(steps)
    condition = torch.randn(2, 6)
    predict = guided(denoiser, condition, Guidance(1.5))
    noise = ExampleNoise([1, 2])
    theirs = noise((1, *SHAPE))
    with torch.inference_mode():
        for time in scheduler.timesteps:
            prediction, _ = predict(theirs, torch.full((2,), float(time) / 4)).chunk(2, 1)
            fresh = noise((1, *SHAPE)) if is_stochastic and time != scheduler.timesteps[-1] else None
            theirs = scheduler.step(prediction, time, theirs, variance_noise=fresh, return_dict=False)[0]
        shares = process.signal[scheduler.timesteps].sqrt(), (1 - process.signal[scheduler.timesteps]).sqrt()
        times = scheduler.timesteps / 4
        levels = [NoiseLevel(*map(float, values)) for values in zip(times, *shares, strict=True)]
        levels.append(MEL_ALONE)
        noise = ExampleNoise([1, 2])
        start = noise((1, *SHAPE))
        step = _dpm_solver(process, predict, levels, noise if is_stochastic else None)
        *_, ours = Sampler(levels, step).run(start)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-3)


def test_an_example_does_not_depend_on_its_neighbours():
    denoiser, process = random_denoiser(), Diffusion(DiffusionConfig(steps=100))
    conditions = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))

    def mels(rows: list[int], name: str) -> list[torch.Tensor]:
        predict = guided(denoiser, conditions[rows], Guidance(2.0))
        with torch.inference_mode():
            return list(sample(process, predict, ExampleNoise(rows), SHAPE, SamplerConfig(name, 4)))

    for name in ("ancestral", "ddim", "dpm-solver++", "sde-dpm-solver++"):
        together, alone = mels([0, 1, 2], name), [mels([row], name)[0] for row in range(3)]
        for ours, own in zip(together, alone, strict=True):
            torch.testing.assert_close(ours, own, rtol=0, atol=1e-4)
        # The same seed and vector again: the same bits.
        assert torch.equal(mels([1], name)[0], alone[1])
        assert not torch.allclose(alone[0], alone[1], atol=0.05)


def test_guidance_is_a_line_through_two_predictions():
    denoiser = random_denoiser()
    noisy, times = torch.randn(2, 1, *SHAPE), torch.full((2,), 400.0)
    condition, negative = torch.randn(2, 2, 6)
    with torch.no_grad():
        strong, weak = denoiser(noisy, times, condition), denoiser(noisy, times)
        unwanted = denoiser(noisy, times, negative)
        close = {"rtol": 1e-4, "atol": 1e-4}
        found = guided(denoiser, condition, Guidance(3.0))(noisy, times)
        torch.testing.assert_close(found[:, :1], weak[:, :1] + 3 * (strong - weak)[:, :1], **close)
        torch.testing.assert_close(found[:, 1:], strong[:, 1:], **close)
        torch.testing.assert_close(guided(denoiser, condition, Guidance())(noisy, times), strong, **close)
        away = guided(denoiser, condition, Guidance(3.0), negative=negative)(noisy, times)
        torch.testing.assert_close(away[:, :1], unwanted[:, :1] + 3 * (strong - unwanted)[:, :1], **close)
        outside = guided(denoiser, condition, Guidance(3.0, interval=(0.5, 1.0)))(noisy, times)
        torch.testing.assert_close(outside, strong, **close)
        calm = guided(denoiser, condition, Guidance(3.0, rescale=1.0))(noisy, times)
        torch.testing.assert_close(calm[:, 0].flatten(1).std(1), strong[:, 0].flatten(1).std(1), **close)
        worse = random_denoiser()
        for parameter in worse.parameters():
            parameter.mul_(0.9)
        auto = guided(denoiser, condition, Guidance(2.0), weaker=worse)(noisy, times)
        weaker = worse(noisy, times, condition)
        torch.testing.assert_close(auto[:, :1], weaker[:, :1] + 2 * (strong - weaker)[:, :1], **close)


def test_what_does_not_fit_is_refused():
    noise = ExampleNoise([0])
    for process, config, words in (
        (Flow(), SamplerConfig("ddim"), "flow matching"),
        (Diffusion(), SamplerConfig("euler"), "diffusion"),
        (Diffusion(), SamplerConfig("sde-dpmsolver++"), r"no sampler 'sde-dpmsolver\+\+'; there are"),
        (Diffusion(), SamplerConfig(steps=4001), "between 1 and 4,000"),
        (Flow(), SamplerConfig(steps=0), "between 1"),
    ):
        with pytest.raises(UsageError, match=words):
            sample(process, lambda noisy, times: noisy, noise, SHAPE, config)
    for settings, words in (
        ({"scale": -1}, "0 and 100"),
        ({"interval": (0.5, 0.5)}, "rising"),
        ({"rescale": 2}, "share"),
    ):
        with pytest.raises(UsageError, match=words):
            Guidance(**settings)


def test_an_offset_moves_all_noise_of_an_example_alike_and_belongs_to_its_seed():
    plain, offset = ExampleNoise([1, 2])((1, *SHAPE)), ExampleNoise([1, 2], offset=0.5)((1, *SHAPE))
    moved = (offset - plain).flatten(1)
    torch.testing.assert_close(moved, moved[:, :1].expand_as(moved), rtol=0, atol=1e-6)
    assert abs(float(moved[0, 0] - moved[1, 0])) > 0.01
    assert torch.equal(ExampleNoise([2], offset=0.5)((1, *SHAPE))[0], offset[1])
    many = ExampleNoise(range(400), offset=0.5)((1, *SHAPE)).flatten(1).mean(1)
    # The mean of the noise itself has a deviation of 1 / sqrt(128).
    assert 0.45 < float(many.std()) < 0.57
