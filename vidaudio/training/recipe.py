"""What a training run does: the blocks of a training recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from vidaudio.encoders.templates import CLIPSEP_TEMPLATES
from vidaudio.recipes import RecipeModel, check, load_values, override

Modality = Literal["image", "text"]


class FrontEndBlock(RecipeModel):
    """Spectrogram, see vidaudio.separation.FrontEndConfig."""

    sample_rate: int = 16_000
    n_fft: int = 1024
    hop: int = 256
    window_samples: int = 65_535
    log_rows: int = 256
    frames: int = 256


class UNetBlock(RecipeModel):
    """Audio U-Net, see vidaudio.separation.UNetConfig."""

    levels: int = 7
    width: int = 64
    max_multiplier: int = 8


class ModelBlock(RecipeModel):
    channels: int = Field(32, description="feature pictures of the U-Net and numbers of a query, k")
    front_end: FrontEndBlock = FrontEndBlock()
    unet: UNetBlock = UNetBlock()


class DataBlock(RecipeModel):
    """What one batch is made of; paths are arguments, not settings."""

    sources: int = Field(2, ge=2, description="different sources a mixture")
    window_frames: int = Field(3, ge=1)
    frame_spacing_seconds: float = Field(1.0, gt=0)
    max_padding_seconds: float = Field(0.55, ge=0)
    gain_range: tuple[float, float] | None = (0.5, 1.5)
    batch_size: int = Field(32, ge=1)
    workers: int = Field(8, ge=0, description="loader processes")

    @field_validator("gain_range")
    @classmethod
    def _low_then_high(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 <= value[0] <= value[1]:
            raise ValueError("the lower gain comes first, and neither is below 0")
        return value


class QueryBlock(RecipeModel):
    train: Modality = "image"
    validation: Modality = "image"
    templates: tuple[str, ...] = Field(CLIPSEP_TEMPLATES, description="sentences whose mean stands for a label")


class OptimiserBlock(RecipeModel):
    """Adam."""

    learning_rate: float = Field(1e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    gradient_clip_norm: float | None = 1.0


class ScheduleBlock(RecipeModel):
    """Learning rate: (step + 1) / warm-up, then linear down to `final_factor`, then constant."""

    steps: int = Field(200_000, ge=1)
    warmup_steps: int = Field(5_000, ge=1)
    decay_until_step: int = Field(100_000, ge=1)
    final_factor: float = Field(0.1, gt=0, le=1)


class ValidationBlock(RecipeModel):
    split: str = "val"
    every_steps: int = Field(10_000, ge=1)


class TrainRecipe(RecipeModel):
    """One system, trained one way."""

    system: Literal["clipsep"] = "clipsep"
    seed: int = 1234
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    channels_last: bool = True
    split: str = "train"
    model: ModelBlock = ModelBlock()
    data: DataBlock = DataBlock()
    query: QueryBlock = QueryBlock()
    optimiser: OptimiserBlock = OptimiserBlock()
    schedule: ScheduleBlock = ScheduleBlock()
    validation: ValidationBlock = ValidationBlock()


def load_train_recipe(name: str, settings: Sequence[str] = ()) -> TrainRecipe:
    """Read a recipe of `train/` by name or path, with `key=value` overrides."""
    return check(TrainRecipe, override(load_values(name, "train"), settings), f"recipe {Path(name).name}")


def rate_factor(step: int, schedule: ScheduleBlock) -> float:
    """Learning rate at an optimiser step, as a factor of the highest (CLIPSep's code)."""
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    span = max(1, schedule.decay_until_step - schedule.warmup_steps)
    progress = min(1.0, (step - schedule.warmup_steps) / span)
    return 1.0 + progress * (schedule.final_factor - 1.0)
