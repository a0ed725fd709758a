"""Moving average of a model's weights; if there is one, it is what is validated and saved as best.

In the first steps the decay is smaller, min(decay, (1 + n) / (10 + n)) after n steps (as in TensorFlow's
ExponentialMovingAverage), so that the average does not keep the initial weights. BatchNorm's statistics are averaged
like the weights.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn


class Ema:
    """Exponential moving average of a model, updated after every step.

    Args:
        model: Model to average; the average begins with its weights.
        decay: Share of itself that the average keeps in a step.

    Attributes:
        model: Model with the averaged weights, in eval mode, on the device of the weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._steps = 0

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Add the weights that the model has after a step."""
        weight = 1 - min(self.decay, (1 + self._steps) / (10 + self._steps))
        self._steps += 1
        for mine, theirs in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs, weight)
            else:
                mine.copy_(theirs)

    def state_dict(self) -> dict[str, Any]:
        """Return the part of a state that belongs to the average."""
        return {"weights": self.model.state_dict(), "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.model.load_state_dict(state["weights"])
        self._steps = state["steps"]
