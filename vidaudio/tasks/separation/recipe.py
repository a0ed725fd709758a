"""Recipe of a separation system: the blocks that all families share, and the blocks of a separator."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from vidaudio.tasks.queries.blocks import QueryBlock
from vidaudio.tasks.separation.blocks import (
    SHORT_RUN,
    SHORT_RUN_WITHOUT_HEADS,
    DataBlock,
    LossBlock,
    ModelBlock,
    ObjectiveBlock,
)
from vidaudio.tasks.separation.window_length import with_window
from vidaudio.training.recipe import CommonRecipe


class SeparationRecipe(CommonRecipe):
    """Recipe of one training run of a separation system."""

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
        "bimodal_mixsep",
        "bimodal_weak",
        "bimodal_semi",
        "bimodal_supervised",
        "mixit",
        "mixit_ranked",
        "custom",
    ] = Field("clipsep", description="what the composition below is called; custom: any other")
    model: ModelBlock = ModelBlock()
    data: DataBlock = DataBlock()
    query: QueryBlock = QueryBlock()
    loss: LossBlock = LossBlock()
    objective: ObjectiveBlock = ObjectiveBlock()

    @model_validator(mode="after")
    def _window_fits(self) -> SeparationRecipe:
        """Compute the window's samples and frames if the recipe gives seconds or nothing."""
        front_end = with_window(self.model.front_end, self.data.window_seconds, self.model.unet.levels)
        # The recipe is frozen once read, but this validator is still part of reading.
        object.__setattr__(self, "model", self.model.model_copy(update={"front_end": front_end}))
        return self

    @model_validator(mode="after")
    def _noise_heads_start(self) -> SeparationRecipe:
        """Compute the first step with noise heads if the recipe gives none."""
        noise, steps = self.model.noise, self.schedule.steps
        if noise is not None and noise.start_step is None:
            start = round(SHORT_RUN_WITHOUT_HEADS * steps) if steps <= SHORT_RUN else 0
            model = self.model.model_copy(update={"noise": noise.model_copy(update={"start_step": start})})
            object.__setattr__(self, "model", model)
        return self
