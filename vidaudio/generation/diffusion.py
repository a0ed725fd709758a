"""Denoising diffusion: the noise schedule, what the network predicts, the training loss, and the posterior.

Improved DDPM (Nichol and Dhariwal, ICML 2021, arXiv:2102.09672): cosine schedule, 4,000 steps, the noise and the
variance are predicted, hybrid loss. Its modern options are velocity prediction (Salimans and Ho, ICLR 2022) and a
schedule whose last step is pure noise (Lin et al., WACV 2024). Steps are counted from 0, the least noisy one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from vidaudio.errors import RecipeError
from vidaudio.noise_schedules import cosine_betas

# A network maps noisy mels [B, 1, bands, frames], times [B] between 0 and 1000 and a condition to its prediction.
Network = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]
# Times are given to the network on this scale, whatever the number of steps.
TIME_SCALE = 1000.0
# A picture of 8 bits has 255 steps between -1 and 1; the likelihood of the last denoising step counts in them.
GREY_STEPS = 255


@dataclass(frozen=True)
class DiffusionConfig:
    """Settings of a diffusion process.

    Attributes:
        steps: Steps of noise in training.
        prediction: What the network predicts: the noise, or the velocity alpha noise - sigma mel.
        learned_variance: Whether the network also predicts the variance of a denoising step.
        zero_terminal_snr: Whether the last step is rescaled to pure noise; it needs velocity prediction.

    Raises:
        RecipeError: When the settings do not fit together.
    """

    steps: int = 4000
    prediction: Literal["noise", "velocity"] = "noise"
    learned_variance: bool = True
    zero_terminal_snr: bool = False

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise RecipeError(f"diffusion.steps is {self.steps}: it must be at least 2")
        if self.zero_terminal_snr and self.prediction == "noise":
            raise RecipeError(
                "diffusion.zero_terminal_snr is on: from pure noise the noise says nothing of the mel; set "
                "diffusion.prediction=velocity"
            )


def zero_terminal(betas: Tensor) -> Tensor:
    """Return betas rescaled so that the last step has no signal and the first one its own (Lin et al., algorithm 1)."""
    signal = (1 - betas).cumprod(0).sqrt()
    signal = (signal - signal[-1]) * (signal[0] / (signal[0] - signal[-1]))
    share = signal.square()
    return 1 - torch.cat([share[:1], share[1:] / share[:-1]])


def even_steps(steps: int, count: int) -> list[int]:
    """Return `count` of `steps` steps at even distances, the first and the last included (improved DDPM's respacing).

    Distances are summed as in its code, where sums decide which of two steps is the nearest. Of one step, the last is
    made: in its code it is the first, which takes noise for a mel.

    Raises:
        ValueError: When there are fewer steps than that.
    """
    if not 1 <= count <= steps:
        raise ValueError(f"{count} of {steps} diffusion steps: it must be between 1 and {steps}")
    if count == 1:
        return [steps - 1]
    distances = itertools.repeat((steps - 1) / (count - 1), count - 1)
    return [round(position) for position in itertools.accumulate(distances, initial=0.0)]


def trailing_steps(steps: int, count: int) -> list[int]:
    """Return `count` of `steps` steps at even distances that end with the last one (Lin et al., table 2).

    Raises:
        ValueError: When there are fewer steps than that.
    """
    if not 1 <= count <= steps:
        raise ValueError(f"{count} of {steps} diffusion steps: it must be between 1 and {steps}")
    return [round(steps * (number + 1) / count) - 1 for number in range(count)]


class Diffusion(nn.Module):
    """A diffusion process, or one that makes some of its steps at once.

    Args:
        config: Settings of the process; None for the defaults.
        kept: Steps of the process that are made, increasing; None for all.

    Attributes:
        config: Settings of the process that is trained.
        times: What the network is told of each step, `[S]`, between 0 and 1000.
        betas: Share of noise that each step adds, float64 `[S]`.
        signal: Share of the mel's energy that is left after each step (alpha bar), float64 `[S]`.
    """

    times: Tensor
    betas: Tensor
    signal: Tensor
    signal_before: Tensor
    posterior_variance: Tensor
    least_log_variance: Tensor
    most_log_variance: Tensor

    def __init__(self, config: DiffusionConfig | None = None, kept: Sequence[int] | None = None) -> None:
        super().__init__()
        self.config = config = config or DiffusionConfig()
        betas = cosine_betas(config.steps)
        if config.zero_terminal_snr:
            betas = zero_terminal(betas)
        numbers = torch.arange(config.steps) if kept is None else torch.tensor(list(kept))
        signal = (1 - betas).cumprod(0)[numbers]
        before = torch.cat([signal.new_ones(1), signal[:-1]])
        betas = betas if kept is None else 1 - signal / before
        variance = betas * (1 - before) / (1 - signal)
        # The first step's variance is 0, whose logarithm is none: that of the second stands in for it.
        least = torch.cat([variance[1:2], variance[1:]]).log() if len(variance) > 1 else betas.log()
        buffers = {
            "times": numbers.double() * (TIME_SCALE / config.steps),
            "betas": betas,
            "signal": signal,
            "signal_before": before,
            "posterior_variance": variance,
            "least_log_variance": least,
            "most_log_variance": betas.log(),
        }
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)

    @property
    def steps(self) -> int:
        """Return the number of steps."""
        return len(self.betas)

    def respaced(self, kept: Sequence[int]) -> Diffusion:
        """Return the process that makes only some steps of this one, as `even_steps` gives them."""
        return Diffusion(self.config, kept).to(self.betas.device)

    def noisy(self, mel: Tensor, steps: Tensor, noise: Tensor) -> Tensor:
        """Return mels after so many steps of noise: `[B, ...]`, steps int64 `[B]`."""
        return self.amplitude(steps, mel) * mel + self.spread(steps, mel) * noise

    def amplitude(self, steps: Tensor, like: Tensor) -> Tensor:
        """Return what the mel is multiplied with at each step (alpha)."""
        return self._at(self.signal.sqrt(), steps, like)

    def spread(self, steps: Tensor, like: Tensor) -> Tensor:
        """Return what the noise is multiplied with at each step (sigma)."""
        return self._at((1 - self.signal).sqrt(), steps, like)

    def parts(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """Split a network's output into its prediction and the predicted share of the variance, which may be None."""
        if not self.config.learned_variance:
            return output, None
        prediction, share = output.chunk(2, dim=1)
        return prediction, share

    def clean(self, prediction: Tensor, noisy: Tensor, steps: Tensor) -> Tensor:
        """Return the mel that a prediction at some steps means, not clipped."""
        return self.clean_at(prediction, noisy, self.amplitude(steps, noisy), self.spread(steps, noisy))

    def clean_at(self, prediction: Tensor, noisy: Tensor, amplitude: Tensor | float, spread: Tensor | float) -> Tensor:
        """Return the mel that a prediction means where the noisy mel is `amplitude * mel + spread * noise`."""
        if self.config.prediction == "velocity":
            return amplitude * noisy - spread * prediction
        return (noisy - spread * prediction) / amplitude

    def posterior_mean(self, mel: Tensor, noisy: Tensor, steps: Tensor) -> Tensor:
        """Return the mean of the mel one step before a noisy one, if the clean one is known (Ho et al., eq. 7)."""
        of_mel = self.betas * self.signal_before.sqrt() / (1 - self.signal)
        of_noisy = (1 - self.signal_before) * (1 - self.betas).sqrt() / (1 - self.signal)
        return self._at(of_mel, steps, mel) * mel + self._at(of_noisy, steps, mel) * noisy

    def log_variance(self, share: Tensor | None, steps: Tensor, like: Tensor) -> Tensor:
        """Return the logarithm of a denoising step's variance.

        Args:
            share: Predicted share in [-1, 1]: -1 is the posterior's variance, 1 is beta, and logarithms lie between
                (Nichol and Dhariwal, eq. 15); None for the posterior's.
            steps: Steps, int64 `[B]`.
            like: Tensor of the wanted type and number of dimensions.
        """
        least = self._at(self.least_log_variance, steps, like)
        if share is None:
            return least.expand_as(like)
        part = (share + 1) / 2
        return part * self._at(self.most_log_variance, steps, like) + (1 - part) * least

    def losses(
        self, network: Network, mel: Tensor, condition: Tensor | None, draws: Tensor, noise: Tensor
    ) -> dict[str, Tensor]:
        """Return the parts of the training loss of each example, `[B]`.

        `loss` is their sum: `error`, the mean squared error of the prediction, and with a learned variance `bound`, the
        variational bound in bits a pixel, times steps / 1000, which only trains the variance (Nichol and Dhariwal,
        section 3.1; the scale is that of their code).

        Args:
            network: Network to train.
            mel: Mels in [-1, 1], `[B, 1, bands, frames]`.
            condition: Conditions of the network.
            draws: Numbers drawn uniformly from [0, 1), `[B]`: each chooses a step.
            noise: Standard normal, of the mels' shape.
        """
        steps = (draws.double() * self.steps).long().clamp(max=self.steps - 1)
        noisy = self.noisy(mel, steps, noise)
        prediction, share = self.parts(network(noisy, self.times[steps].to(mel.dtype), condition))
        target = noise
        if self.config.prediction == "velocity":
            target = self.amplitude(steps, mel) * noise - self.spread(steps, mel) * mel
        error = _mean(prediction.to(mel.dtype) - target, squared=True)
        if share is None:
            return {"loss": error, "error": error}
        bound = self.bound(prediction.detach().to(mel.dtype), share.to(mel.dtype), mel, noisy, steps) * (
            self.steps / TIME_SCALE
        )
        return {"loss": error + bound, "error": error, "bound": bound}

    def bound(self, prediction: Tensor, share: Tensor, mel: Tensor, noisy: Tensor, steps: Tensor) -> Tensor:
        """Return the term of the variational bound of each example's step, bits a pixel, `[B]`."""
        mean = self.posterior_mean(self.clean(prediction, noisy, steps), noisy, steps)
        log_variance = self.log_variance(share, steps, mel)
        true_mean, true_log_variance = self.posterior_mean(mel, noisy, steps), self.log_variance(None, steps, mel)
        divergence = _mean(normal_divergence(true_mean, true_log_variance, mean, log_variance))
        likelihood = _mean(grey_log_likelihood(mel, mean, log_variance))
        return torch.where(steps == 0, -likelihood, divergence) / math.log(2)

    def _at(self, values: Tensor, steps: Tensor, like: Tensor) -> Tensor:
        """Return the values of some steps, in the type of `like`, with dimensions to multiply it."""
        return values[steps].to(like.dtype).reshape(-1, *[1] * (like.ndim - 1))


def normal_divergence(mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of one normal distribution from another, nats, element by element."""
    ratio = (log_variance - other_log_variance).exp()
    distance = (mean - other_mean).square() * (-other_log_variance).exp()
    return 0.5 * (other_log_variance - log_variance - 1 + ratio + distance)


def grey_log_likelihood(mel: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the log likelihood of values in [-1, 1] that are known to one of 255 steps, nats, element by element.

    The probability of a value is that of half a step around it; at the ends it is all that lies beyond. The normal
    distribution's integral is approximated as in improved DDPM's code (by tanh; Page, 1977).
    """
    centred, inverse = mel - mean, (-0.5 * log_variance).exp()
    above = _normal_integral(inverse * (centred + 1 / GREY_STEPS))
    below = _normal_integral(inverse * (centred - 1 / GREY_STEPS))
    middle = (above - below).clamp_min(1e-12).log()
    ends = torch.where(mel > 0.999, (1 - below).clamp_min(1e-12).log(), middle)
    return torch.where(mel < -0.999, above.clamp_min(1e-12).log(), ends)


def _normal_integral(x: Tensor) -> Tensor:
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def _mean(values: Tensor, *, squared: bool = False) -> Tensor:
    """Return the mean over all dimensions but the first."""
    return (values.square() if squared else values).flatten(1).mean(1)
