"""Sounds from a generator: conditions and seeds to mels, and mels to sound.

A sound is a function of weights, condition and seed alone. What else is generated beside it, and how much at a time,
does not change a bit of it on the same device: on a processor each example is computed alone, and on a GPU always in
blocks of the same size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vidaudio.generation import (
    Denoiser,
    Edit,
    ExampleNoise,
    Guidance,
    MelFrontEnd,
    SamplerConfig,
    fixed_length,
    griffin_lim,
    guided,
    sample,
    sample_edit,
)
from vidaudio.generation.editing import check_reach, edit_steps
from vidaudio.generation.griffinlim import ITERATIONS
from vidaudio.generation.guidance import Predictor
from vidaudio.generation.joint import WindowGroup, joint_predictor
from vidaudio.generation.samplers import Process
from vidaudio.separation.overlap_add import crossfade
from vidaudio.tasks.generation.recipe import GenerationRecipe
from vidaudio.tasks.generation.whole_video import VideoWindows
from vidaudio.tasks.vocoder.checkpoint import VocoderCheckpoint

# Examples that are computed together on a GPU.
GPU_BLOCK = 16


class SoundGenerator:
    """A network, with all that turns its mels into sound.

    Args:
        model: Network, in eval mode, on its device.
        recipe: Recipe of the network.
        vocoder: What makes sound of its mels; None for Griffin and Lim's iteration.
        weaker: Network to move away from (autoguidance), in eval mode, on the same device; None for guidance by the
            condition.
        block: Examples that are computed together; None for what makes a sound independent of the others: 1 on a
            processor, `GPU_BLOCK` on a GPU.

    Raises:
        UsageError: When the vocoder reads another mel than the network makes.
    """

    def __init__(
        self,
        model: Denoiser,
        recipe: GenerationRecipe,
        vocoder: VocoderCheckpoint | None = None,
        *,
        weaker: Denoiser | None = None,
        block: int | None = None,
    ) -> None:
        self.model = model
        self.weaker = weaker
        self.recipe = recipe
        self.device = next(model.parameters()).device
        self.front_end = MelFrontEnd(recipe.model.mel.config()).to(self.device)
        self.block = block or (GPU_BLOCK if self.device.type == "cuda" else 1)
        self.process: Process = recipe.model.process.process().to(self.device)
        self.vocoder = vocoder
        if vocoder is not None:
            vocoder.require_mel(self.front_end.config, "the generator")
            vocoder.model.to(self.device)

    @torch.inference_mode()
    def mels(
        self,
        conditions: Tensor,
        seeds: Sequence[int],
        *,
        sampler: SamplerConfig | None = None,
        guidance: Guidance | None = None,
        negative: Tensor | None = None,
        frames: int | None = None,
        edit: Edit | None = None,
        on_step: Callable[[], object] = lambda: None,
    ) -> Tensor:
        """Return mels in [-1, 1], `[N, bands, frames]`.

        Args:
            conditions: Vectors of the encoder, of any length, `[N, D]`.
            seeds: Seed of each example.
            sampler: Settings of the sampler; None for the recipe's.
            guidance: Settings of guidance; None for the recipe's.
            negative: Vector to move away from, `[D]`; None for no condition.
            frames: Frames; None for those of training. Those of `edit` are its mel's.
            edit: Mel to edit; None to begin with noise alone.
            on_step: Called after every step of a block.

        Raises:
            UsageError: When the sampler does not fit the generator.
        """
        found = []
        for first in range(0, len(seeds), self.block):
            rows = [min(row, len(seeds) - 1) for row in range(first, first + self.block)]
            predict = self.predictor(conditions[rows], guidance, negative)
            noise = self._noise([seeds[row] for row in rows])
            config = sampler or self.recipe.sampling.sampler_config()
            if edit is None:
                shape = (self.front_end.config.bands, frames or self.recipe.frames)
                mels = sample(self.process, predict, noise, shape, config, on_step=on_step)
            else:
                mels = sample_edit(self.process, predict, noise, edit, config, on_step=on_step)
            found.append(mels[: len(seeds) - first, 0])
        return torch.cat(found)

    @property
    def vocoder_name(self) -> str:
        """Return what makes sound of the mels, in words."""
        if self.vocoder is not None:
            return self.vocoder.name
        return f"Griffin-Lim, {ITERATIONS} iterations, since no vocoder was given"

    @torch.inference_mode()
    def joint_mels(
        self,
        conditions: Tensor,
        windows: VideoWindows,
        seeds: Sequence[int],
        *,
        sampler: SamplerConfig | None = None,
        guidance: Guidance | None = None,
        negative: Tensor | None = None,
        on_step: Callable[[], object] = lambda: None,
    ) -> Tensor:
        """Return mels in [-1, 1] of overlapping windows that are denoised jointly, `[N, bands, frames]`.

        Args:
            conditions: Vector of each window, `[W, D]`.
            windows: Places of the windows.
            seeds: Seed of each example.
            sampler: Settings of the sampler; None for the recipe's.
            guidance: Settings of guidance; None for the recipe's.
            negative: Vector to move away from, `[D]`; None for no condition.
            on_step: Called after every step of an example.

        Raises:
            UsageError: When the sampler does not fit the generator.
        """
        groups = [
            WindowGroup(
                self.predictor(conditions[first : first + self.block], guidance, negative),
                windows.starts[first : first + self.block],
            )
            for first in range(0, len(windows.starts), self.block)
        ]
        predict = joint_predictor(groups, crossfade(windows.window).to(self.device), windows.frames)
        config = sampler or self.recipe.sampling.sampler_config()
        shape = (self.front_end.config.bands, windows.frames)
        found = [sample(self.process, predict, self._noise([seed]), shape, config, on_step=on_step) for seed in seeds]
        return torch.cat(found)[:, 0]

    def _noise(self, seeds: Sequence[int]) -> ExampleNoise:
        return ExampleNoise(seeds, self.device, self.recipe.model.process.offset_noise)

    def predictor(
        self, conditions: Tensor | None, guidance: Guidance | None = None, negative: Tensor | None = None
    ) -> Predictor:
        """Return the network, asked with conditions.

        Args:
            conditions: Vectors of the encoder, `[B, D]`; None for no condition.
            guidance: Settings of guidance; None for the recipe's.
            negative: Vector to move away from, `[D]`; None for no condition.
        """
        if conditions is None:
            return self.model
        condition = fixed_length(conditions).to(self.device)
        unwanted = None if negative is None else fixed_length(negative).to(self.device).expand_as(condition)
        settings = guidance or self.recipe.sampling.guidance_config()
        return guided(self.model, condition, settings, negative=unwanted, weaker=self.weaker)

    def steps(
        self, count: int, sampler: SamplerConfig, edit: Edit | None = None, windows: VideoWindows | None = None
    ) -> int:
        """Return how many steps `mels` or `joint_mels` makes for so many examples.

        Raises:
            UsageError: When the sampler does not fit the generator, or has no level near the strength of an edit.
        """
        block = self.block if windows is None else 1
        strength, repeats = (1.0, 1) if edit is None else (edit.strength, edit.repeats)
        check_reach(self.process, sampler, strength)
        return -(-count // block) * edit_steps(self.process, sampler, strength, repeats)

    @torch.inference_mode()
    def sound(self, mels: Tensor) -> Tensor:
        """Return the sound of mels, float32 `[N, samples]` in [-1, 1], by the vocoder or Griffin and Lim's iteration.

        It is computed in float32, also within a training's autocast. Each is computed alone, so that it is the same
        whatever else is generated.
        """
        with torch.autocast(self.device.type, enabled=False):
            log_mels = self.front_end.to_log(mels.float())
            if self.vocoder is not None:
                return torch.cat([self.vocoder.model(mel[None]) for mel in log_mels])
            sounds = [griffin_lim(mel[None], self.front_end) for mel in log_mels]
            return torch.cat(sounds).clamp(-1, 1)
