"""Samplers: from noise to a mel, in as many calls of the network as the user has time for.

Ancestral sampling (Ho et al., 2020; respaced as in improved DDPM), DDIM (Song et al., ICLR 2021), DPM-Solver++ of order
two (Lu et al., 2022, algorithm 2) and its stochastic form (there, SDE-DPM-Solver++(2M)), and Euler's method for flow
matching. Each example has a random generator of its own, so that its sound does not depend on what else is generated.

A network's errors at the noisiest steps stay in a deterministic sampler's path, and there they are large: what it says
of the mel is its error in the noise, over the little signal. Fresh noise at every step washes them out. So the
stochastic form is the default: in few steps it is nearer to ancestral sampling (`benchmarks.samplers`).

A few steps at even distances in time distort the spread. Of mels whose numbers are independent and normal with a
deviation of 0.1, 25 such steps of DPM-Solver++ keep 1.34 of the deviation, or 0.80 if they end with the last step, and
100 of DDIM 0.94. Steps at even distances in the logarithm of signal to noise keep 1.01 (25 of DPM-Solver++), 1.03 (25
of its stochastic form) and 0.97 (100 of DDIM), so they are the default of these (`benchmarks.sampler_spread`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from vidaudio.errors import UsageError
from vidaudio.generation.diffusion import TIME_SCALE, Diffusion, even_steps, trailing_steps
from vidaudio.generation.flow import Flow
from vidaudio.generation.guidance import Predictor

Process = Diffusion | Flow
SamplerName = Literal["ancestral", "ddim", "dpm-solver++", "sde-dpm-solver++", "euler"]
SAMPLERS: tuple[SamplerName, ...] = get_args(SamplerName)
Spacing = Literal["log_snr", "even", "trailing"]
# Half the logarithm of signal to noise at which all but ancestral sampling begin: the cosine schedule's last steps
# beyond it hold nothing of a mel.
LEAST_LOG_SNR = -5.1
MOST_FLOW_STEPS = 10_000


@dataclass(frozen=True)
class SamplerConfig:
    """Settings of a sampler.

    Attributes:
        name: Sampler; None for the process's own: SDE-DPM-Solver++ for diffusion, Euler for flow matching.
        steps: Calls of the network; with guidance there are two a step.
        spacing: Distances of the steps: even in the logarithm of signal to noise, even in time with both ends (as
            published), or even in time and ending with the last step. None: even in time for ancestral sampling, which
            knows no other, and otherwise in the logarithm.
        eta: Noise that DDIM adds: 0 is none, 1 is that of ancestral sampling.
    """

    name: SamplerName | None = None
    steps: int = 25
    spacing: Spacing | None = None
    eta: float = 0.0


class ExampleNoise:
    """Standard normal numbers of several examples, each from a generator of its own on the processor.

    Args:
        seeds: Seed of each example.
        device: Device of the numbers.
        offset: Deviation of a further number that is added to all numbers of an example, see `offset_noise`.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu", offset: float = 0.0) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._device = device
        self._offset = offset

    def __call__(self, shape: Sequence[int]) -> Tensor:
        """Return the examples' next numbers, `[examples, *shape]`."""
        drawn = torch.stack([torch.randn(tuple(shape), generator=generator) for generator in self.generators])
        if self._offset:
            offsets = torch.stack([torch.randn((), generator=generator) for generator in self.generators])
            drawn = offset_noise(drawn, offsets, self._offset)
        return drawn.to(self._device)


def offset_noise(noise: Tensor, offsets: Tensor, deviation: float) -> Tensor:
    """Return noise whose mean varies from example to example (offset noise; Guttenberg, 2023).

    The mean of a mel's noise is nearly 0, so predicting it well hardly lowers the loss. But a sampler that begins with
    noise takes that mean for the sound's level, many times amplified. With an offset, a network learns to tell them
    apart in a fraction of the steps.

    Args:
        noise: Standard normal numbers, `[B, ...]`.
        offsets: A standard normal number for each example, `[B]`.
        deviation: Deviation of the offset.
    """
    return noise + deviation * offsets.reshape(-1, *[1] * (noise.ndim - 1)).to(noise)


@dataclass(frozen=True)
class NoiseLevel:
    """A point on the way from noise to a mel.

    Attributes:
        time: What the network is told, between 0 and 1000.
        amplitude: What the mel is multiplied with (alpha).
        spread: What the noise is multiplied with (sigma).
    """

    time: float
    amplitude: float
    spread: float

    @property
    def log_snr(self) -> float:
        """Return half the logarithm of signal to noise (lambda): -inf for noise alone, inf for a mel alone."""
        if not self.amplitude or not self.spread:
            return math.inf if self.amplitude else -math.inf
        return math.log(self.amplitude / self.spread)


MEL_ALONE = NoiseLevel(0.0, 1.0, 0.0)

# A step from one level to the next: the noisy mels at a level and the level's number to those at the next level.
Step = Callable[[Tensor, int], Tensor]


@dataclass(frozen=True)
class Sampler:
    """A sampler that is ready to run: its levels, and the step from each level to the next.

    Attributes:
        levels: Levels from noise on; the last is the mel alone.
        step: Makes the step from a level, given by its number, to the next one.
    """

    levels: Sequence[NoiseLevel]
    step: Step

    def run(self, noisy: Tensor, first: int = 0) -> Iterator[Tensor]:
        """Yield the mels after each step from the level `first` on, where `noisy` is."""
        for number in range(first, len(self.levels) - 1):
            noisy = self.step(noisy, number)
            yield noisy


def parse_sampler(name: str) -> SamplerName:
    """Return a sampler by its name.

    Raises:
        UsageError: When there is none of that name.
    """
    if name not in SAMPLERS:
        raise UsageError(f"there is no sampler {name!r}; there are {', '.join(SAMPLERS)}")
    return name


def sampler_name(process: Process, config: SamplerConfig) -> SamplerName:
    """Return the sampler of a configuration, or the process's own where it names none."""
    return config.name or ("euler" if isinstance(process, Flow) else "sde-dpm-solver++")


def sample(
    process: Process,
    predict: Predictor,
    noise: ExampleNoise,
    shape: tuple[int, int],
    config: SamplerConfig | None = None,
    *,
    on_step: Callable[[], object] = lambda: None,
) -> Tensor:
    """Return mels in [-1, 1] from noise, `[examples, 1, bands, frames]`.

    Args:
        process: Process that the network was trained for.
        predict: Network, asked with its conditions.
        noise: Source of the examples' noise.
        shape: Bands and frames.
        config: Settings of the sampler; None for the defaults.
        on_step: Called after every step.

    Raises:
        UsageError: When the sampler does not fit the process, or the number of steps is out of range.
    """
    steps = iterate(process, predict, noise, shape, config or SamplerConfig())
    for mel in steps:
        last = mel
        on_step()
    return last.clamp(-1, 1)


def iterate(
    process: Process, predict: Predictor, noise: ExampleNoise, shape: tuple[int, int], config: SamplerConfig
) -> Iterator[Tensor]:
    """Yield the noisy mels after each step of a sampler; see `sample`."""
    sampler = make_sampler(process, predict, noise, config)
    return sampler.run(noise((1, *shape)))


def make_sampler(process: Process, predict: Predictor, noise: ExampleNoise, config: SamplerConfig) -> Sampler:
    """Return a sampler's levels and its step.

    Raises:
        UsageError: When the sampler does not fit the process, or the number of steps is out of range.
    """
    levels = sampler_levels(process, config)
    if isinstance(process, Flow):
        return Sampler(levels, _euler(predict, levels))
    if config.name == "ancestral":
        return Sampler(levels, _ancestral(process.respaced(_numbers(process, config)), predict, noise))
    if config.name == "ddim":
        return Sampler(levels, _ddim(process, predict, levels, noise, config.eta))
    is_stochastic = sampler_name(process, config) == "sde-dpm-solver++"
    return Sampler(levels, _dpm_solver(process, predict, levels, noise if is_stochastic else None))


def sampler_levels(process: Process, config: SamplerConfig) -> list[NoiseLevel]:
    """Return the levels of a sampler, from noise on, and the mel alone at the end.

    Raises:
        UsageError: When there is no such sampler, it does not fit the process, or the number of steps is out of range.
    """
    if config.name is not None:
        parse_sampler(config.name)
    if isinstance(process, Flow):
        if config.name not in (None, "euler"):
            raise UsageError(f"the sampler {config.name} is for diffusion; this generator was trained by flow matching")
        _check_count(config.steps, MOST_FLOW_STEPS)
        times = [1 - step / config.steps for step in range(config.steps)]
        return [*(NoiseLevel(TIME_SCALE * time, 1 - time, time) for time in times), MEL_ALONE]
    if config.name == "euler":
        raise UsageError("the sampler euler is for flow matching; this generator was trained by diffusion")
    _check_count(config.steps, process.config.steps)
    if config.name == "ancestral":
        if config.spacing == "log_snr":
            raise UsageError("ancestral sampling makes steps of the process: their spacing is even or trailing")
        return noise_levels(process, replace(config, spacing=config.spacing or "even"))
    return noise_levels(process, config)


def _check_count(steps: int, most: int) -> None:
    if not 1 <= steps <= most:
        raise UsageError(f"{steps} sampling steps: a number between 1 and {most:,} is wanted")


def _numbers(process: Diffusion, config: SamplerConfig) -> list[int]:
    choose = trailing_steps if config.spacing == "trailing" else even_steps
    return choose(process.config.steps, config.steps)


def noise_levels(process: Diffusion, config: SamplerConfig) -> list[NoiseLevel]:
    """Return the levels at which a sampler asks the network, from noise on, and the mel alone at the end."""
    signal = process.signal.cpu().numpy()
    if config.spacing in ("even", "trailing"):
        numbers = np.array(_numbers(process, config)[::-1], float)
        shares = signal[numbers.astype(int)]
    else:
        numbers, shares = _even_in_log_snr(signal, config.steps)
    times = numbers * (TIME_SCALE / len(signal))
    levels = [
        NoiseLevel(*map(float, values)) for values in zip(times, np.sqrt(shares), np.sqrt(1 - shares), strict=True)
    ]
    return [*levels, MEL_ALONE]


def _even_in_log_snr(signal: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return steps, also between those of the process, at even distances in log SNR, and their shares of signal.

    The first is the least log SNR that counts; if the process ends with noise alone, that comes before it.
    """
    with np.errstate(divide="ignore"):
        log_snr = 0.5 * (np.log(signal) - np.log1p(-signal))
    ends_in_noise = int(not signal[-1])
    wanted = np.linspace(max(LEAST_LOG_SNR, log_snr[-1]), log_snr[0], count - ends_in_noise)
    finite = np.isfinite(log_snr)
    numbers = np.interp(-wanted, -log_snr[finite], np.flatnonzero(finite))
    shares = 1 / (1 + np.exp(-2 * wanted))
    if ends_in_noise:
        numbers, shares = np.append(len(signal) - 1.0, numbers), np.append(0.0, shares)
    return numbers, shares


def clean_mel(process: Diffusion, predict: Predictor, noisy: Tensor, level: NoiseLevel) -> Tensor:
    """Return the clean mel that a network predicts at a level, clipped to [-1, 1]."""
    times = torch.full((len(noisy),), level.time, dtype=noisy.dtype, device=noisy.device)
    prediction, _ = process.parts(predict(noisy, times))
    return process.clean_at(prediction, noisy, level.amplitude, level.spread).clamp(-1, 1)


def _ancestral(process: Diffusion, predict: Predictor, noise: ExampleNoise) -> Step:
    def step(noisy: Tensor, number: int) -> Tensor:
        left = process.steps - 1 - number
        steps = torch.full((len(noisy),), left, device=noisy.device)
        prediction, share = process.parts(predict(noisy, process.times[steps].to(noisy.dtype)))
        mel, log_variance = (
            process.clean(prediction, noisy, steps).clamp(-1, 1),
            process.log_variance(share, steps, noisy),
        )
        noisy = process.posterior_mean(mel, noisy, steps)
        if left:
            noisy = noisy + (0.5 * log_variance).exp() * noise(noisy.shape[1:])
        return noisy

    return step


def _ddim(
    process: Diffusion, predict: Predictor, levels: Sequence[NoiseLevel], noise: ExampleNoise, eta: float
) -> Step:
    def step(noisy: Tensor, number: int) -> Tensor:
        level, after = levels[number], levels[number + 1]
        mel = clean_mel(process, predict, noisy, level)
        beta = 1 - (level.amplitude / after.amplitude) ** 2
        added = eta * after.spread / level.spread * math.sqrt(beta)
        direction = math.sqrt(max(after.spread**2 - added**2, 0.0))
        noisy = after.amplitude * mel + (noisy - level.amplitude * mel) * (direction / level.spread)
        if added:
            noisy = noisy + added * noise(noisy.shape[1:])
        return noisy

    return step


def _dpm_solver(
    process: Diffusion, predict: Predictor, levels: Sequence[NoiseLevel], noise: ExampleNoise | None = None
) -> Step:
    """Return the step of DPM-Solver++, or of its stochastic form where there is a source of noise."""
    # Clean mels that were predicted at the last levels, by the level's number. A step that is made again replaces its
    # own.
    predicted: dict[int, Tensor] = {}
    distances = [after.log_snr - level.log_snr for level, after in itertools.pairwise(levels)]

    def step(noisy: Tensor, number: int) -> Tensor:
        level, after = levels[number], levels[number + 1]
        mel = predicted[number] = clean_mel(process, predict, noisy, level)
        last = predicted.get(number - 1)
        predicted.pop(number - 2, None)
        moved = mel
        if last is not None and math.isfinite(distances[number]) and math.isfinite(distances[number - 1]):
            moved = mel + (mel - last) * (0.5 * distances[number] / distances[number - 1])
        # What is left of the noise when the signal has grown to that of the next level, exp(-h).
        left = after.spread * level.amplitude / (level.spread * after.amplitude)
        if noise is None or not after.spread:
            return after.spread / level.spread * noisy + after.amplitude * (1 - left) * moved
        kept, added = after.spread / level.spread * left, after.spread * math.sqrt(1 - left**2)
        return kept * noisy + after.amplitude * (1 - left**2) * moved + added * noise(noisy.shape[1:])

    return step


def _euler(predict: Predictor, levels: Sequence[NoiseLevel]) -> Step:
    def step(noisy: Tensor, number: int) -> Tensor:
        level, after = levels[number], levels[number + 1]
        times = torch.full((len(noisy),), level.time, dtype=noisy.dtype, device=noisy.device)
        return noisy - (level.spread - after.spread) * predict(noisy, times)

    return step
