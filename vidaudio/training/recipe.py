"""Settings that the recipes of all families share."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from vidaudio.config.recipes import RecipeModel
from vidaudio.training.blocks import (
    AverageBlock,
    BandBlock,
    LogBlock,
    OptimiserBlock,
    ScheduleBlock,
    StateBlock,
    ValidationBlock,
)


class BatchBlock(RecipeModel):
    """Batches and the processes that load them; families add the contents of a batch."""

    batch_size: int = Field(32, ge=1, description="examples a step of the optimiser, over all ranks")
    accumulate: int = Field(1, ge=1, description="parts in which a step's batch is worked through, one after another")
    workers: int = Field(8, ge=0, description="loader processes")
    block_shards: int = Field(16, ge=1, description="shards mixed with one another in an epoch")
    cache_folder: str | None = Field(None, description="for copies of a remote corpus's shards")
    cache_bytes: int = Field(50 * 10**9, ge=0, description="what those copies may take")
    allow_other: bool = Field(False, description="resume although the corpus is not the one the run began with")

    @model_validator(mode="after")
    def _parts_are_equal(self) -> BatchBlock:
        if self.batch_size % self.accumulate:
            raise ValueError(f"a batch of {self.batch_size} has no {self.accumulate} equal parts to accumulate")
        return self

    @property
    def part_size(self) -> int:
        """Return the number of examples that are processed at a time, over all ranks."""
        return self.batch_size // self.accumulate


class CommonRecipe(RecipeModel):
    """The part of a training run's recipe that the engine reads."""

    system: str = Field(..., description="what is trained; decides the family")
    seed: int = Field(1234, ge=0, lt=1 << 32)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    channels_last: bool = True
    compile: bool = Field(False, description="torch.compile for the model")
    compile_backend: str = "inductor"
    sync_batch_norm: bool = Field(False, description="on several GPUs, BatchNorm over all ranks together")
    split: str = "train"
    init_from: str | None = Field(None, description="a checkpoint whose weights the run begins with")
    data: BatchBlock = BatchBlock()
    optimiser: OptimiserBlock = OptimiserBlock()
    schedule: ScheduleBlock = ScheduleBlock()
    average: AverageBlock | None = Field(None, description="moving average of the weights")
    validation: ValidationBlock = ValidationBlock()
    state: StateBlock = StateBlock()
    log: LogBlock = LogBlock()
    band: BandBlock | None = Field(None, description="range of the loss of healthy runs, early in a run")

    @model_validator(mode="after")
    def _band_has_values(self) -> CommonRecipe:
        if self.band is not None and self.band.values * self.log.every_steps > self.band.points[-1][0]:
            last, values = self.band.points[-1][0], self.band.values
            raise ValueError(
                f"band ends at step {last}, before {values} values are logged every {self.log.every_steps} steps; set "
                f"log.every_steps={max(1, last // values)}, or band=null"
            )
        return self

    @property
    def log_every_steps(self) -> int:
        """Return the logging interval in steps, at most the length of the run."""
        return min(self.log.every_steps, self.schedule.steps)

    def is_validated_after(self, step: int) -> bool:
        """Return whether a validation follows a step: every `validation.every_steps`, and after the last one."""
        return step > 0 and (step % self.validation.every_steps == 0 or step == self.schedule.steps)
