"""The optimiser of a recipe, for families that train with one."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from vidaudio.training.base import ScheduledOptimiser
from vidaudio.training.recipe import CommonRecipe
from vidaudio.training.schedule import rate_factor


def scheduled_optimiser(
    recipe: CommonRecipe,
    parameters: Iterable[Tensor] | Iterable[dict[str, Any]],
    adam: type[torch.optim.Adam] = torch.optim.Adam,
) -> ScheduledOptimiser:
    """Return the recipe's optimiser, which makes a step at every step of the run.

    Args:
        recipe: Recipe of the run.
        parameters: Parameters, or groups of them.
        adam: Adam of the family; AdamW decays weights apart from the gradient (Loshchilov and Hutter, ICLR 2019).
    """
    block = recipe.optimiser
    if block.kind == "adam":
        optimiser: torch.optim.Optimizer = adam(
            parameters, lr=block.learning_rate, betas=block.betas, eps=block.epsilon, weight_decay=block.weight_decay
        )
    else:
        optimiser = torch.optim.SGD(
            parameters, lr=block.learning_rate, momentum=block.momentum, weight_decay=block.weight_decay
        )
    rate = functools.partial(rate_factor, schedule=recipe.schedule)
    return ScheduledOptimiser("model", optimiser, rate, gradient_clip_norm=block.gradient_clip_norm)
