"""Settings blocks that the recipes of all families have, with their defaults."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from vidaudio.config.recipes import RecipeModel
from vidaudio.training.power_profiles import LEAST_WIDTH, MOST_WIDTH


class OptimiserBlock(RecipeModel):
    """Optimiser: Adam, or stochastic gradient descent with momentum."""

    kind: Literal["adam", "sgd"] = "adam"
    learning_rate: float = Field(1e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    epsilon: float = 1e-8
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = 0.0
    pretrained_factor: float = Field(1.0, gt=0, description="of the learning rate, for a pretrained part")
    gradient_clip_norm: float | None = 1.0


class ScheduleBlock(RecipeModel):
    """Learning rate: (step + 1) / warm-up, then linear down to `final_factor`, then constant.

    With `kind: milestones`, it is constant except that each milestone multiplies it by `milestone_factor`. With `kind:
    exponential`, every step multiplies it by `step_factor`.
    """

    kind: Literal["linear", "milestones", "exponential"] = "linear"
    steps: int = Field(200_000, ge=1)
    warmup_steps: int = Field(5_000, ge=1)
    decay_until_step: int = Field(100_000, ge=1)
    final_factor: float = Field(0.1, gt=0, le=1)
    milestones: tuple[int, ...] = ()
    milestone_factor: float = Field(0.1, gt=0, le=1)
    step_factor: float = Field(0.9999996, gt=0, le=1)


class ValidationBlock(RecipeModel):
    """Validation, by which the best weights are chosen."""

    split: str = "val"
    every_steps: int = Field(10_000, ge=1)
    shown: int = Field(4, ge=0, description="mixtures whose pictures and sounds are logged")
    allow_test: bool = Field(False, description="choose weights on a test split, which spoils it as a test")

    @model_validator(mode="after")
    def _not_by_test(self) -> ValidationBlock:
        if self.split.lower().startswith("test") and not self.allow_test:
            raise ValueError(
                f"split {self.split!r} is a test split: weights chosen on it look better on it than they are; validate "
                "on another split, or say validation.allow_test=true"
            )
        return self


class AverageBlock(RecipeModel):
    """Moving average of the weights; if there is one, it is what is validated and saved as best.

    With `kind: power`, averages of several widths are tracked, and snapshots of all are written, see
    `vidaudio.training.power_average`; `decay` has no effect then.
    """

    kind: Literal["exponential", "power"] = "exponential"
    decay: float = Field(0.999, gt=0, lt=1, description="what the exponential average keeps of itself a step")
    sigma_rel: tuple[float, ...] = Field((), description="widths of the power-function averages: 0.05 and 0.1")
    validated: float | None = Field(None, description="width that is validated and saved as best; none: the first")
    snapshot_every_steps: int = Field(10_000, ge=1, description="write averages/step-N.safetensors so often")
    snapshot_precision: Literal["float32", "float16"] = "float32"

    @model_validator(mode="after")
    def _widths_fit(self) -> AverageBlock:
        if self.kind == "exponential":
            if self.sigma_rel or self.validated is not None:
                raise ValueError("sigma_rel and validated are for kind: power; set average.kind=power")
            return self
        if not self.sigma_rel or len(set(self.sigma_rel)) < len(self.sigma_rel):
            raise ValueError("kind: power needs widths, no two of them equal: average.sigma_rel=[0.05, 0.1]")
        wrong = [width for width in self.sigma_rel if not LEAST_WIDTH <= width <= MOST_WIDTH]
        if wrong:
            raise ValueError(f"sigma_rel {wrong[0]:g}: a width between {LEAST_WIDTH:g} and {MOST_WIDTH:g} is wanted")
        if self.validated is not None and self.validated not in self.sigma_rel:
            raise ValueError(f"validated {self.validated:g} is none of sigma_rel {list(self.sigma_rel)}")
        return self

    @property
    def validated_width(self) -> float:
        """Return the width of the power-function average that is validated."""
        return self.sigma_rel[0] if self.validated is None else self.validated


class BandBlock(RecipeModel):
    """Range in which a logged number of healthy runs lies at some steps; a run that leaves it is warned of.

    The range between two points is interpolated in the logarithms of step and value. Nothing is compared before the
    first point and after the last one.
    """

    number: str = Field("train/loss", min_length=1, description="name of the number in the log")
    values: int = Field(10, ge=1, description="logged values whose geometric mean is compared")
    points: tuple[tuple[int, float, float], ...] = Field(..., min_length=2, description="[step, lowest, highest] each")

    @model_validator(mode="after")
    def _points_are_a_band(self) -> BandBlock:
        before = 0
        for number, (step, low, high) in enumerate(self.points):
            if step <= before:
                after = "at least 1" if not number else f"more than {before}, the step before"
                raise ValueError(f"points.{number} is at step {step}, and its step must be {after}")
            if not 0 < low < high < math.inf:
                raise ValueError(
                    f"points.{number}, at step {step}, goes from {low:g} to {high:g}: it must go from more than 0 to "
                    "a higher number"
                )
            before = step
        return self


class StateBlock(RecipeModel):
    """States to resume from, in addition to `last.ckpt`, which every validation writes."""

    every_steps: int | None = Field(None, ge=1, description="also write states/step-N.ckpt so often")
    keep_last: int = Field(3, ge=1, description="how many of those stay")


class LogBlock(RecipeModel):
    """Logging of a run's numbers."""

    every_steps: int = Field(50, ge=1)
    to: Literal["tensorboard", "wandb", "none"] = Field("tensorboard", description="beside logs/metrics.csv")
    wandb_project: str = "vidaudio"
