"""Interface between the engine and a family of models: how a run is put together, and the module that is trained.

A family (separation, generation ...) implements both classes below in `vidaudio.tasks`, and lists its systems in
`vidaudio.tasks.registry`. Nothing else in `vidaudio.training` depends on a family.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    import numpy as np

    from vidaudio.stream.loader import MixtureStream
    from vidaudio.training.ema import Ema, PowerEma
    from vidaudio.training.log_writers import LogWriter
    from vidaudio.training.recipe import CommonRecipe

# One packed corpus, or several with their weights.
Data = str | os.PathLike[str] | Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ScheduledOptimiser:
    """An optimiser, and the steps of the run at which it makes a step of its own.

    Attributes:
        name: Name in the log, if there are several optimisers.
        optimiser: Optimiser of some of the module's parameters.
        rate_factor: Function from the number of this optimiser's own steps to the learning rate, as a factor of the
            highest.
        every_steps: The optimiser makes a step at every so many steps of the run, from the first one on.
        gradient_clip_norm: Largest norm of the gradient; None for no limit.
    """

    name: str
    optimiser: torch.optim.Optimizer
    rate_factor: Callable[[int], float]
    every_steps: int = 1
    gradient_clip_norm: float | None = None

    def is_due(self, step: int) -> bool:
        """Return whether the optimiser makes a step at step `step` of the run, counted from 0."""
        return step % self.every_steps == 0

    def own_steps(self, step: int) -> int:
        """Return the number of steps that the optimiser has made before step `step` of the run."""
        return -(-step // self.every_steps)


class TrainingModule(nn.Module, ABC):
    """Module that is trained: a model, its optimisers, its loss and its validation.

    Attributes:
        model: The model that is averaged, validated and saved; the module may have further parts (a discriminator).
        average: The moving average of the model's weights; None if the recipe has none.
        device: Device of the parameters.
    """

    model: nn.Module

    def __init__(self) -> None:
        super().__init__()
        self.average: Ema | PowerEma | None = None
        self.device = torch.device("cpu")

    @property
    def eval_model(self) -> nn.Module:
        """Return the model that is validated and saved as best: the average of the weights, if there is one."""
        return self.model if self.average is None else self.average.model

    @abstractmethod
    def optimisers(self) -> Sequence[ScheduledOptimiser]:
        """Return the optimisers in the order in which they make their steps."""

    @abstractmethod
    def forward(self, batch: Mapping[str, Any], *, step: int, optimiser: str) -> Tensor:
        """Return the loss of one part of a batch for one optimiser; its mean over parts and ranks is minimised.

        Args:
            batch: Part of the step's batch, on the device.
            step: Steps done before this one.
            optimiser: Name of the optimiser that makes the step.
        """

    @abstractmethod
    def take_step_numbers(self) -> dict[str, float]:
        """Return and reset the numbers of a logged step, over all ranks; every rank calls it."""

    @abstractmethod
    def begin_validation(self) -> None:
        """Reset what `validate` accumulates."""

    @abstractmethod
    def validate(self, batch: Mapping[str, Any]) -> None:
        """Add a batch to the validation. It runs without gradients, in the precision of the recipe."""

    @abstractmethod
    def end_validation(self) -> dict[str, float]:
        """Return the numbers of the validation, over all ranks; every rank calls it."""

    def compile_parts(self, backend: str) -> None:
        """Compile the parts of the model that are worth compiling, in place."""
        self.model.compile(backend=backend)


class TrainingTask(ABC):
    """One run of a family: recipe, data, and all that its models need.

    Class attributes:
        recipe_type: Type of the family's recipes.
        model_settings: Settings that decide the names and shapes of the weights; a resumed run may not change them.
        starting_steps: Settings among them that are a step at which a part begins; they may change once it has begun.
        order_settings: Settings that decide which examples a step sees.
        best_number: Number of the validation that the best weights are chosen by.
        higher_is_better: Whether a higher value of that number is better.
        example: Word for one example of a batch, in logs and results.

    Attributes:
        recipe: Recipe of the run.
        train_stream: Training batches.
        validation_stream: Validation batches; None if the corpus has no validation split.
        data_shares: Share of each corpus in the examples; the shares sum to 1.
    """

    recipe_type: ClassVar[type[CommonRecipe]]
    model_settings: ClassVar[tuple[str, ...]] = ("system",)
    starting_steps: ClassVar[tuple[str, ...]] = ()
    order_settings: ClassVar[tuple[str, ...]] = ("seed", "split", "data.batch_size")
    best_number: ClassVar[str] = "validation/loss"
    higher_is_better: ClassVar[bool] = False
    example: ClassVar[str] = "example"

    recipe: CommonRecipe
    train_stream: MixtureStream
    validation_stream: MixtureStream | None
    data_shares: Sequence[float]

    @classmethod  # noqa: B027 - the recipe's type may check everything
    def check_recipe(cls, recipe: Any, where: str) -> None:
        """Check that the parts of a recipe fit together.

        Args:
            recipe: Recipe of the family's type.
            where: Origin of the recipe, which begins the message.

        Raises:
            RecipeError: When a part does not fit.
        """

    @classmethod
    @abstractmethod
    def open(
        cls, recipe: Any, data: Data, *, recorded: Mapping[str, Any] | None, encoder_weights: str | None
    ) -> TrainingTask:
        """Open the data of a run and check that recipe and data fit together.

        Args:
            recipe: Recipe of the run.
            data: A packed corpus, or several with their weights.
            recorded: The family's facts in the state that the run resumes from (see `facts`); None for a new run.
            encoder_weights: Place of the encoder's weights on this machine; None for the recorded place.
        """

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """Return what a checkpoint contains beside recipe and step; plain JSON values."""

    def check_recorded(self, recorded: Mapping[str, Any], run: str) -> None:  # noqa: B027 - most families need none
        """Check that a state's facts are those of this task.

        Args:
            recorded: Facts in the state.
            run: Name of the run in messages.

        Raises:
            CheckpointError: When the run cannot go on with this task.
        """

    def prepare(self, folder: Path) -> Iterable[str]:
        """Compute what the module needs beside the data; return warnings for the user.

        Args:
            folder: Folder of the run, which may hold what an earlier start computed; nothing is written to it here.
        """
        return ()

    def save_beside(self, folder: Path) -> None:  # noqa: B027 - most families need none
        """Write what the weights need beside them, into the folder of the run; called on rank 0, before training."""

    @abstractmethod
    def make_module(self) -> TrainingModule:
        """Return the module with initial weights, drawn from PyTorch's global generator."""

    def initialise(self, module: TrainingModule) -> dict[str, Any] | None:
        """Load pretrained weights into a new module; return what was copied from another run, None if nothing was."""
        return None

    def training_sources(self) -> np.ndarray | None:
        """Return hashes of the sources trained on, int64, see `vidaudio.training.provenance`; None if unknown."""
        return None

    def headline(self, numbers: Mapping[str, float]) -> Mapping[str, str]:
        """Return the figures of a validation that progress bar and result show, by name."""
        return {}

    def result_facts(self, numbers: Mapping[str, float]) -> Mapping[str, float]:
        """Return further values of a run's result, by name."""
        return {}

    def log_samples(self, module: TrainingModule, writers: Sequence[LogWriter], step: int) -> None:  # noqa: B027
        """Log samples of the validation, such as sounds and images; called on rank 0, without gradients."""
