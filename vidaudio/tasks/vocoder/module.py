"""Training of a vocoder: segments of sound, two optimisers in turn, validation. All heavy work is on the device.

In every step the discriminators learn first, then the generator, as in HiFi-GAN and BigVGAN. Where a segment begins is
a pure function of the seed and the example's position in the run, so that it does not change with restarts and ranks.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from vidaudio.generation import Discriminators, MelFrontEnd, Vocoder, VocoderLosses, mel_distance, stft_distance
from vidaudio.stream.loader import MixtureStream
from vidaudio.tasks.vocoder.recipe import VocoderRecipe
from vidaudio.training.base import ScheduledOptimiser, TrainingModule
from vidaudio.training.optimiser import scheduled_optimiser
from vidaudio.training.step_numbers import StepNumbers, means_over_ranks

DISCRIMINATOR, GENERATOR = "discriminator", "generator"


class VocoderModule(TrainingModule):
    """Module that trains a vocoder on a `MixtureStream` of single windows.

    Args:
        model: A freshly built generator, or one with loaded weights.
        recipe: Recipe of the run.
        train_stream: Training batches.
        validation_stream: Validation batches; None for no validation.
    """

    model: Vocoder

    def __init__(
        self,
        model: Vocoder,
        recipe: VocoderRecipe,
        train_stream: MixtureStream,
        validation_stream: MixtureStream | None,
    ) -> None:
        super().__init__()
        self.model = model
        self.discriminators = Discriminators(recipe.model.discriminator.config())
        self.recipe = recipe
        self.train_stream = train_stream
        self.validation_stream = validation_stream
        self.front_end = MelFrontEnd(recipe.model.mel.config())
        self.losses = VocoderLosses(recipe.model.mel.config(), recipe.loss.config())
        # Generated segments of a step's parts: the generator learns from those that the discriminators have seen.
        self._made: deque[Tensor] = deque()
        self._numbers = StepNumbers()

    @property
    def eval_model(self) -> Vocoder:
        """Return the generator that is validated and saved as best."""
        return cast(Vocoder, super().eval_model)

    def optimisers(self) -> Sequence[ScheduledOptimiser]:
        """Return the optimisers of discriminators and generator, which both make a step at every step of the run."""
        parts = {DISCRIMINATOR: self.discriminators, GENERATOR: self.model}
        return [
            replace(scheduled_optimiser(self.recipe, part.parameters(), torch.optim.AdamW), name=name)
            for name, part in parts.items()
        ]

    def sounds(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the windows of a batch, float32 `[B, samples]` in [-1, 1]."""
        return batch["audio"][:, 0].float() * (batch["gains"][:, :1] / 2**15)

    def mels(self, audio: Tensor) -> Tensor:
        """Return the mels of sounds, float32 `[B, bands, frames]`."""
        with torch.autocast(self.device.type, enabled=False):
            return self.front_end.log_mel(audio)

    def segments(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Return mels `[B, bands, frames]` and sounds `[B, samples]` of the segments of a training batch.

        The mel is cut from the window's, so that it shows the sound around the segment's ends as well.
        """
        audio = self.sounds(batch)
        mels, hop = self.mels(audio), self.front_end.config.hop
        first = self._first_frames(batch, len(audio))[:, None]
        frames = first + torch.arange(self.recipe.segment_frames, device=audio.device)
        samples = first * hop + torch.arange(self.recipe.data.segment_samples, device=audio.device)
        return mels.gather(2, frames[:, None].expand(-1, mels.shape[1], -1)), audio.gather(1, samples)

    def _first_frames(self, batch: Mapping[str, Any], count: int) -> Tensor:
        """Return the frames at which the segments begin, int64 `[count]`; drawn for all ranks alike."""
        size, step = self.train_stream.config.batch_size, int(batch["step"])
        first = self.train_stream.positions(step).start % size
        generator = torch.Generator().manual_seed((self.recipe.seed * 1_000_003 + step) % 2**63)
        free = self.recipe.window_frames - self.recipe.segment_frames + 1
        drawn = torch.randint(free, (size,), generator=generator)
        return drawn[first : first + count].to(self.device)

    def forward(self, batch: Mapping[str, Any], *, step: int, optimiser: str) -> Tensor:
        """Return the loss of one part of a batch, weighted by the part's share of the batch."""
        mels, audio = self.segments(batch)
        # The discriminators' gradients are not wanted where the generator learns.
        self.discriminators.requires_grad_(optimiser == DISCRIMINATOR)
        if optimiser == DISCRIMINATOR:
            made = self.model(mels)
            self._made.append(made)
            loss = self.losses.discriminator(self.discriminators(audio), self.discriminators(made.detach()))
            parts = {"discriminator_loss": loss}
        else:
            made = self._made.popleft()
            parts = self.losses.generator(audio, made, self.discriminators(audio), self.discriminators(made))
            loss = parts["loss"]
        if (step + 1) % self.recipe.log_every_steps == 0:
            # Both optimisers have the same examples, which count once.
            is_last = optimiser == GENERATOR
            self._numbers.add(
                {name: value.double() * len(audio) for name, value in parts.items()},
                examples=len(audio) if is_last else 0,
                counts={"replaced_samples": batch["replaced"] if is_last else 0},
            )
        return loss * (batch["share"] * self.train_stream.world_size)

    def take_step_numbers(self) -> dict[str, float]:
        """Return and reset the numbers of the last step, over all ranks; every rank must call it."""
        return self._numbers.take(self.device)

    def begin_validation(self) -> None:
        """Reset the sums."""
        self._distances: dict[str, float] = {}
        self._examples = 0

    def validate(self, batch: Mapping[str, Any]) -> None:
        """Add the distances of one batch of whole windows to the sums of the validation."""
        audio = self.sounds(batch)
        made = self.eval_model(self.mels(audio))
        with torch.autocast(self.device.type, enabled=False):
            found = {"mel_l1": mel_distance(made, audio, self.front_end), "stft": stft_distance(made, audio)}
        for name, values in found.items():
            self._distances[name] = self._distances.get(name, 0.0) + float(values.double().sum())
        self._examples += len(audio)

    def end_validation(self) -> dict[str, float]:
        """Return exact means over the windows of all ranks."""
        means = means_over_ranks(self._distances, self._examples)
        return {f"validation/{name}": means.get(name, math.nan) for name in ("mel_l1", "stft")}

    def compile_parts(self, backend: str) -> None:
        """Compile the generator's network."""
        self.model.network.compile(backend=backend)
