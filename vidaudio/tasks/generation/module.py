"""Training of a generator: conditions, noise, loss, validation. All heavy work is on the device.

What is drawn at random for an example (time, noise, whether it has a condition) is a pure function of the seed and the
example's position in the run, so that it does not change with restarts and ranks.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from vidaudio.generation import Denoiser, ExampleNoise, MelFrontEnd, fixed_length
from vidaudio.generation.samplers import offset_noise
from vidaudio.stream.loader import MixtureStream
from vidaudio.tasks.generation.recipe import GenerationRecipe
from vidaudio.tasks.queries.encoders import QueryEncoder
from vidaudio.tasks.queries.query_gap import perturbed
from vidaudio.tasks.queries.text_queries import TextTable
from vidaudio.training.base import ScheduledOptimiser, TrainingModule
from vidaudio.training.optimiser import scheduled_optimiser
from vidaudio.training.step_numbers import StepNumbers, means_over_ranks

TRAIN, VALIDATION = "train", "validation"
# Times at which each validation example is denoised: even ones, so that the loss of few examples is no lottery.
VALIDATION_TIMES = 8
# Seed of the validation's noise: losses of different steps are compared.
VALIDATION_SEED = 2**40


class GenerationModule(TrainingModule):
    """Module that trains a generator on a `MixtureStream` of single windows.

    Args:
        model: A freshly built network, or one with loaded weights.
        recipe: Recipe of the run.
        train_stream: Training batches.
        validation_stream: Validation batches; None for no validation.
        queries: Encoder of the conditions.
        text: Text queries of the splits `train` and `validation`, if the system is trained with words.
    """

    model: Denoiser

    def __init__(
        self,
        model: Denoiser,
        recipe: GenerationRecipe,
        train_stream: MixtureStream,
        validation_stream: MixtureStream | None,
        queries: QueryEncoder,
        text: dict[str, TextTable] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe
        self.train_stream = train_stream
        self.validation_stream = validation_stream
        self.queries = queries
        self.text = text or {}
        self.front_end = MelFrontEnd(recipe.model.mel.config())
        self.process = recipe.model.process.process()
        self._offset = recipe.model.process.offset_noise
        self._numbers = StepNumbers()

    @property
    def eval_model(self) -> Denoiser:
        """Return the network that is validated and saved as best."""
        return cast(Denoiser, super().eval_model)

    def mels(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the mels of a batch in [-1, 1], float32 `[B, 1, bands, frames]`."""
        with torch.autocast(self.device.type, enabled=False):
            return self.front_end(batch["audio"].float() / 2**15)

    def conditions(self, batch: Mapping[str, Any], split: str) -> tuple[Tensor, Tensor]:
        """Return the vectors of a batch's windows `[B, D]`, and which windows have one, bool `[B]`.

        A window without a label, where the system is trained with words, has none.
        """
        if self.text:
            table = self.text[split]
            if table.of_row.device != batch["rows"].device:
                table = self.text[split] = table.to(batch["rows"].device)
            vectors, known = table.look_up(batch["corpora"], batch["rows"])
            return fixed_length(vectors[:, 0]), known[:, 0]
        vectors = self.queries.encode_batch(batch).to(self.device)
        method = self.queries.gap.train
        if split == TRAIN and method is not None:
            positions = self.train_stream.positions(int(batch["step"]))
            vectors = perturbed(method, vectors, None, seed=self.recipe.seed, positions=positions)
        return fixed_length(vectors[:, 0]), torch.ones(len(vectors), dtype=torch.bool, device=vectors.device)

    def forward(self, batch: Mapping[str, Any], *, step: int, optimiser: str = "") -> Tensor:
        """Return the loss of one part of a batch, weighted by the part's share of the batch."""
        mels, (vectors, known) = self.mels(batch), self.conditions(batch, TRAIN)
        draws, noise, kept = self._drawn(batch, mels)
        network = functools.partial(self.model, has_condition=known & kept)
        parts = self.process.losses(network, mels, vectors, draws, noise)
        if (step + 1) % self.recipe.log_every_steps == 0:
            totals = {name: values.double().sum() for name, values in parts.items()}
            counts = {"replaced_samples": batch["replaced"]}
            self._numbers.add(totals, examples=len(parts["loss"]), counts=counts)
        return parts["loss"].mean() * (batch["share"] * self.train_stream.world_size)

    def _drawn(self, batch: Mapping[str, Any], mels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return what is drawn for the examples: numbers in [0, 1) `[B]`, noise, and whether they have a condition."""
        size = self.train_stream.config.batch_size
        positions = self.train_stream.positions(int(batch["step"]))
        first = positions.start % size
        generator = torch.Generator(self.device).manual_seed(
            (self.recipe.seed * 1_000_003 + int(batch["step"])) % 2**63
        )
        # Drawn for all ranks alike, each of which takes its own rows.
        own = slice(first, first + len(mels))
        draws = torch.rand(2, size, generator=generator, device=self.device)[:, own]
        noise = torch.randn(size, *mels.shape[1:], generator=generator, device=self.device)
        if self._offset:
            offsets = torch.randn(size, generator=generator, device=self.device)
            noise = offset_noise(noise, offsets, self._offset)
        return draws[0], noise[own], draws[1] >= self.recipe.condition_dropout

    def take_step_numbers(self) -> dict[str, float]:
        """Return and reset the numbers of the last step, over all ranks; every rank must call it."""
        return self._numbers.take(self.device)

    def begin_validation(self) -> None:
        """Reset the sums."""
        self._parts: dict[str, float] = {}
        self._examples = 0

    def validate(self, batch: Mapping[str, Any]) -> None:
        """Add the losses of one batch, each example at some times, to the sums of the validation."""
        mels, (vectors, known) = self.mels(batch), self.conditions(batch, VALIDATION)
        assert self.validation_stream is not None, "there is no validation without a split"
        positions = self.validation_stream.positions(int(batch["step"]))
        network = functools.partial(self.eval_model, has_condition=known)
        for number in range(VALIDATION_TIMES):
            draws = torch.tensor([_even_draw(position, number) for position in positions], device=self.device)
            seeds = [VALIDATION_SEED + position * VALIDATION_TIMES + number for position in positions]
            noise = ExampleNoise(seeds, self.device, self._offset)(mels.shape[1:])
            parts = self.process.losses(network, mels, vectors, draws, noise)
            for name, values in parts.items():
                self._parts[name] = self._parts.get(name, 0.0) + float(values.double().sum()) / VALIDATION_TIMES
        self._examples += len(mels)

    def end_validation(self) -> dict[str, float]:
        """Return exact means over the examples of all ranks."""
        means = means_over_ranks(self._parts, self._examples) or {"loss": math.nan}
        return {f"validation/{name}": value for name, value in means.items()}

    def optimisers(self) -> Sequence[ScheduledOptimiser]:
        """Return the recipe's optimiser, which makes a step at every step of the run."""
        return [scheduled_optimiser(self.recipe, self.model.parameters(), torch.optim.AdamW)]

    def compile_parts(self, backend: str) -> None:
        """Compile the U-Net, which takes most of a step."""
        self.model.unet.compile(backend=backend)


def _even_draw(position: int, number: int) -> float:
    """Return an example's draw from [0, 1): in the part of this number, at a place that differs by position."""
    return (number + position * 0.6180339887498949 % 1) / VALIDATION_TIMES
