"""States as a training writes them, made by hand."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def state_of(weights: dict[str, Tensor], step: int, **run: Any) -> dict[str, Any]:
    """A state of these weights; `run` is what it says of the run beside them."""
    return {
        "format": 2,
        "steps_done": step,
        "weights": weights,
        "optimisers": [],
        "average": None,
        "run": {"facts": {}, **run},
    }


def first_version_state_of(weights: dict[str, Tensor], step: int, **kept: Any) -> dict[str, Any]:
    """A state of these weights as version 0.1 wrote it with Lightning's trainer."""
    return {
        "global_step": step,
        "state_dict": weights,
        "callbacks": {"Keeper": kept},
        "pytorch-lightning_version": "2.5.0",
        "loops": {},
        "optimizer_states": [],
        "lr_schedulers": [],
    }
