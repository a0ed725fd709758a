"""Training recipe of a separation system: its settings in blocks, and how it is read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from vidaudio.config.recipes import RecipeModel, check, load_values, override
from vidaudio.tasks.separation.systems import check_system
from vidaudio.tasks.separation.window_length import with_window
from vidaudio.training.blocks import (
    AverageBlock,
    DataBlock,
    LogBlock,
    LossBlock,
    ModelBlock,
    OptimiserBlock,
    QueryBlock,
    ScheduleBlock,
    StateBlock,
    ValidationBlock,
)


class TrainRecipe(RecipeModel):
    """Recipe of one training run: the system and how it is trained."""

    system: Literal[
        "clipsep",
        "clipsep_nit",
        "clipsep_text",
        "clipsep_hybrid",
        "labelsep",
        "bertsep",
        "sop",
        "sop_original",
        "pit",
        "custom",
    ] = Field("clipsep", description="what the composition below is called; custom: any other")
    seed: int = 1234
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    channels_last: bool = True
    compile: bool = Field(False, description="torch.compile for the U-Net")
    compile_backend: str = "inductor"
    sync_batch_norm: bool = Field(False, description="on several GPUs, BatchNorm over all ranks together")
    split: str = "train"
    init_from: str | None = Field(None, description="a checkpoint whose weights the run begins with")
    model: ModelBlock = ModelBlock()
    data: DataBlock = DataBlock()
    query: QueryBlock = QueryBlock()
    loss: LossBlock = LossBlock()
    optimiser: OptimiserBlock = OptimiserBlock()
    schedule: ScheduleBlock = ScheduleBlock()
    average: AverageBlock | None = Field(None, description="moving average of the weights")
    validation: ValidationBlock = ValidationBlock()
    state: StateBlock = StateBlock()
    log: LogBlock = LogBlock()

    @model_validator(mode="after")
    def _window_fits(self) -> TrainRecipe:
        """Compute the window's samples and frames if the recipe gives seconds or nothing."""
        front_end = with_window(self.model.front_end, self.data.window_seconds, self.model.unet.levels)
        # The recipe is frozen once read, but this validator is still part of reading.
        object.__setattr__(self, "model", self.model.model_copy(update={"front_end": front_end}))
        return self

    @property
    def log_every_steps(self) -> int:
        """Return the logging interval in steps, at most the length of the run."""
        return min(self.log.every_steps, self.schedule.steps)

    @property
    def validate_every_steps(self) -> int:
        """Return the validation interval in steps, at most the length of the run."""
        return min(self.validation.every_steps, self.schedule.steps)


def load_train_recipe(name: str, settings: Sequence[str] = ()) -> TrainRecipe:
    """Read a recipe of `train/` by name or path, with `key=value` overrides.

    Raises:
        RecipeError: When the recipe cannot be read, or its parts do not fit together.
    """
    where = f"recipe {Path(name).name}"
    recipe = check(TrainRecipe, override(load_values(name, "train"), settings), where)
    check_system(recipe, where)
    return recipe
