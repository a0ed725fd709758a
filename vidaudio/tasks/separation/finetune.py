"""Fine-tuning: a run that starts with the weights of another run, possibly of another system or another corpus.

Parts that both systems have are copied; parts that only the new system has start from their initial values. Label
vectors are matched by the label's name, not by its number. A query path that was trained on another encoder's vectors
is useless here and also starts from its initial values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidaudio.errors import CheckpointError
from vidaudio.separation import Separator
from vidaudio.tasks.separation.checkpoint import read_separator
from vidaudio.training.state_reading import alike

_LABELS = "query.embedding.weight"


@dataclass(frozen=True, slots=True)
class WeightTransfer:
    """Result of a weight transfer: where the weights of a run come from, and which parts were copied.

    Attributes:
        path: Path of the weights file.
        system: System that the weights belong to.
        step: Number of optimiser steps that the weights were trained for.
        taken: Parts that were copied.
        fresh: Parts that keep their initial values.
        labels_taken: Number of label vectors that were copied.
        labels_fresh: Number of label vectors that are new.
    """

    path: str
    system: str
    step: int
    taken: tuple[str, ...]
    fresh: tuple[str, ...]
    labels_taken: int = 0
    labels_fresh: int = 0


def transfer_weights(
    model: Separator,
    checkpoint: str | Path,
    *,
    encoder: dict[str, Any] | None,
    labels: Sequence[str] = (),
) -> WeightTransfer:
    """Load another run's weights into a model, as far as both have the same parts.

    Args:
        model: Freshly built model; changed in place.
        checkpoint: A run's folder or its weights file.
        encoder: Fingerprint of the encoder that makes the model's queries; None if there is none.
        labels: The model's labels, if its queries are labels.

    Raises:
        CheckpointError: When there is no such checkpoint, no common part, or a part that both have differs in size or
            type; the message names the part and, for a size, the settings to change.
    """
    tensors, described, file = read_separator(checkpoint)
    own = model.state_dict()
    old_labels = described.get("labels", [])
    old_encoder = described.get("encoder")
    if _hash(old_encoder) != _hash(encoder) or bool(old_labels) != bool(labels):
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("query.")}
    rows = {}
    if _LABELS in tensors:
        old = tensors.pop(_LABELS)
        if old.ndim != 2 or len(old) != len(old_labels):
            raise CheckpointError(f"{file} has not as many vectors of labels as labels; take it back from a copy")
        _check_shape(file, _LABELS, old[0], own[_LABELS][0])
        number = {label: n for n, label in enumerate(old_labels)}
        rows = {n: old[number[label]] for n, label in enumerate(labels) if label in number}
    common = [name for name in own if name in tensors]
    for name in common:
        _check_shape(file, name, tensors[name], own[name])
    with torch.no_grad():
        for name in common:
            own[name].copy_(tensors[name])
        for row, vector in rows.items():
            own[_LABELS][row].copy_(vector)
    taken = {name.split(".")[0] for name in common}
    if not taken:
        raise CheckpointError(f"{file} has no part in common with this system")
    return WeightTransfer(
        path=str(file),
        system=described["system"],
        step=described["step"],
        taken=tuple(sorted(taken)),
        fresh=tuple(sorted({name.split(".")[0] for name in own} - taken)),
        labels_taken=len(rows),
        labels_fresh=len(labels) - len(rows),
    )


def _hash(encoder: dict[str, Any] | None) -> str | None:
    return None if encoder is None else encoder.get("weights_sha256")


def _check_shape(file: Path, name: str, old: Tensor, new: Tensor) -> None:
    if old.shape != new.shape:
        raise CheckpointError(
            f"{file} does not fit: its {name} is {_sides(old)} and this recipe's {_sides(new)}; give model, "
            "query.label_dimensions and data.sources the sizes it was trained with"
        )
    if not alike(new, old):
        raise CheckpointError(f"{file} does not fit: its {name} is of numbers of another kind ({old.dtype})")


def _sides(tensor: Tensor) -> str:
    return " x ".join(str(side) for side in tensor.shape)
