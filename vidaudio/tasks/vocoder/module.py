"""Training of a vocoder: segments of sound, two optimisers in turn, validation. All heavy work is on the device.

In every step the discriminators learn first, then the generator, as in HiFi-GAN and BigVGAN. Where a segment begins is
a pure function of the seed and the example's position in the run, so that it does not change with restarts, ranks and
parts of a batch.
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
from vidaudio.training.distributed import all_gather_object, sum_by_name
from vidaudio.training.optimiser import scheduled_optimiser

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
        self._sums: dict[str, Tensor | float] = {}

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
            self._note(parts, len(audio), batch["replaced"] if optimiser == GENERATOR else 0)
        return loss * (batch["share"] * self.train_stream.world_size)

    def _note(self, parts: Mapping[str, Tensor], examples: int, replaced: int) -> None:
        """Add a part of a step that will be logged to the step's sums."""
        sums = self._sums
        for name, value in parts.items():
            sums[f"train/{name}"] = sums.get(f"train/{name}", 0.0) + value.detach().double() * examples
        sums["examples"] = sums.get("examples", 0) + (examples if "loss" in parts else 0)
        sums["train/replaced_samples"] = sums.get("train/replaced_samples", 0) + replaced

    def take_step_numbers(self) -> dict[str, float]:
        """Return and reset the numbers of the last step, over all ranks; every rank must call it."""
        sums, self._sums = self._sums, {}
        total = sum_by_name(sums, self.device)
        examples = total.pop("examples")
        return {name: value if name == "train/replaced_samples" else value / examples for name, value in total.items()}

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
        ranks = all_gather_object((self._distances, self._examples))
        examples = sum(count for _, count in ranks)
        names = ("mel_l1", "stft")
        return {
            f"validation/{name}": sum(found.get(name, 0.0) for found, _ in ranks) / examples if examples else math.nan
            for name in names
        }

    def compile_parts(self, backend: str) -> None:
        """Compile the generator's network."""
        self.model.network.compile(backend=backend)
