"""Editing: sampling that begins with the mel of an existing sound, or that keeps a part of it.

A variation is noised a part of the way and denoised again (SDEdit, Meng et al., ICLR 2022). Inpainting replaces the
known frames after every step by the known mel at that level of noise (RePaint, Lugmayr et al., CVPR 2022, eq. 8). Each
step may be made several times, with a return to the level before in between, so that both parts agree (RePaint, section
4.2, with jumps of one step).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vidaudio.errors import UsageError
from vidaudio.generation.diffusion import TIME_SCALE
from vidaudio.generation.guidance import Predictor
from vidaudio.generation.samplers import ExampleNoise, NoiseLevel, Process, SamplerConfig, make_sampler, sampler_levels

MOST_REPEATS = 100


@dataclass(frozen=True)
class Edit:
    """Mel of an existing sound, and what is to become of it.

    Attributes:
        mel: Mel in [-1, 1], `[bands, frames]`.
        strength: Share of the way to noise from which the mel is denoised: 1 begins with noise alone, small values give
            the mel back.
        generated: Frames that are generated, bool `[frames]`, while the others are kept; None for all.
        repeats: How often each step is made; more than once makes the generated frames agree better with the others.

    Raises:
        UsageError: When a value is out of its range.
    """

    mel: Tensor
    strength: float = 1.0
    generated: Tensor | None = None
    repeats: int = 1

    def __post_init__(self) -> None:
        check_strength(self.strength)
        check_repeats(self.repeats)


def check_strength(strength: float) -> None:
    """Check a strength.

    Raises:
        UsageError: When it is out of range.
    """
    if not 0 < strength <= 1:
        raise UsageError(f"strength {strength:g}: a number above 0 and up to 1 is wanted; 1 begins with noise alone")


def check_repeats(repeats: int) -> None:
    """Check a number of repeats.

    Raises:
        UsageError: When it is out of range.
    """
    if not 1 <= repeats <= MOST_REPEATS:
        raise UsageError(f"each step made {repeats} times: a number between 1 and {MOST_REPEATS} is wanted")


def first_level(levels: Sequence[NoiseLevel], strength: float) -> int:
    """Return the number of the noisiest level whose time is at most `strength` of the way to noise."""
    if strength == 1:
        return 0
    return next(number for number, level in enumerate(levels) if level.time <= strength * TIME_SCALE)


def check_reach(process: Process, config: SamplerConfig, strength: float) -> None:
    """Check that a sampler has a level not far below a strength: one of few steps has none at little noise.

    Raises:
        UsageError: When the sampler would begin at less than a tenth of the strength.
    """
    levels = sampler_levels(process, config)
    share = levels[first_level(levels, strength)].time / TIME_SCALE
    if strength < 1 and share < strength / 10:
        raise UsageError(
            f"strength {strength:g}: a sampler of {config.steps} steps has no level between {strength / 10:g} and "
            f"{strength:g} of the way to noise, and would change next to nothing; give more steps or strength"
        )


def edit_steps(process: Process, config: SamplerConfig, strength: float, repeats: int) -> int:
    """Return how many steps `sample_edit` makes.

    Raises:
        UsageError: When the sampler does not fit the process, or the number of steps is out of range.
    """
    levels = sampler_levels(process, config)
    return repeats * (len(levels) - 1 - first_level(levels, strength))


def sample_edit(
    process: Process,
    predict: Predictor,
    noise: ExampleNoise,
    edit: Edit,
    config: SamplerConfig | None = None,
    *,
    on_step: Callable[[], object] = lambda: None,
) -> Tensor:
    """Return edited mels in [-1, 1], `[examples, 1, bands, frames]`; the frames that are kept are those of the mel.

    Args:
        process: Process that the network was trained for.
        predict: Network, asked with its conditions.
        noise: Source of the examples' noise.
        edit: Mel to edit; the same for all examples.
        config: Settings of the sampler; None for the defaults.
        on_step: Called after every step.

    Raises:
        UsageError: When the sampler does not fit the process, or the number of steps is out of range.
    """
    sampler = make_sampler(process, predict, noise, config or SamplerConfig())
    start = noise((1, *edit.mel.shape))
    known = edit.mel.to(start).expand_as(start)
    generated = None if edit.generated is None else edit.generated.to(start.device)
    first = first_level(sampler.levels, edit.strength)
    noisy = start if edit.strength == 1 else noised(known, sampler.levels[first], start)
    for number in range(first, len(sampler.levels) - 1):
        level, after = sampler.levels[number], sampler.levels[number + 1]
        for left in reversed(range(edit.repeats)):
            noisy = sampler.step(noisy, number)
            if generated is not None:
                kept = noised(known, after, noise(known.shape[1:])) if after.spread else known
                noisy = torch.where(generated, noisy, kept)
            on_step()
            if left:
                noisy = noised_again(noisy, after, level, noise(noisy.shape[1:]))
    return noisy.clamp(-1, 1)


def noised(mel: Tensor, level: NoiseLevel, noise: Tensor) -> Tensor:
    """Return a mel at a level of noise."""
    return level.amplitude * mel + level.spread * noise


def noised_again(noisy: Tensor, level: NoiseLevel, before: NoiseLevel, noise: Tensor) -> Tensor:
    """Return a noisy mel of a level taken back to a noisier one (RePaint, eq. 1, over any distance).

    Args:
        noisy: Mel at `level`.
        level: Level of the mel, which has some signal.
        before: Level with more noise.
        noise: Standard normal, of the mel's shape.
    """
    kept = before.amplitude / level.amplitude
    return kept * noisy + math.sqrt(max(before.spread**2 - (kept * level.spread) ** 2, 0.0)) * noise
