"""Moving averages of a model's weights; if there is one, it is what is validated and saved as best.

The exponential average keeps the same share of itself at every step. In the first steps the share is smaller,
min(decay, (1 + n) / (10 + n)) after n steps (as in TensorFlow's ExponentialMovingAverage), so that the average does not
keep the initial weights. The power-function average forgets in proportion to the length of the run (Karras et al., CVPR
2024); several widths are tracked at once, so that averages of other widths can be made after training. BatchNorm's
statistics are averaged like the weights.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vidaudio.training.blocks import AverageBlock
from vidaudio.training.power_profiles import exponent_of, new_weight


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
        self.model = _copy(model)
        self._steps = 0

    def update(self, model: nn.Module) -> None:
        """Add the weights that the model has after a step."""
        weight = 1 - min(self.decay, (1 + self._steps) / (10 + self._steps))
        self._steps += 1
        _move(self.model, model, weight)

    def state_dict(self) -> dict[str, Any]:
        """Return the part of a state that belongs to the average."""
        return {"weights": self.model.state_dict(), "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.model.load_state_dict(state["weights"])
        self._steps = state["steps"]


class PowerEma:
    """Power-function averages of a model, of several widths, updated after every step of a run from the first one on.

    Args:
        model: Model to average.
        widths: Widths sigma_rel of the averages.
        validated: Width of the average that is validated.

    Attributes:
        models: Models with the averaged weights, by width, in eval mode, on the device of the weights.
        model: The one that is validated.
    """

    def __init__(self, model: nn.Module, widths: tuple[float, ...], validated: float) -> None:
        self.models = {width: _copy(model) for width in widths}
        self.model = self.models[validated]
        self._exponents = {width: exponent_of(width) for width in widths}
        self._steps = 0

    def update(self, model: nn.Module) -> None:
        """Add the weights that the model has after a step."""
        self._steps += 1
        for width, average in self.models.items():
            _move(average, model, new_weight(self._exponents[width], self._steps))

    def weights(self) -> dict[float, dict[str, Tensor]]:
        """Return the averaged weights by width."""
        return {width: average.state_dict() for width, average in self.models.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the part of a state that belongs to the averages."""
        widths = [{"sigma_rel": width, "weights": weights} for width, weights in self.weights().items()]
        return {"weights": self.model.state_dict(), "steps": self._steps, "widths": widths}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for each in state["widths"]:
            self.models[each["sigma_rel"]].load_state_dict(each["weights"])
        self._steps = state["steps"]


def make_average(model: nn.Module, block: AverageBlock) -> Ema | PowerEma:
    """Return the average that a recipe asks for."""
    if block.kind == "power":
        return PowerEma(model, block.sigma_rel, block.validated_width)
    return Ema(model, block.decay)


def _copy(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).eval().requires_grad_(False)


@torch.no_grad()
def _move(average: nn.Module, model: nn.Module, weight: float) -> None:
    """Move an average towards a model's weights; counts are copied."""
    for mine, theirs in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if mine.is_floating_point():
            mine.lerp_(theirs, weight)
        else:
            mine.copy_(theirs)
