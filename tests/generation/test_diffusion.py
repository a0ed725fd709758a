import math

import numpy as np
import pytest
import torch

from vidaudio.errors import RecipeError
from vidaudio.generation import (
    Diffusion,
    DiffusionConfig,
    Flow,
    FlowConfig,
    cosine_betas,
    even_steps,
    trailing_steps,
    zero_terminal,
)
from vidaudio.generation.diffusion import grey_log_likelihood, normal_divergence

VELOCITY = DiffusionConfig(steps=50, prediction="velocity", learned_variance=False, zero_terminal_snr=True)


def slow_signal(steps: int) -> list[float]:
    """Return alpha bar of every step by the definition, number by number."""
    signal, product = [], 1.0
    for step in range(steps):
        ends = [math.cos((t / steps + 0.008) / 1.008 * math.pi / 2) ** 2 for t in (step, step + 1)]
        product *= 1 - min(1 - ends[1] / ends[0], 0.999)
        signal.append(product)
    return signal


def test_betas_of_the_cosine_schedule():
    # Computed from the formula with 50 digits.
    betas = cosine_betas(4000)
    for step, value in {0: 9.86581881359e-6, 2000: 7.88935553511e-4, 3999: 0.999}.items():
        assert float(betas[step]) == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(Diffusion().signal, slow_signal(4000), rtol=1e-9)


@pytest.mark.parametrize("kept", [None, even_steps(50, 7), trailing_steps(50, 7)])
def test_posterior_equals_bayes_rule(kept):
    """The product of two normal densities, the prior of the step before and the likelihood of the step."""
    process = Diffusion(DiffusionConfig(steps=50), kept)
    mel, noisy = torch.tensor([[0.3]], dtype=torch.float64), torch.tensor([[-0.8]], dtype=torch.float64)
    for step in range(1, process.steps):
        before, beta = float(process.signal[step - 1]), float(process.betas[step])
        prior_mean, prior_variance = math.sqrt(before) * 0.3, 1 - before
        precision = 1 / prior_variance + (1 - beta) / beta
        mean = (prior_mean / prior_variance + math.sqrt(1 - beta) * -0.8 / beta) / precision
        steps = torch.tensor([step])
        assert float(process.posterior_mean(mel, noisy, steps)) == pytest.approx(mean, rel=1e-6)
        assert float(process.posterior_variance[step]) == pytest.approx(1 / precision, rel=1e-6)


def test_variance_lies_between_the_posteriors_and_beta():
    process = Diffusion(DiffusionConfig(steps=50))
    like = torch.zeros(3, 1, 1, 1, dtype=torch.float64)
    steps = torch.tensor([0, 1, 40])
    least = torch.tensor([process.posterior_variance[step] for step in (1, 1, 40)])
    most = process.betas[steps]
    for share, wanted in ((-1.0, least), (1.0, most), (0.0, (least * most).sqrt()), (None, least)):
        given = None if share is None else like + share
        found = process.log_variance(given, steps, like).exp().flatten()
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=0)


def test_a_prediction_and_the_mel_mean_each_other():
    generator = torch.Generator().manual_seed(0)
    mel, noise = torch.randn(2, 4, 1, 3, 5, generator=generator, dtype=torch.float64) * 0.3
    steps = torch.tensor([0, 7, 30, 48])
    for config in (DiffusionConfig(steps=50), VELOCITY):
        process = Diffusion(config)
        noisy = process.noisy(mel, steps, noise)
        target = noise
        if config.prediction == "velocity":
            target = process.amplitude(steps, mel) * noise - process.spread(steps, mel) * mel
        torch.testing.assert_close(process.clean(target, noisy, steps), mel, rtol=0, atol=1e-6)


def slow_bound(process: Diffusion, mel: float, noisy: float, prediction: float, share: float, step: int) -> float:
    """Return the variational bound's term of one number, in bits, by the definitions."""
    signal, beta = float(process.signal[step]), float(process.betas[step])
    before = float(process.signal[step - 1]) if step else 1.0
    clean = (noisy - math.sqrt(1 - signal) * prediction) / math.sqrt(signal)

    def mean(x0: float) -> float:
        return (math.sqrt(before) * beta * x0 + math.sqrt(1 - beta) * (1 - before) * noisy) / (1 - signal)

    second = max(step, 1)
    posterior = (
        float(process.betas[second]) * (1 - float(process.signal[second - 1])) / (1 - float(process.signal[second]))
    )
    least = math.log(posterior)
    part = (share + 1) / 2
    log_variance = part * math.log(beta) + (1 - part) * least
    if step:
        nats = 0.5 * (
            log_variance
            - least
            - 1
            + math.exp(least - log_variance)
            + (mean(mel) - mean(clean)) ** 2 / math.exp(log_variance)
        )
        return nats / math.log(2)

    def integral(x: float) -> float:
        return 0.5 * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    spread = math.exp(0.5 * log_variance)
    upper, lower = (integral((mel - mean(clean) + sign / 255) / spread) for sign in (1, -1))
    probability = upper if mel < -0.999 else 1 - lower if mel > 0.999 else upper - lower
    return -math.log(max(probability, 1e-12)) / math.log(2)


def test_hybrid_loss_equals_the_slow_formula():
    process = Diffusion(DiffusionConfig(steps=2000))
    generator = torch.Generator().manual_seed(3)
    mel = torch.rand(5, 1, 2, 3, generator=generator, dtype=torch.float64) * 2 - 1
    mel[0, 0, 0, :2] = torch.tensor([-1.0, 1.0])
    noise = torch.randn(mel.shape, generator=generator, dtype=torch.float64)
    draws = torch.tensor([0.0, 0.0007, 0.0103, 0.5001, 0.9999])
    steps = (draws * 2000).long()
    output = torch.randn(5, 2, 2, 3, generator=generator, dtype=torch.float64).mul(0.1)
    output[:, :1] += noise
    told = []

    def network(noisy: torch.Tensor, times: torch.Tensor, condition: None) -> torch.Tensor:
        told.append(times)
        return output

    parts = process.losses(network, mel, None, draws, noise)
    noisy = process.noisy(mel, steps, noise)
    torch.testing.assert_close(told[0], steps.double() / 2)
    for row in range(5):
        numbers = [
            (float(a), float(b), float(c), float(d))
            for a, b, c, d in zip(
                mel[row].flatten(),
                noisy[row].flatten(),
                output[row, 0].flatten(),
                output[row, 1].flatten(),
                strict=True,
            )
        ]
        bits = [slow_bound(process, *values, int(steps[row])) for values in numbers]
        error = float((output[row, 0] - noise[row, 0]).square().mean())
        assert float(parts["error"][row]) == pytest.approx(error, rel=1e-6)
        assert float(parts["bound"][row]) == pytest.approx(2 * sum(bits) / len(bits), rel=1e-6)
        assert float(parts["loss"][row]) == pytest.approx(float(parts["error"][row] + parts["bound"][row]))


def test_the_bound_trains_the_variance_alone():
    process = Diffusion(DiffusionConfig(steps=100))
    mel, noise = torch.zeros(2, 1, 2, 2), torch.randn(2, 1, 2, 2)
    prediction = torch.zeros(2, 1, 2, 2, requires_grad=True)
    share = torch.zeros(2, 1, 2, 2, requires_grad=True)
    bound = process.losses(lambda *_: torch.cat([prediction, share], 1), mel, None, torch.tensor([0.0, 0.5]), noise)[
        "bound"
    ]
    bound.sum().backward()
    assert prediction.grad is not None
    assert share.grad is not None
    assert not prediction.grad.any()
    assert share.grad.abs().min() > 0


def test_divergence_and_likelihood_are_what_they_are_called():
    zero = torch.zeros(1, dtype=torch.float64)
    assert float(normal_divergence(zero, zero, zero, zero)) == 0
    # KL(N(0, 1) || N(1, 4)) = ln 2 + (1 + 1) / 8 - 1 / 2
    found = normal_divergence(zero, zero, zero + 1, zero + math.log(4))
    assert float(found) == pytest.approx(math.log(2) + 0.25 - 0.5)
    values = torch.linspace(-1, 1, 256, dtype=torch.float64)
    total = grey_log_likelihood(values, torch.tensor(0.2).double(), torch.tensor(-2.0).double()).exp().sum()
    assert float(total) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("steps", "count"), [(4000, 1000), (4000, 25), (10, 10), (10, 1), (7, 3)])
def test_respacing(steps, count):
    kept = even_steps(steps, count)
    assert kept == sorted(set(kept))
    assert len(kept) == count
    if count > 1:
        assert (kept[0], kept[-1]) == (0, steps - 1)
        assert kept == np.linspace(0, steps - 1, count).round().astype(int).tolist()
    trailing = trailing_steps(steps, count)
    assert trailing == sorted(set(trailing))
    assert (len(trailing), trailing[-1]) == (count, steps - 1)
    process = Diffusion(DiffusionConfig(steps=steps))
    respaced = process.respaced(kept)
    torch.testing.assert_close((1 - respaced.betas).cumprod(0), process.signal[kept])
    torch.testing.assert_close(respaced.times, torch.tensor(kept).double() * 1000 / steps)


def test_a_tie_in_respacing_is_decided_as_in_improved_ddpm():
    # The sum of fifteen distances of 133.3 is just below 1999.5, their product just above.
    assert even_steps(4000, 31)[14:17] == [1866, 1999, 2133]


@pytest.mark.parametrize("count", [0, 11])
def test_impossible_respacing_is_refused(count):
    for choose in (even_steps, trailing_steps):
        with pytest.raises(ValueError, match="between 1 and 10"):
            choose(10, count)


def test_zero_terminal_snr():
    betas = zero_terminal(cosine_betas(4000))
    signal = (1 - betas).cumprod(0)
    assert float(signal[-1]) == 0
    assert float(signal[0]) == pytest.approx(float(1 - cosine_betas(4000)[0]))
    assert bool((signal[1:] < signal[:-1]).all())
    with pytest.raises(RecipeError, match="velocity"):
        DiffusionConfig(zero_terminal_snr=True)


def test_flow_is_a_straight_path():
    generator = torch.Generator().manual_seed(0)
    mel, noise = torch.randn(2, 3, 1, 4, 5, generator=generator)
    flow = Flow()
    draws = torch.tensor([0.0, 0.3, 0.9])
    seen = {}

    def network(noisy: torch.Tensor, times: torch.Tensor, condition: None) -> torch.Tensor:
        seen.update(noisy=noisy, times=times)
        return noise - mel + 0.5

    losses = flow.losses(network, mel, None, draws, noise)
    torch.testing.assert_close(losses["loss"], torch.full((3,), 0.25))
    torch.testing.assert_close(seen["times"], draws * 1000)
    torch.testing.assert_close(seen["noisy"][1], 0.7 * mel[1] + 0.3 * noise[1])
    times = Flow(FlowConfig("logit_normal")).times_of(torch.linspace(0, 1, 10_001)[:-1])
    assert float(times.mean()) == pytest.approx(0.5, abs=1e-3)
    assert float(times.logit().std()) == pytest.approx(1, abs=0.01)
