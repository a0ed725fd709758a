"""A moving average of the weights, trained along and used in their place when a model is judged or saved as best.

In the first steps the average forgets faster, by min(decay, (1 + n) / (10 + n)) after n steps (as TensorFlow's
ExponentialMovingAverage does), so that it does not drag the initial weights along. BatchNorm's statistics are averaged
as the weights are.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch

if TYPE_CHECKING:
    from vidaudio.separation import Separator
    from vidaudio.tasks.separation.module import SeparationModule

_STATE = "average"


class EmaCallback(pl.Callback):
    """Keeps the average; `model` is its model, in eval mode, on the device of the weights."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.model: Separator | None = None
        self._steps = 0
        self._loaded: dict[str, Any] | None = None

    def on_load_checkpoint(self, trainer: pl.Trainer, module: SeparationModule, checkpoint: dict[str, Any]) -> None:
        # A run that had no average until now begins it with the weights it has reached.
        self._loaded = checkpoint.get(_STATE)

    def on_save_checkpoint(self, trainer: pl.Trainer, module: SeparationModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[_STATE] = {"weights": self.model.state_dict(), "steps": self._steps}

    def on_train_start(self, trainer: pl.Trainer, module: SeparationModule) -> None:
        self.model = copy.deepcopy(module.model).eval().requires_grad_(False)
        if self._loaded is not None:
            self.model.load_state_dict(self._loaded["weights"])
            self._steps = self._loaded["steps"]
            self._loaded = None
        module.average = self
        self._seen = trainer.global_step

    @torch.no_grad()
    def on_train_batch_end(self, trainer: pl.Trainer, module: SeparationModule, *_: Any) -> None:
        if trainer.global_step == self._seen:
            return
        self._seen = trainer.global_step
        weight = 1 - min(self.decay, (1 + self._steps) / (10 + self._steps))
        self._steps += 1
        for mine, theirs in zip(self.model.state_dict().values(), module.model.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs, weight)
            else:
                mine.copy_(theirs)
