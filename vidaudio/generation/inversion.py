"""Inversion: the noise from which a sampler makes a given mel, and the same noise denoised under another prompt.

A sampler that adds no noise is a map from noise to mels, which is inverted step by step (DDIM inversion, Song et al.,
ICLR 2021, section 4.3). The textbook's step back takes the prediction at the cleaner level in place of that at the
noisier one; here each step is solved for the noisy mel by fixed-point iteration, whose first round is the textbook's.

A mixture that is inverted under no prompt and denoised under a source's prompt becomes that source: separation without
training (ZeroSep, Huang et al., 2025).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vidaudio.errors import UsageError
from vidaudio.generation.flow import Flow
from vidaudio.generation.guidance import Predictor
from vidaudio.generation.samplers import (
    ExampleNoise,
    NoiseLevel,
    Process,
    SamplerConfig,
    clean_mel,
    make_sampler,
    sampler_levels,
)

ROUNDS = 3
MOST_ROUNDS = 100


def invert(
    process: Process,
    predict: Predictor,
    mel: Tensor,
    levels: Sequence[NoiseLevel],
    *,
    rounds: int = ROUNDS,
    on_step: Callable[[], object] = lambda: None,
) -> Tensor:
    """Return the noise, at the first level, from which DDIM or Euler's method makes the mels at these levels.

    Args:
        process: Process that the network was trained for.
        predict: Network, asked with its conditions.
        mel: Mels in [-1, 1], `[B, 1, bands, frames]`.
        levels: Levels of the sampler, from noise on, see `sampler_levels`.
        rounds: Rounds of the iteration for each step; each calls the network once.
        on_step: Called after every step.

    Raises:
        UsageError: When the number of rounds is out of range.
    """
    if not 1 <= rounds <= MOST_ROUNDS:
        raise UsageError(f"{rounds} rounds for a step back: a number between 1 and {MOST_ROUNDS} is wanted")
    back = _euler_back if isinstance(process, Flow) else _ddim_back
    after = mel
    for number in reversed(range(len(levels) - 1)):
        noisy = after
        for _ in range(rounds):
            noisy = back(process, predict, noisy, after, levels[number], levels[number + 1])
        after = noisy
        on_step()
    return after


def _ddim_back(
    process: Process, predict: Predictor, guess: Tensor, after: Tensor, level: NoiseLevel, next_level: NoiseLevel
) -> Tensor:
    """Return a better guess of the noisy mel at a level from which DDIM makes `after` at the next one."""
    assert not isinstance(process, Flow)
    mel = clean_mel(process, predict, guess, level)
    if not level.amplitude:
        # From noise alone the mel does not tell the noise; the next level does.
        return (after - next_level.amplitude * mel) / next_level.spread
    noise = (guess - level.amplitude * mel) / level.spread
    scale = level.amplitude / next_level.amplitude
    return scale * after + (level.spread - scale * next_level.spread) * noise


def _euler_back(
    process: Process, predict: Predictor, guess: Tensor, after: Tensor, level: NoiseLevel, next_level: NoiseLevel
) -> Tensor:
    """Return a better guess of the noisy mel at a level from which Euler's method makes `after` at the next one."""
    times = torch.full((len(guess),), level.time, dtype=guess.dtype, device=guess.device)
    return after + (level.spread - next_level.spread) * predict(guess, times)


def reversible(process: Process, steps: int) -> SamplerConfig:
    """Return the sampler of a process that `invert` inverts: Euler's method for flow matching, otherwise DDIM."""
    return SamplerConfig("euler" if isinstance(process, Flow) else "ddim", steps)


def change_prompt(
    process: Process,
    mel: Tensor,
    inverted_under: Predictor,
    denoised_under: Sequence[Predictor],
    steps: int,
    *,
    rounds: int = ROUNDS,
    on_step: Callable[[], object] = lambda: None,
) -> list[Tensor]:
    """Return what mels become if they are inverted under one prompt and denoised under others.

    Args:
        process: Process that the network was trained for.
        mel: Mels in [-1, 1], `[B, 1, bands, frames]`.
        inverted_under: Network, asked with the prompt that describes the mels, or with none.
        denoised_under: Network, asked with each wanted prompt.
        steps: Steps in each direction.
        rounds: Rounds for each step back, see `invert`.
        on_step: Called after every step in either direction.

    Returns:
        Mels in [-1, 1] of each wanted prompt, `[B, 1, bands, frames]`.

    Raises:
        UsageError: When a number is out of range.
    """
    config = reversible(process, steps)
    noise = invert(process, inverted_under, mel, sampler_levels(process, config), rounds=rounds, on_step=on_step)
    found = []
    for predict in denoised_under:
        made = noise
        # The sampler adds no noise.
        for after in make_sampler(process, predict, ExampleNoise([]), config).run(noise):
            made = after
            on_step()
        found.append(made.clamp(-1, 1))
    return found
