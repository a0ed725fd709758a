"""States as a training writes them, made by hand."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def state_of(weights: dict[str, Tensor], step: int, **kept: Any) -> dict[str, Any]:
    """A state of these weights; `kept` is what the run keeps beside them."""
    progress = {"total": {}, "current": {}}
    names = ("epoch_loop.batch_progress", "epoch_loop.val_loop.batch_progress")
    return {
        "global_step": step,
        "state_dict": weights,
        "callbacks": {"Keeper": kept},
        "pytorch-lightning_version": "2.5.0",
        "loops": {"fit_loop": dict.fromkeys(names, progress)},
        "optimizer_states": [],
        "lr_schedulers": [],
    }
