"""A family of models for the tests of the engine: two optimisers that step at different rates, and random noise.

As a program, it trains one run of the toy: `python -m tests.training.toy_family DATA RUN RESUME SETTINGS...`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vidaudio.stream.config import StreamConfig
from vidaudio.stream.loader import MixtureStream
from vidaudio.stream.windows import WindowShape
from vidaudio.tasks import registry
from vidaudio.training.base import ScheduledOptimiser, TrainingModule, TrainingTask
from vidaudio.training.distributed import all_gather_object
from vidaudio.training.recipe import BatchBlock, CommonRecipe
from vidaudio.training.schedule import rate_factor

SAMPLES = 1024
CRITIC_EVERY = 3


class ToyRecipe(CommonRecipe):
    """The common settings, and a size."""

    system: Literal["toy"] = "toy"
    data: BatchBlock = BatchBlock(batch_size=4, workers=0)
    width: int = Field(8, ge=1)


class ToyModule(TrainingModule):
    """A denoiser and a critic of its output, which makes a step at every third step of the run."""

    def __init__(self, recipe: ToyRecipe) -> None:
        super().__init__()
        self.recipe = recipe
        self.model = nn.Sequential(nn.Linear(SAMPLES, recipe.width), nn.BatchNorm1d(recipe.width), nn.ReLU())
        self.model.append(nn.Linear(recipe.width, SAMPLES))
        self.critic = nn.Linear(SAMPLES, 1)
        self._logged: list[float] = []

    def optimisers(self) -> Sequence[ScheduledOptimiser]:
        def rate(own_steps: int) -> float:
            return rate_factor(own_steps, self.recipe.schedule)

        critic = torch.optim.SGD(self.critic.parameters(), lr=0.01, momentum=0.9)
        model = torch.optim.Adam(self.model.parameters(), lr=0.01)
        return [
            ScheduledOptimiser("critic", critic, rate, every_steps=CRITIC_EVERY),
            ScheduledOptimiser("model", model, rate, gradient_clip_norm=1.0),
        ]

    def forward(self, batch: Mapping[str, Any], *, step: int, optimiser: str) -> Tensor:
        sound = _sound(batch)
        # From PyTorch's global generator: a resumed run must have its state, too.
        noisy = sound + 0.1 * torch.randn_like(sound)
        if optimiser == "critic":
            with torch.no_grad():
                made = self.model(noisy)
            return (self.critic(made) - self.critic(sound)).mean() + self.critic(sound).square().mean()
        made = self.model(noisy)
        loss = (made - sound).square().mean() - 0.01 * self.critic(made).mean()
        self._logged.append(float(loss.detach()))
        return loss

    def take_step_numbers(self) -> dict[str, float]:
        logged, self._logged = self._logged, []
        every = [value for rank in all_gather_object(logged) for value in rank]
        return {"train/loss": sum(every) / len(every)}

    def begin_validation(self) -> None:
        self._errors: list[float] = []

    def validate(self, batch: Mapping[str, Any]) -> None:
        sound = _sound(batch)
        self._errors += (self.eval_model(sound) - sound).square().mean(dim=1).tolist()

    def end_validation(self) -> dict[str, float]:
        every = [value for rank in all_gather_object(self._errors) for value in rank]
        return {"validation/closeness": -sum(every) / len(every)}


class ToyTask(TrainingTask):
    """One run of the toy, whose best number is the highest."""

    recipe_type = ToyRecipe
    model_settings = ("system", "width")
    best_number = "validation/closeness"
    higher_is_better = True
    example = "sound"

    def __init__(self, recipe: ToyRecipe, data: str) -> None:
        shape = WindowShape(frames=1, frame_spacing_seconds=1.0, samples=SAMPLES, max_padding_seconds=0.5)
        common = {"shape": shape, "batch_size": recipe.data.part_size}
        self.recipe = recipe
        self.train_stream = MixtureStream(data, StreamConfig(seed=recipe.seed, **common))
        self.validation_stream = MixtureStream(data, StreamConfig(split="val", shuffle=False, **common))
        self.data_shares = [1.0]

    @classmethod
    def open(cls, recipe, data, *, recorded, encoder_weights) -> ToyTask:
        return cls(recipe, data)

    def facts(self) -> dict[str, Any]:
        return {"width": self.recipe.width}

    def make_module(self) -> ToyModule:
        return ToyModule(self.recipe)


def _sound(batch: Mapping[str, Any]) -> Tensor:
    return batch["audio"][:, 0].float() / 32768


def register() -> None:
    registry.TASKS["toy"] = "tests.training.toy_family:ToyTask"


def main() -> None:
    from vidaudio.config.recipes import override

    register()
    data, run, resume, *settings = sys.argv[1:]
    recipe = registry.check_train_recipe(override({"system": "toy"}, settings), "the toy")
    done = registry.train(recipe, data, run, resume={"auto": "auto"}.get(resume, False), progress=False)
    print(done.step, done.best_loss)


if __name__ == "__main__":
    main()
