"""Averages of weights made after training: any width, from the snapshots of the widths that were tracked.

How much a run should be averaged is only known when it has been tried (Karras et al., CVPR 2024). A run with `average:
{kind: power}` writes snapshots of two averages; a weighted sum of all of them is the average of another width, or of an
earlier step.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidaudio.errors import CheckpointError, UsageError
from vidaudio.text import number_of
from vidaudio.training.checkpoint import SOURCES_TENSOR, read_checkpoint, save_tensors
from vidaudio.training.power_profiles import LEAST_WIDTH, MOST_WIDTH, PowerProfile, coefficients
from vidaudio.training.snapshots import Snapshot, read_snapshots
from vidaudio.training.state_files import plain_errors
from vidaudio.training.state_reading import SNAPSHOTS_FOLDER

_log = logging.getLogger(__name__)

# Beyond this error of its profile, an average is reported to be another one than was asked for.
MOST_ERROR = 0.1


@dataclass(frozen=True, slots=True)
class AverageResult:
    """Result of `average`.

    Attributes:
        path: Weights file.
        sigma_rel: Width of the average.
        step: Steps that were averaged.
        snapshots: Number of snapshots it was made of.
        error: Distance of its profile from the wanted one, as a share of that profile's norm.
    """

    path: Path
    sigma_rel: float
    step: int
    snapshots: int
    error: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"path": str(self.path), **self.facts()}

    def facts(self) -> dict[str, Any]:
        """Return what the weights file says of how it was made."""
        return {
            "sigma_rel": self.sigma_rel,
            "step": self.step,
            "snapshots": self.snapshots,
            "profile_error": round(self.error, 6),
        }

    def __str__(self) -> str:
        return (
            f"{self.path}: average of {number_of(self.step, 'step')} of width {self.sigma_rel:g}, from "
            f"{number_of(self.snapshots, 'snapshot')}; its profile differs by {self.error:.2%}"
        )


def average(run: str | Path, out: str | Path, sigma_rel: float, *, step: int | None = None) -> AverageResult:
    """Make the average of a run's weights that has a wanted width, from the run's snapshots; write a weights file.

    The file has the description of the run's weights, and is used like them. If the run's methods against the modality
    gap shall be found, it must lie in the run's folder.

    Args:
        run: Folder of a run with `average.kind=power`.
        out: Weights file to write; its name must end in .safetensors.
        sigma_rel: Width: the standard deviation of the averaged steps, as a share of all steps.
        step: Step of the snapshot at which the average ends; None for the last one.

    Raises:
        UsageError: When the width is out of range, or the name has another ending.
        CheckpointError: When the run has no snapshots or none of the step, one cannot be used, or the file cannot be
            written.
    """
    run, out = Path(run), Path(out)
    if not LEAST_WIDTH <= sigma_rel <= MOST_WIDTH:
        raise UsageError(f"sigma_rel {sigma_rel:g}: a width between {LEAST_WIDTH:g} and {MOST_WIDTH:g} is wanted")
    if out.suffix != ".safetensors":
        raise UsageError(f"{out} must end in .safetensors: it will be a weights file")
    if not run.is_dir():
        raise CheckpointError(f"{run} is not the folder of a run")
    snapshots = _up_to(step, read_snapshots(run), run)
    last = snapshots[-1]
    tracked = [
        (snapshot, number, PowerProfile(width, snapshot.step))
        for snapshot in snapshots
        for number, width in enumerate(snapshot.widths)
    ]
    factors, error = coefficients([profile for *_, profile in tracked], PowerProfile(sigma_rel, last.step))
    if error > MOST_ERROR:
        _log.warning(
            f"the snapshots of {run} give an average of width {sigma_rel:g} only roughly: its profile differs by "
            f"{error:.0%}. Widths near those that were tracked, or more snapshots, come closer"
        )
    tensors, described, _ = read_checkpoint(run)
    sources = tensors.pop(SOURCES_TENSOR, None)
    parts = [(snapshot, number, float(factor)) for (snapshot, number, _), factor in zip(tracked, factors, strict=True)]
    made = _weighted_sum(tensors, [part for part in parts if part[2]])
    result = AverageResult(out, sigma_rel, last.step, len(snapshots), error)
    kept = {name: value for name, value in described.items() if name not in ("format", "metrics")}
    out.parent.mkdir(parents=True, exist_ok=True)
    with plain_errors(out):
        save_tensors(
            out,
            made if sources is None else {**made, SOURCES_TENSOR: sources},
            {**kept, "step": last.step, "averaged": result.facts()},
        )
    return result


def _up_to(step: int | None, snapshots: Sequence[Snapshot], run: Path) -> list[Snapshot]:
    """Return the snapshots up to a step, which must have one."""
    if not snapshots:
        raise CheckpointError(
            f"{run} has no snapshots in {SNAPSHOTS_FOLDER}/; a run with average.kind=power writes them"
        )
    if step is None:
        return [*snapshots]
    found = [snapshot for snapshot in snapshots if snapshot.step <= step]
    if not found or found[-1].step != step:
        steps = ", ".join(f"{snapshot.step:,}" for snapshot in snapshots)
        raise CheckpointError(f"{run} has no snapshot of step {step:,}; there are those of {steps}")
    return found


def _weighted_sum(like: dict[str, Tensor], parts: Sequence[tuple[Snapshot, int, float]]) -> dict[str, Tensor]:
    """Return sums of tensors, added in float64; counts are those of the last part.

    Args:
        like: Tensors of the names, shapes and types that the sums will have.
        parts: Snapshot, number of the width, and factor, ordered by step.

    Raises:
        CheckpointError: When a snapshot's tensors differ in names or shapes.
    """
    sums = {
        name: torch.zeros_like(tensor, dtype=torch.float64 if tensor.is_floating_point() else tensor.dtype)
        for name, tensor in like.items()
    }
    for snapshot, number, factor in parts:
        with snapshot.open() as opened:
            for name, total in sums.items():
                tensor = opened.tensor(number, name)
                if tensor is None or tensor.shape != total.shape:
                    raise CheckpointError(f"{snapshot.path} does not fit the run's weights: {name}; delete it")
                if total.is_floating_point():
                    total.add_(tensor.double(), alpha=factor)
                else:
                    total.copy_(tensor)
    return {name: total.to(like[name].dtype) for name, total in sums.items()}
